"""RNN, GRU, LSTM. `layout=1` (batch first) becomes transposes around the op."""

from .call import Call

_DEFAULTS = {"RNN": ["Tanh"], "GRU": ["Sigmoid", "Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"]}
_ALPHA = {"LeakyRelu": 0.01, "ThresholdedRelu": 1.0, "HardSigmoid": 0.2, "Elu": 1.0}


def recurrent(op: str):
    def entry(c: Call):
        direction = c.attr("direction", "forward")
        count = 2 if direction == "bidirectional" else 1
        activations = c.attr("activations", None) or _DEFAULTS[c.op_type] * count
        _check_parameters(c, activations)
        attrs = {
            "hidden_size": c.attr("hidden_size", c.x(2).shape[-1]),
            "direction": direction,
            "activations": tuple(activations),
            "clip": c.attr("clip", None),
        }
        c.ignore("output_sequence")
        if op == "gru":
            attrs["linear_before_reset"] = bool(c.attr("linear_before_reset", 0))
        if op == "lstm":
            attrs["input_forget"] = bool(c.attr("input_forget", 0))
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


def _check_parameters(c: Call, activations) -> None:
    alphas, betas = list(c.attr("activation_alpha", [])), list(c.attr("activation_beta", []))
    for name in activations:
        if name in _ALPHA and alphas and abs(alphas.pop(0) - _ALPHA[name]) > 1e-6:
            raise c.unsupported("activation_alpha other than the default", received=name)
        if name == "HardSigmoid" and betas and betas.pop(0) != 0.5:
            raise c.unsupported("activation_beta other than the default", received=name)
    if any(alphas) or any(betas):
        raise c.unsupported("activation_alpha for an activation without parameters")


TABLE = {"RNN": recurrent("rnn"), "GRU": recurrent("gru"), "LSTM": recurrent("lstm")}
