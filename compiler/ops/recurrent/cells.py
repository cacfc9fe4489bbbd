"""RNN, GRU and LSTM layers over time, in ONNX's layouts.

    x [T,B,I], w [D,G*H,I], r [D,G*H,H], b [D,2*G*H] = (wb, rb), states [D,B,H]  ->  y [T,D,B,H]

D is the number of directions, G that of gates: 1 (rnn), 3 (gru: z r h), 4 (lstm: i o f c). The
expansion multiplies all steps with `w` at once; only what needs the state is inside the `scan`.
Beyond the length of a sequence (`sequence_lens`) states hold and outputs are zero, so that the
reverse direction starts at each sequence's own end. Half types are computed in f32.
"""

from collections.abc import Callable

import numpy as np

from ...errors import TypeMismatch
from ...ir.bounds import assume_equal_shapes
from ...ir.limits import length_limits
from ...ir.op import Attr, Expand, register
from ...ir.types import BOOL, TensorType
from ..common import array, case, floats, reference, through_expansion, wide
from ..elementwise.activations import apply_activation, choose_activations

REVERSED = {"forward": (False,), "reverse": (True,), "bidirectional": (False, True)}
DEFAULTS = {"rnn": ("Tanh",), "gru": ("Sigmoid", "Tanh"), "lstm": ("Sigmoid", "Tanh", "Tanh")}
GATES = {"rnn": 1, "gru": 3, "lstm": 4}


def activations(name, attrs):
    """For each direction its activations: (name, alpha, beta)."""
    directions = len(REVERSED[attrs["direction"]])
    names = attrs["activations"] or DEFAULTS[name] * directions
    n = len(DEFAULTS[name])
    if len(names) != n * directions:
        raise TypeMismatch(
            f"{name}: wrong number of activations", expected=n * directions, received=list(names)
        )
    chosen = choose_activations(names, attrs["activation_alpha"], attrs["activation_beta"])
    return [chosen[n * d : n * d + n] for d in range(directions)]


def clipped(chosen, limit: float) -> Callable:
    """What numpy computes of a direction's i-th activation of v, which is held within ±clip."""
    return lambda i, v, clip=limit: apply_activation(None, chosen[i], np.clip(v, -clip, clip))


def shapes(name):
    """The shape rule of `name`: y, then one shape per state."""

    def shape(x, w, r, b=None, lens=None, h=None, c=None, p=None, **attrs):
        if attrs["direction"] not in REVERSED:
            raise TypeMismatch(
                f"{name}: no such direction",
                expected=" or ".join(REVERSED),
                received=attrs["direction"],
            )
        activations(name, attrs)
        if x.rank != 3:
            raise TypeMismatch(f"{name}: x has the wrong rank", expected="[T,B,I]", received=x)
        (steps, batch, inputs), hidden = x.shape, attrs["hidden_size"]
        n, gates = len(REVERSED[attrs["direction"]]), GATES[name] * hidden
        state = (n, batch, hidden)
        for label, t, wanted in [
            ("w", w, (n, gates, inputs)),
            ("r", r, (n, gates, hidden)),
            ("b", b, (n, 2 * gates)),
            ("sequence_lens", lens, (batch,)),
            ("initial_h", h, state),
            ("initial_c", c, state),
            ("p", p, (n, 3 * hidden)),
        ]:
            if t is not None and not assume_equal_shapes(t.shape, wanted):
                raise TypeMismatch(
                    f"{name}: {label} has the wrong shape",
                    expected=f"[{','.join(map(str, wanted))}]",
                    received=t,
                )
        return [(steps, n, batch, hidden), *[state] * (2 if name == "lstm" else 1)]

    return shape


# -- the expansion ---------------------------------------------------------------------------


def part(t, d):
    """t[d] without a slice where there is only one direction."""
    return t.reshape(t.shape[1:]) if t.shape[0] == 1 else t[d]


def _columns(t, k, hidden, count=1):
    """Gates k … k + count - 1 of [B,G*H], or of [G*H]."""
    start, axis = k * hidden, t.rank - 1
    if start == 0 and t.shape[axis] == count * hidden:
        return t
    return t.b.slice(t, axes=[axis], starts=[start], steps=[1], sizes=[count * hidden])


def _limited(b, x, clip):
    return x if clip is None else b.clip(x, b.scalar(-clip, x.dtype), b.scalar(clip, x.dtype))


def _valid_steps(b, x, lens):
    """[T,B,1]: is step t inside sequence n?"""
    steps, batch, _ = x.shape
    t = b.iota(shape=(steps, batch, 1), axis=0, dtype="i64")
    return t < lens.cast("i64").reshape((1, batch, 1))


turned = lambda t, d: wide(part(t, d)).transpose(1, 0)
products = lambda w: lambda flat, d: flat @ turned(w, d)


def layer(b, name, x, multiply, bias, lens, initial, attrs, weights, step):
    """All directions: y and the final states.

    `multiply(flat, d)` is the product of all inputs [T*B,I] with w[d]; `weights(d, rb)` are the
    tensors that a step uses besides its inputs; `step(body, gates, states, weights, activate)`
    returns the next states, the first being h.
    """
    steps, batch, inputs = x.shape
    hidden, kind = attrs["hidden_size"], x.dtype
    gates = GATES[name] * hidden
    flat = wide(x).reshape((steps * batch, inputs))
    valid = None if lens is None else _valid_steps(b, x, lens)
    ys, finals = [], []
    for d, (reverse, chosen) in enumerate(
        zip(REVERSED[attrs["direction"]], activations(name, attrs))
    ):
        pre = multiply(flat, d)
        rb = None
        if bias is not None:
            both = wide(part(bias, d))
            pre = pre + both[:gates]
            rb = both[gates:]
            if not attrs.get("linear_before_reset", False):
                pre, rb = pre + rb, None
        pre = pre.reshape((steps, batch, gates))
        zero = b.scalar(0, pre.dtype).expand((batch, hidden))
        start = [zero if s is None else wide(part(s, d)) for s in initial]
        used = weights(d, rb)
        scanned = [pre] if valid is None else [pre, valid]
        body = _body(b, name, start, scanned, used, chosen, attrs["clip"], step)
        *last, y = b.emit(
            "scan", *start, *scanned, *used,
            body=body, states=len(start), scans=len(scanned), reverse=reverse,
        )  # fmt: skip
        ys.append(y.reshape((steps, 1, batch, hidden)))
        finals.append([s.reshape((1, batch, hidden)) for s in last])
    results = [_joined(b, ys, 1), *(_joined(b, s, 0) for s in zip(*finals))]
    return tuple(t.cast(kind) for t in results)


def _joined(b, parts, axis):
    return parts[0] if len(parts) == 1 else b.concat(*parts, axis=axis)


def _body(b, name, start, scanned, used, chosen, clip, step):
    """The graph of one step: (states, gates, valid?, weights) -> (states, y)."""
    body = type(b)(name=f"{name}_step")
    body.origin = b.origin
    states = [body.input(f"state{i}", s.type) for i, s in enumerate(start)]
    gates, *valid = [body.input(f"x{i}", s.type.with_shape(s.shape[1:]))
                     for i, s in enumerate(scanned)]  # fmt: skip
    weights = [body.input(f"w{i}", t.type) for i, t in enumerate(used)]

    def activate(i, x, clip=clip):
        return apply_activation(body, chosen[i], _limited(body, x, clip))

    new = step(body, gates, states, weights, activate)
    y = new[0]
    if valid:
        assert valid[0].type == TensorType(BOOL, (start[0].shape[0], 1))
        y = body.where(valid[0], y, body.scalar(0, y.dtype))
        new = [body.where(valid[0], n, s) for n, s in zip(new, states)]
    for i, s in enumerate(new):
        body.output(f"next{i}", s)
    body.output("y", y)
    return body.graph


def _rnn(b, x, w, r, bias=None, lens=None, h0=None, **attrs):
    def step(body, gates, states, weights, activate):
        return [activate(0, gates + body.matmul(states[0], weights[0]))]

    weights = lambda d, rb: [turned(r, d)]
    return layer(b, "rnn", x, products(w), bias, lens, [h0], attrs, weights, step)


def _gru(b, x, w, r, bias=None, lens=None, h0=None, **attrs):
    hidden, before = attrs["hidden_size"], attrs["linear_before_reset"]

    def weights(d, rb):
        rt = turned(r, d)
        if before:
            return [rt] if rb is None else [rt, rb]
        return [_columns(rt, 0, hidden, 2), _columns(rt, 2, hidden)]

    def step(body, gates, states, weights, activate):
        (h,), column = states, lambda t, k: _columns(t, k, hidden)
        hr = body.matmul(h, weights[0])
        if before and len(weights) == 2:
            hr = hr + weights[1]
        z = activate(0, column(gates, 0) + column(hr, 0))
        reset = activate(0, column(gates, 1) + column(hr, 1))
        inner = reset * column(hr, 2) if before else body.matmul(reset * h, weights[1])
        n = activate(1, column(gates, 2) + inner)
        return [(1 - z) * n + z * h]

    return layer(b, "gru", x, products(w), bias, lens, [h0], attrs, weights, step)


def _lstm(b, x, w, r, bias=None, lens=None, h0=None, c0=None, p=None, **attrs):
    def weights(d, rb):
        return [turned(r, d)] if p is None else [turned(r, d), wide(part(p, d))]

    def step(body, gates, states, weights, activate):
        h, c = states
        gates = gates + body.matmul(h, weights[0])
        return lstm_cell(gates, c, weights[1] if len(weights) == 2 else None, activate, attrs)

    return layer(b, "lstm", x, products(w), bias, lens, [h0, c0], attrs, weights, step)


def lstm_cell(gates, c, p, activate, attrs):
    """The next h and c from the sums of all gates [B,4*H], c [B,H] and peepholes [3*H] or None."""
    hidden = attrs["hidden_size"]
    peephole = lambda k, c: _columns(p, k, hidden) * c
    i, o, f, g = (_columns(gates, k, hidden) for k in range(4))
    if p is not None:
        i, f = i + peephole(0, c), f + peephole(2, c)
    i = activate(0, i)
    f = 1 - i if attrs["input_forget"] else activate(0, f)
    c = f * c + i * activate(1, g)
    o = activate(0, o if p is None else o + peephole(1, c))
    return [o * activate(2, c, clip=None), c]


# -- the references: one sequence after the other, one step after the other ------------------------


def _reference(name, step):
    """`step(gates of x, h, c, r, rb, p, act, attrs)` gives the next (h, c)."""

    def ref(x, w, r, b=None, lens=None, h0=None, c0=None, p=None, **attrs):
        steps, batch, _ = x.shape
        hidden, n = attrs["hidden_size"], w.shape[0]
        gates = GATES[name] * hidden
        b = np.zeros((n, 2 * gates), x.dtype) if b is None else b
        p = np.zeros((n, 3 * hidden), x.dtype) if p is None else p
        y = np.zeros((steps, n, batch, hidden), x.dtype)
        last_h, last_c = (
            np.zeros((n, batch, hidden), x.dtype) if s is None else s.copy() for s in (h0, c0)
        )
        clip = np.inf if attrs["clip"] is None else attrs["clip"]
        per_direction = activations(name, attrs)
        for d, reverse in enumerate(REVERSED[attrs["direction"]]):
            act = clipped(per_direction[d], clip)
            wb, rb = b[d, :gates], b[d, gates:]
            for k in range(batch):
                h, c = last_h[d, k], last_c[d, k]
                length = steps if lens is None else int(lens[k])
                for t in reversed(range(length)) if reverse else range(length):
                    h, c = step(w[d] @ x[t, k] + wb, h, c, r[d], rb, p[d], act, attrs)
                    y[t, d, k] = h
                last_h[d, k], last_c[d, k] = h, c
        return (y, last_h, last_c) if name == "lstm" else (y, last_h)

    return reference(ref)


def _rnn_step(x, h, c, r, rb, p, act, attrs):
    return act(0, x + r @ h + rb), c


def _gru_step(x, h, c, r, rb, p, act, attrs):
    (xz, xr, xn), (rz, rr, rn), (bz, br, bn) = (np.split(v, 3) for v in (x, r, rb))
    z, reset = act(0, xz + rz @ h + bz), act(0, xr + rr @ h + br)
    if attrs["linear_before_reset"]:
        n = act(1, xn + reset * (rn @ h + bn))
    else:
        n = act(1, xn + rn @ (reset * h) + bn)
    return (1 - z) * n + z * h, c


def lstm_step(x, h, c, r, rb, p, act, attrs):
    i, o, f, g = np.split(x + r @ h + rb, 4)
    pi, po, pf = np.split(p, 3)
    i = act(0, i + pi * c)
    f = 1 - i if attrs["input_forget"] else act(0, f + pf * c)
    c = f * c + i * act(1, g)
    return act(0, o + po * c) * act(2, c, clip=np.inf), c


# -- the records -----------------------------------------------------------------------------------


def _operands(name, direction, dtype="f32", batch=2, lens=None, states=True, seed=1):
    """x, w, r, b, sequence_lens, states of T=4, I=3, H=2."""
    n, gates = len(REVERSED[direction]), GATES[name] * 2
    state = (n, batch, 2)
    made = [
        floats((4, batch, 3), seed, -1, 1, dtype),
        floats((n, gates, 3), seed + 1, -1, 1, dtype),
        floats((n, gates, 2), seed + 2, -1, 1, dtype),
        floats((n, 2 * gates), seed + 3, -1, 1, dtype),
        None if lens is None else array(lens, "i32"),
    ]
    if states:
        count = 2 if name == "lstm" else 1
        made += [floats(state, seed + 4 + i, -1, 1, dtype) for i in range(count)]
    return made


def _samples(name):
    for direction in REVERSED:
        attrs = {"hidden_size": 2, "direction": direction}
        yield case(*_operands(name, direction), **attrs)
        yield case(*_operands(name, direction, batch=3, lens=[4, 2, 1]), **attrs)
    forward = {"hidden_size": 2}
    for dtype in ("f64", "f16", "bf16"):
        yield case(*_operands(name, "forward", dtype), **forward)
    x, w, r, b, *_ = _operands(name, "forward")
    yield case(x, w, r, **forward)
    yield case(x, w, r, b, array([0, 3], "i32"), **forward)
    yield case(x, w, r, b, clip=0.4, **forward, grad=False)
    others = ("HardSigmoid", "Softsign", "Affine")[: len(DEFAULTS[name])]
    alpha = {"rnn": (0.3,), "gru": (0.3,), "lstm": (0.3, 1.5)}[name]
    yield case(
        x, w, r, b, **forward, activations=others, activation_alpha=alpha, activation_beta=(0.4,)
    )
    if name == "gru":
        for direction in REVERSED:
            yield case(
                *_operands(name, direction, batch=3, lens=[4, 2, 1]),
                hidden_size=2, direction=direction, linear_before_reset=True,
            )  # fmt: skip
        yield case(x, w, r, **forward, linear_before_reset=True)
    if name == "lstm":
        both = _operands(name, "bidirectional")
        p = floats((2, 6), 9, -1, 1)
        yield case(*both, p, hidden_size=2, direction="bidirectional")
        yield case(x, w, r, b, None, None, None, p[:1], **forward, input_forget=True)


COMMON = {
    "hidden_size": Attr("int"),
    "direction": Attr("str", "forward", "forward, reverse or bidirectional"),
    "activations": Attr("strs", (), "per direction; empty: the usual ones"),
    "activation_alpha": Attr("floats", (), "for the activations that have one, in order"),
    "activation_beta": Attr("floats", ()),
    "clip": Attr("float", None, "limit of |x| at the activations of the gates"),
}
_FIRST = "x: T, w: T, r: T, b: T?, sequence_lens: i32?, initial_h: T?"

for _name, _signature, _doc, _step, _rule, _attrs in [
    (
        "rnn",
        f"{_FIRST} -> T, T",
        "h' = f(W x + R h + b) over time; gives every h and the last one.",
        _rnn_step,
        _rnn,
        {},
    ),
    (
        "gru",
        f"{_FIRST} -> T, T",
        "z, r = f(…); n = g(W x + R (r * h) + b); h' = (1 - z) * n + z * h over time; gives every "
        "h and the last one. With `linear_before_reset` n = g(W x + r * (R h + rb) + wb).",
        _gru_step,
        _gru,
        {"linear_before_reset": Attr("bool", False)},
    ),
    (
        "lstm",
        f"{_FIRST}, initial_c: T?, p: T? -> T, T, T",
        "i, o, f = sigmoid(W x + R h + p * c + b); c' = f * c + i * g(…); h' = o * h(c') over "
        "time; gives every h, the last h and the last c. p are peepholes in the order i, o, f.",
        lstm_step,
        _lstm,
        {"input_forget": Attr("bool", False, "f = 1 - i")},
    ),
]:
    register(
        _name,
        _signature,
        _doc,
        T="float",
        shape=shapes(_name),
        attrs=COMMON | _attrs,
        ref=_reference(_name, _step),
        grad=through_expansion,
        loops=Expand(_rule),
        limits=length_limits(4),
        samples=lambda name=_name: _samples(name),
        group="recurrent",
    )
