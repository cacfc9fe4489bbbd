"""The runtime of GPU models against a driver that records what it is told."""

import numpy as np
import pytest
from tessel.compiler.backends.triton.backend import compile_program
from tessel.compiler.backends.triton.jit import Binary
from tessel.compiler.errors import InputError, UnsupportedError, UsageError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.lowering.lower import lower
from tessel.compiler.targets.table import open_target
from tessel.runtime.gpu.device import CudaDevice, CudaLoader, CudaModel, DeviceError
from tessel.runtime.gpu.driver import why_unavailable

from ...support.fake_cuda import FakeDriver


def module_of(build, target="cuda:sm_90", **binary):
    """The module of `build(b)`, its machine code stood for by the kernels' keys."""
    b = Builder()
    b.output("y", build(b))
    return with_code(compile_program(lower(b.graph), target), **binary)


def with_code(module, **binary):
    """The module with keys in place of machine code."""
    for key, unit in module.units.items():
        fields = {"num_warps": unit.source.num_warps, "shared": 0} | binary
        module.binaries[key] = Binary(code=key.encode(), name=unit.source.name, **fields)
    return module


def device_for(module, **options):
    driver = FakeDriver(**options)
    driver.arity = {k.encode(): len(u.source.pointers) for k, u in module.units.items()}
    return CudaDevice(driver=driver), driver


def two_kernels(b):
    x = b.input("x", "f32[4,300]")
    w = b.constant(np.ones((300, 8), np.float32), name="w")
    return b.softmax(b.matmul(b.tanh(x), w), axis=-1)


def test_launches_come_in_order_with_pointers_and_two_scratch_arguments():
    module = module_of(two_kernels)
    device, driver = device_for(module)
    with CudaModel(module, device=device) as model:
        model.run([np.zeros((4, 300), np.float32)])
        kernels = [name.split("_kernel")[0] for name, *_ in driver.launches]
        assert kernels == [s.key.split("_kernel")[0] for s in module.launches()]
        for (_, programs, threads, pointers, scratch), launch in zip(
            driver.launches, module.launches()
        ):
            source = module.units[launch.key].source
            assert (programs, threads) == (source.programs, 32 * source.num_warps)
            assert scratch == (0, 0)
            for pointer, ref in zip(pointers, launch.refs):
                index = 0 if ref.slot.kind == "arena" else ref.slot.index
                assert pointer == model._bases[ref.slot.kind, index] + ref.offset
                assert any(low <= pointer < high for low, high in driver.ranges())


def test_a_run_is_one_graph_and_a_model_gives_everything_back():
    module = module_of(two_kernels)
    device, driver = device_for(module)
    model = CudaModel(module, device=device)
    for _ in range(3):
        model.run([np.zeros((4, 300), np.float32)])
    assert driver.calls.count("instantiate") == 1
    assert driver.calls.count("graph") == 3
    model.close()
    assert not driver.buffers and not driver.modules and "destroy" in driver.calls


def test_without_a_graph_kernels_are_launched_one_by_one():
    module = module_of(two_kernels)
    device, driver = device_for(module)
    with CudaModel(module, device=device, use_graph=False) as model:
        model.run([np.zeros((4, 300), np.float32)])
    assert "graph" not in driver.calls
    assert len(driver.launches) == len(list(module.launches()))


def test_loops_move_their_pointers():
    b = Builder()
    inner = Builder(name="body")
    s, x = inner.input("s", "f32[4]"), inner.input("x", "f32[4]")
    inner.output("s1", s + x)
    inner.output("y", s * x)
    state, xs = b.input("state", "f32[4]"), b.input("xs", "f32[3,4]")
    last, ys = b.emit("scan", state, xs, body=inner.graph, states=1, scans=1)
    b.output("last", last)
    b.output("ys", ys)
    module = with_code(compile_program(lower(b.graph), "cuda:sm_90"))
    device, driver = device_for(module)
    with CudaModel(module, device=device) as model:
        model.run([np.zeros(4, np.float32), np.zeros((3, 4), np.float32)])
        base = model._bases["output", 1]
        written = [p for _, _, _, pointers, _ in driver.launches for p in pointers]
        assert [base + 16 * i in written for i in range(3)] == [True] * 3
        assert base + 48 not in written


def test_a_condition_is_read_back_and_one_branch_runs():
    def branch(f):
        g = Builder(name="branch")
        g.output("y", f(g, g.input("x", "f32[8]")))
        return g.graph

    def build(b):
        condition = b.less(b.input("c", "f32[]"), b.scalar(0.0, "f32"))
        x = b.input("x", "f32[8]")
        return b.emit(
            "if",
            condition,
            x,
            then_graph=branch(lambda g, x: g.exp(x)),
            else_graph=branch(lambda g, x: g.sqrt(x)),
        )

    module = module_of(build)
    assert not module.is_static

    device, driver = device_for(module)
    driver.execute = lambda key, programs, threads, pointers, scratch: (
        driver.buffers_at(pointers[-1])[:1].fill("less" in key) if "less" in key else None
    )
    with CudaModel(module, device=device) as model:
        model.run([np.float32(-1), np.zeros(8, np.float32)])
    names = [name.split("_")[0] for name, *_ in driver.launches]
    assert names == ["less", "exp"]


def test_a_loop_turns_until_its_condition_is_read_back_as_false():
    g = Builder(name="body")
    x = g.input("x", "f32[8]")
    half = g.sqrt(x)
    g.output("go", g.less(g.scalar(1.0, "f32"), half.sum()))
    g.output("next", half)

    def build(b):
        x = b.input("x", "f32[8]")
        return b.emit("while", b.less(x.sum(), b.scalar(9.0, "f32")), x, body=g.graph, states=1)

    module = module_of(build)
    assert not module.is_static
    device, driver = device_for(module)
    turns = []

    def execute(key, programs, threads, pointers, scratch):
        if "sqrt" in key:
            turns.append(key)
            assert len(turns) < 9
        if "copy" in key:  # of the condition, and of the state
            driver.buffers_at(pointers[-1])[:1].fill(len(turns) < 3)

    driver.execute = execute
    with CudaModel(module, device=device) as model:
        model.run([np.zeros(8, np.float32)])
    assert len(turns) == 3


def test_much_shared_memory_is_asked_for_before_the_first_launch():
    module = module_of(lambda b: b.exp(b.input("x", "f32[8]")), shared=100 << 10)
    device, driver = device_for(module)
    CudaModel(module, device=device).close()
    assert list(driver.shared.values()) == [100 << 10]


def test_more_shared_memory_than_there_is_is_refused():
    module = module_of(lambda b: b.exp(b.input("x", "f32[8]")), shared=300 << 10)
    device, driver = device_for(module)
    with pytest.raises(DeviceError, match="more shared memory than this GPU has"):
        CudaModel(module, device=device)
    assert not driver.buffers


def test_scratch_memory_is_allocated_per_program():
    module = module_of(lambda b: b.exp(b.input("x", "f32[1000]")), scratch=64)
    device, driver = device_for(module)
    with CudaModel(module, device=device) as model:
        model.run([np.zeros(1000, np.float32)])
        [(_, programs, _, _, (scratch, profile))] = driver.launches
        assert profile == 0
        assert driver.buffers[scratch].nbytes == 64 * programs


def test_code_for_another_gpu_is_refused():
    module = module_of(lambda b: b.exp(b.input("x", "f32[8]")), target="cuda:sm_80")
    device, _ = device_for(module, arch=90)
    with pytest.raises(DeviceError, match="compile for cuda:sm_90"):
        CudaModel(module, device=device)
    device, _ = device_for(module, arch=86)
    CudaModel(module, device=device).close()


def test_memory_that_is_not_there_is_an_error_and_nothing_stays():
    module = module_of(two_kernels)
    device, driver = device_for(module, memory=4096)
    with pytest.raises(DeviceError, match=r"allocate .* bytes of memory"):
        CudaModel(module, device=device)
    assert not driver.buffers


def test_inputs_are_checked():
    module = module_of(lambda b: b.exp(b.input("x", "f32[8]")))
    device, _ = device_for(module)
    with CudaModel(module, device=device) as model:
        with pytest.raises(InputError, match="number of inputs"):
            model.run([])
        with pytest.raises(InputError, match=r"f32\[8\]"):
            model.run([np.zeros(8, np.float64)])


def test_no_device_is_a_reason_not_a_crash():
    assert "CUDA_ERROR_NO_DEVICE" in why_unavailable(FakeDriver(devices=0))
    with pytest.raises(DeviceError, match="target='cpu'"):
        CudaDevice(driver=FakeDriver(devices=0))

    class NoLibrary:
        def cuInit(self, flags):
            raise RuntimeError("Failed to dlopen libcuda.so.1")

    assert "not installed" in why_unavailable(NoLibrary())


def test_the_target_of_the_face_compiles_for_the_device_and_updates_in_place():
    b = Builder()
    w = b.input("w", "f32[8]")
    b.output("new", w + 1.0)
    b.graph.updates = {0: 0}
    program = lower(b.graph)
    driver = FakeDriver(arch=80, execute=lambda *_: None)
    target = open_target("cuda")
    loader = CudaLoader(target, CudaDevice(driver=driver))
    assert target.machine.name == "cuda:sm_80"
    module = with_code(compile_program(program, target.machine))
    driver.arity = {k.encode(): len(u.source.pointers) for k, u in module.units.items()}
    run = loader.load(module, program, program.outputs, {0: 0})
    w = np.zeros(8, np.float32)
    [new] = run([w], 1)
    assert new is w


def test_unknown_targets_and_precisions_are_named():
    with pytest.raises(UsageError, match="sm_12"):
        module_of(lambda b: b.exp(b.input("x", "f32[8]")), target="cuda:sm_12")
    b = Builder()
    b.output("y", b.exp(b.input("x", "f32[8]")))
    with pytest.raises(UsageError, match="tf32x3"):
        compile_program(lower(b.graph), "cuda", precision="half")


def test_strings_are_refused():
    b = Builder()
    b.output("y", b.identity(b.input("x", "str[2]")))
    with pytest.raises(UnsupportedError, match="the GPU backend has no strings"):
        compile_program(lower(b.graph), "cuda")


def test_the_fake_has_no_function_that_the_real_driver_lacks():
    driver = pytest.importorskip("cuda.bindings.driver", reason="needs cuda-bindings")
    names = [n for n in dir(FakeDriver) if n.startswith(("cu", "CU"))]
    assert [n for n in names if not hasattr(driver, n)] == []
    for name in names:
        kind, fake = getattr(driver, name), getattr(FakeDriver, name)
        if name.startswith("CU"):
            members = [m for m in dir(fake) if m.startswith("CU_")]
            assert [m for m in members if not hasattr(kind, m)] == []
