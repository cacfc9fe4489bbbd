"""Ops of users, as a user would test them: `tessel.ops`, from ONNX, from Python, in packages.

The ops are those of examples/custom_ops.py; they are registered while the test runs, and no longer.
"""

import importlib.util
import subprocess
import sys

import numpy as np
import onnx
import pytest
import tessel
from onnx import TensorProto, helper
from tessel import ops
from tessel.compiler.errors import (
    CheckFailed,
    InputError,
    ModelError,
    TypeMismatch,
    UnsupportedError,
    UsageError,
)
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.text import parse_graph, print_graph
from tessel.runtime.base.signature import Port
from tessel.tools.cli import main

DOMAIN = "my.domain"


@pytest.fixture
def example(root):
    """examples/custom_ops.py with its ops registered."""
    spec = importlib.util.spec_from_file_location("custom_ops", root / "examples" / "custom_ops.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    names = module.register_ops()
    yield module
    for name in names:
        ops.unregister(name)


def record(**changes):
    """The parts of a record that is right, with changes; None leaves a part out."""
    parts = {
        "name": "twice",
        "signature": "x: T -> T",
        "doc": "x + x",
        "T": "float",
        "shape": ops.same_shape,
        "ref": lambda x: x + x,
        "grad": lambda c, dy: (dy * 2,),
        "loops": ops.Elementwise(lambda s, x: x + x),
        "samples": lambda: [ops.Sample((np.ones((2, 3), np.float32),))],
    }
    return {k: v for k, v in (parts | changes).items() if v is not None}


@pytest.fixture
def register():
    """`ops.register` of a record with changes, undone after the test."""
    before = set(OPS)
    yield lambda **changes: ops.register(**record(**changes))
    for name in set(OPS) - before:
        ops.unregister(name)


def one_node_model(op_type, dims=(2, 3), kind=TensorProto.FLOAT, inputs=1, **attributes):
    info = helper.make_tensor_value_info
    names = [f"x{i}" for i in range(inputs)]
    graph = helper.make_graph(
        [helper.make_node(op_type, names, ["y"], domain=DOMAIN, **attributes)],
        "g",
        [info(n, kind, list(dims)) for n in names],
        [info("y", kind, None)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid(DOMAIN, 1)])


# -- the example ---------------------------------------------------------------------------


def test_every_op_of_the_example_is_what_its_reference_says(example):
    for name in example.OPS:
        stages = ops.check(name)
        assert "sample 0: machine code" in stages and "sample 0: two threads" in stages
    assert "sample 0: gradient" in ops.check("distances")


def test_a_model_with_custom_operators_compiles(example):
    x, y = example.random(4, 3), example.random(5, 3, seed=1)
    exe = tessel.compile(example.model(), threads=2)
    assert exe.inputs[0] == Port("x", exe.inputs[0].type) and exe.inputs[0].shape == ("N", 3)
    distance = ((x[:, None] - y[None]) ** 2).sum(-1)
    expected = np.median(4 * np.tanh(distance / 4), axis=-1)
    np.testing.assert_allclose(exe(x, y), expected, rtol=1e-5)


def test_a_compiled_op_fuses_and_a_python_kernel_is_refused_by_strict(example):
    from tessel.compiler.lowering.lower import lower

    fused = tessel.native.trace(
        lambda x: tessel.native.functional.softcap(x * 2, cap=3.0) + 1, "f32[4,3]"
    )
    assert len(lower(fused).steps) == 1
    with pytest.raises(UnsupportedError, match="row_median is a host callback"):
        tessel.compile(example.model(), shapes={"x": (4, 3)}, strict=True)


def pick_record(index, **changes) -> dict:
    """Rows of x at places that are data; `index(rows, size)` is what is read."""
    return {
        "name": "pick",
        "signature": "x: T, rows: i64 -> T",
        "shape": lambda x, rows: rows.shape,
        "ref": lambda x, rows: x[rows],
        "grad": ops.NotDifferentiable("rows"),
        "loops": ops.Pull(lambda out, x, rows: lambda n: x[index(rows[n], x.shape[0])]),
        "samples": lambda: [ops.Sample((np.ones(3, np.float32), np.int64([2, 0])))],
    } | changes


def pick_graph(x: str, rows: str):
    return parse_graph(
        f"graph g(%x: f32[{x}], %r: i64[{rows}]) -> (%y) {{\n  %y = pick(%x, %r) : f32[{rows}]\n}}",
        {},
    )


def test_an_index_that_is_data_is_refused_and_how_to_limit_it_is_said(register):
    register(**pick_record(lambda i, size: i))
    with pytest.raises(
        TypeMismatch, match=r"may leave its array(.|\n)*ops\.expr\.inside\(i, size\)"
    ):
        tessel.compile(pick_graph("3", "2"), cache=False)
    exe = tessel.compile(pick_graph("N", "M"), cache=False)
    assert any("ops.expr.inside(i, size)" in note for note in exe.notes)
    with pytest.raises(TypeMismatch, match="may leave its array"):
        exe(np.ones(3, np.float32), np.int64([0, 2]))


def test_limits_say_which_values_of_an_operand_are_allowed(register):
    limits = lambda x, rows: [ops.Limit(1, 0, x.shape[0])]
    register(**pick_record(ops.expr.inside, limits=limits))
    ops.check("pick")
    exe = tessel.compile(pick_graph("N", "M"), cache=False)
    x = np.float32([5, 6, 7])
    assert exe(x, np.int64([2, 0])).tolist() == [7, 5]
    with pytest.raises(InputError, match=r"an index is out of range(.|\n)*0 to 2(.|\n)*7"):
        exe(x, np.int64([0, 7]))


def test_from_python_with_gradients(example):
    F = tessel.native.functional
    x, y = example.random(4, 3), example.random(5, 3, seed=1)

    def loss(x, y):
        return F.row_median(F.softcap(F.distances(x, y), cap=4.0)).sum()

    value, dx = tessel.jit(tessel.value_and_grad(loss))(x, y)
    h = 1e-2
    moved = x.copy()
    moved[1, 2] += h
    back = x.copy()
    back[1, 2] -= h
    f = tessel.jit(loss)
    np.testing.assert_allclose(dx[1, 2], (f(moved, y) - f(back, y)) / (2 * h), rtol=1e-2)
    assert value == f(x, y)


def test_a_package_carries_custom_ops_and_needs_the_python_ones_registered(example, tmp_path):
    x, y = example.random(4, 3), example.random(5, 3, seed=1)
    exe = tessel.compile(example.model(), shapes={"x": (4, 3)})
    exe.save(tmp_path / "m.tsl")
    np.testing.assert_array_equal(tessel.load(tmp_path / "m.tsl")(x, y), exe(x, y))
    ops.unregister("row_median")
    try:
        with pytest.raises(tessel.TesselError, match="there is no op 'row_median'"):
            tessel.load(tmp_path / "m.tsl")(x, y)
    finally:
        example.register_row_median()


def test_a_graph_with_custom_ops_prints_and_parses(example):
    graph = tessel.native.trace(
        lambda x: tessel.native.functional.softcap(x, cap=2.5), "f32[4,3]", name="g"
    )
    text = print_graph(graph)
    assert "softcap" in text and print_graph(parse_graph(text)) == text


@pytest.mark.slow
def test_the_example_runs(root):
    done = subprocess.run(
        [sys.executable, root / "examples" / "custom_ops.py"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "softcap: 12 comparisons agree" in done.stdout
    assert "from Python: 8.11" in done.stdout


def test_the_command_line_takes_a_file_of_ops(root, tmp_path, capsys):
    """`tessel --ops mine.py run model.onnx`, where importing the file registers."""
    (tmp_path / "mine.py").write_text(
        (root / "examples" / "custom_ops.py").read_text() + "\n\nregister_softcap()\n"
    )
    (tmp_path / "bad.py").write_text("1 / 0")
    onnx.save(one_node_model("SoftCap", cap=2.0), tmp_path / "m.onnx")
    try:
        for file, code, shown in [("mine.py", 0, "softcap"), ("bad.py", 2, "ZeroDivisionError")]:
            with pytest.raises(SystemExit) as end:
                main(["--ops", str(tmp_path / file), "explain", str(tmp_path / "m.onnx")])
            out, err = capsys.readouterr()
            assert end.value.code == code and shown in out + err
    finally:
        ops.unregister("softcap")


# -- registering ---------------------------------------------------------------------------


def test_a_record_is_returned_and_forgotten(register):
    op = register(onnx=f"{DOMAIN}:Twice")
    assert op is OPS["twice"] and op.group == "user"
    assert tessel.compile(one_node_model("Twice"))(np.ones((2, 3), np.float32)).tolist()[0][0] == 2
    ops.unregister("twice")
    assert "twice" not in OPS and not hasattr(tessel.native.functional, "twice")
    with pytest.raises(UnsupportedError, match=r"tessel\.ops\.register\(…, onnx='my.domain:Twice'"):
        tessel.compile(one_node_model("Twice"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"doc": ""}, "`doc` is missing"),
        ({"ref": None}, "`ref` is missing"),
        ({"grad": None}, "NotDifferentiable('…')"),
        ({"loops": None}, "`loops` is missing"),
        ({"loops": np.tanh}, "Extern(function, reason)"),
        ({"loops": ops.Extern(np.tanh, "")}, "a host callback needs a function and a reason"),
        ({"samples": None}, "`samples` is missing"),
        ({"samples": lambda: []}, "must give Samples"),
        ({"samples": lambda: [1 / 0]}, "ZeroDivisionError"),
        ({"shape": None}, "give either `shape` or `infer`"),
        ({"infer": lambda x: x}, "give either `shape` or `infer`"),
        ({"signature": "x T"}, "the signature does not read"),
        ({"signature": "x: T*, y: T -> T"}, "only the last operand may repeat"),
        ({"T": None}, "T='float'"),
        ({"T": ("f32", "f33")}, "T is no dtype"),
        ({"T": "half"}, "T is no dtype"),
        ({"attrs": {"cap": 3.0}}, "attribute cap is no Attr"),
        ({"attrs": {"cap": ops.Attr("number")}}, "attribute cap has no such kind"),
        ({"name": "relu"}, "tessel has an op of this name"),
        ({"name": "a-b"}, "an op's name must be a Python name"),
        ({"onnx": "Twice"}, "'my.domain:MyOp'"),
        ({"onnx": "com.microsoft:FusedMatMul"}, "this ONNX operator is read already"),
    ],
)
def test_an_incomplete_record_is_refused(register, changes, message):
    before = set(OPS)
    with pytest.raises(UsageError) as caught:
        register(**changes)
    assert message in str(caught.value)
    assert "test_custom_ops.py:" in str(caught.value), "where"
    assert set(OPS) == before


def test_everything_that_is_wrong_is_said_at_once():
    with pytest.raises(UsageError) as caught:
        ops.register("twice", "x: T -> T", "")
    assert len(caught.value.findings) == 7


def test_a_name_is_registered_once_unless_it_is_replaced(register):
    register(onnx=f"{DOMAIN}:Twice")
    with pytest.raises(UsageError, match="replace=True"):
        register()
    register(ref=lambda x: 2 * x, onnx=f"{DOMAIN}:Twice", replace=True)
    assert ops.check("twice")


def test_only_ops_of_users_can_be_forgotten():
    with pytest.raises(UsageError, match="no such op of yours"):
        ops.unregister("relu")


# -- checking ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"loops": ops.Elementwise(lambda s, x: x * 3)}, "sample 0: machine code"),
        ({"loops": ops.Elementwise(lambda s, x: x * 3)}, "sample 0: loops"),
        ({"grad": lambda c, dy: (dy,)}, "sample 0: gradient"),
        (
            {"shape": lambda x: (*x.shape, 1)},
            "types: twice: an operand does not broadcast",
        ),
        ({"loops": ops.Extern(lambda x: 1 / 0, "test")}, "ZeroDivisionError"),
    ],
)
def test_a_wrong_op_is_found(register, changes, stage):
    register(**changes)
    with pytest.raises(CheckFailed) as caught:
        ops.check("twice")
    assert stage in str(caught.value)


# -- stores whose place depends on data ------------------------------------------------------


def histogram(k, out, x, *, bins):
    """out[b] = how many elements of x are b"""
    k.store([bins], lambda i: ((i,), ops.expr.const(0)))

    def count(i):
        b = ops.expr.cast(x[i], "i64")
        return (b,), ops.expr.const(1), (b >= 0) & (b < bins)

    k.store(x.shape, count, mode="add", serial=True)


def test_a_histogram(register):
    x = np.array([3, 1, 1, -1, 7, 3, 3, 99], np.int32)
    register(
        signature="x: i32 -> i64",
        T=None,
        attrs={"bins": ops.Attr("int")},
        shape=lambda x, *, bins: (bins,),
        loops=ops.Kernels(histogram),
        ref=lambda x, *, bins: np.bincount(x[(x >= 0) & (x < bins)], minlength=bins),
        grad=ops.NotDifferentiable("it counts"),
        samples=lambda: [ops.Sample((x,), {"bins": 5})],
    )
    assert len(ops.check("twice")) == 5
    f = tessel.jit(lambda x: tessel.native.functional.twice(x, bins=4))
    assert f(x).tolist() == [0, 2, 0, 3]


# -- ONNX ----------------------------------------------------------------------------------

ATTRIBUTES = {"scale": ops.Attr("float", 2.0), "axes": ops.Attr("ints", (0,))}


def scaled(x, *, scale, axes):
    return (x * scale).sum(axes)


def register_scaled(register, **changes):
    return register(
        attrs=ATTRIBUTES,
        ref=scaled,
        grad=ops.through_expansion,
        shape=lambda x, *, scale, axes: [n for i, n in enumerate(x.shape) if i not in axes],
        loops=ops.Expand(lambda b, x, *, scale, axes: (x * scale).sum(axes)),
        **changes,
    )


def test_attributes_go_by_name_with_the_record_s_defaults(register):
    register_scaled(register, onnx=f"{DOMAIN}:Scaled")
    x = np.ones((2, 3), np.float32)
    assert tessel.compile(one_node_model("Scaled"))(x).tolist() == [4, 4, 4]
    both = tessel.compile(one_node_model("Scaled", scale=3.0, axes=[0, 1]))
    assert both(x) == 18
    with pytest.raises(UnsupportedError, match="unsupported attribute axis"):
        tessel.compile(one_node_model("Scaled", axis=0))
    with pytest.raises(TypeMismatch, match="too many operands"):
        tessel.compile(one_node_model("Scaled", inputs=2))
    assert ops.check("twice")


def test_a_function_reads_what_differs(register):
    """`Scale(x, times)`: percent, and the axis has another name."""

    def entry(c):
        return c.b.twice(c.x(0), scale=c.attr("percent", 100) / 100, axes=(c.attr("axis", 0),))

    register_scaled(register, onnx={f"{DOMAIN}:Scale": entry})
    x = np.ones((2, 3), np.float32)
    assert tessel.compile(one_node_model("Scale", percent=50, axis=1))(x).tolist() == [1.5, 1.5]


def test_a_required_attribute_and_a_dtype(register):
    register(
        attrs={"to": ops.Attr("dtype")},
        signature="x: T -> @to",
        shape=lambda x, *, to: x.shape,
        ref=lambda x, *, to: x.astype(to.numpy),
        grad=ops.NotDifferentiable("test"),
        loops=ops.Elementwise(lambda s, x, *, to: s.cast(x, to)),
        samples=lambda: [ops.Sample((np.ones((2, 3), np.float32),), {"to": "i32"})],
        onnx=f"{DOMAIN}:To",
    )
    exe = tessel.compile(one_node_model("To", to=TensorProto.INT32))
    assert exe(np.ones((2, 3), np.float32)).dtype == np.int32
    with pytest.raises(ModelError, match="attribute to is missing"):
        tessel.compile(one_node_model("To"))
