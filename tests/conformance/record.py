"""What is known: per engine, one committed file of the cases that do not pass and the numbers.

`tests` hold tessel to its file: a case that passed must go on passing, and one that passes now must
leave the list.
"""

import json
import platform
from collections import Counter
from pathlib import Path
from statistics import median

import onnx

from .cases import Case
from .engines import version_of
from .reasons import first_finding, reason_of

FOLDER = Path(__file__).with_name("known")


def make_record(engine: str, cases: list[Case], results: dict[str, dict]) -> dict:
    """The record of a run over all cases."""
    own = engine.startswith("tessel")
    failing = {
        c.id: {"status": r["status"]}
        | ({"reason": reason_of(c.id, r["status"], r["message"])} if own else {})
        for c in cases
        if (r := results[c.id])["status"] != "pass"
    }
    groups: dict[str, list[int]] = {}
    for c in sorted(cases, key=lambda c: (c.category != "node", c.group)):
        count = groups.setdefault(c.group, [0, 0])
        count[0] += c.id not in failing
        count[1] += 1
    record = {
        "engine": engine,
        "version": version_of(engine),
        "onnx": onnx.__version__,
        "passed": len(cases) - len(failing),
        "cases": len(cases),
    }
    if own:
        seconds = [r["seconds"] for r in results.values() if r["seconds"]]
        python = Counter(op for r in results.values() for op in r["externs"])
        record |= {
            "cpu": cpu_name(),
            "median_ms": round(1e3 * median(seconds), 1),
            "total_s": round(sum(seconds), 1),
            "in_python": sum(bool(r["externs"]) for r in results.values()),
            "python_ops": dict(sorted(python.items())),
        }
    return record | {"groups": groups, "failing": failing}


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(x.split(":", 1)[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def load_record(engine: str) -> dict | None:
    path = FOLDER / f"{engine}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def save_record(record: dict) -> None:
    """A line per failing case, so that two branches' changes merge."""
    path = FOLDER / f"{record['engine']}.json"
    parts = []
    for key, value in record.items():
        if isinstance(value, dict) and value:
            rows = (f"  {_json(k)}: {_json(v)}" for k, v in value.items())
            parts.append(f' "{key}": {{\n' + ",\n".join(rows) + "\n }")
        else:
            parts.append(f' "{key}": {_json(value)}')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


def _json(value) -> str:
    return json.dumps(value, ensure_ascii=False)


def changes(record: dict, results: dict[str, dict]) -> tuple[list[str], list[str]]:
    """Cases of these results that are worse than the record, and those that are better."""
    known = record["failing"]
    worse, better = [], []
    for name, r in results.items():
        if r["status"] == "pass" and name in known:
            better.append(f"{name}: passes, was {known[name]['status']}")
        elif r["status"] != "pass" and name not in known:
            worse.append(f"{name}: {r['status']}: {first_finding(r['message'])}")
        elif r["status"] in ("crash", "timeout") and known[name]["status"] != r["status"]:
            worse.append(f"{name}: {r['status']}, was {known[name]['status']}")
    return worse, better
