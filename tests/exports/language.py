"""Models of text and sound: decoders with caches, encoders, and both."""

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from .case import Export, lively, normal, ones, padded, tokens

TURNS = [
    {"batch": 2, "seq": 3, "past": 5},
    {"batch": 1, "seq": 1, "past": 17},
    {"batch": 1, "seq": 13, "past": 0},
    {"batch": 3, "seq": 7, "past": 11},
]


def caches(layers: int, heads: int, dim: int, past: str = "past", name: str = "past") -> dict:
    """Keys and values of earlier tokens, layer by layer."""
    return {
        f"{name}_{i}_{side}": normal("batch", heads, past, dim)
        for i in range(layers)
        for side in ("key", "value")
    }


def pairs(tensors: dict) -> list[tuple[torch.Tensor, torch.Tensor]]:
    both = list(tensors.values())
    return list(zip(both[::2], both[1::2]))


def contents(cache) -> list[torch.Tensor]:
    return [t for layer in cache.layers for t in (layer.keys, layer.values)]


def decode(model, input_ids, attention_mask, **past):
    """Logits of further tokens, and keys and values of all."""
    cache = DynamicCache(pairs(past))
    out = model(input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
    return out.logits, *contents(out.past_key_values)


def decoder(model, layers: int, heads: int, dim: int, **options) -> Export:
    inputs = {
        "input_ids": tokens("batch", "seq"),
        "attention_mask": ones("batch", "past+seq"),
        **caches(layers, heads, dim),
    }
    return Export(decode, lively(model), inputs, TURNS, **options)


def llama() -> Export:
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=80, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
    )  # fmt: skip
    return decoder(LlamaForCausalLM(config), 2, 2, 8)


T5 = T5Config(
    vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4,
    feed_forward_proj="gated-gelu", decoder_start_token_id=0,
)  # fmt: skip
TEXTS = [{"batch": 2, "seq": 7}, {"batch": 1, "seq": 1}, {"batch": 3, "seq": 13}]


def t5_encoder() -> Export:
    def call(model, input_ids, attention_mask):
        return model(input_ids, attention_mask=attention_mask).last_hidden_state

    inputs = {"input_ids": tokens("batch", "seq"), "attention_mask": padded("batch", "seq")}
    return Export(call, lively(T5EncoderModel(T5)), inputs, TEXTS, opset=18)


ANSWERS = [
    {"batch": 2, "seq": 3, "past": 5, "source": 7},
    {"batch": 1, "seq": 1, "past": 11, "source": 1},
    {"batch": 3, "seq": 5, "past": 0, "source": 13},
]


def answer(model, ids, encoded, encoded_mask, **past):
    """A decoder's turn beside encoded input, from caches of itself and of that input."""
    half = len(past) // 2
    own, cross = (DynamicCache(pairs(dict(list(past.items())[s]))) for s in
                  (slice(half), slice(half, None)))  # fmt: skip
    cache = EncoderDecoderCache(own, cross)
    mask = {} if encoded_mask is None else {"attention_mask": encoded_mask}
    out = model(
        encoder_outputs=BaseModelOutput(encoded), decoder_input_ids=ids, past_key_values=cache,
        use_cache=True, **mask,
    )  # fmt: skip
    return out.logits, *contents(out.past_key_values.self_attention_cache)


def t5_decoder() -> Export:
    def call(model, input_ids, encoded, encoded_mask, **past):
        return answer(model, input_ids, encoded, encoded_mask, **past)

    inputs = {
        "input_ids": tokens("batch", "seq"),
        "encoded": normal("batch", "source", 32),
        "encoded_mask": padded("batch", "source"),
        **caches(2, 4, 8),
        **caches(2, 4, 8, "source", "cross"),
    }
    return Export(call, lively(T5ForConditionalGeneration(T5)), inputs, ANSWERS)


WHISPER = WhisperConfig(
    vocab_size=100, num_mel_bins=8, d_model=32, encoder_layers=2, decoder_layers=2,
    encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
    max_source_positions=20, max_target_positions=40, pad_token_id=0, bos_token_id=1,
    eos_token_id=2, decoder_start_token_id=1,
)  # fmt: skip


def whisper_encoder() -> Export:
    """Half a minute is a number here as it is there: 40 frames, always."""

    def call(model, features):
        return model.model.encoder(features).last_hidden_state

    inputs = {"features": normal("batch", 8, 40)}
    sizes = [{"batch": 2}, {"batch": 1}, {"batch": 5}]
    return Export(call, lively(WhisperForConditionalGeneration(WHISPER)), inputs, sizes)


def whisper_decoder() -> Export:
    def call(model, input_ids, encoded, **past):
        return answer(model, input_ids, encoded, None, **past)

    inputs = {
        "input_ids": tokens("batch", "seq"),
        "encoded": normal("batch", "source", 32),
        **caches(2, 4, 8),
        **caches(2, 4, 8, "source", "cross"),
    }
    return Export(call, lively(WhisperForConditionalGeneration(WHISPER)), inputs, ANSWERS)


MODELS = {
    "llama": llama,
    "t5_encoder": t5_encoder,
    "t5_decoder": t5_decoder,
    "whisper_encoder": whisper_encoder,
    "whisper_decoder": whisper_decoder,
}
