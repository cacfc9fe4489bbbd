"""Which indices a compiled model looks at, and what its runs do: threads, packages, regions."""

import threading

import numpy as np
import pytest
import tessel
from tessel.compiler.errors import InputError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.options import Options
from tessel.runtime.execution.session import Session

from .test_index_range import GATHER, check_error, f32, i64, model, proto_of

# -- which are looked at ---------------------------------------------------------------------


def program_of(graph, **options):
    return Session.open("numpy", Options(**options)).build(graph, {}).program


def checks_of(graph):
    """What a run of a graph looks at."""
    return program_of(graph).checks


def gathered(make_index, rows=4):
    """The graph of x[index], where `make_index(b, x, i)` makes the index of an input i64[3]."""
    b = Builder()
    x, i = b.input("x", f"f32[{rows},2]"), b.input("i", "i64[3]")
    b.output("y", b.gather(x, make_index(b, x, i), axis=0))
    return b.graph


PROVEN = {
    "a constant": lambda b, x, i: b.constant(i64(0, -4, 3)),
    "iota": lambda b, x, i: b.iota(shape=(4,), axis=0, dtype="i64"),
    "arg_max": lambda b, x, i: b.emit("arg_max", x, axis=0, keepdims=False),
    "top_k": lambda b, x, i: b.emit("top_k", x, k=2, axis=0)[1],
    "clip": lambda b, x, i: b.clip(i, b.scalar(0, "i64"), b.scalar(3, "i64")),
    "mod": lambda b, x, i: b.mod(i, b.scalar(4, "i64")),
    "a bool": lambda b, x, i: (i > 0).cast("i64"),
    "a narrow type": lambda b, x, i: b.where(i > 0, b.scalar(3, "i64"), b.scalar(-1, "i64")),
    "what is insisted on": lambda b, x, i: b.within(i, low=1, high=3) + 1,
}
UNKNOWN = {
    "an input": lambda b, x, i: i,
    "one too many": lambda b, x, i: b.iota(shape=(5,), axis=0, dtype="i64"),
    "a wrong constant": lambda b, x, i: b.constant(i64(0, 4)),
    "clip, too wide": lambda b, x, i: b.clip(i, b.scalar(0, "i64"), b.scalar(4, "i64")),
    "a sum that wraps": lambda b, x, i: b.clip(i, b.scalar(0, "i64")) + (2**63 - 1),
    "a product": lambda b, x, i: (i > 0).cast("i64") * i,
}


@pytest.mark.parametrize("make", PROVEN.values(), ids=PROVEN)
def test_what_is_proven_costs_nothing(make):
    looked_at = checks_of(gathered(make))
    assert [c.what for c in looked_at if c.high == 4] == []


@pytest.mark.parametrize("make", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_proven_is_looked_at(make):
    (check,) = checks_of(gathered(make))
    assert (check.low, check.high) == (-4, 4)


def test_nonzero_and_lookups_are_proven():
    body = "p = NonZero(x) q = Transpose<perm=[1,0]>(p) y = GatherND(x, q)"
    exe = tessel.compile(model(body, "float[4,3] x"))
    x = f32(4, 3)
    np.testing.assert_array_equal(exe.run({"x": x})["y"], x[x != 0])
    stages = [s for b in exe.specializations for s in b.stages]
    made = [b for s in stages for b in s.specializations] + [s.for_all_sizes for s in stages]
    assert not any(b.code.checks for b in made if b is not None)


def test_equal_indices_are_looked_at_once():
    b = Builder()
    x, y, i = b.input("x", "f32[4,2]"), b.input("y", "f32[4]"), b.input("i", "i32[3]")
    wide = i.cast("i64")
    b.output("a", b.gather(x, i, axis=0))
    b.output("b", b.gather(y, wide.reshape(3, 1), axis=0))
    b.output("c", b.scatter_nd(x, wide.reshape(3, 1), b.gather(x, i, axis=0)))
    b.output("d", b.gather(x, i, axis=1))  # another bound
    assert [(c.low, c.high) for c in checks_of(b.graph)] == [(-4, 4), (-2, 2)]


def test_a_gradient_is_looked_at_with_its_gather():
    graph = gathered(lambda b, x, i: i)
    b = Builder(graph)
    loss = b.emit("reduce_sum", b.tensor(graph.outputs[0]), axes=(0, 1), keepdims=False)
    b.output("loss", loss)
    step = tessel.gradients(b.graph, wrt=["x"], output="loss")
    assert len(checks_of(step)) == 1


def test_kernels_of_gathers_stay_as_they_are():
    graph = gathered(lambda b, x, i: i)
    texts = [
        {c.kernel.text() for c in program_of(graph, unchecked=unchecked).kernels()}
        for unchecked in (False, True)
    ]
    assert len(texts[1]) == 1 and texts[0] > texts[1]


# -- runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["cpu", "numpy"])
def test_unchecked_takes_the_nearest_index_inside(target):
    exe = tessel.compile(proto_of(GATHER), target=target, unchecked=True)
    x = f32(4, 2)
    y = exe.run({"x": x, "i": i64(9, -(2**63))})["y"]
    np.testing.assert_array_equal(y, x[[3, 0]])


OPEN = ("y = Gather(x, i)", "float[N,2] x, int64[K] i", {})


@pytest.mark.parametrize("threads", [1, 2])
def test_dynamic_dims_are_in_the_error(threads, tmp_path):
    exe = tessel.compile(proto_of(OPEN), threads=threads)
    assert exe.for_all_sizes is not None
    exe.save(tmp_path / "gather.tsl")
    for made in (exe, tessel.load(tmp_path / "gather.tsl", threads=threads)):
        for n in (3, 7):
            x = f32(n, 2)
            with pytest.raises(InputError) as error:
                made.run({"x": x, "i": i64(0, n)})
            check_error(error, n, f"-{n} to {n - 1}")
            np.testing.assert_array_equal(made.run({"x": x, "i": i64(-n)})["y"], x[:1])


def test_a_package_keeps_what_is_looked_at(tmp_path):
    for unchecked in (False, True):
        path = tmp_path / f"{unchecked}.tsl"
        tessel.compile(proto_of(GATHER), unchecked=unchecked).save(path)
        for native in (True, False):
            exe = tessel.load(path, native=native)
            feeds = {"x": f32(4, 2), "i": i64(4, 0)}
            if unchecked:
                np.testing.assert_array_equal(exe.run(feeds)["y"], feeds["x"][[3, 0]])
                continue
            with pytest.raises(InputError, match=r"(?s)an index is out of range.*Gather#0.*4"):
                exe.run(feeds)


def test_packages_of_before_load_and_look_at_nothing(tmp_path, monkeypatch):
    from tessel.runtime.package import native_package

    exe = tessel.compile(proto_of(GATHER), unchecked=True)  # the code of before
    dump = native_package.dump_code

    def without(code, *rest):
        return {k: v for k, v in dump(code, *rest).items() if k != "checks"}

    monkeypatch.setattr("tessel.runtime.execution.package.dump_code", without)
    exe.save(tmp_path / "old.tsl")
    feeds = {"x": f32(4, 2), "i": i64(9, 0)}
    np.testing.assert_array_equal(
        tessel.load(tmp_path / "old.tsl").run(feeds)["y"], feeds["x"][[3, 0]]
    )


def test_a_long_index_is_looked_at_in_parts_and_named_the_same():
    count = 1 << 16
    exe = [
        tessel.compile(model("y = Gather(x, i)", f"float[9] x, int64[{count}] i"), threads=n)
        for n in (1, 2)
    ]
    (check,) = exe[0].specializations[0].code.checks
    assert check.parts > 1
    x, right = f32(9), np.arange(count) % 9
    for places, value in [((5,), 9), ((5, 60_000), 60_009), ((40_000, 3), 40_009)]:
        wrong = right.copy()
        wrong[list(places)] = np.array(places) + 9 if len(places) > 1 else 9
        for e in exe:
            with pytest.raises(InputError) as error:
                e.run({"x": x, "i": wrong})
            assert error.value.received == max(value, *wrong[list(places)])
            np.testing.assert_array_equal(e.run({"x": x, "i": right})["y"], x[right])
    wrong[[7, 50_000]] = -99, -77
    for e in exe:
        with pytest.raises(InputError) as error:
            e.run({"x": x, "i": wrong})
        assert error.value.received == -77


BRANCH = """
    y = If(c) <
        then_branch = a () => (float[2] t) { t = Gather(x, i) },
        else_branch = b () => (float[2] e) { e = Identity(z) }
    >
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_branch_that_is_not_taken_does_not_raise(threads):
    exe = tessel.compile(
        model(BRANCH, "bool c, float[4] x, float[2] z, int64[2] i"), threads=threads
    )
    feeds = {"x": f32(4), "z": f32(2), "i": i64(1, 4)}
    np.testing.assert_array_equal(exe.run({**feeds, "c": np.array(False)})["y"], feeds["z"])
    with pytest.raises(InputError, match=r"(?s)an index is out of range.*4"):
        exe.run({**feeds, "c": np.array(True)})
    np.testing.assert_array_equal(exe.run({**feeds, "c": np.array(False)})["y"], feeds["z"])


def test_a_wrong_constant_in_a_branch_that_is_not_taken_does_not_raise():
    body = "i = Constant<value=int64[2] {1, 9}>()" + BRANCH
    exe = tessel.compile(model(body, "bool c, float[4] x, float[2] z"))
    feeds = {"x": f32(4), "z": f32(2)}
    np.testing.assert_array_equal(exe.run({**feeds, "c": np.array(False)})["y"], feeds["z"])
    with pytest.raises(InputError, match=r"(?s)an index is out of range.*9"):
        exe.run({**feeds, "c": np.array(True)})


LOOP = """
    one = Constant<value=int64 {1}>()
    n, y = Loop(m, , start) <
        body = b (int64 turn, bool go, int64 at) => (bool on, int64 next, float row) {
            on = Identity(go) next = Add(at, one) row = Gather(x, at)
        }
    >
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_a_loop_raises_for_a_turn_that_it_takes(threads):
    proto = model(LOOP, "int64 m, float[4] x, int64 start", "y")
    exe = tessel.compile(proto, threads=threads)
    run = lambda m, start: exe.run({"m": np.array(m), "x": f32(4), "start": np.array(start)})["y"]
    np.testing.assert_array_equal(run(3, -2), f32(4)[[-2, -1, 0]])
    for m, start, value in [(5, 0, 4), (6, -5, -5), (1, 7, 7)]:
        with pytest.raises(InputError) as error:
            run(m, start)
        assert error.value.received == value
    assert run(0, 9).shape == (0,)  # no turn, nothing out of range
    np.testing.assert_array_equal(run(1, 3), f32(4)[3:])


def test_many_threads_run_one_executable_with_and_without_errors():
    exe = tessel.compile(proto_of(OPEN), threads=2)
    x, found = f32(64, 2), []

    def work(n):
        index = i64(*range(n, n + 9))
        for turn in range(200):
            bad = (turn + n) % 3 == 0
            index[4] = 64 + n if bad else n + 4
            try:
                y = exe.run({"x": x, "i": index})["y"]
                found.append(not bad and np.array_equal(y, x[index]))
            except InputError as error:
                found.append(bad and error.received == 64 + n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 800 and all(found)


def test_strings_say_the_same():
    proto = model("y = Gather(x, i)", "string[N] x, int64[1] i")
    proto.graph.output[0].type.tensor_type.elem_type = 8
    exe = tessel.compile(proto)
    words = np.array(["a", "b"], object)
    assert exe.run({"x": words, "i": i64(-1)})["y"].tolist() == ["b"]
    with pytest.raises(InputError) as error:
        exe.run({"x": words, "i": i64(2)})
    check_error(error, 2, "-2 to 1")


# -- the native API --------------------------------------------------------------------------


def test_jitted_functions_and_gradients_raise():
    import tessel.frontends.native.functional as F

    def loss(table, ids):
        return F.gather(table, ids, axis=0).sum()

    table = f32(4, 2)
    for f in (tessel.jit(loss), tessel.grad(loss), tessel.value_and_grad(loss)):
        f(table, i64(0, -4))
        with pytest.raises(InputError, match=r"(?s)an index is out of range.*4"):
            f(table, i64(0, 4))


def test_a_label_that_is_no_class_raises():
    from tessel.frontends.native import losses

    f = tessel.jit(lambda logits, labels: losses.cross_entropy(logits, labels))
    f(f32(2, 3), i64(0, 2))
    for label in (3, -1):
        with pytest.raises(InputError) as error:
            f(f32(2, 3), i64(0, label))
        assert "a label is out of range" in error.value.message
        check_error(error, label, "0 to 2")


def test_a_step_that_fails_leaves_parameters_as_they_are():
    from tessel.frontends import native
    from tessel.runtime.training.optimizers import SGD
    from tessel.runtime.training.trainer import Trainer

    model = native.Sequential(native.Embedding(5, 3), native.Linear(3, 4))
    train, _ = native.training_graphs(model, native.cross_entropy, {}, x="i64[N]", y="i64[N]")
    values = native.flat_values(model.init(np.random.default_rng(0)), model.init_state())
    trainer = Trainer(train, values, SGD(0.1))
    right = {"x": i64(0, 4), "y": i64(1, 3)}
    trainer.step(right)
    before = {n: v.copy() for n, v in trainer.values.items()}
    for wrong in ({"x": i64(0, 5)}, {"y": i64(1, 4)}):
        with pytest.raises(InputError, match="is out of range"):
            trainer.step(right | wrong)
        for n, v in trainer.values.items():
            np.testing.assert_array_equal(v, before[n])


# -- branches that shapes make impossible ----------------------------------------------------

CONTRADICTION = """
    y = If(c) <
        then_branch = a () => (TYPE[2,3] t) { t = Add(x, ok) },
        else_branch = b () => (TYPE[2,3] e) { e = Add(x, bad) }
    >
"""


@pytest.mark.parametrize(("onnx_type", "dtype"), [("float", np.float32), ("int64", np.int64)])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_takes_an_impossible_branch_fails(onnx_type, dtype, threads, tmp_path):
    inputs = "bool c, TYPE[2,3] x, TYPE[3] ok, TYPE[4] bad"
    proto = model(*(t.replace("TYPE", onnx_type) for t in (CONTRADICTION, inputs)))
    proto.graph.output[0].type.tensor_type.elem_type = 1 if onnx_type == "float" else 7
    exe = tessel.compile(proto, threads=threads)
    exe.save(tmp_path / "branch.tsl")
    x, ok = np.ones((2, 3), dtype), np.ones(3, dtype)
    feeds = {"x": x, "ok": ok, "bad": np.ones(4, dtype)}
    for made in (exe, tessel.load(tmp_path / "branch.tsl", threads=threads)):
        np.testing.assert_array_equal(made.run({**feeds, "c": np.array(True)})["y"], x + ok)
        with pytest.raises(InputError, match="that their shapes make impossible"):
            made.run({**feeds, "c": np.array(False)})
        np.testing.assert_array_equal(made.run({**feeds, "c": np.array(True)})["y"], x + ok)
    loose = tessel.compile(proto, unchecked=True).run({**feeds, "c": np.array(False)})["y"]
    assert np.isnan(loose).all() if dtype == np.float32 else (loose == 0).all()
