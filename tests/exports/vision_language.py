"""Models of images and words: what is in an image, by words."""

from .case import Export, Input, lively, normal, ones, padded, tokens
from .vision import IMAGE, steps


def clip() -> Export:
    from transformers import CLIPConfig, CLIPModel

    text = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "eos_token_id": 99,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    model = lively(CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)))

    def call(model, input_ids, attention_mask, pixel_values):
        out = model(
            input_ids=input_ids,
            attention_mask=attention_mask,
            pixel_values=pixel_values,
            interpolate_pos_encoding=True,
        )
        return out.logits_per_image, out.text_embeds, out.image_embeds

    inputs = {
        "input_ids": tokens("texts", "seq"),
        "attention_mask": padded("texts", "seq"),
        "pixel_values": normal(*IMAGE),
    }
    sizes = steps(
        (2, 7, 3, 32, 48), (1, 1, 1, 40, 24), (3, 13, 2, 53, 61), to="texts seq batch height width"
    )
    return Export(call, model, inputs, sizes, opset=18)


def siglip() -> Export:
    from transformers import SiglipConfig, SiglipModel

    text = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "projection_size": 32,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }

    def call(model, input_ids, pixel_values):
        out = model(input_ids=input_ids, pixel_values=pixel_values)
        return out.logits_per_image, out.text_embeds, out.image_embeds

    inputs = {"input_ids": tokens("texts", "seq"), "pixel_values": normal("batch", 3, 32, 32)}
    sizes = steps((2, 7, 3), (1, 1, 1), (3, 13, 2), to="texts seq batch")
    model = lively(SiglipModel(SiglipConfig(text_config=text, vision_config=vision)))
    return Export(call, model, inputs, sizes, opset=23)


def owlvit() -> Export:
    from transformers import OwlViTConfig, OwlViTForObjectDetection

    text = {
        "vocab_size": 100,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": 32,
        "patch_size": 8,
    }
    config = OwlViTConfig(text_config=text, vision_config=vision, projection_dim=32)

    def call(model, input_ids, attention_mask, pixel_values):
        out = model(input_ids=input_ids, attention_mask=attention_mask, pixel_values=pixel_values)
        return out.logits, out.pred_boxes

    inputs = {
        "input_ids": tokens("queries*batch", "seq"),
        "attention_mask": ones("queries*batch", "seq"),
        "pixel_values": normal("batch", 3, 32, 32),
    }
    sizes = steps((2, 3, 16), (1, 1, 16), (3, 5, 16), to="batch queries seq")
    inputs = {
        k: Input((v.shape[0], 16, *v.shape[2:]), v.make) if k[0] != "p" else v
        for k, v in inputs.items()
    }
    return Export(
        call, lively(OwlViTForObjectDetection(config)), inputs, sizes, script=True, opset=17
    )


MODELS = {f.__name__: f for f in (clip, siglip, owlvit)}
