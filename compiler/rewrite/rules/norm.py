"""Normalisations and activations, found again in the pieces that exporters leave.

layer_norm   d = x - mean(x);  y = d / sqrt(mean(d²) + ε) · scale + bias
softmax      e = exp(x - max(x));  y = e / sum(e)
gelu         y = x · ½ (1 + erf(x / √2)),  or with tanh(√(2/π) (x + 0.044715 x³))
silu         y = x · sigmoid(x)
hard_swish   y = x · clip(x + 3, 0, 6) / 6
"""

from ...ir.types import normalize_axes
from ..engine import Rule, rule
from ..pattern import Either, Match, about, constants, op, splat, variables

x, s, t = variables("x s t")
c, eps = constants("c eps")


def _axes(m: Match, p) -> tuple[int, ...] | None:
    """Sorted axes of a reduction that keeps its dims."""
    n = m[p]
    if not n.attrs["keepdims"]:
        return None
    return tuple(sorted(normalize_axes(n.attrs["axes"], n.inputs[0].rank)))


# -- layer norm --------------------------------------------------------------------------

MEAN = op.reduce_mean(x)
CENTERED = x - MEAN
VARIANCE = op.reduce_mean(Either(op.pow(CENTERED, 2), CENTERED * CENTERED))
DEVIATION = Either(op.sqrt(VARIANCE + eps), op.pow(VARIANCE + eps, 0.5))
PIECES = Either(
    CENTERED / DEVIATION,
    CENTERED * Either(op.rsqrt(VARIANCE + eps), op.reciprocal(DEVIATION)),
)


def _normalises_the_last_axes(m: Match) -> str | None:
    axes, same = _axes(m, MEAN), _axes(m, VARIANCE)
    if axes is None or axes != same:
        return "mean and variance are over different axes"
    if axes != tuple(range(m.x.rank - len(axes), m.x.rank)):
        return f"it is over axes {list(axes)}, not over the last ones"
    return None if splat(m.eps.value) is not None else "epsilon is not one number"


def _layer_norm(b, m: Match):
    axis = _axes(m, MEAN)[0]
    return b.layer_norm(m.x, axis=axis - m.x.rank, epsilon=splat(m.eps.value))


BARE = op.layer_norm(x)
SCALED = op.layer_norm(x, s)


def _fits_the_norm(name: str, pattern):
    """A parameter varies along the normalised axes only, and all of them."""

    def check(m: Match) -> str | None:
        p, axis = getattr(m, name), m[pattern].attrs["axis"] % m.x.rank
        want = m.x.shape[axis:]
        leading = p.shape[: max(0, p.rank - len(want))]
        if p.shape[len(leading) :] == want and all(d == 1 for d in leading):
            return None
        return f"{p.type} is not a parameter of the axes {list(map(str, want))}"

    return check


def _parameter(p, m: Match, pattern):
    axis = m[pattern].attrs["axis"] % m.x.rank
    return p.reshape(m.x.shape[axis:])


def _with_scale(b, m: Match):
    return b.layer_norm(m.x, _parameter(m.c, m, BARE), **m[BARE].attrs)


def _with_bias(b, m: Match):
    return b.layer_norm(m.x, m.s, _parameter(m.c, m, SCALED), **m[SCALED].attrs)


LAYER_NORM = (
    rule(
        "(x - mean(x)) / sqrt(mean((x - mean(x))²) + ε) => layer_norm(x)",
        PIECES,
        _layer_norm,
        _normalises_the_last_axes,
    ),
    rule("layer_norm(x) * s => layer_norm(x, s)", BARE * c, _with_scale, _fits_the_norm("c", BARE)),
    rule(
        "layer_norm(x, s) + t => layer_norm(x, s, t)",
        SCALED + c,
        _with_bias,
        _fits_the_norm("c", SCALED),
    ),
)

# -- softmax -----------------------------------------------------------------------------

MAX = op.reduce_max(x)
SHIFTED = op.exp(x - MAX)
SHIFTED_SUM = op.reduce_sum(SHIFTED)
PLAIN = op.exp(x)
PLAIN_SUM = op.reduce_sum(PLAIN)
LOG_OF_SOFTMAX = op.softmax(x)


def _softmax_axis(m: Match) -> int | None:
    total = SHIFTED_SUM if SHIFTED_SUM in m else PLAIN_SUM
    axes = _axes(m, total)
    if MAX in m and _axes(m, MAX) != axes:
        return None
    return axes[0] if axes is not None and len(axes) == 1 else None


SOFTMAX = (
    rule(
        "exp(x - max(x)) / sum(exp(x - max(x))) => softmax(x)",
        Either(SHIFTED / SHIFTED_SUM, PLAIN / PLAIN_SUM),
        lambda b, m: b.softmax(m.x, axis=_softmax_axis(m)),
        lambda m: None if _softmax_axis(m) is not None else "it is not over one kept axis",
    ),
    rule(
        "log(softmax(x)) => log_softmax(x)",
        op.log(LOG_OF_SOFTMAX),
        lambda b, m: b.log_softmax(m.x, axis=m[LOG_OF_SOFTMAX].attrs["axis"]),
    ),
)

# -- activations -------------------------------------------------------------------------


def _half(p, q):
    """½ · p · q in each order of the products."""
    half = about(0.5)
    return Either(p * (half * q), (p * q) * half, (p * half) * q)


ERF = 1 + op.erf(Either(x / about(2**0.5), x * about(0.5**0.5)))
CUBE = Either(op.pow(x, 3), x * x * x, x * (x * x))
INNER = x + CUBE * about(0.044715)
TANH = 1 + op.tanh(INNER * about(0.7978845608))
# x + 0.044715 x³ written as x (1 + 0.044715 x²), as TensorFlow and JAX do
SQUARE = Either(op.pow(x, 2), x * x)
FACTORED = 1 + op.tanh((x * about(0.7978845608)) * (1 + SQUARE * about(0.044715)))

CLIP = op.clip(x + 3, 0, 6)
SIXTH = about(1 / 6)

ACTIVATIONS = (
    rule("x * (1 + erf(x/√2)) / 2 => gelu(x)", _half(x, ERF), lambda b, m: b.gelu(m.x)),
    rule(
        "x * (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2 => gelu(x)",
        Either(*_half(x, TANH).patterns, *_half(x, FACTORED).patterns),
        lambda b, m: b.gelu(m.x, approximate="tanh"),
    ),
    rule("x * sigmoid(x) => silu(x)", x * op.sigmoid(x), lambda b, m: b.silu(m.x)),
    rule("x * tanh(softplus(x)) => mish(x)", x * op.tanh(op.softplus(x)), lambda b, m: b.mish(m.x)),
    rule(
        "x * clip(x + 3, 0, 6) / 6 => hard_swish(x)",
        Either((x * CLIP) / 6, (x * CLIP) * SIXTH, x * (CLIP / 6), x * (CLIP * SIXTH)),
        lambda b, m: b.hard_swish(m.x),
    ),
    rule(
        "x * hard_sigmoid(x, 1/6, 1/2) => hard_swish(x)",
        x * op.hard_sigmoid(x),
        lambda b, m: b.hard_swish(m.x),
        lambda m: _is_hard_swish(m),
    ),
)


def _is_hard_swish(m: Match) -> str | None:
    n = next(n for n in m.nodes if n.op.name == "hard_sigmoid")
    alpha, beta = n.attrs["alpha"], n.attrs["beta"]
    if abs(alpha - 1 / 6) < 1e-4 and beta == 0.5:
        return None
    return f"alpha is {alpha}, beta {beta}"


NORMS: tuple[Rule, ...] = (*LAYER_NORM, *SOFTMAX, *ACTIVATIONS)
