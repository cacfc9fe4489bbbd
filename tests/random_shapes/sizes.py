"""Sizes, and arithmetic on them: shapes, their elements, counts of what is found."""

from onnx import TensorProto

from .draw import Drawing, Value


def is_sizes(v: Value) -> bool:
    """Whether a vector could be sizes: as many of them everywhere, none large or negative."""
    arrays = [a for a in v.arrays if a is not None]
    small = all(not a.size or -1 <= a.min() <= a.max() <= 64 for a in arrays)
    return small and len({a.size for a in arrays}) == 1 and arrays[0].size <= 5


def has_elements(v: Value, least: int = 1) -> bool:
    """Whether the last axis has so many, and no axis is empty."""
    arrays = [a for a in v.arrays if a is not None]
    return all(a.size and (not a.ndim or a.shape[-1] >= least) for a in arrays)


def sizes_of(d: Drawing) -> Value:
    """A vector of sizes: one that is there, or the shape of a value."""
    found = [v for v in d.values if v.kind == "i" and v.rank == 1 and is_sizes(v)]
    return d.rng.choice(found) if found and d.rng.random() < 0.4 else shape(d)


def one_size(d: Drawing, rank=1) -> Value:
    """A size as a vector of one element, or as a scalar."""
    what = d.rng.random()
    if what < 0.25:
        v = count(d)
    else:
        vector = sizes_of(d)
        n = vector.one.size
        if not n:
            raise LookupError
        at = d.constant([d.rng.randrange(n)] if rank else d.rng.randrange(n))
        return must(d.node("Gather", [vector, at], axis=0))
    if rank == 0:
        return must(d.node("Squeeze", [v]))
    return v


def must(made):
    if made is None:
        raise LookupError
    return made[0]


def count(d: Drawing) -> Value:
    """How many elements of a value are not 0, or its largest, as i64[1]: data decides."""
    x = d.pick("fi", range(1, 5))
    if d.rng.random() < 0.6:
        found = must(d.node("NonZero", [x]))
        s = must(d.node("Shape", [found]))
        return must(d.node("Gather", [s, d.constant([1])], axis=0))
    x = must(d.node("Cast", [x], to=TensorProto.INT64))
    zero = d.constant([0])
    flat = must(d.node("Reshape", [x, d.constant([-1])]))
    both = must(d.node("Concat", [flat, zero], axis=0))
    if d.rng.random() < 0.5:
        return must(d.node("ReduceMax", [both, zero], keepdims=1))
    both = must(d.node("Clip", [both, d.constant(0), d.constant(2)]))
    return must(d.node("ReduceSum", [both, zero], keepdims=1))


def shape(d: Drawing) -> Value:
    return must(d.node("Shape", [d.pick()]))


def size(d: Drawing):
    d.node("Size", [d.pick()])


def size_arithmetic(d: Drawing):
    a = sizes_of(d)
    op = d.rng.choice(["Add", "Sub", "Mul", "Div", "Max", "Min", "Mod"])
    other = d.constant([d.rng.choice([0, 1, 2, 3])]) if d.rng.random() < 0.6 else one_size(d)
    pair = [a, other] if d.rng.random() < 0.8 else [other, a]
    if op in ("Div", "Mod"):
        pair[1] = d.constant([d.rng.choice([1, 2, 3])])
    d.node(op, pair)


def size_choice(d: Drawing):
    """Where(a == n, b, a): what exporters make of Expand and Reshape."""
    a, b = sizes_of(d), one_size(d)
    test = d.rng.choice(["Equal", "Less", "Greater"])
    c = must(d.node(test, [a, d.constant([d.rng.choice([0, 1, 2, -1])])]))
    d.node("Where", [c, b, a] if d.rng.random() < 0.7 else [c, d.constant([1]), a])


def gather_sizes(d: Drawing):
    v = sizes_of(d)
    n = v.one.size
    if not n:
        raise LookupError
    picked = [d.rng.randrange(-n, n) for _ in range(d.rng.choice([1, 1, 2, 3]))]
    d.node("Gather", [v, d.constant(picked)], axis=0)


def slice_sizes(d: Drawing):
    v = sizes_of(d)
    start, end = d.rng.randint(-2, 2), d.rng.choice([-1, 1, 2, 3, 99])
    d.node("Slice", [v, d.constant([start]), d.constant([end]), d.constant([0])])


def concat_sizes(d: Drawing):
    parts = []
    for _ in range(d.rng.choice([2, 2, 3])):
        what = d.rng.random()
        parts.append(d.constant([d.rng.choice([-1, 0, 1, 1, 2, 3])]) if what < 0.4 else one_size(d))
    d.node("Concat", parts, axis=0)


def reduce_sizes(d: Drawing):
    op = d.rng.choice(["ReduceProd", "ReduceSum", "ReduceMax", "ReduceMin"])
    d.node(op, [sizes_of(d), d.constant([0])], keepdims=1)
