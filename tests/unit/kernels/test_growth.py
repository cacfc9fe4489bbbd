"""How work grows: twice the elements take twice the instructions, also where one sorts."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.expr import expr as s
from tessel.compiler.ir import dims
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.kernels.bind import bind
from tessel.compiler.kernels.simplify import merge_axes
from tessel.compiler.kernels.work import work_of
from tessel.compiler.lowering.lower import lower

from ...support.growth import executed, instructions
from ...support.kernels import buffer_of, native, store
from ...support.onnx_models import graph_of, model

TARGET = NAMED["x86-64-v3"]
SIZES = (1 << 13, 1 << 14, 1 << 15, 1 << 16)  # rows are not kept in memory any more
LINEAR = 2.3  # what twice the elements may take; one more level of blocks is in it


def vector(b, n):
    return b.input("x", f"f32[{n}]")


def rows(b, n):
    return b.input("x", f"f32[3,{n}]")


def columns(b, n):
    return b.input("x", f"f32[{n},3]")


def image(b, n):
    return b.input("x", f"f32[1,2,4,{n}]")


def indices(b, n):
    return b.input("i", f"i64[{n}]")


def _table(b):
    return b.constant(np.ones((50, 8), np.float32))


# name -> the result for a size
CASES = {
    "add": lambda b, n: vector(b, n) + b.input("y", f"f32[{n}]"),
    "gelu": lambda b, n: b.gelu(rows(b, n)),
    "where": lambda b, n: b.where(b.input("c", f"bool[{n}]"), vector(b, n), b.scalar(0, "f32")),
    "cast": lambda b, n: vector(b, n).cast("i32"),
    "transpose": lambda b, n: b.transpose(rows(b, n), perm=(1, 0)),
    "concat": lambda b, n: b.concat(rows(b, n), b.input("y", f"f32[3,{n}]"), axis=1),
    "pad": lambda b, n: b.pad(rows(b, n), pads=(0, 1, 0, 2)),
    "slice": lambda b, n: b.slice(rows(b, n), axes=(1,), starts=(1,), steps=(1,), sizes=(n - 1,)),
    "expand": lambda b, n: b.expand(b.input("x", f"f32[1,{n}]"), shape=(3, n)),
    "gather": lambda b, n: b.gather(_table(b), indices(b, n), axis=0),
    "gather_elements": lambda b, n: b.gather_elements(
        b.input("x", f"f32[{n}]"), indices(b, n), axis=0
    ),
    "scatter_elements": lambda b, n: b.scatter_elements(
        vector(b, n), indices(b, n), b.input("u", f"f32[{n}]"), axis=0, reduction="add"
    ),
    "one_hot": lambda b, n: b.one_hot(indices(b, n), b.constant(np.float32([0, 1])), depth=5),
    "log_softmax": lambda b, n: b.log_softmax(rows(b, n), axis=1),
    "layer_norm": lambda b, n: b.layer_norm(
        rows(b, n), b.input("s", f"f32[{n}]"), b.input("b", f"f32[{n}]"), axis=1
    ),
    "resize": lambda b, n: b.resize(image(b, n), sizes=(1, 2, 8, 2 * n), mode="linear"),
    "top_k": lambda b, n: b.top_k(rows(b, n), k=10),
    "top_k of half": lambda b, n: b.top_k(rows(b, n), k=n // 2),
    "top_k of columns": lambda b, n: b.top_k(columns(b, n), k=300, axis=0),
    "argsort": lambda b, n: b.argsort(rows(b, n)),
    "sort_rows": lambda b, n: b.sort_rows(b.input("x", f"f32[{n},1]")),
    "sort_rows of 20 columns": lambda b, n: b.sort_rows(b.input("x", f"i32[{n},20]")),
    "max_pool": lambda b, n: b.max_pool(image(b, n), kernel=(3, 3), pads=(1, 1, 1, 1)),
    "average_pool": lambda b, n: b.average_pool(image(b, n), kernel=(2, 9), strides=(2, 3)),
    "running_count": lambda b, n: b.running_count(b.input("c", f"bool[3,{n}]")),
    "cache_update": lambda b, n: b.cache_update(
        b.input("c", f"f32[1,2,{n},8]"), b.input("u", "f32[1,2,1,8]"), b.input("at", "i64[1]")
    ),
}
for _name in ("reduce_sum", "reduce_max", "reduce_mean", "reduce_log_sum_exp", "reduce_l2"):
    CASES[f"{_name} of rows"] = lambda b, n, f=_name: b.emit(f, rows(b, n), axes=(1,))
    CASES[f"{_name} of columns"] = lambda b, n, f=_name: b.emit(f, columns(b, n), axes=(0,))
    CASES[f"{_name} of all"] = lambda b, n, f=_name: b.emit(f, rows(b, n), axes=(0, 1))
for _name in ("arg_max", "arg_min"):
    for _last in (False, True):
        for _make, _axis in ((vector, 0), (rows, 1), (columns, 0)):
            CASES[f"{_name} {_make.__name__} {_last}"] = (
                lambda b, n, f=_name, l=_last, m=_make, a=_axis: b.emit(
                    f, m(b, n), axis=a, select_last_index=l
                )
            )
for _make, _axis in ((vector, 0), (rows, 1), (columns, 0)):
    CASES[f"softmax {_make.__name__}"] = lambda b, n, m=_make, a=_axis: b.softmax(m(b, n), axis=a)
    CASES[f"cumsum {_make.__name__}"] = lambda b, n, m=_make, a=_axis: b.cumsum(m(b, n), axis=a)


def growth(counts: list) -> float:
    return max(b / a for a, b in pairwise(counts))


def lowered(case, n):
    b = Builder()
    found = case(b, n)
    for i, y in enumerate(found if isinstance(found, tuple) else (found,)):
        b.output(f"y{i}", y)
    return lower(b.graph)


@pytest.mark.parametrize("name", CASES)
def test_work_grows_with_the_elements(name):
    assert_linear([lowered(CASES[name], n) for n in SIZES])


def assert_linear(programs: list) -> None:
    assert growth([executed(p, TARGET) for p in programs]) < LINEAR
    flops = [1 + sum(work_of(c.kernel).flops for c in p.kernels()) for p in programs]
    assert growth(flops) < LINEAR


OPEN = {
    "top_k": lambda b: b.top_k(b.input("x", "f32[3,N]"), k=10),
    "top_k of most": lambda b: b.top_k(b.input("x", "f32[3,N+5]"), k=Sym.named("N")),
    "top_k of columns": lambda b: b.top_k(b.input("x", "f32[N,3]"), k=10, axis=0, largest=False),
    "argsort": lambda b: b.argsort(b.input("x", "f64[3,N]"), descending=True),
    "sort_rows": lambda b: b.sort_rows(b.input("x", "f32[N,1]")),
    "sort_rows of 20 columns": lambda b: b.sort_rows(b.input("x", "i32[N,20]")),
    "cumsum": lambda b: b.cumsum(b.input("x", "f32[3,N]"), axis=1),
    "cumprod": lambda b: b.cumprod(b.input("x", "f64[N,3]"), axis=0, reverse=True),
}


@pytest.mark.parametrize("name", OPEN)
def test_work_of_code_for_all_sizes_grows_with_the_elements(name):
    b = Builder()
    found = OPEN[name](b)
    for i, y in enumerate(found if isinstance(found, tuple) else (found,)):
        b.output(f"y{i}", y)
    program = lower(b.graph, dynamic_shapes=True)
    assert_linear([bind(program, {"N": n}) for n in SIZES])


UNIQUE = {
    "": "float[N] x",
    "<sorted=0>": "int64[N] x",
    "<axis=0>": "float[N,5] x",
    "<axis=1>": "int32[40,N] x",
}


@pytest.mark.parametrize("attributes", UNIQUE)
def test_work_of_unique_grows_with_the_elements(attributes):
    """The size that data decides, of the groups, is half of what it can be."""
    graph = graph_of(
        model(
            f"y, i, j, k = Unique{attributes}(x)",
            inputs=UNIQUE[attributes],
            outputs="float[A] y, int64[B] i, int64[C] j, int64[D] k",
        )
    )
    program = lower(graph, dynamic_shapes=True)
    sizes = {s for v in graph.values() for d in v.shape for s in dims.symbols(d)}
    assert_linear([bind(program, {s: n if s == "N" else n // 2 for s in sizes}) for n in SIZES])


@pytest.mark.parametrize("op", ["max_pool", "average_pool"])
@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("windows", [(8, 16, 32), (128, 256, 512)], ids=["sliding", "in a nest"])
def test_work_of_pooling_grows_with_the_window(op, axes, windows):
    def pooled(b, n):
        kernel = (n,) if axes == 1 else (n, 4)
        return b.emit(op, b.input("x", f"f32[1,2,{'' if axes == 1 else '600,'}600]"), kernel=kernel)

    assert_linear([lowered(pooled, n) for n in windows])


# -- reductions inside of others ----------------------------------------------------------------


def _largest(x, n):
    return s.reduce("max", [n], lambda k: x[k])


NESTED = {
    "in a sum": lambda x, n: lambda: s.reduce("sum", [n], lambda k: x[k] - _largest(x, n)),
    "three deep": lambda x, n: (
        lambda: s.reduce(
            "sum",
            [n],
            lambda k: s.abs(x[k] - s.reduce("sum", [n], lambda j: x[j] - _largest(x, n))),
        )
    ),
    "in a row": lambda x, n: lambda i: x[i] - _largest(x, n),
    "in a sum of each element": lambda x, n: (
        lambda i: s.reduce("sum", [4], lambda k: x[s.minimum(i + k, n - 1)] - _largest(x, n))
    ),
}


@pytest.mark.parametrize("serial", [False, True], ids=["parallel", "serial"])
@pytest.mark.parametrize("name", NESTED)
def test_a_reduction_is_done_where_its_axes_are_known(name, serial):
    counts = []
    for n in SIZES:
        x = buffer_of("x", np.zeros(n, np.float32))
        body = NESTED[name](x, n)
        kernel = store((n,) if body.__code__.co_argcount else (), body)
        kernel = replace(merge_axes(kernel), serial=serial)
        counts.append(instructions(kernel, TARGET))
    assert growth(counts) < LINEAR


@pytest.mark.parametrize("name", ["arg_max", "arg_min"])
@pytest.mark.parametrize("last", [False, True], ids=["first", "last"])
@pytest.mark.parametrize("places", [(), (7, 4000)], ids=["numbers", "nan"])
def test_where_the_extreme_of_one_long_row_is(name, last, places):
    x = np.random.default_rng(0).integers(-5, 5, 5001).astype(np.float32)
    x[list(places)] = np.nan
    b = Builder()
    v = b.input("x", "f32[5001]")
    b.output("y", b.emit(name, v, axis=0, keepdims=False, select_last_index=last))
    extreme = np.isnan(x) if places else x == (x.max() if name == "arg_max" else x.min())
    (found,) = native(lower(b.graph))([x], 1)
    assert found == np.flatnonzero(extreme)[-1 if last else 0]


# -- windows, running sums, moves, and dynamic dims ------------------------------------------------


def picture(b, n):
    return b.input("x", f"f32[1,2,{n},8]")


def _ones(b, *shape):
    return b.constant(np.ones(shape, np.float32))


FURTHER = {
    "max_pool": lambda b, n: b.max_pool(picture(b, n), kernel=(3, 3), pads=(1, 1, 1, 1)),
    "max_pool of wide windows": lambda b, n: b.max_pool(
        b.input("x", f"f32[1,2,{n}]"), kernel=(65,), pads=(32, 32)
    ),
    "max_pool_indices": lambda b, n: b.max_pool_indices(
        picture(b, n), kernel=(2, 2), strides=(2, 2)
    ),
    "average_pool": lambda b, n: b.average_pool(
        picture(b, n), kernel=(3, 3), pads=(1, 1, 1, 1), strides=(2, 2)
    ),
    "average_pool dilated": lambda b, n: b.average_pool(
        picture(b, n), kernel=(3, 3), dilations=(2, 2)
    ),
    "lp_pool": lambda b, n: b.lp_pool(picture(b, n), kernel=(3, 3)),
    "unfold": lambda b, n: b.unfold(picture(b, n), kernel=(3, 3)),
    "fold": lambda b, n: b.fold(b.input("x", f"f32[1,6,{n}]"), sizes=(n + 2,), kernel=(3,)),
    "conv": lambda b, n: b.conv(b.input("x", f"f32[1,4,{n}]"), _ones(b, 4, 4, 5), pads=(2, 2)),
    "conv of each channel": lambda b, n: b.conv(
        picture(b, n), _ones(b, 2, 1, 3, 3), group=2, pads=(1, 1, 1, 1)
    ),
    "conv_transpose": lambda b, n: b.conv_transpose(
        b.input("x", f"f32[1,4,{n}]"), _ones(b, 4, 4, 4), strides=(2,)
    ),
    "lrn": lambda b, n: b.lrn(b.input("x", f"f32[1,{n},4]"), size=5),
    "cumsum backwards": lambda b, n: b.cumsum(rows(b, n), axis=1, reverse=True),
    "cumprod": lambda b, n: b.cumprod(columns(b, n), axis=0, exclusive=True),
    "gather of rows": lambda b, n: b.gather(b.input("x", f"f32[{n},8]"), indices(b, n), axis=0),
    "gather_nd": lambda b, n: b.gather_nd(b.input("x", f"f32[{n},3]"), b.input("i", f"i64[{n},2]")),
    "scatter_nd": lambda b, n: b.scatter_nd(
        b.input("x", f"f32[{n},3]"),
        b.input("i", f"i64[{n},1]"),
        b.input("u", f"f32[{n},3]"),
        reduction="max",
    ),
    "scatter of few": lambda b, n: b.scatter_elements(
        vector(b, n), b.input("i", "i64[4]"), b.input("u", "f32[4]"), axis=0
    ),
    "concat of five": lambda b, n: b.concat(
        *(b.input(f"x{i}", f"f32[{n},3]") for i in range(5)), axis=0
    ),
    "split": lambda b, n: b.split(b.input("x", f"f32[3,{2 * n}]"), axis=1, sizes=(n, n)),
    "split of columns": lambda b, n: b.split(b.input("x", f"f32[{n},5]"), axis=1, sizes=(2, 3)),
    "tile": lambda b, n: b.tile(rows(b, n), repeats=(2, 3)),
    "trilu": lambda b, n: b.trilu(b.input("x", f"f32[4,{n}]")),
    "reverse": lambda b, n: b.reverse(rows(b, n), axes=(1,)),
    "pad by reflection": lambda b, n: b.pad(rows(b, n), pads=(0, 5, 0, 5), mode="reflect"),
    "depth_to_space": lambda b, n: b.depth_to_space(b.input("x", f"f32[1,4,2,{n}]"), block=2),
    "resize nearest": lambda b, n: b.resize(image(b, n), sizes=(1, 2, 8, 2 * n)),
    "resize cubic": lambda b, n: b.resize(image(b, n), sizes=(1, 2, 8, 2 * n), mode="cubic"),
    "resize antialiased": lambda b, n: b.resize(
        b.input("x", f"f32[1,1,4,{4 * n}]"), sizes=(1, 1, 2, n), mode="linear", antialias=True
    ),
    "resize to few": lambda b, n: b.resize(
        image(b, n), sizes=(1, 2, 2, 64), mode="linear", antialias=True
    ),
    "grid_sample": lambda b, n: b.grid_sample(
        b.input("x", "f32[1,2,8,8]"), b.input("grid", f"f32[1,{n},4,2]")
    ),
    "roi_align": lambda b, n: b.roi_align(
        b.input("x", "f32[1,2,8,8]"),
        b.input("r", f"f32[{n},4]"),
        indices(b, n),
        size=(2, 2),
        sampling=2,
    ),
    "search": lambda b, n: b.search(indices(b, n), b.constant(np.arange(50))),
    "instance_norm": lambda b, n: b.instance_norm(
        b.input("x", f"f32[1,2,{n}]"), _ones(b, 2), _ones(b, 2)
    ),
    "group_norm": lambda b, n: b.group_norm(
        b.input("x", f"f32[1,4,{n}]"), _ones(b, 4), _ones(b, 4), groups=2
    ),
    "hardmax": lambda b, n: b.hardmax(rows(b, n), axis=1),
    "matmul": lambda b, n: b.matmul(b.input("x", f"f32[{n},8]"), _ones(b, 8, 8)),
    "attention to n keys": lambda b, n: b.attention(
        b.input("q", "f32[1,2,1,8]"),
        b.input("k", f"f32[1,2,{n},8]"),
        b.input("v", f"f32[1,2,{n},8]"),
        scale=1.0,
    ),
    "suppress": lambda b, n: b.suppress(
        b.input("boxes", f"f32[1,{n},4]"),
        b.input("scores", f"f32[1,2,{n}]"),
        b.scalar(0.5, "f32"),
        steps=20,
    ),
}
SIZES_NEEDED = ("resize antialiased", "resize to few")  # their windows follow from the sizes


@pytest.mark.parametrize("name", FURTHER)
def test_work_of_these_grows_with_the_elements(name):
    assert_linear([lowered(FURTHER[name], n) for n in SIZES])


@pytest.mark.parametrize("name", [n for n in (CASES | FURTHER) if n not in SIZES_NEEDED])
def test_work_of_dynamic_dims_grows_with_the_elements(name):
    b = Builder()
    found = (CASES | FURTHER)[name](b, Sym.named("N"))
    for i, y in enumerate(found if isinstance(found, tuple) else (found,)):
        b.output(f"y{i}", y)
    program = lower(b.graph, dynamic_shapes=True)
    assert_linear([bind(program, {"N": n}) for n in SIZES])
