"""Layers of sequences [N,T,F]: recurrent cells over time, and attention.

Recurrent weights are ONNX's: [directions, gates * hidden, in], gates in the order i, o, f, c of an
LSTM and z, r, h of a GRU; biases [directions, 2 * gates * hidden].
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ....compiler.errors import UsageError
from .. import functional as F
from ..initializers import Initializer, glorot_uniform
from ..module import Module, Scope
from ..tracing import Array
from .basic import Linear

RETURNS = ("sequence", "last", "both")


class Recurrent(Module):
    """What recurrent layers share.

    `returns`: "sequence" [N,T,H], "last" [N,H], or "both": (sequence, state), the state a tuple of
    [directions,N,H]. H is doubled by `bidirectional`: forwards, then backwards.
    `lengths` i32[N] says how long each sequence is: beyond, outputs are 0.
    """

    op: Callable[..., Any]
    gates, options = 1, {}  # type: ignore[var-annotated]

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bidirectional: bool = False,
        returns: str = "sequence",
        initializer: Initializer = glorot_uniform,
    ):
        if returns not in RETURNS:
            raise UsageError(
                f"{type(self).__name__}: unknown returns",
                expected=", ".join(RETURNS),
                received=repr(returns),
            )
        self.input_size, self.hidden_size, self.returns = input_size, hidden_size, returns
        self.directions, self.initializer = 1 + bidirectional, initializer

    def parameters(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        i, h, n = self.input_size, self.hidden_size, self.directions
        return {
            "input_weight": self.initializer(rng, (n, self.gates * h, i), i, h),
            "hidden_weight": self.initializer(rng, (n, self.gates * h, h), h, h),
            "bias": np.zeros((n, 2 * self.gates * h), np.float32),
        }

    def forward(self, s: Scope, x: Array, lengths: Array | None = None, state: tuple = ()) -> Any:
        direction = "forward" if self.directions == 1 else "bidirectional"
        y, *state_ = type(self).op(
            x.transpose(1, 0, 2),
            s.input_weight,
            s.hidden_weight,
            s.bias,
            lengths,
            *state,
            hidden_size=self.hidden_size,
            direction=direction,
            **self.options,
        )
        if self.returns == "last":
            h = state_[0].transpose(1, 0, 2)
            return h.reshape((h.shape[0], self.directions * self.hidden_size))
        y = y.transpose(2, 0, 1, 3)
        y = y.reshape((*y.shape[:2], self.directions * self.hidden_size))
        return y if self.returns == "sequence" else (y, tuple(state_))


class RNN(Recurrent):
    """h' = tanh(W x + R h + b)"""

    op = staticmethod(F.rnn)


class GRU(Recurrent):
    """Gated recurrent units (Cho et al. 2014), with the reset gate behind the product."""

    op, gates, options = staticmethod(F.gru), 3, {"linear_before_reset": True}


class LSTM(Recurrent):
    """Long short-term memory (Hochreiter, Schmidhuber 1997); its state is (h, c)."""

    op, gates = staticmethod(F.lstm), 4


class MultiHeadAttention(Module):
    """Attention of several heads over projections (Vaswani et al. 2017).

    `attend(query, key, value, mask=…, is_causal=…)`; key and value default to the query, the value
    to the key. A mask is true where a key counts: [N,T], [N,S,T] or [N,H,S,T].
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        bias: bool = True,
        initializer: Initializer = glorot_uniform,
    ):
        if embed_dim % num_heads:
            raise UsageError(
                "heads share the features equally",
                expected=f"embed_dim a multiple of {num_heads}",
                received=embed_dim,
            )
        self.heads, self.size = num_heads, embed_dim // num_heads
        self.query, self.key, self.value, self.out = (
            Linear(embed_dim, embed_dim, bias, initializer) for _ in range(4)
        )

    def forward(
        self,
        s: Scope,
        query: Array,
        key: Array | None = None,
        value: Array | None = None,
        *,
        mask: Array | None = None,
        is_causal: bool = False,
    ) -> Array:
        key = query if key is None else key
        value = key if value is None else value
        q, k, v = (
            part(x).reshape((*x.shape[:2], self.heads, self.size)).transpose(0, 2, 1, 3)
            for part, x in ((s.query, query), (s.key, key), (s.value, value))
        )
        if mask is not None:
            mask = query.b.array(mask)
            at = {2: (1, 1), 3: (1,)}.get(mask.rank, ())
            mask = mask.reshape((mask.shape[0], *at, *mask.shape[1:]))
        y = F.attention(q, k, v, mask, is_causal=is_causal).transpose(0, 2, 1, 3)
        return s.out(y.reshape((*y.shape[:2], self.heads * self.size)))
