"""RNN, GRU, LSTM. `layout=1` (batch first) becomes transposes around the op."""

from ...read.call import Call


def _attributes(c: Call, hidden) -> dict:
    """What all three share; `hidden` is the size that follows from the weights."""
    c.ignore("output_sequence")
    return {
        "hidden_size": c.attr("hidden_size", hidden),
        "direction": c.attr("direction", "forward"),
        "activations": tuple(c.attr("activations", ())),
        "activation_alpha": tuple(c.attr("activation_alpha", ())),
        "activation_beta": tuple(c.attr("activation_beta", ())),
        "clip": c.attr("clip", None),
    }


def lstm_attributes(c: Call, hidden) -> dict:
    return _attributes(c, hidden) | {"input_forget": bool(c.attr("input_forget", 0))}


def recurrent(op: str):
    def entry(c: Call):
        attrs = _attributes(c, c.x(2).shape[-1])
        if op == "gru":
            attrs["linear_before_reset"] = bool(c.attr("linear_before_reset", 0))
        if op == "lstm":
            attrs = lstm_attributes(c, c.x(2).shape[-1])
        inputs = [c[i] for i in range(8 if op == "lstm" else 6)]
        batch_first = c.attr("layout", 0)
        if batch_first:
            for i in (0, 5, 6):
                if i < len(inputs) and inputs[i] is not None:
                    inputs[i] = inputs[i].transpose((1, 0, 2))
        y, *states = c.b.emit(op, *inputs, **attrs)
        if batch_first:
            y = y.transpose((2, 0, 1, 3))
            states = [s.transpose((1, 0, 2)) for s in states]
        return [y, *states]

    return entry


TABLE = {"RNN": recurrent("rnn"), "GRU": recurrent("gru"), "LSTM": recurrent("lstm")}
