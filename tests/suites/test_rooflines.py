"""Single operators at shapes of real models: a kernel that is predicted to run far below what its
operations and bytes allow is one of which the compiler can say why.

The cases are those of ../shared/peers/ops.py, which times them beside ONNX Runtime.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import tessel
from tessel.compiler.backends.llvm.program.entry import build_plan
from tessel.compiler.backends.llvm.program.predict import predict
from tessel.compiler.driver import Driver
from tessel.compiler.ir.hosted import has_stages
from tessel.compiler.lowering.lower import lower
from tessel.compiler.targets.table import open_target

SWEEP = Path(__file__).resolve().parents[3] / "shared" / "peers" / "ops.py"
LEAST = 5e-6  # seconds of a kernel that is looked at: shorter ones are calls and little else


def sweep() -> ModuleType | None:
    if not SWEEP.exists() or importlib.util.find_spec("onnxruntime") is None:
        return None
    spec = importlib.util.spec_from_file_location("ops", SWEEP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


OPS = sweep()
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(OPS is None, reason="needs ../shared/peers and ONNX Runtime"),
]


def predictions(name: str, target: str) -> list:
    """What each kernel of a case should take, with its roofline; nothing is compiled."""
    model, _ = OPS.build(OPS.CASES[name])
    driver = Driver(open_target(target))
    graph = driver.optimize(tessel.read(model))
    if has_stages(graph):
        return []  # programs of their own, as data decides the shapes between them
    graph = driver.prepare(graph)
    machine = driver.target.machine
    return predict(build_plan(lower(graph), machine), machine)


@pytest.mark.sweep(200, suite=200)
@pytest.mark.parametrize("target", ["cpu:x86-64-v3", "cpu:x86-64-v4", "cpu:aarch64"])
@pytest.mark.parametrize("name", sorted(OPS.CASES) if OPS else ["absent"])
def test_a_slow_kernel_is_explained(name, target):
    for p in predictions(name, target):
        kernel, found = p.step.call.kernel, p.roofline
        if found.is_slow and p.ns > LEAST * 1e9:
            assert found.reasons, f"{kernel.name}: {found.factor:.1f}× the least, without a reason"
