"""Models that diffusion is made of, of diffusers.

The library is imported where a model is made of it, which takes seconds.
"""

from .case import Export, Input, lively, normal, tokens
from .vision import BATCHES, IMAGE, IMAGES, attributes, steps

LATENTS = ("batch", 4, "height", "width")
BLOCKS = {
    "in_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (16, 32),
    "norm_num_groups": 4,
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
}
CONDITIONED = steps((2, 8, 12, 9), (1, 16, 10, 1), (3, 6, 22, 77), to="batch height width prompt")


def unet_inputs() -> dict[str, Input]:
    return {
        "sample": normal(*LATENTS),
        "timestep": tokens("batch", below=1000),
        "encoder_hidden_states": normal("batch", "prompt", 16),
    }


def unet() -> Export:
    from diffusers import UNet2DConditionModel

    model = UNet2DConditionModel(
        **BLOCKS, out_channels=4, up_block_types=("UpBlock2D", "CrossAttnUpBlock2D")
    )
    return Export(attributes("sample"), lively(model), unet_inputs(), CONDITIONED, opset=18)


def unet_script() -> Export:
    """The same, as most published files were made."""
    from dataclasses import replace

    return replace(unet(), opset=17, script=True)


def controlnet() -> Export:
    from diffusers import ControlNetModel

    model = ControlNetModel(**BLOCKS, conditioning_embedding_out_channels=(8, 8, 16, 16))
    inputs = unet_inputs() | {
        "controlnet_cond": normal("batch", 3, "8*height", "8*width"),
    }

    def call(model, **inputs):
        out = model(**inputs)
        return *out.down_block_res_samples, out.mid_block_res_sample

    return Export(call, lively(model), inputs, CONDITIONED, opset=17, script=True)


def vae():
    from diffusers import AutoencoderKL

    return lively(
        AutoencoderKL(
            block_out_channels=(8, 16),
            layers_per_block=1,
            norm_num_groups=4,
            latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
        )
    )


def vae_encoder() -> Export:
    def call(model, sample):
        return model.encode(sample).latent_dist.parameters

    return Export(call, vae(), {"sample": normal(*IMAGE)}, IMAGES, 17, script=True)


def vae_decoder() -> Export:
    def call(model, latents):
        return model.decode(latents).sample

    sizes = steps((2, 8, 12), (1, 5, 7), (3, 11, 4))
    return Export(call, vae(), {"latents": normal(*LATENTS)}, sizes, opset=20)


def sd3() -> Export:
    from diffusers import SD3Transformer2DModel

    model = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=16,
        caption_projection_dim=32,
        pooled_projection_dim=16,
        out_channels=4,
        pos_embed_max_size=24,
    )
    inputs = {
        "hidden_states": normal(*LATENTS),
        "encoder_hidden_states": normal("batch", "prompt", 16),
        "pooled_projections": normal("batch", 16),
        "timestep": tokens("batch", below=1000),
    }
    return Export(attributes("sample"), lively(model), inputs, CONDITIONED, opset=20)


def dit() -> Export:
    from diffusers import DiTTransformer2DModel

    model = DiTTransformer2DModel(
        num_attention_heads=4,
        attention_head_dim=8,
        in_channels=4,
        out_channels=8,
        num_layers=2,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=1000,
        norm_num_groups=4,
    )
    inputs = {
        "hidden_states": normal("batch", 4, 8, 8),
        "timestep": tokens("batch", below=1000),
        "class_labels": tokens("batch", below=1000),
    }
    return Export(attributes("sample"), lively(model), inputs, BATCHES, opset=21)


MODELS = {
    f.__name__: f for f in (unet, unet_script, controlnet, vae_encoder, vae_decoder, sd3, dit)
}
