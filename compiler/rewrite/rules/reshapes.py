"""Moves that undo, repeat or continue one another."""

from ...ir import dims
from ...ir.op import Elementwise
from ...ir.types import normalize_axis
from ..engine import Rule, rule
from ..pattern import Match, node, op, optional, variables

x, y = variables("x y")

# -- transpose ---------------------------------------------------------------------------


def compose(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """transpose(transpose(x, first), second) == transpose(x, compose(first, second))"""
    return tuple(first[p] for p in second)


def _only_ones_move(m: Match) -> bool:
    perm, shape = m.attr("perm"), m.x.shape
    kept = [p for p in perm if not (isinstance(shape[p], int) and shape[p] == 1)]
    return kept == sorted(kept)


TURNED = op.transpose(x)


def _merge_transposes(b, m: Match):
    return m.x.transpose(compose(m[TURNED].attrs["perm"], m.attr("perm")))


FLAT = op.reshape(x)
FLAT_TURNED = op.transpose(FLAT)


def _batch_of(m: Match):
    """The rank of what the reshapes join and split again: x [A…, S, T] ~ [prod(A), S, T]."""
    flat, perm = m[FLAT].output.shape, m[FLAT_TURNED].attrs["perm"]
    out = m.root.output.shape
    batch = m.x.rank - 2
    if perm != (0, 2, 1) or batch < 1 or len(out) != m.x.rank:
        return None
    same = (
        m.x.shape[batch:] == flat[1:]
        and out[:batch] == m.x.shape[:batch]
        and out[batch:] == flat[:0:-1]
        and dims.prod(m.x.shape[:batch]) == flat[0]
    )
    return batch if same else None


def _batched_transpose(b, m: Match):
    batch = _batch_of(m)
    return m.x.transpose(*range(batch), batch + 1, batch)


def _dropped(m: Match) -> list[int] | None:
    """The axes of size 1 that a reshape of a transpose drops, if it does nothing else."""
    turned, out = m[TURNED].output.shape, list(m.root.output.shape)
    dropped = []
    for axis, d in enumerate(turned):
        if out and out[0] == d:
            out.pop(0)
        elif isinstance(d, int) and d == 1:
            dropped.append(axis)
        else:
            return None
    return dropped if dropped and not out else None


def _squeeze_first(b, m: Match):
    perm = m[TURNED].attrs["perm"]
    gone = {perm[axis] for axis in _dropped(m)}
    kept = [axis for axis in range(m.x.rank) if axis not in gone]
    y = m.x.reshape(tuple(m.x.shape[axis] for axis in kept))
    return y.transpose(tuple(kept.index(p) for p in perm if p not in gone))


TRANSPOSES = (
    rule(
        "reshape(transpose(x)) without axes of size 1 => transpose(reshape(x))",
        op.reshape(TURNED),
        _squeeze_first,
        where=lambda m: _dropped(m) is not None,
    ),
    rule(
        "transpose(x) where no axis moves => x",
        op.transpose(x),
        lambda b, m: m.x,
        where=lambda m: m.attr("perm") == tuple(range(m.x.rank)),
    ),
    rule(
        "transpose(transpose(x, p), q) => transpose(x, p∘q)",
        op.transpose(TURNED),
        _merge_transposes,
        shared=True,
    ),
    rule(
        "transpose(x) where only axes of size 1 move => reshape(x)",
        op.transpose(x),
        lambda b, m: m.x.reshape(m.root.output.shape),
        where=_only_ones_move,
    ),
    rule(
        "reshape(transpose(reshape(x, [A*B,S,T])), [A,B,T,S]) => transpose(x, [0,1,3,2])",
        op.reshape(FLAT_TURNED),
        _batched_transpose,
        where=lambda m: _batch_of(m) is not None,
        shared=True,
    ),
)

# -- reshape, expand ---------------------------------------------------------------------


def _same_shape(m: Match) -> bool:
    return m.root.output.shape == m.x.shape


def _broadcasts_anyway(m: Match) -> bool:
    """f(x, expand(y)) is f(x, y) where x alone already gives the result its shape."""
    return m.x.shape == m.root.output.shape


def _without_expand(b, m: Match):
    assert isinstance(m.root.op.loops, Elementwise)
    values = [i.node.inputs[0] if _is_expand(i) else i for i in m.root.inputs]
    return b.emit(m.root.op.name, *values, **m.root.attrs)


def _is_expand(v) -> bool:
    return v is not None and v.node is not None and v.node.op.name == "expand"


BINARY = (
    "add",
    "sub",
    "mul",
    "div",
    "pow",
    "maximum",
    "minimum",
    "and",
    "or",
    "xor",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
)

SHAPES = (
    rule("reshape(x) to its own shape => x", op.reshape(x), lambda b, m: m.x, where=_same_shape),
    rule("expand(x) to its own shape => x", op.expand(x), lambda b, m: m.x, where=_same_shape),
    rule(
        "reshape(reshape(x)) => reshape(x)",
        op.reshape(op.reshape(x)),
        lambda b, m: m.x.reshape(m.attr("shape")),
        shared=True,
    ),
    rule(
        "expand(expand(x)) => expand(x)",
        op.expand(op.expand(x)),
        lambda b, m: m.x.expand(m.attr("shape")),
        shared=True,
    ),
    *(
        rule(
            f"{name}({args}) => {name}(x, y)",
            getattr(op, name)(*operands),
            _without_expand,
            where=_broadcasts_anyway,
            shared=True,
        )
        for name in BINARY
        for args, operands in [
            ("x, expand(y)", (x, op.expand(y))),
            ("expand(y), x", (op.expand(y), x)),
        ]
    ),
)

# -- slice, concat -----------------------------------------------------------------------


def _ranges(n, rank: int) -> dict[int, tuple]:
    """axis -> (start, step, size) of a slice."""
    axes = (normalize_axis(a, rank) for a in n.attrs["axes"])
    return dict(zip(axes, zip(n.attrs["starts"], n.attrs["steps"], n.attrs["sizes"])))


def _slice(x, ranges: dict[int, tuple]):
    axes = sorted(ranges)
    starts, steps, sizes = ([ranges[a][i] for a in axes] for i in range(3))
    return x.b.slice(x, axes=axes, starts=starts, steps=steps, sizes=sizes)


def _is_whole(m: Match) -> bool:
    ranges = _ranges(m.root, m.x.rank)
    return all(r == (0, 1, m.x.shape[axis]) for axis, r in ranges.items())


CUT = op.slice(x)


def _merge_slices(b, m: Match):
    """x[s + t·i][u + v·j] = x[s + t·u + t·v·j]"""
    inner, outer = _ranges(m[CUT], m.x.rank), _ranges(m.root, m.x.rank)
    merged = dict(inner)
    for axis, (start, step, size) in outer.items():
        s, t, _ = inner.get(axis, (0, 1, None))
        merged[axis] = (s + t * start, t * step, size)
    return _slice(m.x, merged)


def _adjacent(m: Match):
    """(source, axis, start, size) if the concat's parts are neighbouring slices, else None."""
    parts = [v.node for v in m.root.inputs]
    if len(parts) < 2 or any(n is None or n.op.name != "slice" for n in parts):
        return None
    source = parts[0].inputs[0]
    axis = normalize_axis(m.attr("axis"), source.rank)
    ranges = [_ranges(n, source.rank) for n in parts]
    if any(n.inputs[0] is not source for n in parts) or any(set(r) != {axis} for r in ranges):
        return None
    start = end = ranges[0][axis][0]
    for r in ranges:
        if r[axis][:2] != (end, 1):
            return None
        end = end + r[axis][2]
    return source, axis, start, end - start


def _join_slices(b, m: Match):
    source, axis, start, size = _adjacent(m)
    return _slice(b.tensor(source), {axis: (start, 1, size)})


def _inner_concats(m: Match):
    return [
        v.node is not None
        and v.node.op.name == "concat"
        and m.readers(v) == 1
        and normalize_axis(v.node.attrs["axis"], v.rank) == normalize_axis(m.attr("axis"), v.rank)
        for v in m.root.inputs
    ]


def _flatten_concat(b, m: Match):
    parts = []
    for v, inner in zip(m.root.inputs, _inner_concats(m)):
        parts += v.node.inputs if inner else [v]
    return b.concat(*parts, axis=m.attr("axis"))


def _pads_nothing(m: Match) -> bool:
    return all(p == 0 for p in m.attr("pads"))


PARTS = (
    rule("slice(x) of all of x => x", op.slice(x), lambda b, m: m.x, where=_is_whole),
    rule("slice(slice(x)) => slice(x)", op.slice(CUT), _merge_slices, shared=True),
    rule("concat(x) => x", op.concat(x), lambda b, m: m.x),
    rule(
        "concat(x[a:b], x[b:c]) => x[a:c]",
        node("concat"),
        _join_slices,
        where=lambda m: _adjacent(m) is not None,
        shared=True,
    ),
    rule(
        "concat(concat(x, y), z) => concat(x, y, z)",
        node("concat"),
        _flatten_concat,
        where=lambda m: any(_inner_concats(m)),
    ),
    rule("pad(x) by nothing => x", op.pad(x, optional(y)), lambda b, m: m.x, where=_pads_nothing),
)

RESHAPES: tuple[Rule, ...] = (*TRANSPOSES, *SHAPES, *PARTS)
