"""Damaged files give a TesselError or a result: no traceback of ours, no crash, no hang, and no
more than ten seconds or 4 GiB (`fuzz_worker.py`).

The files are opened in a child process, so that a crash fails one test and not the session.
"""

import select
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import tessel

from ..conformance.cases import load_cases
from ..conformance.record import load_record
from ..support import damage

SECONDS = 300  # for one file, by the clock; the worker itself counts CPU time
COUNT = 100  # of each kind
SUITE = 500  # of ONNX's cases
BATCH = 25


class Worker:
    """The child process; started again after a crash."""

    def __init__(self):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parents[1] / "support" / "fuzz_worker.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, path: Path, mode: str = "native") -> str:
        self.process.stdin.write(f"{path}\t{mode}\n")
        self.process.stdin.flush()
        ready, _, _ = select.select([self.process.stdout], [], [], SECONDS)
        if not ready:
            return f"no answer in {SECONDS} s"
        answer = self.process.stdout.readline().strip()
        return answer or f"the process ended with {self.process.wait()}"

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def worker():
    worker = Worker()
    yield worker
    worker.close()


def outcomes(worker: Worker, files, mode: str = "native") -> list[str]:
    """What came of each file; the first that is neither a result nor a TesselError fails."""
    results = []
    for path in files:
        answer = worker.ask(path, mode)
        good = answer == "ok" or answer.endswith("Error") or answer == "TypeMismatch"
        assert good, f"{path.name}: " + answer.replace("\\n", "\n")
        results.append(answer)
    return results


@pytest.fixture(scope="module")
def model():
    return damage.sample_model()


@pytest.fixture(scope="module")
def package(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("package") / "sample.tsl"
    exe = tessel.compile(model, shapes={"x": (2, 1, 4, 4)}, threads=1)
    exe.save(path)
    return path


def test_the_undamaged_files_run(worker, model, package, tmp_path):
    path = tmp_path / "sample.onnx"
    path.write_bytes(model.SerializeToString())
    assert outcomes(worker, [path, package]) == ["ok", "ok"]


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, COUNT, BATCH))
def test_damaged_models(worker, model, tmp_path, start):
    def files():
        for i in range(start, start + BATCH):
            rng = damage.seed("model", i)
            path = tmp_path / f"model_{i}.onnx"
            if i % 3:
                path.write_bytes(damage.damage_model(model, rng).SerializeToString())
            else:
                path.write_bytes(damage.damage_bytes(model.SerializeToString(), rng))
            yield path

    assert any(r != "ok" for r in outcomes(worker, files()))


@pytest.mark.sweep(1, suite=4)
@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, SUITE, 2 * BATCH))
def test_damaged_models_of_the_suite(worker, tmp_path, start):
    """Every operator that ONNX's cases have: attributes, ranks, dims, weights, types, opsets
    that do not fit, cycles, deep nesting."""
    cases = [c for c in load_cases() if len(c.model) < 1 << 20]

    def files():
        for i in range(start, start + 2 * BATCH):
            rng = damage.seed("suite", i)
            data = rng.choice(cases).model
            path = tmp_path / f"suite_{i}.onnx"
            if i % 5:
                model = damage.damage_model(onnx.ModelProto.FromString(data), rng)
                path.write_bytes(model.SerializeToString())
            else:
                path.write_bytes(damage.damage_bytes(data, rng))
            yield path

    assert any(r != "ok" for r in outcomes(worker, files()))


@pytest.mark.slow
def test_extreme_inputs(worker, tmp_path):
    """Indices far outside, sizes of all kinds, infinities: never a crash."""
    known = load_record("tessel")["failing"]
    cases = [c for c in load_cases() if c.category == "node" and c.id not in known]

    def files():
        for i in range(0, len(cases), 10):
            path = tmp_path / f"{cases[i].name}.onnx"
            path.write_bytes(cases[i].model)
            yield path

    assert "ok" in outcomes(worker, files(), "extreme")


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, COUNT // 2, BATCH))
def test_damaged_packages(worker, package, tmp_path, start):
    """What a disk or a download does is seen by the hashes."""

    def files():
        for i in range(start, start + BATCH):
            path = tmp_path / f"package_{i}.tsl"
            damage.copy_damaged(package, path, damage.seed("package", i))
            yield path

    assert "PackageError" in outcomes(worker, files())


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, COUNT // 2, BATCH))
def test_packages_with_wrong_contents(worker, package, tmp_path, start):
    """What another program wrote, with right hashes, is seen by what reads it.

    Machine code is trusted or ignored (`native=False`), so it is ignored here.
    """

    def files():
        for i in range(start, start + BATCH):
            path = tmp_path / f"contents_{i}.tsl"
            damage.damage_manifest(package, path, damage.seed("contents", i))
            yield path

    assert "PackageError" in outcomes(worker, files(), "graph")
