"""Products with the weights of a softmax, which need no weights in memory: attention.

    out[s, e] = f(sum over t of p[s, t] * v[t, e], …)
    p[s, t]   = exp(z[s, t] - max over t of z) / (sum over t of exp(z[s, t] - max over t of z))
    z[s, t]   = g(sum over d of q[s, d] * k[t, d], …)

`find_online` reads this from a kernel's expressions, whatever ops they were made of. Fusion asks it
before it makes such a kernel (`lowering/chains.py`), the CPU's schedule of the kernel.
"""

from collections.abc import Iterator

from ..classes import dataclass
from ..expr import expr as s
from ..expr.expr import Axis, Expr
from ..ir.bounds import size_hint
from ..ir.types import I64
from .contraction import contiguous_axis
from .kernel import Kernel

FLOATS = ("f32", "f64")


@dataclass(frozen=True)
class Online:
    """`reduce` is the sum over `key` of weights and `value`; `scores` are z, over `row` and `key`,
    with `product`, the sum over `depth` of `query` and `keys`, inside. `column` is the axis e, and
    `outer` are those that are left. Keys from `limit` on, a place that does not fall from row to
    row, are hidden from a row. `guarded`: rows of weights that are NaN count as zeros."""

    reduce: Expr
    scores: Expr
    product: Expr
    query: Expr
    keys: Expr
    value: Expr
    row: Axis
    key: Axis
    depth: tuple[Axis, ...]
    column: Axis
    outer: tuple[Axis, ...]
    limit: Expr | None
    guarded: bool


def find_online(kernel: Kernel) -> Online | None:
    """The product with a softmax's weights that a (flattened) kernel is, or None."""
    store = kernel.stores[0]
    if kernel.serial or len(kernel.stores) != 1 or store.mode != "set" or store.where is not None:
        return None
    sums = list(dict.fromkeys(_outermost(store.value)))
    if len(sums) != 1 or sums[0].data[0] != "sum" or sums[0].dtype.name not in FLOATS:
        return None
    (total,) = sums
    if total.args[0].op != "mul" or len(total.data[1]) != 1 or len(store.index) != 1:
        return None
    (key,) = total.data[1]
    for weights, value in (total.args[0].args, total.args[0].args[::-1]):
        if key in value.free and not _has_reduction(value):
            guarded, inner = _unguarded(weights)
            scores = _softmax_of(inner, key)
            if scores is not None:
                return _online(kernel, total, scores, value, weights, guarded)
    return None


def values_once(kernel: Kernel) -> list[Expr]:
    """What a kernel stores, for those who count its work: scores that are reduced several times,
    over one axis each time, are one expression here, as schedules compute them. (In a kernel, each
    reduction has axes of its own.)"""
    online = find_online(kernel)
    if online is None:
        return [st.value for st in kernel.stores]
    dtype, key = online.scores.dtype, (online.key,)
    most = s.make("reduce", (online.scores,), ("max", key), dtype)
    power = s.exp(online.scores - most)
    total = s.make("reduce", (power,), ("sum", key), dtype)
    weighed = power * (s.const(1.0, dtype) / total) * online.value
    whole = s.make("reduce", (weighed,), online.reduce.data, online.reduce.dtype)
    (store,) = kernel.stores
    return [s.transform(store.value, lambda e: whole if e is online.reduce else None)]


def _outermost(e: Expr) -> Iterator[Expr]:
    """The reductions of an expression that are in no other one."""
    seen, stack = set(), [e]
    while stack:
        x = stack.pop()
        if x.op == "reduce":
            yield x
        elif x not in seen:
            seen.add(x)
            stack += x.args


def _has_reduction(e: Expr) -> bool:
    return next(_outermost(e), None) is not None


def _unguarded(weights: Expr) -> tuple[bool, Expr]:
    """p of select(isnan(p), 0, p)"""
    if weights.op == "select":
        condition, zero, inner = weights.args
        is_zero = zero.op == "const" and zero.data == 0
        if condition.op == "isnan" and condition.args[0] is inner and is_zero:
            return True, inner
    return False, weights


def _softmax_of(weights: Expr, key: Axis) -> Expr | None:
    """z of the weights softmax(z) along an axis, or None."""
    if weights.op == "div":
        power, total = weights.args
    elif weights.op == "mul":
        sides = weights.args if weights.args[0].op == "exp" else weights.args[::-1]
        power, inverse = sides
        is_inverse = inverse.op == "div" and inverse.args[0] is s.const(1.0, inverse.dtype)
        if not is_inverse:
            return None
        total = inverse.args[1]
    else:
        return None
    if power.op != "exp" or power.args[0].op != "sub" or not _is_along(total, "sum", key):
        return None
    scores, most = power.args[0].args
    if key not in scores.free or not _is_along(most, "max", key):
        return None
    is_same = _same(most.args[0], scores, {most.data[1][0]: key})
    return scores if is_same and _same(total.args[0], power, {total.data[1][0]: key}) else None


def _is_along(e: Expr, combiner: str, key: Axis) -> bool:
    """Whether it is a reduction along one axis, as long as `key`."""
    return (
        e.op == "reduce"
        and e.data[0] == combiner
        and len(e.data[1]) == 1
        and e.data[1][0].extent == key.extent
    )


def _same(x: Expr, y: Expr, axes: dict[Axis, Axis]) -> bool:
    """Whether x is y once its axes are renamed."""
    if x is y:
        return not x.free & axes.keys()
    if x.op == "axis" or (x.dtype == I64 and y.dtype == I64 and x.op != "load"):
        return _same_places(x, y, axes)
    if x.op != y.op or x.dtype != y.dtype or len(x.args) != len(y.args):
        return False
    if x.op == "reduce":
        (combiner, own), (other, others) = x.data, y.data
        if combiner != other or [a.extent for a in own] != [a.extent for a in others]:
            return False
        axes = axes | dict(zip(own, others))
    elif x.data is not y.data and (x.op == "load" or x.data != y.data):
        return False
    return all(_same(a, b, axes) for a, b in zip(x.args, y.args))


def _same_places(x: Expr, y: Expr, axes: dict[Axis, Axis]) -> bool:
    """The same of indices, whose terms may stand in another order."""
    (terms, base), (others, other) = s.linear(x), s.linear(y)
    if base != other or len(terms) != len(others):
        return False
    left = dict(others)
    for term, c in terms.items():
        if term.op == "axis":
            found = s.make("axis", (), axes.get(term.data, term.data), I64)
        else:
            found = next((t for t in left if t.op == term.op and _inside(term, t, axes)), None)
        if found is None or left.pop(found, None) != c:
            return False
    return True


def _inside(x: Expr, y: Expr, axes: dict[Axis, Axis]) -> bool:
    """Whether terms that are no sums are the same."""
    if x is y:
        return not x.free & axes.keys()
    if x.data is not y.data and (x.op == "load" or x.data != y.data):
        return False
    return len(x.args) == len(y.args) > 0 and all(map(_same, x.args, y.args, [axes] * len(x.args)))


def _online(
    kernel: Kernel, total: Expr, scores: Expr, value: Expr, weights: Expr, guarded: bool
) -> Online | None:
    (key,) = total.data[1]
    products = list(dict.fromkeys(_outermost(scores)))
    if len(products) != 1 or products[0].data[0] != "sum" or products[0].args[0].op != "mul":
        return None
    (product,) = products
    query, keys = product.args[0].args
    if key in query.free:
        query, keys = keys, query
    depth = product.data[1]
    if key in query.free or key not in keys.free or product.dtype != total.dtype:
        return None
    if _has_reduction(query) or _has_reduction(keys):
        return None
    if not all(a in query.free and a in keys.free for a in depth):
        return None
    columns, rows = [], []
    for a in kernel.axes:
        in_weights, in_value = a in weights.free, a in value.free
        if not (in_weights or in_value):
            if a.extent == 1:
                continue  # no index needs it
            return None
        if in_value and not in_weights:
            columns.append(a)
        elif not in_value and a not in keys.free:
            rows.append(a)
    if len(columns) != 1 or not rows or contiguous_axis(kernel) is not columns[0]:
        return None
    row = max(reversed(rows), key=lambda a: size_hint(a.extent))
    outer = tuple(a for a in kernel.axes if a is not row and a is not columns[0])
    limit = _limit(scores, row, key)
    axes = (row, key, depth, columns[0], outer)
    return Online(total, scores, product, query, keys, value, *axes, limit, guarded)


def _limit(scores: Expr, row: Axis, key: Axis) -> Expr | None:
    """Where the keys begin that are hidden from a row, as a causal mask does: their scores are
    -inf, whatever data is."""
    if scores.op != "select":
        return None
    condition, seen, hidden = scores.args
    if hidden is not s.const(-float("inf"), hidden.dtype):
        return None
    stack = [condition]
    while stack:
        e = stack.pop()
        if e.op == "and":
            stack += e.args
            continue
        if e.op not in ("ge", "gt", "le", "lt") or e.args[0].dtype != I64:
            continue
        low, high = e.args[::-1] if e.op in ("ge", "gt") else e.args
        terms, base = s.linear(s.sub(high, low))  # at least 0, or above it
        rate = terms.pop(s.axis(key), 0)
        known = all(t.op in ("axis", "size") for t in terms)
        step = terms.get(s.axis(row), 0)
        if rate == -1 and known and isinstance(step, int) and step >= 0:
            return s.from_linear(terms, base + (e.op in ("ge", "le")))
    return _limit(seen, row, key)
