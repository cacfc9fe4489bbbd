"""Recurrent networks, PyTorch's own transformers, series of numbers, tables."""

import torch
import transformers as t

from .case import Export, Input, lively, normal, tokens

SERIES = [{"batch": 2, "seq": 7}, {"batch": 1, "seq": 1}, {"batch": 3, "seq": 13}]


def recurrent(kind: type, script: bool = False, **options):
    def call(model, x, **states):
        given = tuple(states.values())
        y, end = model(x, given[0] if len(given) == 1 else given)
        return y, *(end if isinstance(end, tuple) else (end,))

    def make() -> Export:
        model = lively(kind(5, 8, num_layers=2, batch_first=True, **options))
        rows = 4 if options.get("bidirectional") else 2
        names = ("h", "c") if kind is torch.nn.LSTM else ("h",)
        states = {n: normal(rows, "batch", 8) for n in names}
        inputs = {"x": normal("batch", "seq", 5), **states}
        return Export(call, model, inputs, SERIES, opset=17 if script else 20, script=script)

    return make


class Packed(torch.nn.Module):
    """A bidirectional LSTM over rows that end at their lengths."""

    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(5, 8, batch_first=True, bidirectional=True)

    def forward(self, x, lengths):
        rows = torch.nn.utils.rnn
        packed = rows.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=True)
        y, (h, c) = self.lstm(packed)
        return *rows.pad_packed_sequence(y, batch_first=True), h, c


def packed_lstm() -> Export:
    def call(model, x, lengths):
        return model(x, lengths)

    def falling(shape, generator):
        n = shape[0]
        return torch.tensor([max(1, LONGEST - 2 * i) for i in range(n)])

    LONGEST = 7
    inputs = {"x": normal("batch", "seq", 5), "lengths": Input(("batch",), falling)}
    sizes = [{"batch": 2, "seq": 7}, {"batch": 1, "seq": 9}, {"batch": 3, "seq": 11}]
    return Export(call, lively(Packed()), inputs, sizes, opset=17, script=True)


def transformer_decoder() -> Export:
    layer = torch.nn.TransformerDecoderLayer(32, 4, 64, batch_first=True, norm_first=True)
    model = torch.nn.TransformerDecoder(layer, 2)

    def call(model, x, memory):
        seq = x.shape[1]
        mask = torch.triu(torch.full((seq, seq), float("-inf")), diagonal=1)
        return model(x, memory, tgt_mask=mask, tgt_is_causal=False)

    inputs = {"x": normal("batch", "seq", 32), "memory": normal("batch", "source", 32)}
    sizes = [
        {"batch": 2, "seq": 5, "source": 7},
        {"batch": 1, "seq": 1, "source": 1},
        {"batch": 3, "seq": 11, "source": 2},
    ]
    return Export(call, lively(model), inputs, sizes)


def forecaster(config: type, model: type, **options):
    """A transformer over lagged values: distribution parameters of what comes."""

    def make() -> Export:
        made = config(
            prediction_length=4,
            context_length=8,
            lags_sequence=[1, 2, 3],
            num_time_features=2,
            num_static_categorical_features=0,
            d_model=16,
            encoder_layers=2,
            decoder_layers=2,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=32,
            decoder_ffn_dim=32,
            **options,
        )

        def call(model, values, times, seen, later, later_times):
            out = model(
                past_values=values,
                past_time_features=times,
                past_observed_mask=seen,
                future_values=later,
                future_time_features=later_times,
                use_cache=False,
            )
            return out.last_hidden_state, out.encoder_last_hidden_state

        past = 8 + 3
        seen = Input(("batch", past), lambda s, g: (torch.rand(s, generator=g) > 0.2).float())
        inputs = {
            "values": normal("batch", past),
            "times": normal("batch", past, 2),
            "seen": seen,
            "later": normal("batch", 4),
            "later_times": normal("batch", 4, 2),
        }
        sizes = [{"batch": 2}, {"batch": 1}, {"batch": 5}]
        return Export(call, lively(model(made)), inputs, sizes)

    return make


def patchtst() -> Export:
    config = t.PatchTSTConfig(
        num_input_channels=3,
        context_length=32,
        patch_length=4,
        patch_stride=4,
        d_model=16,
        num_attention_heads=2,
        ffn_dim=32,
        num_hidden_layers=2,
        prediction_length=6,
    )

    def call(model, values):
        return model(past_values=values).prediction_outputs

    model = lively(t.PatchTSTForPrediction(config))
    sizes = [{"batch": 2}, {"batch": 1}, {"batch": 5}]
    return Export(call, model, {"values": normal("batch", 32, 3)}, sizes)


LAYOUT = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def layoutlm() -> Export:
    """Words and their boxes on a page."""
    config = t.LayoutLMConfig(**LAYOUT, max_2d_position_embeddings=64)

    def boxes(shape, generator):
        ends = torch.randint(0, 32, shape, generator=generator)
        return torch.cat([ends[..., :2], ends[..., :2] + ends[..., 2:]], -1)

    def call(model, input_ids, bbox):
        return model(input_ids, bbox=bbox).last_hidden_state

    inputs = {"input_ids": tokens("batch", "seq"), "bbox": Input(("batch", "seq", 4), boxes)}
    return Export(call, lively(t.LayoutLMModel(config)), inputs, SERIES)


MODELS = {
    "lstm": recurrent(torch.nn.LSTM, bidirectional=True),
    "lstm_script": recurrent(torch.nn.LSTM, bidirectional=True, script=True),
    "gru": recurrent(torch.nn.GRU),
    "packed_lstm": packed_lstm,
    "transformer_decoder": transformer_decoder,
    "time_series": forecaster(t.TimeSeriesTransformerConfig, t.TimeSeriesTransformerModel),
    "patchtst": patchtst,
    "layoutlm": layoutlm,
}
