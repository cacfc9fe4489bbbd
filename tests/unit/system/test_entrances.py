"""Whatever happens inside: what leaves compile, load, run and save is a TesselError."""

import re

import numpy as np
import pytest
import tessel
from onnx import TensorProto, parser
from tessel.compiler.errors import (
    InternalError,
    ModelError,
    OutOfMemoryError,
    PackageError,
    at,
    entrance,
)
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym, TooLarge
from tessel.compiler.passes.cleanup import DeadCodeElimination
from tessel.runtime.execution import package as packages
from tessel.runtime.training.checkpoint import load_checkpoint

X = np.ones((2, 8), np.float32)
UNFORESEEN = [
    RecursionError,
    IndexError,
    ValueError,
    RuntimeError,
    ZeroDivisionError,
    OSError,
    AssertionError,
    UnicodeError,
    SystemError,
    OverflowError,
]


def text(body, ins="float[2] x", outs="float[A] y"):
    return parser.parse_model(
        f'<ir_version: 9, opset_import: ["": 21]> g ({ins}) => ({outs}) {{ {body} }}'
    )


def graph():
    b = Builder()
    b.origin = "the node"
    b.output("y", b.relu(b.input("x", "f32[N,8]")))
    return b.graph


def raising(error):
    """A function as if it were within tessel."""
    names = {"error": error}
    exec(compile("def f(*args, **options):\n    raise error", "<within>", "exec"), names)
    return names["f"]


def test_errors_of_users_own_code_are_theirs():
    class Mine(Exception):
        pass

    def observer(action, graph, changed):
        raise Mine("no")

    with pytest.raises(Mine):
        tessel.compile(graph(), observer=observer)
    with pytest.raises(Mine):
        tessel.jit(lambda x: observer(x, x, x))(X)
    with pytest.raises(ValueError, match="could not convert"):
        tessel.compile(graph(), observer=lambda *_: np.array(["x"]).astype(float))


# -- by construction --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", UNFORESEEN)
def test_what_nobody_foresaw_is_said_to_be_a_fault_of_tessel(kind):
    error = kind("boom")
    with pytest.raises(InternalError, match=rf"a fault in tessel.*{kind.__name__}: boom") as caught:
        entrance(raising(error))()
    assert caught.value.__cause__ is error and "report it" in caught.value.fix


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), ModelError("damaged"), DeprecationWarning("old")]
)
def test_what_goes_through_as_it_is(error):
    with pytest.raises(type(error)) as caught:
        entrance(raising(error))()
    assert caught.value is error


def test_the_end_of_memory():
    with pytest.raises(OutOfMemoryError, match="not enough memory"):
        entrance(raising(MemoryError()))()


def test_the_innermost_place_is_told():
    error = ValueError("boom")
    for place in ("relu at the node", "the pass fold", "elsewhere"):
        at(error, place)
    assert InternalError.of(error).where == "relu at the node"


def _faulty(monkeypatch, error):
    monkeypatch.setattr(DeadCodeElimination, "run", raising(error))


ENTRANCES = {
    "compile": lambda path: tessel.compile(graph()),
    "from_onnx": lambda path: tessel.to_onnx(graph(), opt_level=0),
    "run": lambda path: tessel.load(path, native=False, threads=1).run({"x": X}),
}


@pytest.mark.parametrize("kind", [RecursionError, IndexError, ValueError, SystemError])
@pytest.mark.parametrize("name", ENTRANCES)
def test_a_fault_in_a_pass(name, kind, tmp_path, monkeypatch):
    tessel.compile(graph(), target="numpy").save(tmp_path / "m.tsl")
    _faulty(monkeypatch, kind("boom"))
    with pytest.raises(InternalError, match="boom") as caught:
        ENTRANCES[name](tmp_path / "m.tsl")
    assert caught.value.where == "the pass dce"


@pytest.mark.parametrize("call", ["run", "__call__", "save", "bind", "ready"])
def test_faults_of_an_executable(call, monkeypatch, tmp_path):
    exe = tessel.compile(graph(), threads=1)
    fault = raising(RuntimeError("boom"))
    for name in ("_prepare", "_known", "_run_with_updates"):
        monkeypatch.setattr(exe, name, fault)
    monkeypatch.setattr(packages, "save", fault)
    monkeypatch.setattr("tessel.runtime.execution.executable.receive", fault)
    arguments = {
        "run": ({"x": X},),
        "ready": ({"x": X},),
        "__call__": (X,),
        "bind": ("x", X),
        "save": (tmp_path / "m.tsl",),
    }[call]
    with pytest.raises(InternalError, match="boom"):
        getattr(exe, call)(*arguments)


def test_a_fault_in_a_lowering_names_the_node(monkeypatch):
    monkeypatch.setattr("tessel.compiler.lowering.lower.blocked_stores", raising(KeyError("boom")))
    with pytest.raises(InternalError) as caught:
        tessel.compile(graph(), shapes={"x": (2, 8)})
    assert caught.value.where == "relu at the node"


# -- foreseen ---------------------------------------------------------------------------------


def weight(dims):
    t = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, raw_data=b"")
    m = text("y = Add(x, w)")
    m.graph.initializer.append(t)
    return m


MODELS = {
    "dims that overflow beside a 0": (weight((0, 2**62)), "absurd dims"),
    "a weight of rank 65": (weight((1,) * 65), "absurd dims"),
    "an input of rank 1,000": (text("y = Relu(x)", f"float[{','.join('1' * 1000)}] x"), "absurd"),
    "a result of rank 65": (
        text("s = Constant<value = int64[65] {" + ",".join("1" * 65) + "}>() y = Expand(x, s)"),
        "too many axes",
    ),
    "LRN over no channels": (text("y = LRN<size=0>(x)", "float[1,2,5,5] x"), "1 or more"),
    "LRN over -1 channels": (text("y = LRN<size=-1>(x)", "float[1,2,5,5] x"), "1 or more"),
    "a pool by the norm 0": (
        text("y = LpPool<kernel_shape=[2,2],p=0>(x)", "float[1,2,5,5] x"),
        "1 or more",
    ),
    "Celu by 0": (text("y = Celu<alpha=0.0>(x)"), "not 0"),
    "regions of no pixels": (
        text(
            "y = RoiAlign<output_height=0>(x, r, b)",
            "float[1,1,4,4] x, float[1,4] r, int64[1] b",
            "float[A,B,C,D] y",
        ),
        "at least 1",
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_models_that_say_what_cannot_be(name):
    model, said = MODELS[name]
    with pytest.raises(tessel.TesselError, match=said) as caught:
        tessel.compile(model, threads=1)
    assert not isinstance(caught.value, InternalError)


TEXTS = {
    "a number of 5,000 digits": b"float[" + b"9" * 5000 + b"] x",
    "no UTF-8": b"float[2] \xff",
    "a NUL": b"float[2] x\0",
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts_that_do_not_parse(name):
    data = b'<ir_version: 9, opset_import: ["": 21]> g (' + TEXTS[name] + b") => () {}"
    with pytest.raises(ModelError, match=r"does not parse|not UTF-8"):
        tessel.compile(data)


@pytest.mark.parametrize(("size", "channels"), [(2**31, 3), (5, 3), (7, 4)])
def test_lrn_over_more_channels_than_there_are(size, channels):
    """Is LRN over all of them; and takes no longer for it."""
    x = np.random.default_rng(0).standard_normal((1, channels, 2, 2)).astype(np.float32)
    model = text(f"y = LRN<size={size},alpha=0.5>(x)", f"float[1,{channels},2,2] x")
    total = (x * x).sum(1, keepdims=True)
    if size == 5:  # two on each side
        total = np.stack([(x[:, max(0, c - 2) : c + 3] ** 2).sum(1) for c in range(3)], 1)
    if size == 7:
        total = np.stack([(x[:, max(0, c - 3) : c + 4] ** 2).sum(1) for c in range(4)], 1)
    expected = x / (1 + 0.5 / size * total) ** 0.75
    np.testing.assert_allclose(tessel.compile(model, threads=1)(x), expected, rtol=1e-6)


def test_a_checkpoint_that_is_none(tmp_path):
    for data in (b"", b"[" * 100_000, (1 << 62).to_bytes(8, "little"), b"\xff" * 100):
        (tmp_path / "c").write_bytes(data)
        with pytest.raises(ModelError, match="cannot be read"):
            load_checkpoint(tmp_path / "c", {})


def test_a_damaged_graph_is_told_when_it_is_loaded(tmp_path):
    """Not left as a note that sizes are compiled one by one."""
    from tessel.runtime.package.container import Container, Writer

    tessel.compile(graph(), threads=1).save(tmp_path / "m.tsl")
    good = Container(tmp_path / "m.tsl")
    sections = {n: bytes(good.section(n)) for n in good.table}
    for damaged in (sections["graph"] + b"\xff", re.sub(rb"relu", b"nothing", sections["graph"])):
        with Writer(tmp_path / "bad.tsl") as out:
            for name, data in (sections | {"graph": damaged}).items():
                out.add(name, [data])
        with pytest.raises(PackageError, match="graph cannot be read"):
            tessel.load(tmp_path / "bad.tsl", native=False)


# -- sizes that grow without end --------------------------------------------------------------


def test_expressions_of_sizes_stay_small():
    n, m = Sym.named("N"), Sym.named("M")

    def repeated(step, d):
        for _ in range(40):
            d = step(d)

    with pytest.raises(TooLarge):
        repeated(lambda d: d * d + m, n)
    with pytest.raises(TooLarge):
        repeated(lambda d: d // 7 + d % 5, n)
    with pytest.raises(TooLarge):
        Sym.named("N") * (1 << 70)
    assert str(sum((Sym.named(f"a{i}") for i in range(200)), 0)).startswith("a0")


@pytest.mark.parametrize("op", ["Mul", "Add"])
def test_arithmetic_on_shapes_wraps_as_int64_does(op):
    steps = " ".join(f"v{i + 1} = {op}(v{i}, v{i})" for i in range(70))
    model = text(
        "s = Shape(x) t = Constant<value = int64[1] {3}>() v0 = Concat<axis=0>(s, t) "
        f"{steps} z = Constant<value = int64[1] {{0}}>() y = Mul(v70, z)",
        "float[N,M] x",
        "int64[3] y",
    )
    exe = tessel.compile(model, threads=1)
    np.testing.assert_array_equal(exe(np.zeros((2, 5), np.float32)), [0, 0, 0])
