"""Decoders that go on from what they have read: keys and values of earlier tokens are inputs."""

import torch
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from .case import Export, Input, lively, normal, ones, tokens

# A first turn has no past; a turn of one token is how text is made.
TURNS = [
    {"batch": 2, "seq": 3, "past": 5},
    {"batch": 1, "seq": 1, "past": 17},
    {"batch": 1, "seq": 13, "past": 0},
    {"batch": 3, "seq": 7, "past": 11},
]
ANSWERS = [
    {"batch": 2, "seq": 3, "past": 5, "source": 7},
    {"batch": 1, "seq": 1, "past": 11, "source": 1},
    {"batch": 3, "seq": 5, "past": 0, "source": 13},
]


def caches(layers: int, heads: int, *dims: int, past: str = "past", name: str = "past") -> dict:
    """Inputs for keys and values of earlier tokens, layer by layer; `dims` are their widths."""
    return {
        f"{name}_{i}_{side}": normal("batch", heads, past, dim)
        for i in range(layers)
        for side, dim in (("key", dims[0]), ("value", dims[-1]))
    }


def pairs(tensors: dict) -> list[tuple[torch.Tensor, torch.Tensor]]:
    both = list(tensors.values())
    return list(zip(both[::2], both[1::2]))


def contents(cache: DynamicCache) -> list[torch.Tensor]:
    return [t for layer in cache.layers for t in (layer.keys, layer.values)]


def decode(model, input_ids, attention_mask, **past):
    """Logits of further tokens, and keys and values of all."""
    cache = DynamicCache(pairs(past))
    out = model(
        input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True
    )
    return out.logits, *contents(out.past_key_values)


def decoder(model, layers: int, heads: int, *dims: int, **options) -> Export:
    inputs = {
        "input_ids": tokens("batch", "seq"),
        "attention_mask": ones("batch", "past+seq"),
        **caches(layers, heads, *dims),
    }
    return Export(decode, lively(model), inputs, TURNS, **options)


def answer(model, input_ids, encoded, encoded_mask=None, **past):
    """A decoder's turn beside encoded input, from caches of itself and of that input."""
    both = pairs(past)
    own, cross = DynamicCache(both[: len(both) // 2]), DynamicCache(both[len(both) // 2 :])
    out = model(
        encoder_outputs=BaseModelOutput(encoded),
        decoder_input_ids=input_ids,
        attention_mask=encoded_mask,
        past_key_values=EncoderDecoderCache(own, cross),
        use_cache=True,
    )
    return out.logits, *contents(out.past_key_values.self_attention_cache)


def answerer(model, width: int, layers: int, heads: int, dim: int, **given: Input) -> Export:
    """The decoder of a model that has both; `given` are inputs besides the encoded one."""
    inputs = {
        "input_ids": tokens("batch", "seq"),
        "encoded": normal("batch", "source", width),
        **given,
        **caches(layers, heads, dim),
        **caches(layers, heads, dim, past="source", name="cross"),
    }
    return Export(answer, lively(model), inputs, ANSWERS)
