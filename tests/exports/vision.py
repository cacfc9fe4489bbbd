"""Models of images and videos, of transformers.

Libraries are imported where a model is made of them: each takes seconds.
"""

from collections.abc import Callable

from .case import Export, lively, normal, ones, tokens

# A size of the exporter, and further ones: odd ones, primes, and a batch of 1.
IMAGE = ("batch", 3, "height", "width")
IMAGES = [
    {"batch": 2, "height": 64, "width": 96},
    {"batch": 1, "height": 65, "width": 47},
    {"batch": 3, "height": 37, "width": 101},
]
LARGER = [  # for models that halve five times
    {"batch": 2, "height": 64, "width": 96},
    {"batch": 1, "height": 97, "width": 65},
    {"batch": 3, "height": 71, "width": 101},
]
BATCHES = [{"batch": 2}, {"batch": 1}, {"batch": 5}]


def steps(*rows: tuple[int, int, int], to: str = "batch height width") -> list[dict[str, int]]:
    return [dict(zip(to.split(), row, strict=True)) for row in rows]


def attributes(*names: str) -> Callable:
    """A call that gives these attributes of what a model returns."""

    def call(model, **inputs):
        out = model(**inputs)
        return tuple(getattr(out, n) for n in names)

    return call


def images(model, *outputs: str, sizes=None, **options) -> Export:
    """A model of transformers that takes images of any size."""
    return Export(
        attributes(*outputs),
        lively(model),
        {"pixel_values": normal(*IMAGE)},
        sizes or IMAGES,
        **options,
    )


def resnet_config(**options):
    from transformers import ResNetConfig

    return ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        **options,
    )


def segformer() -> Export:
    from transformers import SegformerConfig, SegformerForSemanticSegmentation

    config = SegformerConfig(
        depths=[1, 1, 1, 1],
        hidden_sizes=[16, 32, 40, 64],
        num_attention_heads=[1, 2, 4, 8],
        decoder_hidden_size=32,
        num_labels=5,
    )
    return images(SegformerForSemanticSegmentation(config), "logits", opset=18)


def detr() -> Export:
    from transformers import DetrConfig, DetrForObjectDetection

    config = DetrConfig(
        backbone_config=resnet_config(out_features=["stage4"]),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        num_queries=7,
    )
    inputs = {"pixel_values": normal(*IMAGE), "pixel_mask": ones("batch", "height", "width")}
    model = lively(DetrForObjectDetection(config))
    return Export(attributes("logits", "pred_boxes"), model, inputs, LARGER)


def rt_detr() -> Export:
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    backbone = RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 24, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    config = RTDetrConfig(
        backbone_config=backbone,
        encoder_hidden_dim=32,
        encoder_in_channels=[16, 24, 32],
        encoder_layers=1,
        encoder_ffn_dim=48,
        encoder_attention_heads=4,
        d_model=32,
        num_queries=11,
        decoder_in_channels=[32, 32, 32],
        decoder_ffn_dim=48,
        decoder_layers=2,
        decoder_attention_heads=4,
        hidden_expansion=0.5,
        anchor_image_size=None,
    )
    sizes = steps((2, 64, 96), (1, 96, 160), (3, 128, 64))
    return images(RTDetrForObjectDetection(config), "logits", "pred_boxes", sizes=sizes)


def yolos() -> Export:
    from transformers import YolosConfig, YolosForObjectDetection

    config = YolosConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        image_size=[32, 48],
        patch_size=8,
        num_detection_tokens=5,
    )
    return images(YolosForObjectDetection(config), "logits", "pred_boxes", opset=19)


def dinov2() -> Export:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, image_size=42, patch_size=14
    )
    return images(Dinov2Model(config), "last_hidden_state", "pooler_output", opset=18)


def depth_anything() -> Export:
    from transformers import DepthAnythingConfig, DepthAnythingForDepthEstimation, Dinov2Config

    backbone = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=42,
        patch_size=14,
        out_indices=[1, 2, 3, 4],
        reshape_hidden_states=False,
        apply_layernorm=True,
    )
    config = DepthAnythingConfig(
        backbone_config=backbone,
        reassemble_hidden_size=32,
        neck_hidden_sizes=[8, 16, 24, 32],
        fusion_hidden_size=16,
        head_hidden_size=8,
    )
    return images(DepthAnythingForDepthEstimation(config), "predicted_depth", opset=21)


def swin() -> Export:
    """Windows of 4 patches: what does not fill them is padded."""
    from transformers import SwinConfig, SwinModel

    config = SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return images(SwinModel(config), "last_hidden_state", "pooler_output", opset=20)


def swinv2() -> Export:
    from transformers import Swinv2Config, Swinv2Model

    config = Swinv2Config(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4
    )
    return images(Swinv2Model(config), "last_hidden_state", "pooler_output", opset=22)


def swin2sr() -> Export:
    from transformers import Swin2SRConfig, Swin2SRForImageSuperResolution

    config = Swin2SRConfig(
        image_size=16, embed_dim=16, depths=[2], num_heads=[2], window_size=4, upscale=2
    )
    sizes = steps((2, 16, 24), (1, 8, 20), (3, 28, 12))
    return images(Swin2SRForImageSuperResolution(config), "reconstruction", sizes=sizes, opset=18)


def superpoint() -> Export:
    """The scores of points and their descriptions, before the best are picked."""
    from transformers import SuperPointConfig, SuperPointForKeypointDetection

    config = SuperPointConfig(
        encoder_hidden_sizes=[8, 8, 16, 16], decoder_hidden_size=16, descriptor_decoder_dim=16
    )

    def call(model, pixel_values):
        encoded = model.encoder(pixel_values[:, :1]).last_hidden_state
        return model.keypoint_decoder._get_pixel_scores(encoded), encoded

    model = lively(SuperPointForKeypointDetection(config))
    return Export(call, model, {"pixel_values": normal(*IMAGE)}, IMAGES, opset=19)


def vitmatte() -> Export:
    from transformers import VitDetConfig, VitMatteConfig, VitMatteForImageMatting

    backbone = VitDetConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=64,
        patch_size=16,
        num_channels=4,
        window_size=2,
        window_block_indices=[0],
        residual_block_indices=[1],
        use_absolute_position_embeddings=True,
        use_relative_position_embeddings=True,
        out_features=["stage2"],
    )
    config = VitMatteConfig(
        backbone_config=backbone,
        hidden_size=32,
        convstream_hidden_sizes=[8, 8, 16],
        fusion_hidden_sizes=[16, 8, 8, 8],
    )
    model = lively(VitMatteForImageMatting(config))
    inputs = {"pixel_values": normal("batch", 4, "height", "width")}
    sizes = steps((2, 64, 96), (1, 80, 48), (3, 48, 112))
    return Export(attributes("alphas"), model, inputs, sizes, opset=20)


def sam_encoder() -> Export:
    from transformers import SamVisionConfig, SamVisionModel

    config = SamVisionConfig(
        hidden_size=32,
        output_channels=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        window_size=3,
        global_attn_indexes=[1],
        mlp_dim=48,
        num_pos_feats=8,
    )
    inputs = {"pixel_values": normal("batch", 3, 64, 64)}
    model = lively(SamVisionModel(config))
    return Export(attributes("last_hidden_state"), model, inputs, BATCHES, opset=18)


def sam_decoder() -> Export:
    """Masks for points: any number of points, in any number of groups."""
    from transformers import SamConfig, SamModel

    config = SamConfig(
        vision_config={
            "hidden_size": 32,
            "output_channels": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 4,
            "image_size": 64,
            "patch_size": 8,
            "window_size": 3,
            "global_attn_indexes": [0],
            "mlp_dim": 48,
            "num_pos_feats": 8,
        },
        prompt_encoder_config={
            "hidden_size": 16,
            "image_size": 64,
            "patch_size": 8,
            "mask_input_channels": 4,
        },
        mask_decoder_config={
            "hidden_size": 16,
            "mlp_dim": 32,
            "num_attention_heads": 2,
            "iou_head_hidden_dim": 16,
        },
    )

    def call(model, image_embeddings, input_points, input_labels):
        out = model(
            image_embeddings=image_embeddings, input_points=input_points, input_labels=input_labels
        )
        return out.pred_masks, out.iou_scores

    inputs = {
        "image_embeddings": normal("batch", 16, 8, 8),
        "input_points": normal("batch", "groups", "points", 2, scale=20.0),
        "input_labels": tokens("batch", "groups", "points", least=0, below=2),
    }
    sizes = steps((2, 3, 4), (1, 1, 1), (3, 5, 7), to="batch groups points")
    return Export(call, lively(SamModel(config)), inputs, sizes, opset=20)


def maskformer() -> Export:
    from transformers import (
        DetrConfig,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
        SwinConfig,
    )

    backbone = SwinConfig(
        image_size=32,
        patch_size=4,
        embed_dim=8,
        depths=[1, 1, 1, 1],
        num_heads=[1, 2, 2, 4],
        window_size=4,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    decoder = DetrConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        num_queries=5,
    )
    config = MaskFormerConfig(
        backbone_config=backbone, decoder_config=decoder, fpn_feature_size=32, mask_feature_size=32
    )
    sizes = steps((2, 64, 96), (1, 128, 64), (3, 96, 160))
    return images(
        MaskFormerForInstanceSegmentation(config),
        "class_queries_logits",
        "masks_queries_logits",
        sizes=sizes,
        opset=18,
    )


MODELS = {
    f.__name__: f
    for f in (
        segformer,
        detr,
        rt_detr,
        yolos,
        dinov2,
        depth_anything,
        swin,
        swinv2,
        swin2sr,
        superpoint,
        vitmatte,
        sam_encoder,
        sam_decoder,
        maskformer,
    )
}
