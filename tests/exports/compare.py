"""Compiles an export once and runs it at each of its sizes beside ONNX Runtime.

python -m tests.exports.compare OUT_DIR/NAME      prints the findings as JSON
"""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import tessel

TOLERANCE = 1e-3  # of the largest number of an output
FLAT = 1e-6  # outputs that vary less than this, of their largest number, show nothing


@dataclass
class Findings:
    """What came of an export. `error` is relative to the largest number of an output."""

    nodes: int = 0
    dims: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of CPU time, to compile
    megabytes: int = 0  # the most memory that the process had
    error: float = 0.0
    reference: str = "ONNX Runtime"
    apart: list[str] = field(default_factory=list)  # sizes that the code for all does not serve
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def compare(folder: Path) -> Findings:
    """Findings; what is refused or differs is among their faults."""
    path = folder / "model.onnx"
    proto = onnx.load(path, load_external_data=False)
    found = Findings(count(proto.graph), dynamic_dims(proto))
    start = time.process_time()
    exe = tessel.compile(path, threads=2, reuse=False, cache=False)
    found.seconds = round(time.process_time() - start, 1)
    right = Reference(path)
    for file in sorted(folder.glob("sizes*.npz")):
        one_size(file, exe, right, found)
    found.notes = [str(n) for n in exe.notes]
    found.reference = right.name
    found.megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return found


def count(graph: onnx.GraphProto) -> int:
    """Nodes, with those of branches and bodies."""
    inner = (a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH)
    return len(graph.node) + sum(map(count, inner))


def dynamic_dims(proto: onnx.ModelProto) -> list[str]:
    dims = (d for i in proto.graph.input for d in i.type.tensor_type.shape.dim)
    return list(dict.fromkeys(d.dim_param for d in dims if d.dim_param))


class Reference:
    """ONNX Runtime, or PyTorch's own results if that refuses the model or sizes."""

    def __init__(self, path: Path):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        self.refused: list[str] = []
        self.session = None
        try:
            providers = ["CPUExecutionProvider"]
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            self.refused.append(f"the model: {first_line(error)}")

    def __call__(self, inputs: dict, torch: list, what: str) -> list:
        if self.session is None:
            return torch
        taken = {i.name for i in self.session.get_inputs()}
        try:
            return self.session.run(None, {n: x for n, x in inputs.items() if n in taken})
        except Exception as error:
            self.refused.append(f"{what}: {first_line(error)}")
            return torch

    @property
    def name(self) -> str:
        if not self.refused:
            return "ONNX Runtime"
        return "PyTorch, since ONNX Runtime refuses " + "; ".join(self.refused)


def one_size(file: Path, exe, right: Reference, found: Findings) -> None:
    with np.load(file) as arrays:
        arrays = dict(arrays)
    torch = [arrays.pop(n) for n in sorted((n for n in arrays if n[0] == "="), key=by_number)]
    wanted = right(arrays, torch, file.stem)
    taken = {p.name for p in exe.inputs}
    try:
        given = exe.run({n: x for n, x in arrays.items() if n in taken})
    except tessel.TesselError as error:
        found.faults.append(f"{file.stem}: {error}")
        return
    built = getattr(exe, "specializations", None)
    if not (built and built[-1].is_dynamic):
        empty = any(0 in x.shape for x in arrays.values())
        found.apart.append("with a 0" if empty else file.stem)
    for (name, got), want in zip(given.items(), wanted, strict=True):
        error, fault = difference(got, want)
        found.error = max(found.error, error)
        if fault:
            found.faults.append(f"{file.stem}: {name} {fault}")


def by_number(name: str) -> int:
    return int(name[1:])


def difference(got: np.ndarray, want: np.ndarray) -> tuple[float, str | None]:
    """The largest difference of the largest number, and what is wrong with it, if anything is."""
    if got.shape != want.shape or got.dtype != want.dtype:
        return 0.0, f"is {got.dtype}{got.shape}, not {want.dtype}{want.shape}"
    if not got.size:
        return 0.0, None
    if got.dtype.kind not in "fc":
        differ = np.count_nonzero(got != want)
        return 0.0, f"differs at {differ} of {got.size} places" if differ else None
    if not np.isfinite(want).all():
        return 0.0, "should be finite to be compared"
    scale = float(np.abs(want).max()) or 1.0
    if want.size > 1 and np.ptp(want) <= FLAT * scale:
        return 0.0, "is everywhere the same, which shows nothing"
    error = float(np.abs(got.astype(np.float64) - want).max()) / scale
    # Not `error > TOLERANCE`, which NaN is not.
    return error, None if error <= TOLERANCE else f"differs by {error:.2g} of its largest number"


def first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


def main() -> None:
    try:
        found = compare(Path(sys.argv[1]))
    except tessel.TesselError as error:
        found = Findings(faults=[str(error)])
    print(json.dumps(asdict(found)))


if __name__ == "__main__":
    main()
