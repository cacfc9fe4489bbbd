"""Language models that write: each with a cache, or with states that are carried on."""

from collections.abc import Callable

import transformers as t

from .caches import decoder
from .case import Export, lively, tokens

SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}
WIDE_HEADS = {**GROUPED, "head_dim": 16}
FEW_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}


def causal(config: type, model: type, heads: int, *dims: int, **options) -> Callable[[], Export]:
    """What makes the export of a causal model with keys and values; options of its config."""

    def make() -> Export:
        export = {k: options.pop(k) for k in ("opset", "script") if k in options}
        described = config(**options)
        described._experts_implementation = "batched_mm"  # what the exporter takes
        made = model(described)
        return decoder(made, made.config.num_hidden_layers, heads, *dims, **export)

    return make


def recurrent(config: type, model: type, seq: int | str, **options) -> Callable[[], Export]:
    """What reads a text from its beginning. A scan that is a loop in Python is as long as it was
    when it was traced: its `seq` is a number."""

    def call(model, input_ids):
        return model(input_ids, use_cache=False).logits

    def make() -> Export:
        made = lively(model(config(**options)))
        sizes = [{"batch": 2, "seq": 5}, {"batch": 1, "seq": 1}, {"batch": 3, "seq": 13}]
        if isinstance(seq, int):
            sizes = [{"batch": n} for n in (2, 1, 3)]
        return Export(call, made, {"input_ids": tokens("batch", seq)}, sizes)

    return make


MODELS = {
    "llama": causal(t.LlamaConfig, t.LlamaForCausalLM, 2, 8, **GROUPED),
    "mistral": causal(
        t.MistralConfig, t.MistralForCausalLM, 2, 8, **GROUPED, sliding_window=6, opset=21
    ),
    "mixtral": causal(t.MixtralConfig, t.MixtralForCausalLM, 2, 8, **GROUPED, num_local_experts=4),
    "qwen2": causal(t.Qwen2Config, t.Qwen2ForCausalLM, 2, 8, **GROUPED, opset=18),
    "qwen3": causal(t.Qwen3Config, t.Qwen3ForCausalLM, 2, 16, **WIDE_HEADS, opset=23),
    "qwen3_moe": causal(
        t.Qwen3MoeConfig,
        t.Qwen3MoeForCausalLM,
        2,
        16,
        **WIDE_HEADS,
        **FEW_EXPERTS,
        norm_topk_prob=True,
    ),
    "gemma2": causal(
        t.Gemma2Config,
        t.Gemma2ForCausalLM,
        2,
        16,
        **WIDE_HEADS,
        sliding_window=6,
        query_pre_attn_scalar=16,
        opset=22,
    ),
    "gemma3": causal(
        t.Gemma3TextConfig,
        t.Gemma3ForCausalLM,
        2,
        16,
        **WIDE_HEADS,
        sliding_window=6,
        query_pre_attn_scalar=16,
        layer_types=["sliding_attention", "full_attention"],
    ),
    "phi3": causal(t.Phi3Config, t.Phi3ForCausalLM, 2, 8, **GROUPED),
    "gpt_neox": causal(t.GPTNeoXConfig, t.GPTNeoXForCausalLM, 4, 8, **SMALL, opset=19),
    "gpt2": causal(
        t.GPT2Config,
        t.GPT2LMHeadModel,
        4,
        8,
        vocab_size=100,
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=4,
    ),
    "gptj": causal(
        t.GPTJConfig,
        t.GPTJForCausalLM,
        4,
        8,
        vocab_size=100,
        n_positions=128,
        n_embd=32,
        n_layer=2,
        n_head=4,
        rotary_dim=4,
    ),
    "opt": causal(
        t.OPTConfig, t.OPTForCausalLM, 4, 8, **SMALL, ffn_dim=64, word_embed_proj_dim=24, opset=17
    ),
    "bloom": causal(
        t.BloomConfig, t.BloomForCausalLM, 4, 8, vocab_size=100, hidden_size=32, n_layer=2, n_head=4
    ),
    "falcon": causal(
        t.FalconConfig,
        t.FalconForCausalLM,
        4,
        8,
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        new_decoder_architecture=True,
        num_kv_heads=2,
    ),
    "deepseek_v3": causal(
        t.DeepseekV3Config,
        t.DeepseekV3ForCausalLM,
        1,
        16,
        4,
        **SMALL | {"num_key_value_heads": 4},
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=2,
        topk_group=1,
        kv_lora_rank=16,
        q_lora_rank=16,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=8,
        first_k_dense_replace=1,
    ),
    "gpt_oss": causal(
        t.GptOssConfig,
        t.GptOssForCausalLM,
        2,
        16,
        **WIDE_HEADS,
        num_local_experts=4,
        num_experts_per_tok=2,
        sliding_window=6,
    ),
    "mamba": recurrent(
        t.MambaConfig,
        t.MambaForCausalLM,
        7,
        vocab_size=100,
        hidden_size=16,
        state_size=4,
        num_hidden_layers=2,
    ),
    "mamba2": recurrent(
        t.Mamba2Config,
        t.Mamba2ForCausalLM,
        "seq",
        vocab_size=100,
        hidden_size=16,
        state_size=8,
        num_hidden_layers=2,
        num_heads=4,
        head_dim=8,
        n_groups=2,
        chunk_size=4,
    ),
    "rwkv": recurrent(
        t.RwkvConfig,
        t.RwkvForCausalLM,
        5,
        vocab_size=100,
        hidden_size=32,
        num_hidden_layers=2,
        context_length=64,
    ),
}
