"""Models of videos."""

from .case import Export, lively, normal
from .vision import BATCHES, attributes


def videomae() -> Export:
    from transformers import VideoMAEConfig, VideoMAEModel

    config = VideoMAEConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
    )
    inputs = {"pixel_values": normal("batch", 4, 3, 32, 32)}
    return Export(attributes("last_hidden_state"), lively(VideoMAEModel(config)), inputs, BATCHES)


def timesformer() -> Export:
    from transformers import TimesformerConfig, TimesformerModel

    config = TimesformerConfig(
        image_size=32,
        patch_size=8,
        num_frames=4,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
    )
    inputs = {"pixel_values": normal("batch", 4, 3, 32, 32)}
    return Export(
        attributes("last_hidden_state"), lively(TimesformerModel(config)), inputs, BATCHES, opset=18
    )


MODELS = {f.__name__: f for f in (videomae, timesformer)}
