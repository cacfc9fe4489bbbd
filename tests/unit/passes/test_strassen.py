"""Strassen's products: which products become them, what they compute, how exactly."""

from dataclasses import replace

import numpy as np
import pytest
import tessel
from hypothesis import given, settings
from hypothesis import strategies as st
from tessel.compiler.backends.llvm.base.target import host
from tessel.compiler.errors import TypeMismatch
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.blocks import Unblocked, blocked_stores, part_of
from tessel.compiler.expr.expr import Axis
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.op import get
from tessel.compiler.ops.internal.strassen import STORED, right_factors
from tessel.compiler.options import Options
from tessel.compiler.passes.base import Report, run_pipeline
from tessel.compiler.passes.cpu.strassen import Strassen, pays
from tessel.compiler.pipelines import cpu_pipeline
from tessel.compiler.targets.table import open_target

from ...support.graphs import assert_same_results
from ...support.kernels import both, buffer_of, native, program_of, scheduled, store
from ..llvm.products.test_llvm_contractions import whole

RNG = np.random.default_rng(0)
HOST = host()
NARROW = replace(HOST, vector_bytes=min(32, HOST.vector_bytes), registers=16)
SMALL, LARGE = replace(NARROW, l1=4 << 10), replace(NARROW, l1=1 << 20)
pays_here = pytest.mark.skipif(HOST.vector_bytes == 64, reason="for vectors of 32 bytes at most")


def product_graph(m=128, k=768, n=768, w=None, dtype="f32", outer=()):
    """x @ w"""
    b = Builder()
    x = b.input("x", f"{dtype}[{','.join(map(str, (*outer, m, k)))}]")
    if w is None:
        w = RNG.standard_normal((k, n)) / np.sqrt(k)
    b.output("y", x @ b.constant(w, dtype))
    return b.graph


def conv_graph(size, channels, outputs, taps=1, **attrs):
    """conv(x, w, b) of [1, size, size, channels], channels last."""
    b = Builder()
    x = b.input("x", f"f32[1,{size},{size},{channels}]")
    scale = taps * np.sqrt(channels)
    w = b.constant(RNG.standard_normal((taps, taps, channels, outputs)) / scale, "f32")
    bias = b.constant(RNG.standard_normal(outputs), "f32")
    b.output("y", b.conv(x, w, bias, channels_last=True, **attrs))
    return b.graph


def is_taken(graph) -> bool:
    (node,) = [n for n in graph.nodes if n.op.name in ("matmul", "conv")]
    return pays(node)


# -- mathematics -----------------------------------------------------------------------------------


def by_refs(x, w):
    """x @ w by the ops' references."""
    left = get("strassen_input").ref(x)
    products = get("strassen_product").ref(left, right_factors(w))
    sizes = (x.shape[-2], w.shape[-1])
    return get("strassen_output").ref(products, sizes=sizes)


@given(m=st.integers(1, 9), half=st.integers(1, 5), n=st.integers(1, 9), outer=st.integers(1, 3))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_seven_products_are_one(m, half, n, outer):
    x = RNG.integers(-9, 9, (outer, m, 2 * half)).astype(float)
    w = RNG.integers(-9, 9, (2 * half, n)).astype(float)
    np.testing.assert_array_equal(by_refs(x, w), x @ w)


def test_rounding_errors_about_double():
    x = RNG.standard_normal((128, 768)).astype(np.float32)
    w = RNG.standard_normal((768, 768)).astype(np.float32)
    exact = x.astype(np.float64) @ w.astype(np.float64)
    plain, seven = (np.sqrt(np.mean((y - exact) ** 2)) for y in (x @ w, by_refs(x, w)))
    assert seven < 3 * plain
    assert seven < 1e-6 * exact.std()


def test_an_odd_depth_is_refused():
    b = Builder()
    with pytest.raises(TypeMismatch, match="an even K"):
        b.strassen_input(b.input("x", "f32[4,5]"))


def test_factors_and_sizes_that_do_not_fit_are_refused():
    b = Builder()
    a = b.input("a", "f32[7,4,6]")
    with pytest.raises(TypeMismatch, match="the factors do not fit"):
        b.strassen_product(a, b.input("w", "f32[4,5,8]"))
    with pytest.raises(TypeMismatch, match="the products do not fit"):
        b.strassen_output(a, sizes=(8, 14))


# -- the pass --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "graph",
    [
        product_graph(128, 768, 3072),
        product_graph(128, 3072, 768),
        product_graph(197, 768, 768, outer=(1,)),
        product_graph(64, 768, 2305, outer=(4,)),
        product_graph(512, 512, 512),
        conv_graph(14, 1024, 512),
    ],
    ids=["wide", "deep", "odd rows", "odd columns", "many rows", "1 x 1"],
)
def test_products_that_become_seven(graph):
    assert is_taken(graph)


@pytest.mark.parametrize(
    "graph",
    [
        product_graph(16, 768, 3072),
        product_graph(1024, 64, 1024),
        product_graph(128, 769, 3072),
        product_graph(128, 256, 50000),
        product_graph(1024, 1024, 12288),
        product_graph(dtype="f64"),
        product_graph("M", 768, 3072),
        product_graph(7, 768, 3072, outer=(7,)),
        conv_graph(14, 1024, 512, taps=3),
        conv_graph(28, 1024, 512, strides=(2, 2)),
        conv_graph(14, 1024, 512, pads=(1, 1, 1, 1)),
    ],
    ids=[
        "few rows",
        "shallow",
        "odd depth",
        "in memory",
        "too large",
        "f64",
        "open rows",
        "short odd lines",
        "3 x 3",
        "strides",
        "pads",
    ],
)
def test_products_that_stay(graph):
    assert not is_taken(graph)


def test_weights_from_inputs_stay():
    b = Builder()
    b.output("y", b.input("x", "f32[128,768]") @ b.input("w", "f32[768,768]"))
    assert not is_taken(b.graph)


@pytest.mark.parametrize(("scale", "taken"), [(10.0, True), (1000.0, False), (0.0, False)])
def test_quarters_of_other_sizes_stay(scale, taken):
    """The errors of the large quarter would be in the sums of the small one."""
    w = RNG.standard_normal((768, 3072))
    w[:384, :1536] *= scale
    assert is_taken(product_graph(n=3072, w=w)) == taken


@pytest.mark.parametrize(
    ("cpu", "vector_bytes", "taken"),
    [
        ("sapphirerapids", 64, False),
        ("skylake-avx512", 64, False),
        ("x86-64-v4", 64, False),
        ("znver4", 64, True),
        ("x86-64-v3", 32, True),
        ("znver3", 32, True),
        ("neoverse-n1", 16, True),
    ],
)
@pytest.mark.parametrize("rows", [128, 197])
def test_a_core_that_multiplies_fast_for_its_memory_keeps_eight_products(
    cpu, vector_bytes, taken, rows
):
    """At full rate an eighth of the products is less than what the sums write and read again; a
    core that takes half of 512 bits at a time saves twice as much."""
    _, changed = Strassen(vector_bytes, cpu)(product_graph(rows, n=2304))
    assert changed == taken


def test_the_core_of_a_target_decides():
    target = open_target("cpu:x86-64-v4")
    for cpu, taken in (("x86-64-v4", False), ("znver4", True)):
        target.machine = replace(target.machine, cpu=cpu)
        steps = [step.action for step in target.pipeline(Options()).steps]
        (strassen,) = [p for p in steps if p.name == "strassen"]
        assert strassen(product_graph(n=3072))[1] == taken


@pytest.mark.parametrize(
    "graph",
    [
        product_graph(128, 768, 1536),
        product_graph(65, 1024, 1025, outer=(2,)),
        conv_graph(14, 1024, 512),
    ],
    ids=["even", "odd", "1 x 1"],
)
def test_results_stay_near_those_of_the_sum(graph):
    after, changed = Strassen()(graph)
    assert changed
    assert {"strassen_input", "strassen_output"} <= {n.op.name for n in after.nodes}
    assert_same_results(graph, after, rtol=2e-5)


def test_products_of_the_same_rows_share_their_factors():
    b = Builder()
    x = b.input("x", "f32[128,768]")
    for name in "qkv":
        b.output(name, x @ b.constant(RNG.standard_normal((768, 1024)), "f32"))
    after, _ = Strassen()(b.graph)
    assert [n.op.name for n in after.nodes].count("strassen_input") == 1


def test_the_report_names_the_product():
    graph = product_graph(n=3072)
    graph.nodes[-1].origin = "encoder.0"
    report = Report()
    run_pipeline(graph, cpu_pipeline(vector_bytes=32), report=report)
    (applied,) = [a for a in report.applied if "Strassen" in a.rule]
    assert applied.rule == "x @ w => Strassen's seven products"
    assert applied.where == ("encoder.0",)


# -- compiled --------------------------------------------------------------------------------------


def layers_graph(m, k, n):
    """Two layers, with what follows products: a bias, an activation, a residual."""
    b = Builder()
    x = b.input("x", f"f32[1,{m},{k}]")
    w = [RNG.standard_normal(shape) / np.sqrt(shape[0]) for shape in ((k, n), (n, k))]
    y = b.relu(x @ b.constant(w[0], "f32") + b.constant(RNG.standard_normal(n), "f32"))
    b.output("y", x + y @ b.constant(w[1], "f32"))
    return b.graph


def kernels_of(exe):
    return [c.kernel for c in exe.specializations[-1].program.kernels()]


@pays_here
@pytest.mark.parametrize("m", [128, 131])
def test_compiled_with_what_follows(m):
    graph = layers_graph(m, 768, 1024)
    x = RNG.standard_normal((1, m, 768)).astype(np.float32)
    exe = tessel.compile(graph, threads=1)
    received = exe(x)
    expected = tessel.compile(graph, target="numpy")(x)
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-5)
    assert tessel.compile(graph, threads=2)(x).tobytes() == received.tobytes()
    # No kernel of its own for the sums and the activation.
    assert [len(k.stores) for k in kernels_of(exe)] == [7, 1, 4, 7, 1, 4]


@pays_here
def test_strict_keeps_sums_as_they_are():
    exact = tessel.compile(layers_graph(128, 768, 1024), threads=1, strict=True)
    assert [len(k.stores) for k in kernels_of(exact)] == [1, 1]


def test_wide_vectors_keep_eight_products():
    exe = tessel.compile(layers_graph(128, 768, 1024), target="cpu:x86-64-v4", cache=False)
    assert not any("Strassen" in a.rule for a in exe.report.applied)


# -- panels that are sums --------------------------------------------------------------------------


def seven(a, w, m, n, depth):
    """strassen_product as a kernel: a [7, m, depth], w [4, depth, n]."""

    def body(p, i, j):
        def factor(k):
            stored, added = (w[(p + d) % STORED, k, j] for d in (0, 1))
            return s.select(p < STORED, stored, w[s.const(0), k, j] + added)

        return s.reduce("sum", [depth], lambda k: a[p, i, k] * factor(k))

    return store((7, m, n), body)


@pytest.mark.parametrize("target", [SMALL, LARGE, HOST], ids=["cut", "whole", "host"])
@pytest.mark.parametrize(
    ("m", "n", "depth"), [(40, 70, 200), (33, 24, 37), (5, 200, 64), (24, 9, 90)]
)
def test_three_panels_of_seven_are_sums(m, n, depth, target):
    x, y = whole((7, m, depth)), whole((4, depth, n))
    a, w = buffer_of("a", x), buffer_of("w", y)
    program = program_of(seven(a, w, m, n, depth), {a: x, w: y}, [w])
    plan = scheduled(program, target)
    assert plan.stored == STORED
    assert target is HOST or plan.cut == (target is SMALL and m >= 12)
    (packed,) = native(program, target).code.weights
    assert packed.nbytes == STORED * plan.panels * plan.steps * plan.width * 4
    received, expected = both(seven(a, w, m, n, depth), {a: x, w: y}, [w], target)
    np.testing.assert_array_equal(received, expected)


def test_sums_of_what_is_not_a_weight_are_packed_with_the_rest():
    x, y = whole((7, 40, 60)), whole((4, 60, 50))
    a, w = buffer_of("a", x), buffer_of("w", y)
    kernel = seven(a, w, 40, 50, 60)
    plan = scheduled(program_of(kernel, {a: x, w: y}), NARROW)
    assert (plan.b, plan.stored) == ("pack", 0)
    received, expected = both(kernel, {a: x, w: y}, (), NARROW)
    np.testing.assert_array_equal(received, expected)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_that_share_sums_give_the_same_bits(threads):
    x, y = (RNG.standard_normal(d).astype("f4") for d in ((7, 40, 200), (4, 200, 130)))
    a, w = buffer_of("a", x), buffer_of("w", y)
    module = native(program_of(seven(a, w, 40, 130, 200), {a: x, w: y}, [w]), SMALL)
    module.code.parallel = True
    assert module([x], threads)[0].tobytes() == module([x], 1)[0].tobytes()


# -- blocks ----------------------------------------------------------------------------------------


def test_a_part_is_known_or_asked_for():
    a = Axis("i", 5)
    assert part_of(s.axis(a) + 5, 5) == 1
    assert part_of(s.const(3), 5) == 0
    with pytest.raises(Unblocked) as asked:
        part_of(s.axis(Axis("j", 9)), 5)
    assert (asked.value.size, asked.value.apart) == (2, 5)


def test_axes_run_in_the_parts_that_were_asked_for():
    def make(i, j):
        return part_of(j, 4), s.show(j)

    axes, made = blocked_stores((3, 7), make)
    assert [a.extent for a in axes] == [3, 4]
    assert [part for (part, _), _ in made] == [0, 1]
    assert [inside is None for _, inside in made] == [True, False]
