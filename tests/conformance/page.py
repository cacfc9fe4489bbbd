"""docs/conformance.md, from the records alone."""

from collections import defaultdict

from tessel.tools.explain import host_callback_reason

from .cases import ROOT

PAGE = ROOT / "docs" / "conformance.md"
NAMES = {"tessel": "tessel", "onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
STATUSES = {
    "wrong": "the result differs",
    "unsupported": "refused, with the reason",
    "error": "any other error",
    "crash": "the process died",
    "timeout": "no result in a minute of CPU time",
}

HEAD = """\
# ONNX conformance

The backend cases of onnx {onnx}: {cases} models with inputs and expected outputs, each run in a
worker process with 4 GiB of memory, on one thread and on two. `make conformance` runs them and
writes this page and the list of cases that do not pass (`tests/conformance/known/`), to which
`test_conformance.py` holds every change. `.venv/bin/python -m tests.conformance --filter pad`
runs some of them.

An output passes by the suite's own rules: number of outputs, shape and dtype as expected, each
element within the case's tolerances (rtol 1e-3 and atol 1e-7 where it says nothing else). Other
engines run on one thread, as PyPI has them (`--engine onnxruntime --write`, with the `bench` extra
installed and the locale en_US.UTF-8, which its StringNormalizer needs).
"""


def page(records: list[dict]) -> str:
    """The page; the first record is tessel's. Other engines' were made with the same suite."""
    own = records[0]
    parts = [HEAD.format(**own), _totals(records), _groups(records), _time(own), _python(own)]
    return "\n".join([*parts, _failing(own)])


def _table(head: list[str], rows: list[list], left: int = 1) -> str:
    line = ["---" if i < left else "---:" for i in range(len(head))]
    return "\n".join("| " + " | ".join(map(str, r)) + " |" for r in [head, line, *rows]) + "\n"


def _title(record: dict) -> str:
    version = "" if record["engine"] == "tessel" else f" {record['version']}"
    return NAMES[record["engine"]] + version


def _totals(records: list[dict]) -> str:
    def row(r):
        status = [f["status"] for f in r["failing"].values()]
        share = f"{100 * r['passed'] / r['cases']:.1f} %"
        return [_title(r), f"**{r['passed']}**", share, *(status.count(s) for s in STATUSES)]

    return _table(["", "pass", "share", *STATUSES], [row(r) for r in records]) + (
        "\n" + "; ".join(f"*{k}*: {v}" for k, v in STATUSES.items()) + ".\n"
    )


def _groups(records: list[dict]) -> str:
    def row(name, cases):
        passed = [r["groups"].get(name, [0])[0] for r in records]
        return [name, cases, *(f"**{p}**" if p == cases else p for p in passed)]

    rows = [row(name, cases) for name, (_, cases) in records[0]["groups"].items()]
    return (
        "## By family of operators\n\n"
        "Families as the standard sorts its operators (`onnx/defs/`); bold where all pass.\n\n"
        + _table(["family", "cases", *map(_title, records)], rows)
    )


def _time(own: dict) -> str:
    return (
        "## Compile time\n\nCPU time from the model to its first result, without a cache: "
        f"median {own['median_ms']:g} ms, {own['total_s']:g} s in all, on {own['cpu']}.\n"
    )


def _python(own: dict) -> str:
    text = (
        "## What runs outside compiled code\n\n"
        f"In {own['in_python']} of {own['cases']} cases "
        f"({100 * own['in_python'] / own['cases']:.1f} %) something ran in Python. "
        "`tessel explain` lists it for a model, `strict` refuses it.\n\n"
    )
    rows = [[f"`{op}`", host_callback_reason(op), n] for op, n in own["python_ops"].items()]
    return text + (_table(["op", "why", "cases"], rows, left=2) if rows else "")


def _failing(own: dict) -> str:
    by_reason: dict[tuple, list[str]] = defaultdict(list)
    for name, f in own["failing"].items():
        by_reason[f["status"], f["reason"]].append(name)
    lines = [f"## Cases that do not pass\n\n{len(own['failing'])} of {own['cases']}, by reason.\n"]
    for (status, reason), names in sorted(by_reason.items(), key=lambda x: (-len(x[1]), x[0])):
        shown = ", ".join(f"`{n}`" for n in names)
        lines.append(f"- **{status}**: {_plain(reason)}\n  {shown}")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is."""
    for mark in "\\`*_<>|[]":
        text = text.replace(mark, "\\" + mark)
    return text
