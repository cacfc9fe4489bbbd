"""Graphs whose data decides sizes: how they are cut into stages, and what runs, saves and shows
them."""

import threading

import numpy as np
import onnx
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.errors import GraphError, InputError, PackageError
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.parse import parse_graph
from tessel.compiler.kernels.kernel import walk_calls
from tessel.compiler.lowering.lower import lower
from tessel.compiler.passes.stages import Size, split_stages
from tessel.tools import cli

from ..support.onnx_models import assert_equal, model, onnxruntime

RNG = np.random.default_rng(0)


def units(*shape) -> np.ndarray:
    return RNG.uniform(0, 1, shape).astype(np.float32)


GRAPH = """
graph g(%x: f32[N,3], %n: i64[1]) -> (%z as "z", %m as "m") {
  %w = constant() {value=dense(f32[3] [1.0, 2.0, 3.0])} : f32[3]
  %b = bind_dims(%n) {symbols=[_n0]} : i64[1]
  %y = mul(%x, %w) : f32[N,3]
  %s = slice(%y) {axes=[0], starts=[0], steps=[1], sizes=[_n0]} : f32[_n0,3]
  %z = mul(%s, %w) : f32[_n0,3]
  %m = expand(%w) {shape=[_n0,3]} : f32[_n0,3]
}
"""


def test_a_graph_is_cut_where_a_size_becomes_known():
    first, second = split_stages(parse_graph(GRAPH, {}))
    assert [n.op.name for n in first.graph.nodes] == ["constant", "mul"]
    assert [b.symbols for b in first.bound] == [(Sym.named("_n0"),)]
    # The first rows of y are a view of it, not work; constants are repeated.
    assert [n.op.name for n in second.graph.nodes] == ["constant", "mul", "expand"]
    assert [str(v.type) for v in second.graph.inputs] == ["f32[_n0,3]"]


def test_a_size_that_no_shape_tells_comes_as_an_input_without_bytes():
    graph = parse_graph(GRAPH.replace(' -> (%z as "z", %m as "m")', ' -> (%m as "m")'), {})
    *_, last = split_stages(graph)
    assert last.sources == [Size("_n0")]
    assert [str(v.type) for v in last.graph.inputs] == ["bool[0,_n0]"]
    exe = tessel.compile(graph)
    x, n = units(4, 3), np.int64([2])
    np.testing.assert_array_equal(exe(x, n), np.broadcast_to(np.float32([1, 2, 3]), (2, 3)))


def test_outputs_belong_to_the_caller():
    exe = tessel.compile(
        parse_graph(GRAPH.replace('%z as "z"', '%s as "s", %x as "x", %s as "t"'), {})
    )
    x = units(4, 3)
    s, same, t, _ = exe(x, np.int64([2]))
    assert not np.shares_memory(same, x) and not np.shares_memory(s, t)
    assert s.base is None and s.shape == (2, 3)


def test_a_negative_size_is_refused():
    exe = tessel.compile(parse_graph(GRAPH, {}))
    with pytest.raises(InputError, match="is negative") as caught:
        exe(units(4, 3), np.int64([-2]))
    assert "bind_dims" in caught.value.where


def test_a_size_that_follows_from_shapes_needs_no_stage():
    graph = parse_graph(
        GRAPH.replace("%n: i64[1]", "%q: i64[1]").replace(
            "%b = bind", "%n = dims() {values=[N]} : i64[1]\n  %b = bind"
        ),
        {},
    )
    exe = tessel.compile(graph)
    x = units(4, 3)
    z, _ = exe(x, np.int64([9]))
    np.testing.assert_allclose(z, x * np.float32([1, 4, 9]))
    assert exe.specializations[-1].stages == ()


def test_stages_keep_what_they_are_compiled_for():
    proto = model(
        "n = NonZero(x) t = Transpose(n) y = GatherND(x, t)",
        inputs="float[A,B] x",
        outputs="float[K] y",
    )
    exe = tessel.compile(proto)
    x = units(3, 4)
    for _ in range(3):
        exe(x)
    (built,) = exe.specializations
    assert [len(stage.specializations) for stage in built.stages] == [1, 1]


def test_interpreter_reads_sizes_as_it_goes():
    x = units(4, 3)
    z, m = interpret(parse_graph(GRAPH, {}), [x, np.int64([3])])
    assert z.shape == (3, 3) and m.shape == (3, 3)


def test_a_size_must_be_bound_before_it_is_used():
    first, *lines = GRAPH.strip().splitlines()
    late = "\n".join([first, lines[0], *lines[2:5], lines[1], *lines[5:]])
    with pytest.raises(GraphError, match="_n0 is used before it is bound"):
        split_stages(parse_graph(late, {}))


UPDATES = """
graph g(%x: f32[4], %n: i64[1], %w: f32[4]) -> (%s as "s", %u as "u") updates {1: 2} {
  %b = bind_dims(%n) {symbols=[_n0]} : i64[1]
  %s = slice(%x) {axes=[0], starts=[0], steps=[1], sizes=[_n0]} : f32[_n0]
  %t = reduce_sum(%s) {axes=[0]} : f32[1]
  %u = add(%w, %t) : f32[4]
}
"""


def test_stages_update_inputs_in_place():
    exe = tessel.compile(parse_graph(UPDATES, {}))
    w = exe.bind("w", np.zeros(4, np.float32))
    x = np.ones(4, np.float32)
    assert list(exe.run({"x": x, "n": np.int64([3])})) == ["s"]
    exe.run({"x": x, "n": np.int64([2])})
    np.testing.assert_array_equal(w, [5] * 4)


def test_several_threads_may_run_stages_at_once():
    body = "n = NonZero(x) t = Transpose(n) y = GatherND(x, t)"
    exe = tessel.compile(model(body, inputs="float[N] x", outputs="float[K] y"))
    wrong = []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(20):
            x = rng.integers(0, 2, 3 * int(rng.integers(1, 4))).astype(np.float32)
            wrong.extend([x] if not np.array_equal(exe(x), x[x != 0]) else [])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


def test_values_of_inputs_and_sizes_of_data_together(tmp_path):
    proto = model(
        "r = Reshape(x, s) n = NonZero(r)",
        inputs="float[2,6] x, int64[2] s",
        outputs="int64[2,K] n",
    )
    exe = tessel.compile(proto)
    x = RNG.integers(0, 2, (2, 6)).astype(np.float32)
    for s in ([3, 4], [4, 3]):
        np.testing.assert_array_equal(exe(x, np.int64(s)), np.nonzero(x.reshape(s)))
    assert exe.static == ("s",) and len(exe.specializations) == 2


# -- packages and tools ---------------------------------------------------------------------


DETECTOR = """
<ir_version: 8, opset_import: ["": 18]>
g (float[N,4] b, float[N] s) => (float[K,4] y)
<int64[1] zero = {0}, int64[2] both = {0, 1}, int64[1] two = {2}, int64[1] minus = {-1},
 int64[1] most = {3}, float[1] half = {0.5}, float[1] low = {0.3}> {
  m = Greater(s, half) nz = NonZero(m) i = Squeeze(nz, zero)
  s1 = Gather(s, i) b1 = Gather(b, i) b2 = Unsqueeze(b1, zero) s2 = Unsqueeze(s1, both)
  found = NonMaxSuppression(b2, s2, most, low)
  at = Gather<axis=1>(found, two) at1 = Reshape(at, minus) y = Gather(b1, at1)
}
"""


@pytest.fixture
def detector():
    """A model of three stages, and inputs for it."""
    feeds = []
    for n in (30, 12):
        corner = units(n, 2) * 10
        feeds.append([np.concatenate([corner, corner + 1 + units(n, 2) * 3], 1), units(n)])
    return onnx.parser.parse_model(DETECTOR), feeds


def test_a_package_has_the_code_of_all_stages(detector, tmp_path):
    proto, feeds = detector
    exe = tessel.compile(proto)
    want = exe(*feeds[0])
    exe.save(tmp_path / "m.tsl")
    loaded = tessel.load(tmp_path / "m.tsl", cache=False)
    code = [stage.for_all_sizes for stage in loaded.for_all_sizes.stages]
    assert len(code) == 3 and all(b.graph is None for b in code)
    assert_equal([loaded(*feeds[0])], [want])
    assert_equal([loaded(*feeds[1])], onnxruntime(proto, *feeds[1]))
    anew = tessel.load(tmp_path / "m.tsl", native=False)
    assert_equal([anew(*feeds[0])], [want])


def test_tools_know_of_stages(detector, tmp_path, capsys):
    proto, feeds = detector
    path, npz, package = tmp_path / "m.onnx", tmp_path / "x.npz", tmp_path / "m.tsl"
    onnx.save(proto, path)
    np.savez(npz, b=feeds[0][0], s=feeds[0][1])
    exe = tessel.compile(proto)
    exe(*feeds[0])
    exe.save(package)

    def said(*arguments, code=0):
        with pytest.raises(SystemExit) as end:
            cli.main([str(a) for a in arguments])
        assert end.value.code == code
        return "".join(capsys.readouterr())

    verified = said("verify", path, "--inputs", npz)
    assert "compiled: 3 stages" in verified and "all stages agree" in verified
    assert "Stage 2 of 3" in said("explain", path)
    assert "3 stages, cut where shapes depend on data" in said("inspect", package)
    assert "runs in stages" in said("run", path, "--inputs", npz, "--profile", code=2)
    assert "has no one program" in said(
        "compile", path, "--shapes", "b:9x4", "--emit", "loops", code=2
    )


def test_code_for_other_stages_is_refused(detector, tmp_path):
    proto, feeds = detector
    exe = tessel.compile(proto)
    exe(*feeds[0])
    exe.for_all_sizes.stages = exe.for_all_sizes.stages[:2]
    exe.save(tmp_path / "m.tsl")
    with pytest.raises(PackageError, match="the stages are not those"):
        tessel.load(tmp_path / "m.tsl")


def test_a_stage_that_is_compiled_for_each_size_is_noted():
    body = "a = Constant<value_int=1>() i = Cast<to=7>(x) m = ReduceMax<keepdims=0>(i) "
    body += "y = DFT(x, m, a)"
    proto = model(body, opset=20, inputs="float[1,N,1] x", outputs="float[1,K,2] y")
    exe = tessel.compile(proto, cache=False)
    (note,) = exe.notes
    assert note.startswith("each combination of sizes is compiled by itself") and "DFT#" in note
    assert exe(np.full((1, 4, 1), 3, np.float32)).shape == (1, 3, 2)


TWICE = """
graph g(%x: f32[9,5], %n: i64[1], %m: i64[1]) -> (%a as "a", %b as "b") {
  %k = bind_dims(%n) {symbols=[_n0]} : i64[1]
  %l = bind_dims(%m) {symbols=[_n1]} : i64[1]
  %s = slice(%x) {axes=[0], starts=[0], steps=[1], sizes=[_n0]} : f32[_n0,5]
  %t = slice(%x) {axes=[0], starts=[0], steps=[1], sizes=[_n1]} : f32[_n1,5]
  %sums = cumsum(%s) {axis=0, exclusive=false, reverse=false} : f32[_n0,5]
  %more = cumsum(%t) {axis=0, exclusive=false, reverse=false} : f32[_n1,5]
  %a = softmax(%sums) {axis=0} : f32[_n0,5]
  %b = softmax(%more) {axis=0} : f32[_n1,5]
}
"""


def test_kernels_that_differ_in_names_of_sizes_alone_share_their_code():
    graph = parse_graph(TWICE, {})
    *_, last = split_stages(graph)
    plan = build_plan(lower(last.graph, dynamic_shapes=True), NAMED["x86-64-v3"])
    steps = [step.code for step, _ in walk_calls(plan.steps)]
    assert len(plan.codes) == len(steps) // 2
    assert {code.symbols for code in steps} == {("_n0",), ("_n1",)}
    x = units(9, 5)
    exe = tessel.compile(graph, threads=2)
    for n, m in ((2, 7), (9, 1)):
        got = exe.run({"x": x, "n": np.int64([n]), "m": np.int64([m])})
        for result, count in zip((got["a"], got["b"]), (n, m)):
            powers = np.exp(np.cumsum(x[:count], 0))
            np.testing.assert_allclose(result, powers / powers.sum(0), rtol=1e-5)
