"""Chains of reshapes, transposes and slices become plain strides, and keep their meaning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.numpy import NumpyModule, run_kernel
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.expr import Buffer
from tessel.compiler.expr.index import linear
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.types import TensorType, dtype_of
from tessel.compiler.kernels.kernel import Call
from tessel.compiler.kernels.simplify import flatten, merge_axes, split_axes
from tessel.compiler.lowering.lower import lower

from ...support.kernels import buffer_of, store


def run(program, *arrays):
    return NumpyModule(program)(arrays)


def offsets(kernel):
    """The linear forms of every load and store."""
    loads = [e.args[0] for e in s.walk(*kernel.roots()) if e.op == "load"]
    return [linear(e) for e in loads + [st.index[0] for st in kernel.stores]]


def is_plain(kernel) -> bool:
    """Whether every offset is a sum of axes times constants."""
    return all(t.op == "axis" for terms, _ in offsets(kernel) for t in terms)


def factors(n: int):
    """A shape of n elements."""
    found, shape = 2, []
    while n > 1:
        while n % found == 0:
            shape.append(found)
            n //= found
        found += 1
    return shape


@st.composite
def moves(draw, regular: bool):
    """A graph of one input and a chain of moves. `regular`: reshapes split and join whole axes."""
    shape = draw(st.lists(st.sampled_from([1, 2, 3, 4, 6]), min_size=1, max_size=4))
    b = Builder()
    y = b.input("x", f"f32[{','.join(map(str, shape))}]")
    for _ in range(draw(st.integers(1, 5))):
        match draw(st.sampled_from(["transpose", "slice", "reshape", "reshape", "reverse"])):
            case "transpose":
                y = b.transpose(y, perm=draw(st.permutations(range(y.rank))))
            case "reverse" if y.rank:
                y = b.reverse(y, axes=[draw(st.integers(0, y.rank - 1))])
            case "slice" if not regular and y.rank:
                axis = draw(st.integers(0, y.rank - 1))
                start = draw(st.integers(0, y.shape[axis] - 1))
                step = draw(st.sampled_from([1, 2]))
                size = draw(st.integers(1, (y.shape[axis] - 1 - start) // step + 1))
                y = b.slice(y, axes=[axis], starts=[start], steps=[step], sizes=[size])
            case "reshape" if regular and y.rank:
                at = draw(st.integers(0, y.rank - 1))
                parts = factors(y.shape[at]) or [1]
                y = b.reshape(y, shape=[*y.shape[:at], *parts, *y.shape[at + 1 :]])
            case "reshape":
                parts = draw(st.permutations(factors(int(np.prod(y.shape)))))
                y = b.reshape(y, shape=parts)
    b.output("y", y.b.neg(y))
    return b.graph, shape


def by_numpy(graph, x):
    """The chain through numpy's own functions, node by node."""
    values = {graph.inputs[0]: x}
    for node in graph.nodes:
        operands = [values[v] for v in node.inputs]
        bound = node.op.bind(node.attrs, node.op.name)
        values[node.outputs[0]] = node.op.ref(*operands, **bound)
    return values[graph.outputs[0]]


@given(moves(regular=False))
@settings(max_examples=150, deadline=None)
def test_moves_keep_their_meaning(pair):
    graph, shape = pair
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    (received,) = run(lower(graph), x)
    np.testing.assert_array_equal(received, by_numpy(graph, x))


@given(moves(regular=True))
@settings(max_examples=80, deadline=None)
def test_whole_axes_become_plain_strides(pair):
    graph, shape = pair
    program = lower(graph)
    for call in program.kernels():
        assert is_plain(call.kernel), call.kernel
    x = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.testing.assert_array_equal(run(program, x)[0], by_numpy(graph, x))


def kernel_of(build, *types):
    """The one kernel of a graph, and its text."""
    b = Builder()
    b.output("y", build(b, *[b.input(f"x{i}", t) for i, t in enumerate(types)]))
    (call,) = lower(b.graph).steps
    assert isinstance(call, Call)
    return call.kernel


def body(kernel) -> list[str]:
    """The text without its first and last line."""
    return [line.strip() for line in kernel.text().splitlines()[1:-1]]


CHAINS = [
    (
        "a map is one long axis",
        lambda b, x: b.exp(x),
        ["f32[128,6,128]"],
        ["for i0<98304", "b1[i0] = exp(b0[i0])"],
    ),
    (
        "a head split: whole rows stay together",
        lambda b, x: b.exp(x.reshape(128, 12, 64).transpose(1, 0, 2)),
        ["f32[128,768]"],
        [
            "for i0<12, i1<128, i2<64",
            "b1[((i2 + (i1 * 64)) + (i0 * 8192))] = exp(b0[((i2 + (i0 * 64)) + (i1 * 768))])",
        ],
    ),
    (
        "a head split and its inverse cancel",
        lambda b, x: b.exp(
            x.reshape(128, 12, 64).transpose(1, 0, 2).transpose(1, 0, 2).reshape(128, 768)
        ),
        ["f32[128,768]"],
        ["for i0<98304", "b1[i0] = exp(b0[i0])"],
    ),
    (
        "a channel is read once per line",
        lambda b, x, c: x + c,
        ["f32[4,3,8,8]", "f32[3,1,1]"],
        [
            "for i0<4, i1<3, i2<64",
            "b2[((i2 + (i1 * 64)) + (i0 * 192))] = (b0[((i2 + (i1 * 64)) + (i0 * 192))] + b1[i1])",
        ],
    ),
    (
        "axes of 1 are dropped",
        lambda b, x: b.exp(x),
        ["f32[1,5,1]"],
        ["for i0<5", "b1[i0] = exp(b0[i0])"],
    ),
    (
        "neighbouring axes of a sum merge",
        lambda b, x: b.reduce_sum(x, axes=[1, 2], keepdims=False),
        ["f32[4,5,6]"],
        ["for i0<4", "b1[i0] = sum:f32(i1<30; b0[(i1 + (i0 * 30))])"],
    ),
]


@pytest.mark.parametrize(
    ("build", "types", "lines"), [c[1:] for c in CHAINS], ids=[c[0] for c in CHAINS]
)
def test_chains_in_plain_strides(build, types, lines):
    received = body(kernel_of(build, *types))
    assert sorted(map(canonical, received)) == sorted(map(canonical, lines))


def canonical(line: str) -> str:
    """Terms of a sum in one order: theirs follows from the age of the axes."""
    return "".join(sorted(line))


def test_an_axis_that_is_cut_by_a_division_is_split():
    x = np.arange(24, dtype=np.float32)
    a = buffer_of("a", x)
    kernel = store((24,), lambda i: a[(i % 4) * 6 + i // 4])
    assert not is_plain(kernel)
    split = split_axes(kernel)
    assert sorted(axis.extent for axis in split.axes) == [4, 6]
    assert is_plain(flatten(split))


def test_an_axis_that_no_divisor_cuts_evenly_stays():
    x = np.arange(25, dtype=np.float32)
    a = buffer_of("a", x)
    kernel = split_axes(store((25,), lambda i: a[i // 4]))
    assert [axis.extent for axis in kernel.axes] == [25]


def test_axes_of_a_sum_are_split_too():
    a = buffer_of("a", np.zeros(24, np.float32))
    kernel = store((1,), lambda i: s.reduce("sum", [24], lambda k: a[(k % 4) * 6 + k // 4]))
    merged = merge_axes(split_axes(kernel))
    assert is_plain(merged)
    (total,) = (e for e in s.walk(*merged.roots()) if e.op == "reduce")
    assert sorted(axis.extent for axis in total.data[1]) == [4, 6]


def test_an_axis_that_is_compared_does_not_merge():
    a = buffer_of("a", np.ones((6, 8), np.float32))
    kernel = merge_axes(store((6, 8), lambda i, j: s.select(j < i, a[i, j], 0.0)))
    assert [axis.extent for axis in kernel.axes] == [6, 8]


def test_flattening_remembers_the_original_buffers():
    a = buffer_of("a", np.ones((6, 8), np.float32))
    kernel = store((6, 8), lambda i, j: a[i, j] + 1.0)
    flat = merge_axes(kernel)
    assert flat.sources == kernel.params
    assert [b.shape for b in flat.params] == [(48,), (48,)]


@given(
    shape=st.lists(st.sampled_from([1, 2, 4, 6]), min_size=1, max_size=3),
    parts=st.lists(st.sampled_from([1, 2, 3, 4, 5]), min_size=2, max_size=2),
)
@settings(max_examples=40, deadline=None)
def test_merging_and_splitting_keep_a_kernels_result(shape, parts):
    size = int(np.prod(shape))
    x = np.arange(size * 30, dtype=np.float32)
    a = buffer_of("a", x)
    p, q = parts

    def at(*i):
        offset = s.flatten(i, shape)
        return s.reduce("sum", [6], lambda k: a[offset // p * 5 + offset % q + k * 2])

    kernel = store(tuple(shape), at)
    expected, received = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    run_kernel(kernel, [x, expected])
    run_kernel(merge_axes(split_axes(kernel)), [x, received])
    np.testing.assert_array_equal(received, expected)


# -- sums of integers in floats --------------------------------------------------------------------


def byte(name, dtype):
    return s.load(Buffer(name, TensorType(dtype_of(dtype), (9,))), [s.const(0)])


BYTES = byte("x", "u8"), byte("w", "i8"), byte("z", "i8")


def sum_of(count, body):
    return s.reduce("sum", [count], lambda k: body, "f32")


def there_and_back(x):
    return s.cast(s.cast(x, "i32"), "f32")


def test_a_sum_of_few_products_of_bytes_stays_a_float():
    x, w, z = (s.cast(b, "f32") for b in BYTES)
    for body in (x * w, (x - 124.0) * w, (x - 124.0) * (w - z)):
        total = sum_of(25, body)
        assert there_and_back(total) is total


def test_what_floats_do_not_hold_is_rounded():
    x, w, _ = (s.cast(b, "f32") for b in BYTES)
    for total in (sum_of(600, x * w), sum_of(25, x * 0.5), sum_of(25, x / w), sum_of(9, x * w * x)):
        assert there_and_back(total) is not total
