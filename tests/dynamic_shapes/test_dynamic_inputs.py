"""Models that leave every dim of their inputs open: read as far as can be, the rest per run.

What is surely wrong is refused when the model is read, whatever is open.
"""

import numpy as np
import onnx
import pytest
import tessel
from onnx import TensorProto, helper
from tessel.compiler.errors import InputError, TesselError
from tessel.frontends.onnx.read.dependence import SizeDependence

from ..support.onnx_models import assert_equal, onnxruntime, rand

KINDS = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64, "uint8": TensorProto.UINT8}


def one_node(op, feeds, opset=20, dims=None, **attributes):
    """A model of one node on inputs like `feeds`; `dims(name, axis)` says each dim."""
    dims = dims or (lambda name, axis: f"{name}{axis}")
    infos = [
        helper.make_tensor_value_info(
            n, KINDS[str(x.dtype)], [dims(n, i) for i in range(np.ndim(x))]
        )
        for n, x in feeds.items()
    ]
    node = helper.make_node(op, list(feeds), ["y"], **attributes)
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", infos, [out])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    proto.ir_version = 9
    return proto


def boxes(n):
    return np.stack([np.r_[i, 0, i + 4, 5.0] for i in range(n)]).astype(np.float32)


def indices(*rows):
    return np.array(rows)


CASES = {
    "GridSample": (
        (
            {"x": rand(1, 2, 4, 4), "g": rand(1, 3, 3, 2)},
            {"x": rand(2, 3, 5, 7), "g": rand(2, 2, 6, 2)},
        ),
        {},
    ),
    "RoiAlign": (
        (
            {"x": rand(1, 2, 8, 8), "q": boxes(3), "b": np.zeros(3, np.int64)},
            {"x": rand(2, 1, 9, 7), "q": boxes(2), "b": np.array([1, 0])},
        ),
        {"output_height": 2, "output_width": 2, "opset": 16},
    ),
    "GatherND": (
        (
            {"x": rand(3, 4), "i": indices([0, 1], [2, 3])},
            {"x": rand(3, 4), "i": indices([0], [2], [1])},
            {"x": rand(2, 5), "i": indices([1, 4])},
        ),
        {},
    ),
    "ScatterND": (
        (
            {"x": rand(3, 4), "i": indices([0], [2]), "u": rand(2, 4)},
            {"x": rand(5, 2), "i": indices([4], [2], [0]), "u": rand(3, 2)},
        ),
        {},
    ),
    "Conv": (
        (
            {"x": rand(1, 2, 6, 6), "w": rand(4, 2, 3, 3)},
            {"x": rand(3, 5, 9, 4), "w": rand(2, 5, 3, 3)},
        ),
        {"kernel_shape": [3, 3]},
    ),
    "BatchNormalization": (
        tuple(
            {"x": rand(n, c, 4), **{k: abs(rand(c, seed=i)) for i, k in enumerate("sbmv")}}
            for n, c in [(2, 3), (1, 5), (4, 1)]
        ),
        {},
    ),
    "InstanceNormalization": (
        tuple({"x": rand(n, c, 6), "s": rand(c), "b": rand(c)} for n, c in [(2, 3), (1, 5)]),
        {},
    ),
    "LayerNormalization": (
        tuple({"x": rand(2, n, c), "s": rand(c), "b": rand(c)} for n, c in [(2, 3), (1, 5)]),
        {},
    ),
    "DFT": (({"x": rand(1, 6, 2)}, {"x": rand(2, 5, 1)}), {"opset": 17}),
    "DequantizeLinear": (
        tuple(
            {"x": np.arange(4 * n, dtype=np.uint8).reshape(2, -1), "s": abs(rand(2, n))}
            for n in (2, 3)
        ),
        {"block_size": 2, "axis": 1, "opset": 21},
    ),
}


@pytest.mark.parametrize("op", CASES)
def test_a_node_whose_sizes_are_all_open(op):
    sets, attributes = CASES[op]
    proto = one_node(op, sets[0], **attributes)
    exe = tessel.compile(proto, cache=False)
    for feeds in (*sets, sets[0]):
        want = onnxruntime(proto, *feeds.values())
        assert_equal(list(exe.run(feeds).values()), want, 1e-4, 1e-5)


def test_a_note_says_which_node_needs_its_sizes():
    proto = one_node("GatherND", {"x": rand(3, 4), "i": indices([0, 1])})
    with pytest.raises(TesselError) as caught:
        tessel.from_onnx(proto)
    (finding,) = caught.value.findings
    assert isinstance(finding, SizeDependence) and "--shapes" in finding.fix
    (note,) = tessel.compile(proto, cache=False).notes
    assert "each combination of sizes" in note and "GatherND" in note and "i1" in note


def test_the_last_sixteen_combinations_are_kept():
    proto = one_node("GatherND", {"x": rand(3, 4), "i": indices([0, 1])})
    exe = tessel.compile(proto, cache=False, threads=1)
    for n in range(1, 19):
        exe.run({"x": rand(3, 4), "i": np.zeros((n, 2), np.int64)})
    assert len(exe.specializations) == 16


WRONG = {
    "no indices": ("GatherND", {"x": rand(3, 4), "i": np.array(1)}, {}),
    "ranks that never fit": ("GridSample", {"x": rand(1, 2, 4, 4), "g": rand(1, 3, 2)}, {}),
    "parameters of a rank that never fits": (
        "InstanceNormalization",
        {"x": rand(2, 3, 4), "s": rand(3, 1), "b": rand(3)},
        {},
    ),
    "an unknown mode": (
        "GridSample",
        {"x": rand(1, 2, 4, 4), "g": rand(1, 3, 3, 2)},
        {"mode": "best"},
    ),
    "a kernel of too many axes": (
        "Conv",
        {"x": rand(1, 2, 6, 6), "w": rand(4, 2, 3, 3)},
        {"kernel_shape": [3, 3, 3]},
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_no_sizes_would_mend_is_refused_while_reading(what):
    op, feeds, attributes = WRONG[what]
    with pytest.raises(TesselError) as caught:
        tessel.compile(one_node(op, feeds, **attributes))
    assert not any(isinstance(e, SizeDependence) for e in caught.value.findings)


MISFITS = {
    "InstanceNormalization": {"x": rand(2, 3, 4), "s": rand(4), "b": rand(3)},
    "BatchNormalization": {"x": rand(2, 3, 4)} | {k: rand(2 if k == "m" else 3) for k in "sbmv"},
    "GridSample": {"x": rand(1, 2, 4, 4), "g": rand(1, 3, 3, 3)},
    "RoiAlign": {"x": rand(1, 2, 8, 8), "q": rand(3, 5), "b": np.zeros(3, np.int64)},
    "GatherND": {"x": rand(3, 4), "i": indices([0, 1, 1])},
    "Conv": {"x": rand(1, 2, 6, 6), "w": rand(4, 2, 3, 5)},
}


@pytest.mark.parametrize("op", MISFITS)
def test_sizes_of_a_run_that_do_not_fit_are_refused(op):
    """Also when the model has run with sizes that do."""
    sets, attributes = CASES[op]
    exe = tessel.compile(one_node(op, sets[0], **attributes), cache=False)
    for _ in range(2):
        with pytest.raises(InputError):
            exe.run(MISFITS[op])
        exe.run(sets[0])


NAMES = {
    "no names": [None, None],
    "-1": [-1, -1],
    "empty names": ["", ""],
    "names that mean any size": ["?", "?"],
    "None as a name": ["None", "None"],
    "names of the reader's own kind": ["z_1", "x_0"],
    "names that begin like those of sizes that data decides": ["_n0", "_n1"],
    "names that are no identifiers": ["batch size", "2*N+1"],
}


@pytest.mark.parametrize("what", NAMES)
def test_names_of_dims_that_say_little(what):
    """x [_, 3] and z [_, _], whose sizes differ, whatever the dims are called."""
    own = NAMES[what]
    dims = {("x", 0): own[0], ("x", 1): 3, ("z", 0): own[1], ("z", 1): None}
    feeds = {"x": rand(4, 3), "z": rand(3, 5)}
    proto = one_node("MatMul", feeds, dims=lambda name, axis: dims[name, axis])
    for info in proto.graph.input:
        for axis, d in enumerate(info.type.tensor_type.shape.dim):
            if dims[info.name, axis] == "":
                d.dim_param = ""
    exe = tessel.compile(proto, cache=False)
    assert not exe.notes
    for more in (feeds, {"x": rand(1, 3), "z": rand(3, 2)}):
        (y,) = exe.run(more).values()
        np.testing.assert_allclose(y, more["x"] @ more["z"], rtol=1e-5)


@pytest.mark.parametrize("count", [200, 600])
def test_sizes_by_the_hundred_are_places_to_read(count):
    """Positions that follow from a size, as many as there are rows to read: no chain of choices."""
    proto = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["": 20]> g (float[n,m] x) => (float[{count}] y)
        <int64[1] last = {{-1}}, int64[1] count = {{{count}}}, int64 zero = {{0}},
         int64 one = {{1}}> {{
            s = Shape (x)  n = Gather (s, zero)  k = Sub (n, one)
            k1 = Reshape (k, last)  places = Expand (k1, count)
            all = Expand (n, count)  end = Sub (all, one)  p = Min (end, places)
            flat = Reshape (x, last)  y = Gather (flat, p) }}"""
    )
    exe = tessel.compile(proto, threads=1)
    for shape in [(3, 4), (1, 1), (5, 2)]:
        x = rand(*shape)
        assert_equal([exe(x)], onnxruntime(proto, x))
        assert exe.specializations[-1].is_dynamic


def test_sizes_decide_what_a_squeeze_without_axes_takes():
    proto = one_node("Squeeze", {"x": rand(1, 3, 2)})
    exe = tessel.compile(proto, threads=1)
    assert any("sizes decide which axes are squeezed" in note for note in exe.notes)
    for shape in ((1, 3, 2), (1, 1, 2), (4, 1, 1)):
        assert_equal([exe(rand(*shape))], onnxruntime(proto, rand(*shape)))
