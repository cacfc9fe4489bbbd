"""Products with packed weights on other CPUs, run by an emulator: what is summed as integers is the
same to the last bit as on this one."""

from dataclasses import replace

import numpy as np
import pytest
from tessel.compiler.backends.llvm.backend import compile_program
from tessel.compiler.backends.llvm.base.target import NAMED, host
from tessel.compiler.backends.llvm.schedules.blocks.dots import way_of_dots
from tessel.compiler.lowering.expand import expand_composites
from tessel.compiler.lowering.lower import lower

from ..support.foreign import Job, link, missing_tool
from ..support.kernels import native
from ..unit.llvm.products.test_packed_weights import graph_of, rows

ARM = NAMED["aarch64"]
DOTS = replace(ARM, features="+neon,+dotprod")
SIZES = [(1, 33, 64), (3, 8, 96), (9, 40, 128), (13, 5, 40)]


def programs(activations):
    for bits in (2, 3, 4, 8):
        for m, n, k in SIZES:
            graph = graph_of(
                m, n, k, bits=bits, block=16 if k == 40 else 32, activations=activations
            )
            yield lower(expand_composites(graph)), rows(m, k)


def here(program, x):
    outputs = [np.zeros(t.shape, t.dtype.numpy) for t in program.outputs]
    return native(program)([x], 1, outputs)[0].copy()


@pytest.mark.parametrize("target", [ARM, DOTS, NAMED["riscv64"]], ids=["aarch64", "dots", "riscv"])
@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_packed_weights(activations, target, tmp_path):
    if missing_tool(target) is not None:
        pytest.skip(missing_tool(target))
    cases = list(programs(activations))
    jobs = []
    for i, (program, x) in enumerate(cases):
        jobs.append(Job(i, [x], [np.zeros(t.shape, t.dtype.numpy) for t in program.outputs]))
    findings = link([compile_program(p, target) for p, _ in cases], tmp_path).run(jobs)
    assert findings == [None] * len(jobs)
    for (program, x), job in zip(cases, jobs):
        expected = here(program, x)
        if activations == "int8" and target is not NAMED["riscv64"] and host().vector_bytes >= 32:
            np.testing.assert_array_equal(job.outputs[0], expected)
        else:
            np.testing.assert_allclose(job.outputs[0], expected, rtol=1e-4, atol=1e-4)


def test_which_instructions_there_are():
    assert way_of_dots(ARM, 4, 4) == "bytes"
    assert way_of_dots(DOTS, 4, 4) == "dots" and way_of_dots(DOTS, 4, 8) == "bytes"
    assert way_of_dots(NAMED["x86-64-v3"], 8, 4) == "pairs"
    assert way_of_dots(NAMED["x86-64-v4"], 16, 4) == "pairs"
    vnni = replace(NAMED["x86-64-v4"], features="-prefer-256-bit,+avx512vnni")
    assert way_of_dots(vnni, 16, 4) == "dots"


@pytest.mark.parametrize("features", ["-prefer-256-bit", "-prefer-256-bit,+avx512vnni"])
@pytest.mark.parametrize("activations", ["f32", "int8"])
def test_code_for_avx512(activations, features):
    """It cannot be run everywhere, but has to be made everywhere."""
    target = replace(NAMED["x86-64-v4"], features=features)
    for program, _ in programs(activations):
        assert compile_program(program, target).objects
