"""Models that read text, and those that answer it."""

from collections.abc import Callable

import transformers as t

from .caches import answerer
from .case import Export, lively, padded, tokens

TEXTS = [{"batch": 2, "seq": 7}, {"batch": 1, "seq": 1}, {"batch": 3, "seq": 13}]
BATCHES = [{"batch": 2}, {"batch": 1}, {"batch": 3}]
SMALL = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def encoder(
    config: type, model: type, *, sizes=TEXTS, opset=20, script=False, seq="seq", **options
) -> Callable[[], Export]:
    """What makes the export of an encoder of padded texts; `seq` is a number where that is in the
    exported model, since its code is Python's arithmetic."""

    def call(model, input_ids, attention_mask):
        out = model(input_ids=input_ids, attention_mask=attention_mask)
        return [x for x in (out.last_hidden_state, out.get("pooler_output")) if x is not None]

    def make() -> Export:
        inputs = {"input_ids": tokens("batch", seq), "attention_mask": padded("batch", seq)}
        return Export(call, lively(model(config(**options))), inputs, sizes, opset, script)

    return make


T5 = t.T5Config(
    vocab_size=100,
    d_model=32,
    d_kv=8,
    d_ff=64,
    num_layers=2,
    num_heads=4,
    feed_forward_proj="gated-gelu",
    decoder_start_token_id=0,
)


def t5_encoder() -> Export:
    def call(model, input_ids, attention_mask):
        return model(input_ids, attention_mask=attention_mask).last_hidden_state

    inputs = {"input_ids": tokens("batch", "seq"), "attention_mask": padded("batch", "seq")}
    return Export(call, lively(t.T5EncoderModel(T5)), inputs, TEXTS, opset=18)


def t5_decoder() -> Export:
    model = t.T5ForConditionalGeneration(T5)
    return answerer(model, 32, 2, 4, 8, encoded_mask=padded("batch", "source"))


BART = {
    "vocab_size": 100,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}


def bart_like(config: type, model: type, **options) -> Callable[[], Export]:
    def make() -> Export:
        made = model(config(**BART, **options))
        return answerer(made, 32, 2, 4, 8, encoded_mask=padded("batch", "source"))

    return make


MODELS = {
    "bert": encoder(t.BertConfig, t.BertModel, **SMALL),
    "roberta": encoder(t.RobertaConfig, t.RobertaModel, **SMALL, script=True, opset=17),
    "albert": encoder(t.AlbertConfig, t.AlbertModel, **SMALL, embedding_size=16),
    "distilbert": encoder(
        t.DistilBertConfig,
        t.DistilBertModel,
        vocab_size=100,
        dim=32,
        hidden_dim=64,
        n_layers=2,
        n_heads=4,
        max_position_embeddings=64,
        opset=19,
    ),
    "deberta_v2": encoder(
        t.DebertaV2Config,
        t.DebertaV2Model,
        **SMALL,
        relative_attention=True,
        position_buckets=4,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        position_biased_input=False,
        conv_kernel_size=3,
        conv_act="gelu",
    ),
    "electra": encoder(t.ElectraConfig, t.ElectraModel, **SMALL, embedding_size=16, opset=21),
    "mpnet": encoder(t.MPNetConfig, t.MPNetModel, **SMALL),
    "xlnet": encoder(
        t.XLNetConfig,
        t.XLNetModel,
        vocab_size=100,
        d_model=32,
        n_layer=2,
        n_head=4,
        d_inner=64,
        use_mems_eval=False,
        opset=17,
        script=True,
    ),
    "modernbert": encoder(
        t.ModernBertConfig,
        t.ModernBertModel,
        **SMALL,
        local_attention=6,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        cls_token_id=1,
        sep_token_id=2,
        global_attn_every_n_layers=2,
    ),
    "bigbird": encoder(t.BigBirdConfig, t.BigBirdModel, **SMALL, attention_type="original_full"),
    "funnel": encoder(
        t.FunnelConfig,
        t.FunnelModel,
        vocab_size=100,
        d_model=32,
        n_head=4,
        d_head=8,
        d_inner=64,
        block_sizes=[1, 1],
        num_decoder_layers=1,
        seq=8,
        sizes=BATCHES,
        opset=17,
        script=True,
    ),
    "squeezebert": encoder(t.SqueezeBertConfig, t.SqueezeBertModel, **SMALL, embedding_size=32),
    "convbert": encoder(
        t.ConvBertConfig,
        t.ConvBertModel,
        **SMALL,
        embedding_size=16,
        head_ratio=2,
        conv_kernel_size=3,
        num_groups=2,
    ),
    "t5_encoder": t5_encoder,
    "t5_decoder": t5_decoder,
    "bart": bart_like(t.BartConfig, t.BartForConditionalGeneration),
    "marian": bart_like(t.MarianConfig, t.MarianMTModel),
    "m2m100": bart_like(t.M2M100Config, t.M2M100ForConditionalGeneration),
    "pegasus": bart_like(t.PegasusConfig, t.PegasusForConditionalGeneration),
}
