"""Which values are computed inside their readers' kernels, and why the others are not.

Each rule of fuse.py with the case next to it that it refuses. Every graph's kernels are run, so
that a fusion is also right.
"""

import numpy as np
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.kernels.kernel import Call
from tessel.compiler.lowering.chains import find_chains
from tessel.compiler.lowering.fuse import DEPTH, plan_fusion
from tessel.compiler.lowering.kinds import Kinds
from tessel.compiler.lowering.lower import lower

from ...support.graphs import inputs_of

CONV = {"strides": (1, 1), "pads": (0, 0, 0, 0), "dilations": (1, 1)}
POOL = {"kernel": (2, 2), "strides": (2, 2), "pads": (0, 0, 0, 0), "dilations": (1, 1)}


def fused(build, *types):
    """(kernel names in order, {value's op: reason}) of a graph; its results are checked."""
    b = Builder()
    result = build(b, *[b.input(f"x{i}", t) for i, t in enumerate(types)])
    for i, y in enumerate(result if isinstance(result, tuple) else (result,)):
        b.output(f"y{i}", y)
    program = lower(b.graph)
    arrays = inputs_of(b.graph)
    for got, want in zip(NumpyModule(program)(arrays), interpret(b.graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    reasons = {
        v.node.op.name: why
        for v, why in plan_fusion(b.graph).reasons.items()
        if v.node.op.name != "constant"
    }
    return [s.kernel.name for s in program.steps if isinstance(s, Call)], reasons


def one_kernel(build, *types):
    kernels, reasons = fused(build, *types)
    assert len(kernels) == 1, (kernels, reasons)
    assert not reasons


def kept(build, types, why, op=None):
    """Some value has memory for the reason `why`."""
    kernels, reasons = fused(build, *types)
    assert len(kernels) > 1
    assert why in (reasons.values() if op is None else [reasons.get(op)]), reasons


# -- maps and moves --------------------------------------------------------------------------------


def test_chains_of_maps_and_moves_are_one_kernel():
    one_kernel(lambda b, x, y: b.tanh(b.exp(x).transpose(1, 0) * y)[:3], "f32[64,80]", "f32[80,64]")


def test_a_reshape_of_memory_is_no_kernel():
    kernels, _ = fused(lambda b, x: b.exp(x.reshape(80, 64)), "f32[64,80]")
    assert kernels == ["exp"]


def test_a_reshape_of_what_is_stored_in_pieces_is_none_either():
    def cut(b, x, y):
        return b.concat(x, y, axis=1).reshape(15, 4)[1:14].transpose(1, 0)

    kernels, reasons = fused(cut, "f32[5,6]", "f32[5,6]")
    assert kernels == ["concat", "concat", "slice+transpose"]
    assert reasons["reshape"] == "it is a view of memory"


def test_a_value_that_two_kernels_need_has_memory():
    twice = lambda b, x: (b.matmul(b.exp(x), x), b.neg(b.exp(x)).transpose(1, 0))
    fused(twice, "f32[80,80]")
    shared = lambda b, x: [e := b.exp(x), (b.neg(e), b.sqrt(e).transpose(1, 0))][1]
    kept(shared, ["f32[80,80]"], "2 kernels read it", "exp")


def test_unless_it_is_small_or_free():
    shared = lambda b, x: [e := b.exp(x), (b.neg(e), b.sqrt(e))][1]
    kernels, reasons = fused(shared, "f32[8,8]")
    assert kernels == ["exp+neg", "exp+sqrt"]
    assert not reasons
    free = lambda b, x: [e := b.expand(x, shape=(80, 80)), (b.neg(e), b.sqrt(e * e))][1]
    kernels, reasons = fused(free, "f32[1,80]")
    assert len(kernels) == 2


def test_two_readers_in_one_kernel_are_one_reader():
    one_kernel(lambda b, x: [e := b.exp(x), b.neg(e) * b.sqrt(e)][1], "f32[80,80]")


def test_an_output_has_memory_and_is_read_from_there():
    both = lambda b, x: [e := b.exp(x), (e, b.neg(e))][1]
    kernels, reasons = fused(both, "f32[80,80]")
    assert kernels == ["exp", "neg"]
    assert reasons == {"exp": "it is an output of the model"}


def test_dear_work_is_not_done_again_for_each_element_of_a_larger_reader():
    kept(
        lambda b, x, y: b.exp(x) + y,
        ["f32[80,1]", "f32[80,80]"],
        "add would compute it 80 times",
        "exp",
    )
    one_kernel(lambda b, x, y: (x + 1.0) + y, "f32[80,1]", "f32[80,80]")


def test_a_gather_reads_its_table_from_memory():
    kept(
        lambda b, x, i: b.gather(b.exp(x), i, axis=0),
        ["f32[80,80]", "i64[5]"],
        "gather reads it at computed places",
    )


def test_a_composite_that_gathers_reads_its_table_from_memory():
    types = ["f32[1,2,9,9]", "f32[1,3,3,2]"]
    kept(
        lambda b, x, g: b.grid_sample(b.exp(x), g), types, "grid_sample reads it at computed places"
    )
    one_kernel(lambda b, x, i: b.gather(x, i + i, axis=0), "f32[80,80]", "i64[5]")


# -- reductions ------------------------------------------------------------------------------------


def test_an_epilogue_joins_its_reduction():
    one_kernel(lambda b, x: b.exp(b.reduce_sum(x * x, axes=[1])) + 1.0, "f32[80,70]")


def test_a_reduction_joins_what_reads_its_rows():
    one_kernel(lambda b, x: b.exp(x - b.reduce_max(x, axes=[1])), "f32[80,70]")
    one_kernel(lambda b, x: b.softmax(x, axis=1) * 2.0, "f32[80,70]")
    one_kernel(lambda b, x, y: b.layer_norm(x + y), "f32[80,70]", "f32[80,70]")


def test_but_not_another_reduction():
    kept(
        lambda b, x: b.layer_norm(b.softmax(x, axis=1)),
        ["f32[80,70]"],
        "layer_norm would compute the softmax again",
    )
    kept(
        lambda b, x: b.reduce_sum(b.exp(x - b.reduce_max(x, axes=[1])), axes=[1]),
        ["f32[80,70]"],
        "reduce_sum would compute the reduce_max again",
    )


def test_nor_what_reads_its_columns():
    def softmax(b, x):
        e = b.exp(x - b.reduce_max(x, axes=[0]))
        return e / b.reduce_sum(e, axes=[0])

    kept(softmax, ["f32[80,70]"], "sub would compute the reduce_max again", "reduce_max")


def test_nor_one_of_a_few_long_rows():
    center = lambda b, x: x - b.reduce_mean(x, axes=[1])
    kept(center, ["f32[2,5000]"], "sub would compute the reduce_mean again")
    one_kernel(center, "f32[80,500]")
    kept(center, ["f32[8,70000]"], "sub would compute the reduce_mean again")


def test_a_reduction_is_not_done_again_by_what_reads_it_elsewhere():
    kept(
        lambda b, x: b.reduce_sum(x, axes=[1]).transpose(1, 0) + x[:1, :80],
        ["f32[80,80]"],
        "transpose would scatter the rows",
    )
    kept(
        lambda b, x, i: b.tile(b.reduce_sum(x, axes=[1]), repeats=(1, 3)),
        ["f32[80,80]", "i64[5]"],
        "tile would compute the reduce_sum again",
    )


# -- contractions ----------------------------------------------------------------------------------


def test_an_epilogue_joins_its_product():
    one_kernel(
        lambda b, x, w, c: b.relu(b.matmul(x, w) + c) * 2.0, "f32[80,70]", "f32[70,60]", "f32[60]"
    )
    one_kernel(lambda b, x, w: b.silu(b.conv(x, w, **CONV)), "f32[1,4,9,9]", "f32[8,4,3,3]")


def test_a_transposition_joins_where_lines_stay_whole():
    types = ["f32[2,80,70]", "f32[2,70,64]"]
    one_kernel(lambda b, x, w: b.matmul(x, w).transpose(1, 0, 2), *types)
    kept(
        lambda b, x, w: b.matmul(x, w).transpose(0, 2, 1),
        types,
        "transpose would scatter the lines of the matmul",
    )


def test_lines_that_many_results_sum_lie_beside_each_other():
    def turned(b, x, w):
        return b.matmul(x.transpose(1, 0), w)

    why = "matmul would sum each of its lines from places far apart, again and again"
    kept(turned, ["f32[20,24]", "f32[20,40]"], why, op="transpose")
    one_kernel(turned, "f32[20,24]", "f32[20,8]")
    one_kernel(turned, "f32[3,24]", "f32[3,40]")
    one_kernel(lambda b, x, w: b.matmul(x, w.transpose(1, 0)), "f32[40,20]", "f32[24,20]")


def test_products_and_norms_in_turn_are_no_chain():
    b = Builder()
    y, scale, weights = map(b.input, "xsw", ["f32[24,32]", "f32[32]", "f32[32,32]"])
    for _ in range(9):
        y = b.layer_norm(b.matmul(y, weights), scale)
    b.output("y", y)
    assert find_chains(b.graph, Kinds()) == []


def test_lines_that_a_larger_reader_goes_through_lie_beside_each_other():
    def turned(b, x):
        return b.tile(x.transpose(1, 0), repeats=[3, 2])

    kept(turned, ["f32[80,70]"], "tile would read across its lines 6 times", op="transpose")
    one_kernel(lambda b, x: b.tile(x.transpose(1, 0, 2), repeats=[3, 1, 1]), "f32[9,8,80]")


def test_lines_are_stored_in_order_before_a_transpose_scatters_them():
    def interleaved(b, x, w):
        y = b.matmul(x, w).reshape(5, 7, 2, 16).transpose(0, 2, 1, 3)
        return b.relu(y.reshape(70, 16)).transpose(1, 0)

    why = "the product that it permutes stores it, before its lines are scattered"
    kept(interleaved, ["f32[35,8]", "f32[8,32]"], why, op="transpose")


def test_a_product_is_not_computed_again():
    types = ["f32[80,70]", "f32[70,1]", "f32[80,60]"]
    kept(lambda b, x, w, y: b.matmul(x, w) + y, types, "add would compute the matmul again")
    kept(
        lambda b, x, w, y: b.softmax(b.matmul(x, y.transpose(1, 0)), axis=1),
        ["f32[80,60]", "f32[1]", "f32[70,60]"],
        "softmax would compute the matmul again",
    )


def test_one_kernel_sums_one_product():
    kept(
        lambda b, x, w: b.matmul(x, w) + b.matmul(w, x),
        ["f32[80,80]", "f32[80,80]"],
        "the kernel that reads it already sums products or rows",
        "matmul",
    )


def test_bytes_have_memory_in_place_of_the_sums_that_they_are_made_of():
    b = Builder()
    x, w = b.input("x", "u8[80,80]"), b.input("w", "i8[80,80]")
    q = lambda s: b.quantize_linear(
        s.cast("f32") * 0.01, b.constant(np.float32(1)), dtype="u8", axis=0
    )
    y = b.add(*(q(b.matmul_integer(*pair)).cast("f32") for pair in ((x, w), (w, x))))
    b.output("y", q(y))
    kernels = lower(b.graph).kernels()
    assert [c.kernel.outputs[0].dtype.name for c in kernels] == ["u8", "u8"]


def test_what_a_product_reads_often_has_memory():
    kept(
        lambda b, x, w: b.matmul(b.exp(x), w),
        ["f32[80,70]", "f32[70,60]"],
        "matmul reads it more than once",
    )
    one_kernel(lambda b, x, w: b.matmul(x.transpose(1, 0), w[:, :30]), "f32[70,80]", "f32[70,60]")


def test_nor_through_moves():
    kept(
        lambda b, x, w: b.matmul(b.exp(x).transpose(1, 0), w),
        ["f32[70,80]", "f32[70,30]"],
        "matmul reads it more than once",
        "exp",
    )
    kept(
        lambda b, x, w: b.matmul(b.exp(x).reshape(80, 70)[:, :50].transpose(1, 0), w),
        ["f32[5600]", "f32[80,30]"],
        "matmul reads it more than once",
        "exp",
    )


def test_work_on_weights_is_left_to_the_packing():
    def build(b, x):
        w = b.constant(np.ones((70, 60), np.int8))
        return b.matmul(x, b.cast(w, dtype="f32") * b.scalar(0.5, "f32"))

    one_kernel(build, "f32[80,70]")


def test_a_pool_is_like_a_product():
    one_kernel(lambda b, x: b.relu(b.max_pool(x, **POOL)), "f32[1,4,20,20]")
    kept(
        lambda b, x: b.max_pool(b.exp(x), **POOL),
        ["f32[1,4,20,20]"],
        "max_pool reads it more than once",
    )


# -- what is stored in pieces ----------------------------------------------------------------------


def test_parts_of_a_concatenation_are_stored_where_they_belong():
    build = lambda b, x, w: b.concat(b.matmul(x, w), b.exp(x), axis=1)
    kernels, reasons = fused(build, "f32[80,70]", "f32[70,60]")
    assert kernels == ["matmul+concat", "exp+concat"]
    assert not reasons


def test_pieces_of_a_mosaic_are_stored_where_they_belong():
    def quarters(b, x, w):
        pieces = [b.matmul(x, w) * scale for scale in (1.0, 2.0, 3.0, 4.0)]
        return b.mosaic(*pieces, shape=(6, 36), starts=(0, 0, 0, 18, 3, 0, 3, 18))

    kernels, reasons = fused(quarters, "f32[3,8]", "f32[8,18]")
    assert kernels == ["matmul+mul+mosaic"] * 4
    assert not reasons


def test_unless_two_want_them():
    build = lambda b, x: [e := b.exp(x), b.concat(e, b.neg(e), axis=1)][1]
    kept(build, ["f32[80,70]"], "2 kernels read it")


def test_a_border_is_stored_around_what_is_computed():
    def build(b, x, w):
        y = b.pad(b.relu(b.conv(x, w, **CONV)), pads=(0, 0, 1, 1, 0, 0, 1, 1), mode="constant")
        return b.max_pool(y, **POOL)

    kernels, reasons = fused(build, "f32[1,4,10,10]", "f32[8,4,3,3]")
    assert kernels == ["conv+relu+pad", *["pad"] * 4, "max_pool"]
    assert "conv" not in reasons
    assert "relu" not in reasons


def test_a_border_that_is_read_once_is_computed_where_it_is_read():
    one_kernel(lambda b, x: b.neg(b.pad(x, pads=(1, 1, 1, 1), mode="constant")), "f32[80,70]")


def test_what_is_cut_is_no_border():
    build = lambda b, x: b.max_pool(
        b.pad(x, pads=(0, 0, -1, 1, 0, 0, 1, 1), mode="constant"), **POOL
    )
    kernels, _ = fused(build, "f32[1,4,10,10]")
    assert kernels == ["pad", "max_pool"]


def test_a_reduction_is_not_stored_in_pieces_of_a_scatter():
    build = lambda b, x, i: b.scatter_elements(
        b.reduce_sum(x, axes=[1], keepdims=False), i, b.cast(i, dtype="f32"), axis=0
    )
    _, reasons = fused(build, "f32[80,80]", "i64[5]")
    assert reasons["reduce_sum"] == "scatter_elements reads it at computed places"


# -- constants -------------------------------------------------------------------------------------


def test_a_scalar_is_written_into_the_kernel_and_an_array_read():
    one_kernel(lambda b, x: x * b.scalar(3.0, "f32"), "f32[80,70]")
    b = Builder()
    x = b.input("x", "f32[70]")
    b.output("y", x * b.constant(np.arange(70, dtype=np.float32)))
    program = lower(b.graph)
    assert len(program.weights) == 1
    assert "it is a constant" in plan_fusion(b.graph).reasons.values()


def test_values_that_nobody_reads_are_not_named():
    b = Builder()
    x = b.input("x", "f32[7]")
    b.exp(x)
    b.output("y", b.neg(x))
    assert plan_fusion(b.graph).reasons == {}


def test_a_long_chain_becomes_several_kernels():
    b = Builder()
    y = b.input("x", "f32[64]")
    for i in range(500):
        y = b.sigmoid(y * 1.5) - y if i % 2 else b.tanh(y)
    b.output("y", y)
    reasons = plan_fusion(b.graph).reasons.values()
    assert f"more than {DEPTH} nodes would be in one expression" in reasons

    x = np.linspace(-2, 2, 64, dtype=np.float32)
    (given,) = NumpyModule(lower(b.graph))([x])
    np.testing.assert_allclose(given, interpret(b.graph, [x])[0], rtol=1e-5, atol=1e-6)
