"""Models of images and videos, of torchvision; detectors give as many boxes as they find.

The library is imported where a model is made of it, which takes seconds.
"""

import torch

from .case import Export, Input, lively, normal
from .vision import IMAGE, LARGER, steps


def vision(model, opset: int, sizes=LARGER, script: bool = True, key: str | None = None) -> Export:
    def call(model, image):
        out = model(image)
        return out if key is None else out[key]

    return Export(call, lively(model), {"image": normal(*IMAGE)}, sizes, opset, script)


def efficientnet() -> Export:
    from torchvision.models import efficientnet_b0

    return vision(efficientnet_b0(weights=None), 17)


def regnet() -> Export:
    from torchvision.models import regnet_y_400mf

    return vision(regnet_y_400mf(weights=None), 18, script=False)


def densenet() -> Export:
    from torchvision.models import DenseNet

    return vision(DenseNet(8, (2, 3, 3, 2), 16, num_classes=10), 17)


def inception() -> Export:
    from torchvision.models import inception_v3

    model = inception_v3(weights=None, init_weights=False, transform_input=True)
    return vision(model, 18, steps((2, 96, 128), (1, 107, 91), (3, 79, 101)))


def googlenet() -> Export:
    from torchvision.models import googlenet

    return vision(googlenet(weights=None, init_weights=False, transform_input=True), 19)


def shufflenet() -> Export:
    from torchvision.models import shufflenet_v2_x0_5

    return vision(shufflenet_v2_x0_5(weights=None), 20, script=False)


def mnasnet() -> Export:
    from torchvision.models import mnasnet0_5

    return vision(mnasnet0_5(weights=None), 17)


def convnext() -> Export:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    blocks = [CNBlockConfig(16, 32, 2), CNBlockConfig(32, 64, 2), CNBlockConfig(64, None, 2)]
    return vision(ConvNeXt(blocks, num_classes=10), 23, script=False)


def deeplab() -> Export:
    from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

    model = deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
    return vision(model, 17, key="out")


def fcn() -> Export:
    from torchvision.models import resnet18
    from torchvision.models._utils import IntermediateLayerGetter
    from torchvision.models.segmentation.fcn import FCN, FCNHead

    backbone = IntermediateLayerGetter(resnet18(weights=None), {"layer4": "out"})
    return vision(FCN(backbone, FCNHead(512, 5)), 18, script=False, key="out")


def r3d() -> Export:
    from torchvision.models.video import r3d_18

    model = r3d_18(weights=None, num_classes=10)
    inputs = {"clip": normal("batch", 3, "frames", "height", "width")}
    sizes = steps((1, 4, 32, 48), (2, 3, 33, 24), (1, 7, 25, 37), to="batch frames height width")
    return Export(lambda m, clip: m(clip), lively(model), inputs, sizes, 17, script=True)


def raft() -> Export:
    """Optical flow: correlations of all pairs of places, looked up where the flow points."""
    from torchvision.models.optical_flow import raft_small

    model = raft_small(weights=None).eval()
    inputs = {"first": normal(*IMAGE), "second": normal(*IMAGE)}
    sizes = steps((1, 128, 136), (2, 136, 128), (1, 144, 168))

    def call(model, first, second):
        return model(first, second, num_flow_updates=2)[-1]

    return Export(call, lively(model), inputs, sizes, 20, script=True)


def detector(model, opset: int) -> Export:
    """Boxes, as many as are found in one image of any size."""

    def call(model, image):
        found = model([image])[0]
        return tuple(found.values())

    sizes = steps((64, 96), (97, 75), (80, 131), to="height width")
    inputs = {"image": Input((3, "height", "width"), lambda s, g: torch.rand(s, generator=g))}
    return Export(call, model.eval(), inputs, sizes, opset, script=True)


def fasterrcnn() -> Export:
    from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

    model = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=4,
        min_size=64,
        max_size=160,
        rpn_pre_nms_top_n_test=60,
        rpn_post_nms_top_n_test=20,
        box_score_thresh=0.05,
    )
    return detector(model, 17)


def retinanet() -> Export:
    from torchvision.models import resnet18
    from torchvision.models.detection import RetinaNet
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    backbone = _resnet_fpn_extractor(
        resnet18(weights=None), 5, returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256)
    )
    model = RetinaNet(backbone, num_classes=3, min_size=64, max_size=160, score_thresh=0.009)
    return detector(model, 18)


def ssd() -> Export:
    from torchvision.models.detection import ssdlite320_mobilenet_v3_large

    model = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=3)
    return detector(model, 17)


def maskrcnn() -> Export:
    from torchvision.models import resnet18
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor

    backbone = _resnet_fpn_extractor(resnet18(weights=None), 5)
    model = MaskRCNN(
        backbone,
        num_classes=3,
        min_size=64,
        max_size=160,
        rpn_pre_nms_top_n_test=30,
        rpn_post_nms_top_n_test=10,
        box_score_thresh=0.05,
    )
    return detector(model, 17)


MODELS = {
    f.__name__: f
    for f in (
        efficientnet,
        regnet,
        densenet,
        inception,
        googlenet,
        shufflenet,
        mnasnet,
        convnext,
        deeplab,
        fcn,
        r3d,
        raft,
        fasterrcnn,
        retinanet,
        ssd,
        maskrcnn,
    )
}
