"""How far the cost model is from what kernels take: `tessel bench --predictions`, also of single
operators at shapes of real models (../shared/peers/ops.py), as one table.

    python tests/benchmarks/predictions.py [--filter REGEX] [MODEL.onnx …]
"""

import argparse
import importlib.util
import json
import re
from pathlib import Path

import tessel
from tessel.compiler.errors import TesselError
from tessel.tools.bench import feeds_for
from tessel.tools.benchmark.predictions import measure_kernels, print_predictions, report

SWEEP = Path(__file__).resolve().parents[3] / "shared" / "peers" / "ops.py"


def operators(pattern: str):
    """(name, model, feeds) of the sweep's cases."""
    spec = importlib.util.spec_from_file_location("ops", SWEEP)
    sweep = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sweep)
    for name, case in sweep.CASES.items():
        if re.search(pattern, name):
            yield name, *sweep.build(case)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", help="ONNX files, beside the operators")
    parser.add_argument("--filter", default="", help="of operators; '^$' for none")
    parser.add_argument("--seconds", type=float, default=0.3, help="of runs, for each of them")
    parser.add_argument("--json", help="file that the figures are written to")
    given = parser.parse_args()
    files = ((path, path, feeds_for(path, (), 0, {})) for path in given.models)
    kernels = []
    for name, model, feeds in (*operators(given.filter), *files):
        try:
            exe = tessel.compile(model, threads=1, reuse=False)
            kernels += measure_kernels(name, exe, feeds, given.seconds)
        except TesselError as error:
            print(f"{name}: {error.message}")
    print_predictions("operators and models", kernels)
    if given.json:
        Path(given.json).write_text(json.dumps(report(kernels), indent=1))


if __name__ == "__main__":
    main()
