"""ONNX's own backend cases, read, optimised, written as ONNX and run by ONNX Runtime.

    python -m tests.support.onnx_out [--filter REGEX] [--every N] [--json FILE]

Where ONNX Runtime gives what a case expects for the original model, it must give it for the written
one. The cases come from the installed onnx package.
"""

import argparse
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from tessel import read
from tessel.compiler.errors import TesselError, UnsupportedError
from tessel.compiler.ir.graph import Graph
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.pipelines import default_pipeline
from tessel.frontends.onnx.exporter import write
from tessel.frontends.onnx.specialized import specialized_model
from tessel.runtime.base.signature import Signature

CATEGORIES = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")


@dataclass(frozen=True)
class Case:
    """A model, and data sets of (inputs, expected outputs)."""

    name: str
    model: onnx.ModelProto
    sets: list[tuple[list, list]]
    rtol: float
    atol: float


def cases(every: int = 1, pattern: str = "") -> Iterator[Case]:
    """The backend cases of the onnx package, those kept outside of it left out."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = [c for kind in CATEGORIES for c in load_model_tests(kind=kind)]
    chosen = [c for c in found if re.search(pattern, c.name)]
    for case in chosen[::every]:
        if case.model is not None:
            sets = [tuple([*map(_plain, x)] for x in pair) for pair in case.data_sets]
            yield Case(case.name, case.model, sets, case.rtol, case.atol)
        elif case.model_dir is not None:
            folder = Path(case.model_dir)
            model = onnx.load(folder / "model.onnx")
            sets = [_data_set(model, f) for f in sorted(folder.glob("test_data_set_*"))]
            yield Case(case.name, model, sets, case.rtol, case.atol)


def fed_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that are not initializers."""
    given = {t.name for t in model.graph.initializer}
    return [i for i in model.graph.input if i.name not in given]


def _data_set(model, folder: Path) -> tuple[list, list]:
    def load(stem, infos):
        return [
            _decode((folder / f"{stem}_{i}.pb").read_bytes(), info.type)
            for i, info in enumerate(infos)
            if (folder / f"{stem}_{i}.pb").is_file()
        ]

    return load("input", fed_inputs(model)), load("output", model.graph.output)


def _plain(x):
    """A value of a data set as arrays; sequences and absent values stay."""
    if isinstance(x, TensorProto):
        return numpy_helper.to_array(x)
    return np.asarray(x) if isinstance(x, (np.generic, int, float, str)) else x


def _decode(data: bytes, type: onnx.TypeProto):
    match type.WhichOneof("value"):
        case "sequence_type":
            return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
        case "optional_type":
            return numpy_helper.to_optional(onnx.OptionalProto.FromString(data))
    return numpy_helper.to_array(TensorProto.FromString(data))


# -- the two roads ------------------------------------------------------------------------


def optimised(model: onnx.ModelProto, inputs: dict) -> Graph:
    """The graph after the default passes; inputs that decide shapes are part of it."""
    try:
        graph = read(model)
    except UnsupportedError as error:
        specialized = specialized_model(model, None, error)
        if specialized is None:
            raise
        arrays, binding = Signature.of(specialized.graph).check(inputs)
        graph = specialized(binding, dict(zip(Signature.of(specialized.graph).names, arrays)))
    return run_pipeline(graph, default_pipeline(2))


def by_onnxruntime(model: onnx.ModelProto, inputs: dict) -> list:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = {i.name for i in session.get_inputs()}
    feeds = {n: _fed(x, model, n) for n, x in inputs.items() if n in names}
    return session.run(None, feeds)


def _fed(x, model: onnx.ModelProto, name: str):
    """Types that numpy lacks go in as ONNX Runtime's own values."""
    import onnxruntime as ort

    if not isinstance(x, np.ndarray) or x.dtype.kind in "biufOUS":
        return x
    kind = next(i.type.tensor_type.elem_type for i in model.graph.input if i.name == name)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(x, kind)


def difference(got: list, want: list, rtol: float, atol: float) -> str | None:
    """How the results differ from the expected ones; None where they agree."""
    if len(got) != len(want):
        return f"{len(got)} outputs instead of {len(want)}"
    for g, w in zip(got, want):
        if isinstance(w, list):
            text = difference(list(g), w, rtol, atol)
        elif w is None or g is None:
            text = None if g is w else "a missing value"
        else:
            text = _differs(np.asarray(g), np.asarray(w), rtol, atol)
        if text is not None:
            return text
    return None


def _differs(g: np.ndarray, w: np.ndarray, rtol: float, atol: float) -> str | None:
    if g.shape != w.shape:
        return f"shape {g.shape} instead of {w.shape}"
    if w.dtype.kind in "OUS":
        same = g.astype(str).tolist() == w.astype(str).tolist()
        return None if same else "other text"
    if g.dtype != w.dtype:
        return f"{g.dtype} instead of {w.dtype}"
    g, w = g.astype(np.float64), w.astype(np.float64)
    if np.allclose(g, w, rtol, atol, equal_nan=True):
        return None
    return f"values differ by {np.nanmax(np.abs(g - w)):.3g}"


def outcome(case: Case) -> tuple[str, str]:
    """What became of a case: (status, detail).

    agree, differ, refused (ONNX Runtime takes the original, not the written one), original (it does
    not give what is expected for the original), unread, unwritten.
    """
    names = [i.name for i in fed_inputs(case.model)]
    original = "agrees"
    for inputs, expected in case.sets:
        feeds = dict(zip(names, inputs))
        try:
            got = by_onnxruntime(case.model, feeds)
            text = difference(got, expected, case.rtol, case.atol)
        except Exception as error:
            text = f"{error}"
        if text is not None:
            original = text
    status = "agree"
    detail = ""
    for inputs, expected in case.sets:
        feeds = dict(zip(names, inputs))
        try:
            graph = optimised(case.model, feeds)
        except TesselError as error:
            return "unread", str(error)
        try:
            written = write(graph)
        except TesselError as error:
            return "unwritten", str(error)
        if original != "agrees":
            return "original", original
        try:
            got = by_onnxruntime(written, feeds)
        except Exception as error:
            return "refused", str(error)
        text = difference(got, expected, case.rtol, case.atol)
        if text is not None:
            status, detail = "differ", text
    return status, detail


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.onnx_out", description=__doc__)
    parser.add_argument("--filter", default="", metavar="REGEX")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="each N-th case")
    parser.add_argument("--json", type=Path, metavar="FILE")
    options = parser.parse_args()
    results = {}
    for case in cases(options.every, options.filter):
        status, detail = results[case.name] = outcome(case)
        if status in ("differ", "refused", "unwritten"):
            print(f"{status:10s}{case.name}: {' '.join(detail.split())[:300]}", flush=True)
    counts = Counter(status for status, _ in results.values())
    print(len(results), "cases:", dict(counts))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))
    return 1 if counts["differ"] or counts["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
