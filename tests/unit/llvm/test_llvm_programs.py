"""Whole programs in machine code: other CPUs, threads and barriers, control flow, host
callbacks."""

import re
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tessel.compiler.backends.llvm import backend
from tessel.compiler.backends.llvm.backend import assembly_text, compile_program, llvm_text
from tessel.compiler.backends.llvm.base.target import NAMED, host, parse_target, runs_here
from tessel.compiler.backends.llvm.kernel.objects import Passes
from tessel.compiler.backends.llvm.program.entry import MAIN, build_plan, main_module
from tessel.compiler.backends.numpy import NumpyModule
from tessel.compiler.errors import KernelError, UnsupportedError, UsageError
from tessel.compiler.expr import expr as s
from tessel.compiler.expr.core import PRIMITIVES
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.text import parse_graph
from tessel.compiler.ir.types import DTYPES, F32, STR, TensorType
from tessel.compiler.kernels.kernel import HostCallback, Program, Ref, Slot
from tessel.compiler.lowering.lower import lower
from tessel.runtime.native.module import NativeModule

from ...support.kernels import NO_CACHE, buffer_of, close, native, program_of, store

RNG = np.random.default_rng(0)
RUNNABLE = ["host", *NAMED]


def model(b):
    """A small model with a convolution, a softmax, halves and integers."""
    x = b.input("x", "f32[2,3,9,9]")
    w = b.constant(RNG.standard_normal((8, 3, 3, 3)).astype(np.float32))
    y = b.relu(b.conv(x, w, strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1)))
    y = b.max_pool(y, kernel=(2, 2), strides=(2, 2), pads=(0,) * 4, dilations=(1, 1))
    y = y.reshape(2, 8 * 16).cast("f16").cast("f32")
    y = b.matmul(y, b.constant(RNG.standard_normal((128, 10)).astype(np.float32)))
    b.output("p", b.softmax(y, axis=-1))
    b.output("label", b.arg_max(y, axis=1, keepdims=False))
    return b.graph


def target_named(name):
    target = NAMED.get(name) or host()
    reason = runs_here(target)
    if reason is not None:
        pytest.skip(reason)
    return target


# -- CPU targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_model_runs_on_every_cpu_that_this_one_can_be(name):
    target = target_named(name)
    graph = model(Builder())
    x = RNG.standard_normal((2, 3, 9, 9)).astype(np.float32)
    program = lower(graph)
    (p, label) = native(program, target)([x], 2)
    expected = interpret(graph, [x])
    close(p, expected[0], rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(label, expected[1])


MACHINES = {"x86-64-v2": 62, "x86-64-v3": 62, "x86-64-v4": 62, "aarch64": 183, "riscv64": 243}


@pytest.mark.parametrize("name", NAMED)
def test_every_target_gives_objects_of_its_machine(name):
    code = compile_program(lower(model(Builder())), NAMED[name], cache=NO_CACHE)
    assert MAIN in code.objects
    for data in code.objects.values():
        assert data[:4] == b"\x7fELF"
        assert struct.unpack_from("<H", data, 18) == (MACHINES[name],)


def undefined(elf: bytes) -> set[str]:
    """The symbols that an ELF64 object expects from elsewhere."""
    offset, count = struct.unpack_from("<Q", elf, 40)[0], struct.unpack_from("<H", elf, 60)[0]
    sections = [struct.unpack_from("<IIQQQQIIQQ", elf, offset + 64 * i) for i in range(count)]
    found = set()
    for section in sections:
        if section[1] != 2:  # SHT_SYMTAB
            continue
        strings = sections[section[6]][4]
        for at in range(section[4] + 24, section[4] + section[5], 24):
            name, _, _, place = struct.unpack_from("<IBBH", elf, at)
            if place == 0:
                found.add(elf[strings + name :].split(b"\0", 1)[0].decode())
    return found


BITS = {"bitand", "bitor", "bitxor", "bitnot", "shl", "shr"}
INTEGER = ["add", "mul", "truncdiv", "mod", "pow", "abs", *sorted(BITS)]
ALLOWED = {"memset", "memcpy"}  # and, for vector math on machines without it, fused multiply-adds


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "i64"])
def test_kernels_call_no_library(name, dtype):
    """What a machine cannot do is written out: a call would crash where nobody defines it."""
    x = np.ones((40,), DTYPES[dtype].numpy)
    a, wide = buffer_of("a", x), DTYPES[dtype].compute
    names = INTEGER if wide.is_int else [
        n for n, (arity, result) in PRIMITIVES.items()
        if result == "same" and arity < 3 and n not in BITS
    ]  # fmt: skip

    def body(i):
        value = s.cast(a[i], wide)
        for op in names:
            value = s.apply(op, *[value] * PRIMITIVES[op][0])
        return value

    targets = ["f32", "f64", "f16", "i8", "u64", "f8e4m3fn", "bf16"]
    kernels = [store((40,), body, dtype)]
    kernels += [store((40,), lambda i, d=d: s.cast(a[i], d), d) for d in targets]
    code = compile_program(program_of(kernels, {a: x}), NAMED[name], cache=NO_CACHE)
    for key, data in code.objects.items():
        if key != MAIN:
            assert undefined(data) <= ALLOWED | ({"fma", "fmaf"} if name == "x86-64-v2" else set())


@pytest.mark.parametrize("name", NAMED)
def test_halves_that_are_chosen_and_gathered_call_no_library(name):
    """LLVM finds arithmetic in what is done to their bits, if it knows that they are halves."""
    b = Builder()
    x, w = b.input("x", "f16[1,2,4,4]"), b.input("w", "f16[2,2,3,3]")
    b.output("y", b.conv(x, w, pads=(1, 1, 1, 1)))
    b.output("z", b.matmul(b.input("u", "f16[3,4]"), b.input("v", "f16[4,2]")))
    code = compile_program(lower(b.graph), NAMED[name], cache=NO_CACHE)
    assert all(undefined(data) <= ALLOWED for key, data in code.objects.items() if key != MAIN)


def test_an_unknown_target_is_refused():
    with pytest.raises(UsageError, match="cpu:x86-64-v3"):
        parse_target("cpu:z80")


def test_why_code_cannot_run_here():
    other = "riscv64" if "riscv" not in host().triple else "aarch64"
    assert runs_here(NAMED[other]) == f"it is code for {other}"
    assert runs_here(host()) is None


def test_the_stages_as_text():
    program = lower(parse_graph("graph g(%x: f32[4,5]) -> (%y) {\n%y = exp(%x)\n}"))
    plan = build_plan(program, NAMED["x86-64-v3"])
    (name,) = plan.codes
    assert f"define void @{name}(" in llvm_text(plan, NAMED["x86-64-v3"])
    assert f'call void @"{name}"(' in llvm_text(plan, NAMED["x86-64-v3"], optimized=False)
    assert f"{name}:" in assembly_text(plan, NAMED["x86-64-v3"])


# -- threads and barriers --------------------------------------------------------------------------


def chain(steps: int, n: int = 512):
    """y = x @ w, again and again: each product needs all of the one before."""
    b = Builder()
    y = b.input("x", f"f32[{n},{n}]")
    w = b.constant((RNG.standard_normal((n, n)) / np.sqrt(n)).astype(np.float32))
    for _ in range(steps):
        y = b.matmul(y, w)
    b.output("y", y)
    return lower(b.graph), w.value.constant


def barriers(program) -> int:
    text = str(main_module(build_plan(program, NAMED["x86-64-v3"]), NAMED["x86-64-v3"]))
    return len(re.findall(r"call void @\"?tessel_barrier", text))


def test_a_barrier_stands_before_what_reads_another_threads_work():
    assert [barriers(chain(n, 128)[0]) for n in (1, 2, 3)] == [0, 1, 2]


def test_steps_that_do_not_touch_each_other_need_no_barrier():
    b = Builder()
    for i in range(3):
        b.output(f"y{i}", b.exp(b.input(f"x{i}", "f32[100000]")))
    assert barriers(lower(b.graph)) == 0


def test_small_steps_run_on_one_thread_without_barriers():
    b = Builder()
    x = b.input("x", "f32[6,6]")
    b.output("y", b.matmul(b.matmul(x, x), x))
    program = lower(b.graph)
    assert len(program.steps) == 2
    assert barriers(program) == 0


def test_parts_of_a_concatenation_are_written_without_barriers():
    b = Builder()
    x, z = b.input("x", "f32[50000]"), b.input("z", "f32[50000]")
    b.output("y", b.concat(b.exp(x), b.exp(z), axis=0).reshape(100, 1000))
    assert barriers(lower(b.graph)) == 0


def test_every_number_of_threads_gives_the_same_bits():
    program, w = chain(6, 128)
    x = RNG.standard_normal((128, 128)).astype(np.float32)
    module = native(program)
    one = module([x], 1)[0]
    close(one, x @ np.linalg.matrix_power(w, 6), rtol=1e-3, atol=1e-4)
    for threads in (2, 3, 4):
        for _ in range(5):
            assert module([x], threads)[0].tobytes() == one.tobytes()


@pytest.mark.parametrize("name", NAMED)
def test_products_are_summed_without_calls(name):
    """A machine without fused multiply-add multiplies, then adds."""
    b = Builder()
    x, w = b.input("x", "f32[40,50]"), b.input("w", "f32[50,60]")
    b.output("y", b.matmul(x, w))
    b.output("z", b.reduce_sum(x * x, axes=[1]))
    code = compile_program(lower(b.graph), NAMED[name], cache=NO_CACHE)
    assert all(not undefined(data) for key, data in code.objects.items() if key != MAIN)


def test_several_python_threads_run_one_module():
    program, _ = chain(3, 96)
    module = native(program)
    inputs = [RNG.standard_normal((96, 96)).astype(np.float32) for _ in range(12)]
    expected = [module([x], 1)[0] for x in inputs]
    with ThreadPoolExecutor(4) as threads:
        received = list(threads.map(lambda x: module([x], 2)[0], inputs * 3))
    for y, z in zip(received, expected * 3):
        assert y.tobytes() == z.tobytes()


# -- control flow ----------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_branches(condition, threads):
    graph = branches()
    inputs = [np.array(condition), RNG.standard_normal((300, 200)).astype(np.float32)]
    received = native(lower(graph))(inputs, threads)
    close(received[0], interpret(graph, inputs)[0])


def branches():
    b, inside, other = Builder(), Builder(name="then"), Builder(name="else")
    c, x = b.input("c", "bool[]"), b.input("x", "f32[300,200]")
    a = inside.input("a", "f32[300,200]")
    inside.output("z", -a)
    a = other.input("a", "f32[300,200]")
    other.output("z", a / other.reduce_sum(a, axes=[1]))
    b.output("y", b.emit("if", c, b.exp(x), then_graph=inside.graph, else_graph=other.graph))
    return b.graph


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("threads", [1, 3])
def test_loops_carry_state_and_collect_outputs(reverse, threads):
    body = Builder(name="body")
    state, piece = body.input("h", "f32[64,64]"), body.input("x", "f32[64,64]")
    following = body.tanh(body.matmul(state, piece))
    body.output("next", following)
    body.output("out", following + piece)
    b = Builder()
    h, xs = b.input("h", "f32[64,64]"), b.input("xs", "f32[5,64,64]")
    results = b.emit("scan", h, xs, body=body.graph, states=1, scans=1, reverse=reverse)
    for i, y in enumerate(results):
        b.output(f"y{i}", y)
    inputs = [RNG.standard_normal(v.shape).astype(np.float32) for v in b.graph.inputs]
    received = native(lower(b.graph))(inputs, threads)
    for got, want in zip(received, interpret(b.graph, inputs), strict=True):
        close(got, want, rtol=1e-4, atol=1e-4)


# -- host callbacks -------------------------------------------------------------------------------


def host_callbacks(*calls, inputs=(), outputs=(), weights=(), arena=0):
    """A program of (function, places of inputs, places of outputs); places are (slot, type)."""
    steps = [
        HostCallback(
            "test", f, {}, *([p[k] for p in places] for places in (ins, outs) for k in (0, 1))
        )
        for f, ins, outs in calls
    ]
    return Program(steps, list(inputs), list(outputs), list(weights), arena)


def place(kind, index, type, offset=0):
    return Ref(Slot(kind, index), offset), type


WORDS, NUMBER = TensorType(STR, (2,)), TensorType(F32, (2,))


@pytest.mark.parametrize("run", [lambda p: NumpyModule(p), lambda p: lambda x: native(p)(x, 2)])
def test_strings_pass_from_one_extern_call_to_the_next(run):
    words = np.array(["b", "c"], object)
    join = lambda x, y: np.array([p + q for p, q in zip(x, y)], object)
    first, last = place("arena", 0, WORDS), place("output", 0, WORDS)
    other, lengths = place("arena", 0, WORDS, 64), place("output", 1, NUMBER)
    program = host_callbacks(
        (join, [place("input", 0, WORDS), place("weight", 0, WORDS)], [first]),
        (join, [place("weight", 0, WORDS), place("input", 0, WORDS)], [other]),
        (join, [first, other], [last]),
        (lambda x: [len(w) for w in x], [last], [lengths]),
        inputs=[WORDS], outputs=[WORDS, NUMBER], weights=[words], arena=128,
    )  # fmt: skip
    given = np.array(["x", "yy"], object)
    joined, counted = run(program)([given])
    assert joined.tolist() == ["xbbx", "yyccyy"]
    np.testing.assert_array_equal(counted, [4, 6])


def test_an_error_in_an_extern_call_arrives_at_the_caller():
    def fail(x):
        raise ValueError("no such label")

    program = host_callbacks(
        (fail, [place("input", 0, NUMBER)], [place("output", 0, NUMBER)]),
        inputs=[NUMBER], outputs=[NUMBER],
    )  # fmt: skip
    module = native(program)
    for _ in range(2):
        with pytest.raises(KernelError, match="fails on these inputs: ValueError: no such label"):
            module([np.zeros(2, np.float32)], 2)


def test_an_extern_call_waits_for_all_threads():
    """Numbers computed by several threads reach Python whole, and come back."""
    b = Builder()
    x = b.input("x", "f32[300,400]")
    scores = b.softmax(b.exp(x), axis=-1)
    b.output("maps", b.zip_map(scores, labels=tuple(range(400))))
    b.output("scores", scores)
    array = RNG.standard_normal((300, 400)).astype(np.float32)
    module = native(lower(b.graph))
    for threads in (1, 3):
        maps, received = module([array], threads)
        assert len(maps) == 300
        np.testing.assert_array_equal([list(m.values()) for m in maps], received)


def test_maps_are_not_copied_from_an_input_to_an_output():
    b = Builder()
    b.output("y", b.input("x", "seq(map(i64,f32[]))"))
    with pytest.raises(UnsupportedError, match="sequences and maps cannot be copied"):
        lower(b.graph)


# -- updates in place ------------------------------------------------------------------------------


def test_an_output_takes_over_the_memory_of_an_input():
    b = Builder()
    w, g = b.input("w", "f32[1000,37]"), b.input("g", "f32[1000,37]")
    b.output("w", w - g * 0.5)
    b.output("norm", b.reduce_sum(w * w, axes=[0, 1], keepdims=False))
    program = lower_with_updates(b.graph, {0: 0})
    module = NativeModule(
        compile_program(program, host(), {0: 0}, NO_CACHE), program.outputs, {0: 0}
    )
    for threads in (1, 3):
        old = RNG.standard_normal((1000, 37)).astype(np.float32)
        step = RNG.standard_normal((1000, 37)).astype(np.float32)
        memory = old.copy()
        received, norm = module([memory, step], threads)
        assert received is memory
        close(memory, old - step * np.float32(0.5))
        close(norm, np.asarray((old * old).sum()), rtol=1e-4)


def lower_with_updates(graph, updates):
    graph.updates = updates
    return lower(graph)


def test_a_long_entry_is_compiled_with_little_effort(monkeypatch):
    x = np.arange(40.0, dtype=np.float32)
    a = buffer_of("a", x)
    program = program_of(store((40,), lambda i: a[i] + 1.0), {a: x})
    expected = native(program)([x], 1, None)
    used, compiled = [], backend.object_code

    def spy(module, target, passes, level):
        used.append((passes, level))
        return compiled(module, target, passes, level)

    monkeypatch.setattr(backend, "LONG", 1)
    monkeypatch.setattr(backend, "object_code", spy)
    np.testing.assert_array_equal(native(program)([x], 1, None), expected)
    assert used == [(Passes.FEW, 0)]
