"""The ai.onnx.preview.training domain: steps of optimizers, and Gradient.

An optimizer's operands are R (the learning rate), T (steps taken so far), then all tensors, all
their gradients, and all of each further state: `x1, x2, g1, g2, v1, v2`. Its results are the new
tensors and states in the same order. Formulas are those of the operators' own documentation.
"""

from .....compiler.autodiff.gradients import gradients, zeros_like
from .....compiler.errors import ModelError
from .....compiler.ir.builder import Builder, Tensor
from ...read.call import Call
from ...read.scope import FAILED, UNDEFINED, Scope, Skip


def _optimizer(states: int, step):
    """A reader; `step(c, r, t, x, g, *states)` gives the new tensor and its new states."""

    def entry(c: Call):
        operands = c.tensors[2:]
        n, rest = divmod(len(operands), 2 + states)
        if rest or not n:
            raise ModelError(
                "the operands must be all tensors, all gradients and all of each state",
                where=c.where,
                expected=f"a multiple of {2 + states} operands after R and T",
                received=len(operands),
            )
        groups = [operands[i * n : (i + 1) * n] for i in range(2 + states)]
        rate, count = c.x(0).reshape(()), c.x(1).reshape(())
        new = [step(c, rate.cast(x.dtype), count, x, *rest) for x, *rest in zip(*groups)]
        return [results[k] for k in range(1 + states) for results in new]

    return entry


def _regularised(c: Call, x: Tensor, g: Tensor) -> Tensor:
    norm = c.attr("norm_coefficient", 0.0)
    return g if norm == 0 else x * norm + g


def adagrad(c: Call, r, t, x, g, h):
    r = r / (t.cast(x.dtype) * c.attr("decay_factor", 0.0) + 1)
    g = _regularised(c, x, g)
    h = h + g * g
    return x - r * g / (c.b.emit("sqrt", h) + c.attr("epsilon", 1e-6)), h


def adam(c: Call, r, t, x, g, v, h):
    """The rate is corrected for the start of both averages from the first step (T > 0) on."""
    b, alpha, beta = c.b, c.attr("alpha", 0.9), c.attr("beta", 0.999)
    g = _regularised(c, x, g)
    v = v * alpha + g * (1 - alpha)
    h = h * beta + g * g * (1 - beta)
    steps = t.cast(x.dtype)
    power = lambda base: b.emit("pow", c.scalar(base, x.dtype), steps)
    corrected = r * b.emit("sqrt", 1 - power(beta)) / (1 - power(alpha))
    r = b.emit("where", t > 0, corrected, r)
    x = x - r * (v / (b.emit("sqrt", h) + c.attr("epsilon", 1e-6)))
    post = c.attr("norm_coefficient_post", 0.0)
    return x if post == 0 else x * (1 - post), v, h


def momentum(c: Call, r, t, x, g, v):
    """The gradient counts fully in the first step (T = 0), whatever beta is."""
    alpha, mode = c.attr("alpha"), c.attr("mode")
    if mode not in ("standard", "nesterov"):
        raise ModelError(
            "unknown mode", where=c.where, expected="standard or nesterov", received=repr(mode)
        )
    g = _regularised(c, x, g)
    beta = c.b.emit("where", t > 0, c.scalar(c.attr("beta"), x.dtype), c.scalar(1, x.dtype))
    v = v * alpha + beta * g
    return x - r * (v if mode == "standard" else g + v * alpha), v


# -- Gradient ---------------------------------------------------------------------------------


def gradient(c: Call):
    """d(sum of y) / d xs of the nodes between `xs`, `zs` and `y`, at the operands' values.

    Those nodes are read once more from the operands on, since what is known while reading has
    left no trace of what it came from; what is computed twice is found by the passes.
    """
    xs, zs, y = c.attr("xs"), c.attr("zs", []), c.attr("y")
    names = [n.decode() if isinstance(n, bytes) else n for n in (*xs, *zs)]
    if len(c.inputs) != len(names):
        raise ModelError(
            "Gradient needs an operand per name in xs and zs",
            where=c.where,
            expected=len(names),
            received=len(c.inputs),
        )
    scope = Scope(
        c.b, c.scope.opsets, parent=c.scope, attributes=c.scope.attributes, prefix=f"{c.where}/"
    )
    for name, operand in zip(names, c.tensors):
        scope.values[name] = Builder.emit(c.b, "identity", c.b.value(operand))
    wrt = [scope.values[name] for name in names[: len(xs)]]
    target = _read_again(c, scope, y)
    seed = c.scalar(1, target.dtype).expand(target.shape)
    found = gradients(c.b, [target], wrt, [seed])
    return [zeros_like(c.b, x) if d is None else Tensor(c.b, d) for x, d in zip(wrt, found)]


def _read_again(c: Call, scope: Scope, y: str) -> Tensor:
    """The value of `y` where the names of `scope` stand for their new values."""
    nodes = c.scope.nodes
    later = {o: i for i, n in enumerate(nodes) for o in n.output if o}
    moved, again = set(scope.values), []
    for i, node in enumerate(nodes):
        if list(node.output) == c.outputs:
            break
        if moved & set(node.input) and not moved & set(node.output):
            moved |= {o for o in node.output if o}
            again.append((i, node))
    wanted, needed = {y}, []
    for i, node in reversed(again):
        if wanted & set(node.output):
            wanted |= set(node.input)
            needed.append((i, node))
    for i, node in reversed(needed):
        c.reader._node(node, i, scope, later)
    target = scope.find(y)
    if target is FAILED:
        raise Skip
    if target is UNDEFINED or not isinstance(target, Tensor):
        raise ModelError("no node before it makes the tensor y", where=c.where, received=y)
    return target


TABLE = {
    "Adagrad": _optimizer(1, adagrad),
    "Adam": _optimizer(2, adam),
    "Momentum": _optimizer(1, momentum),
    "Gradient": gradient,
}
