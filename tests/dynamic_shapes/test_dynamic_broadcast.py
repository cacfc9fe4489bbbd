"""Axes of two dynamic dims that broadcast: right where they are equal, where either is 1, and for
0.

The right values are ONNX Runtime's.
"""

import numpy as np
import pytest
import tessel
from tessel.compiler.analysis.equations import broadcasts, solve
from tessel.compiler.errors import InputError, TypeMismatch
from tessel.compiler.ir import specialize as passes_specialize
from tessel.compiler.ir.bounds import assume_at_least, assume_equal, assuming, fits
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dim_parse import parse_dim
from tessel.compiler.ir.dims import dim_broadcast, substitute
from tessel.compiler.ir.parse import parse_type

from ..support.onnx_models import assert_equal, model, onnxruntime, rand

PAIRS = ((3, 3), (1, 4), (4, 1), (1, 1), (0, 1), (1, 0), (0, 0))

# What reads the shape of two operands: body, its inputs, the type of its result. `p` and `q` are
# the sizes that broadcast.
TWO = {
    "add": ("y = Add (a, b)", "float[p,3] a, float[q,3] b"),
    "ranks": ("y = Mul (a, b)", "float[p] a, float[2,q] b"),
    "unnamed": ("y = Sub (a, b)", "float[?] a, float[?] b"),
    "compare": ("l = Less (a, b) y = Cast <to=1> (l)", "float[p] a, float[q] b"),
    "expand": ("s = Shape (b) y = Expand (a, s)", "float[p,3] a, float[q,3] b"),
    "summed": (
        "s = Shape (b) e = Expand (a, s) y = ReduceSum <keepdims=0> (e)",
        "float[p,3] a, float[q,3] b",
    ),
    "filled": (
        "s = Shape (b) c = ConstantOfShape (s) y = Add (a, c)",
        "float[p,3] a, float[q,3] b",
    ),
    "shape": ("e = Add (a, b) s = Shape (e) y = Cast <to=1> (s)", "float[p,3] a, float[q,3] b"),
    "size": ("e = Add (a, b) s = Size (e) y = Cast <to=1> (s)", "float[p,3] a, float[q,3] b"),
    "reshape": (
        "e = Add (a, b) m = Constant <value_ints=[-1]> () y = Reshape (e, m)",
        "float[p,3] a, float[q,3] b",
    ),
    "flatten": ("e = Add (a, b) f = Flatten (e) y = Relu (f)", "float[p,3,2] a, float[q,3,2] b"),
    "concat": ("e = Add (a, b) y = Concat <axis=0> (e, a)", "float[p,3] a, float[q,3] b"),
    "softmax": ("e = Add (a, b) y = Softmax <axis=0> (e)", "float[p,3] a, float[q,3] b"),
    "where": ("z = Less (a, b) y = Where (z, b, a)", "float[p,3] a, float[q,3] b"),
    "matmul": ("y = MatMul (a, b)", "float[p,2,3] a, float[q,3,4] b"),
    "einsum": (
        'y = Einsum <equation="...ij,...jk->...ik"> (a, b)',
        "float[p,2,3] a, float[q,3,4] b",
    ),
    "gemm": ("w = Transpose (a) y = Gemm (a, w, b)", "float[p,3] a, float[q,1] b"),
    "prelu": ("y = PRelu (a, b)", "float[4,p] a, float[q] b"),
    "modulo": ("y = Mod <fmod=1> (a, b)", "float[p] a, float[q] b"),
    "chain": (
        "c = Add (a, b) d = Mul (c, a) e = Sub (b, d) y = Add (e, c)",
        "float[p] a, float[q] b",
    ),
}


def sizes_of(inputs: str, sizes: dict) -> list[np.ndarray]:
    """Arrays for `float[p,3] a, float[q,3] b`; `?` of the first input is p, of the second q."""
    arrays = []
    for i, text in enumerate(inputs.split(", ")):
        inner = text[text.index("[") + 1 : text.index("]")]
        names = [d if d != "?" else "pq"[i] for d in inner.split(",")]
        arrays.append(rand(*[sizes.get(d) if d in sizes else int(d) for d in names], seed=i))
    return arrays


def executable(body: str, inputs: str, **options):
    proto = model(body, inputs=inputs, outputs="float y", opset=17)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return proto, tessel.compile(proto, cache=False, **options)


def check(proto, exe, arrays):
    want = onnxruntime(proto, *arrays)
    for threads in (1, 2):
        exe.threads = threads
        got = exe.run(dict(zip(exe.signature.names, arrays)))
        assert_equal(list(got.values()), want, 1e-4, 1e-5)


@pytest.mark.parametrize("name", TWO)
def test_two_dynamic_dims_of_any_values(name):
    body, inputs = TWO[name]
    proto, exe = executable(body, inputs)
    assert exe.for_all_sizes is not None, exe.notes
    for p, q in PAIRS:
        if name == "prelu" and q not in (1, p):  # b has to fit a
            continue
        if name == "gemm" and q not in (1, p):
            continue
        check(proto, exe, sizes_of(inputs, {"p": p, "q": q}))
        # Sizes that are equal are the usual case: they run in the code for all sizes.
        if p and q and name not in ("gemm", "prelu"):
            assert exe.specializations[-1].is_dynamic == (p == q)


@pytest.mark.parametrize("name", ["add", "expand", "shape", "matmul", "filled"])
def test_sizes_that_do_not_broadcast_are_refused(name):
    body, inputs = TWO[name]
    _, exe = executable(body, inputs)
    arrays = sizes_of(inputs, {"p": 2, "q": 3})
    with pytest.raises(InputError, match=r"the sizes p=2, q=3 do not fit the model(.|\n)*where: "):
        exe.run(dict(zip("ab", arrays)))


THREE = {
    "where": ("z = Less (c, k) y = Where (z, a, b)", "k = Constant <value_float=0.0> () "),
    "max": ("y = Max (a, b, c)", ""),
    "sum": ("y = Sum (a, b, c)", ""),
    "mean": ("t = Mean (c, b, a) s = Shape (t) y = Expand (t, s)", ""),
}


@pytest.mark.parametrize("name", THREE)
def test_three_dynamic_dims(name):
    body, before = THREE[name]
    proto, exe = executable(before + body, "float[p,2] a, float[q,2] b, float[r,1] c")
    for p, q, r in ((3, 3, 3), (1, 1, 4), (1, 4, 1), (4, 1, 4), (4, 4, 1), (1, 0, 1), (5, 5, 5)):
        arrays = [rand(p, 2), rand(q, 2, seed=1), rand(r, 1, seed=2)]
        check(proto, exe, arrays)
        if p and q and r:
            assert exe.specializations[-1].is_dynamic == (p == q == r)


def test_the_declared_type_says_what_is_not_known():
    _, exe = executable("y = Add (a, b)", "float[p,r] a, float[1,v] b")
    assert str(exe.outputs[0].type) == "f32[p,broadcast(r,v)]"
    assert exe.outputs[0].shape == ("p", "broadcast(r,v)")


@pytest.mark.parametrize("name", ["expand", "chain", "matmul", "shape"])
def test_through_packages(name, tmp_path):
    body, inputs = TWO[name]
    proto, exe = executable(body, inputs)
    exe.save(tmp_path / "m.tsl")
    for native in (True, False):
        loaded = tessel.load(tmp_path / "m.tsl", native=native, cache=False)
        assert str(loaded.outputs[0].type) == str(exe.outputs[0].type)
        for p, q in PAIRS:
            check(proto, loaded, sizes_of(inputs, {"p": p, "q": q}))
            if p and q:
                assert loaded.specializations[-1].is_dynamic == (p == q)


def test_inner_operators_of_microsoft():
    """A skip connection and an attention bias of their own batches."""
    proto = model(
        "n, m, o, t = com.microsoft.SkipLayerNormalization (a, b, g) y = Add (t, n)",
        inputs="float[p,s,8] a, float[q,s,8] b, float[8] g",
        outputs="float[?,?,8] y",
        extra=', "com.microsoft": 1',
    )
    exe = tessel.compile(proto, cache=False)
    for p, q in ((2, 2), (2, 1), (3, 3)):
        check(proto, exe, [rand(p, 5, 8), rand(q, 5, 8, seed=1), rand(8, seed=2)])


@pytest.mark.parametrize("name", ["add", "expand", "size", "filled", "matmul"])
def test_written_as_onnx(name):
    """The sizes are computed from the inputs' shapes."""
    body, inputs = TWO[name]
    proto, _ = executable(body, inputs)
    again = tessel.to_onnx(proto)
    for p, q in PAIRS:
        arrays = sizes_of(inputs, {"p": p, "q": q})
        assert_equal(onnxruntime(again, *arrays), onnxruntime(proto, *arrays), 1e-4, 1e-5)


FOUND = "z = Constant <value_float=0.0> () m = Greater (a, z) t = Compress <axis=0> (a, m) "


@pytest.mark.parametrize(
    "body",
    [
        "y = Add (t, b)",
        "s = Shape (t) y = Expand (b, s)",
        "e = Add (b, t) s = Shape (e) y = Cast <to=1> (s)",
    ],
)
def test_sizes_that_data_decide(body):
    proto, exe = executable(FOUND + body, "float[p] a, float[q] b")
    for found, q in ((3, 3), (1, 4), (4, 1), (0, 1), (1, 0)):
        a = np.array([*range(1, found + 1), -1, -1], np.float32)
        check(proto, exe, [a, rand(q)])
    with pytest.raises(InputError, match=r"the sizes .*_compress0=3.* do not fit the model"):
        exe.run({"a": np.ones(3, np.float32), "b": rand(2)})


@pytest.mark.parametrize(
    "types", [("f32[p,3]", "f32[q,3]"), ("f32[p,3]", "f32[5,q,1]"), ("f32[4,p]", "f32[q,3]")]
)
def test_gradients_are_summed_over_what_was_broadcast(types):
    """loss = sum((x y)² / 2) has the gradients x y² and x² y, each summed to its operand."""
    b = Builder()
    x, y = (b.input(n, t) for n, t in zip("xy", types))
    b.output("loss", (x * y * (x * y) * 0.5).sum())
    graph = tessel.gradients(b.graph, ["x", "y"])
    exe = tessel.compile(graph, cache=False)
    assert exe.for_all_sizes is not None, exe.notes
    for p, q in {("f32[4,p]", "f32[q,3]"): ((3, 4), (1, 4), (3, 1))}.get(types, PAIRS[:4]):
        shapes = [v.type.substitute({"p": p, "q": q}).shape for v in graph.inputs]
        arrays = [rand(*s, seed=i) for i, s in enumerate(shapes)]
        full = np.broadcast_shapes(*shapes)
        wide = [np.broadcast_to(a, full) for a in arrays]
        wanted = [wide[0] * wide[1] ** 2, wide[0] ** 2 * wide[1]]
        got = exe.run(dict(zip("xy", arrays)))
        for name, array, want in zip("xy", arrays, wanted):
            lead = want.ndim - array.ndim
            axes = tuple(d for d in range(want.ndim) if d < lead or array.shape[d - lead] == 1)
            summed = want.sum(axes, keepdims=True).reshape(array.shape)
            np.testing.assert_allclose(got[f"d_{name}"], summed, rtol=1e-4, atol=1e-5)


# -- equations -----------------------------------------------------------------------------


ATTENTION = {
    "pieces": (
        "s = MatMul (q, k) w = Softmax <axis=-1> (s) y = MatMul (w, v)",
        "float[b,2,t,4] q, float[c,2,4,n] k, float[d,2,m,4] v",
        (2, 2, 4, 5),
    ),
    "operator": (
        "y = Attention (q, k, v)",
        "float[b,2,t,4] q, float[c,2,n,4] k, float[d,2,m,4] v",
        (2, 2, 5, 4),
    ),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_keys_and_values_whose_sizes_are_named_apart(name):
    body, inputs, keys = ATTENTION[name]
    proto = model(body, inputs=inputs, outputs="float[?,?,?,?] y", opset=23)
    exe = tessel.compile(proto, cache=False)
    arrays = [rand(2, 2, 3, 4), rand(*keys, seed=1), rand(2, 2, 5, 4, seed=2)]
    for lengths in (5, 3):
        arrays[1] = arrays[1][..., :lengths] if name == "pieces" else arrays[1][:, :, :lengths]
        arrays[2] = arrays[2][:, :, :lengths]
        check(proto, exe, [np.ascontiguousarray(x) for x in arrays])
        assert exe.specializations[-1].is_dynamic
    wrong = [*arrays[:2], rand(2, 2, 4, 4)]
    with pytest.raises(InputError, match="do not fit the model"):
        exe.run(dict(zip("qkv", wrong)))


@pytest.mark.parametrize(
    ("body", "inputs", "right", "wrong"),
    [
        (
            "y = LayerNormalization (a, b)",
            "float[n,k] a, float[j] b",
            [(2, 3), (3,)],
            [(2, 3), (2,)],
        ),
        (
            "y = Concat <axis=1> (a, b)",
            "float[n,k] a, float[m,j] b",
            [(2, 3), (2, 1)],
            [(2, 3), (1, 3)],
        ),
        ("y = MatMul (a, b)", "float[n,k] a, float[j,m] b", [(2, 3), (3, 4)], [(2, 3), (1, 4)]),
        (
            "y = InstanceNormalization (a, b, b)",
            "float[n,k,w] a, float[j] b",
            [(2, 3, 5), (3,)],
            [(2, 3, 5), (2,)],
        ),
        (
            "m = Constant <value_ints=[-1,4]> () e = Reshape (a, m) y = Add (e, b)",
            "float[n,k] a, float[j,4] b",
            [(2, 6), (3, 4)],
            [(2, 5), (3, 4)],
        ),
        (
            "s = Shape (b) y = Reshape (a, s)",
            "float[n,k] a, float[j,m] b",
            [(2, 6), (3, 4)],
            [(2, 5), (3, 4)],
        ),
    ],
)
def test_sizes_that_have_to_be_equal(body, inputs, right, wrong):
    proto, exe = executable(body, inputs)
    check(proto, exe, [rand(*s, seed=i) for i, s in enumerate(right)])
    assert exe.specializations[-1].is_dynamic
    with pytest.raises(InputError, match="do not fit the model"):
        exe.run({n: rand(*s) for n, s in zip(exe.signature.names, wrong)})


def test_a_new_length_does_not_walk_the_graph(monkeypatch, tmp_path):
    """Equations and conditions decide: as compiled, and as loaded."""
    walks = []
    original = passes_specialize.specialize
    monkeypatch.setattr(passes_specialize, "specialize", lambda *a: walks.append(a) or original(*a))
    body, inputs, _ = ATTENTION["operator"]
    exe = tessel.compile(
        model(body, inputs=inputs, outputs="float[?,?,?,?] y", opset=23), cache=False
    )
    exe.save(tmp_path / "m.tsl")
    for made in (exe, tessel.load(tmp_path / "m.tsl")):
        walks.clear()
        for n in range(1, 9):
            made.run({"q": rand(1, 2, 1, 4), "k": rand(1, 2, n, 4), "v": rand(1, 2, n, 4)})
        assert not walks and all(b.is_dynamic for b in made.specializations)
        with pytest.raises(InputError, match="do not fit the model"):
            made.run({"q": rand(1, 2, 1, 4), "k": rand(1, 2, 3, 4), "v": rand(1, 2, 2, 4)})
        assert walks


def test_dims_that_broadcast():
    n, m, k = map(parse_dim, "nmk")
    assert dim_broadcast(n, 1) == dim_broadcast(1, n) == dim_broadcast(n, n) == n
    assert dim_broadcast(n, 4) == dim_broadcast(4, n) == 4
    both = dim_broadcast(m, n)
    assert str(both) == "broadcast(m,n)" and both == dim_broadcast(n, m) == parse_dim(str(both))
    three = dim_broadcast(both, k)
    assert str(three) == "broadcast(k,broadcast(m,n))" == str(dim_broadcast(n, dim_broadcast(k, m)))
    assert dim_broadcast(three, n) == three and broadcasts(three + 1) == {(k, m, n)}
    for sizes, size in (((1, 4, 1), 4), ((0, 1, 1), 0), ((5, 5, 5), 5), ((1, 1, 1), 1)):
        assert substitute(three, dict(zip("kmn", sizes))) == size
    with pytest.raises(TypeMismatch, match="do not broadcast"):
        substitute(both, {"m": 2, "n": 3})
    assert str(parse_type(f"f32[{three},2]")) == f"f32[{three},2]"


def test_assumed_equal():
    n, m = map(parse_dim, "nm")
    assert assume_equal(n, m) and assume_equal(n, 4) and not assume_equal(n, n + 1)
    assert not assume_equal(3, 4) and assume_equal(n + 1, 1), "n may be 0"
    assert assume_at_least(n, 0) and assume_at_least(n, m) and not assume_at_least(0, n + 1)
    with assuming() as noted:
        assert assume_equal(n, m) and assume_equal(m, m) and assume_at_least(n, 3)
    assert list(noted.equal) == [(n, m)] and list(noted.above) == [(n + 1, 3)]
    assert fits((), {"n": 2, "m": 2}, noted.equal) and not fits((), {"n": 2, "m": 1}, noted.equal)


def test_equations_are_solved_for_symbols():
    n, m, k = map(parse_dim, "nmk")
    assert solve([(n, m)], ["n", "m"]) == {"m": n} and solve([(n, m)], ["m", "n"]) == {"n": m}
    assert solve([(n * m, n * 4)]) == {"m": 4}, "n is no 0"
    assert solve([(n, m), (m, k), (k, 7)], "nmk") == {"n": 7, "m": 7, "k": 7}
    assert solve([(n - 1, m)], "nm") == {"n": m + 1}, "m is 1 or more, n - 1 perhaps not"
    assert solve([(n * m, k * k)]) == {}
    assert solve([(n, m // 2)]) == {("floordiv", m, 2): n}, "which says nothing of m"
    rows = solve([(parse_dim("min(m,64)"), m)])
    assert substitute(parse_dim("broadcast(min(m,64),m)*n"), rows) == m * n
    assert solve([(n, parse_dim("_n0"))], ["_n0", "n"]) == {"_n0": n}


# -- one name for two sizes ----------------------------------------------------------------
