"""The command line of the exports.

    python -m tests.exports OUT_DIR [NAME…] --torch PYTHON

Exports models with dynamic dims by a Python that has torch, compiles each once, runs it at several
sizes and compares with ONNX Runtime. What is in OUT_DIR already is not exported again. Prints one
line for each, in Markdown with --table; exits with 1 if one fails.
"""

import argparse
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TIMEOUT = 400  # seconds for one step of one model
NO_TORCH = (
    "exporting needs a Python that has torch, transformers and onnxscript.\n"
    "  received: {python}\n"
    "  fix: say which with --torch PYTHON, or TESSEL_TORCH_PYTHON\n{why}"
)


@dataclass(frozen=True)
class Row:
    """One line of the table; `faults` is empty if all is well."""

    name: str
    about: dict
    found: dict
    faults: tuple[str, ...] = ()

    def text(self) -> str:
        if self.faults:
            return "\n    ".join([f"{self.name:24} FAILS", *self.faults])
        f = self.found
        return (
            f"{self.name:24} {f['nodes']:5} nodes  {f['seconds']:5.1f} s  {f['megabytes']:5} MB  "
            f"error {f['error']:.1e}  {self.code}"
        )

    @property
    def code(self) -> str:
        """Whether one code serves all sizes, and what else is to be known."""
        f = self.found
        other = [] if f["reference"] == "ONNX Runtime" else [f["reference"]]
        return "; ".join([codes(f["apart"]), *f["notes"], *other])

    def markdown(self) -> str:
        f, a = self.found, self.about
        if self.faults:
            return f"| {self.name} | fails: {' '.join(self.faults[0].split())} |"
        sizes = " ".join("/".join(map(str, s.values())) for s in a["sizes"])
        names = "/".join(a["sizes"][0])
        cells = [
            self.name,
            f"{a['exporter']}, {a['opset']}",
            f["nodes"],
            names,
            sizes,
            f"{f['error']:.0e}",
            f"{f['seconds']:.0f} s",
            self.code,
        ]
        return "| " + " | ".join(map(str, cells)) + " |"


def codes(apart: list[str]) -> str:
    """How many codes there are: sizes of 0 may have some of their own."""
    if not apart:
        return "one code"
    return "one code, but of its own for 0" if set(apart) == {"with a 0"} else "compiled per size"


def run(python: str, *arguments: str, timeout: float = TIMEOUT) -> subprocess.CompletedProcess:
    """A step in a process of its own, whose memory and time end with it."""
    return subprocess.run(
        [python, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout
    )


def export(python: str, out: Path, names: list[str]) -> None:
    """Export what is not there yet, all in one process: torch takes long to load."""
    missing = [n for n in names if not (out / n / "about.json").is_file()]
    if missing:
        run(python, "tests.exports.export", str(out), *missing, timeout=TIMEOUT * len(missing))


def refusal(out: Path, name: str) -> str | None:
    """Why there is no export, if there is none."""
    if (out / name / "about.json").is_file():
        return None
    why = out / name / "refused.txt"
    return "the exporter refuses: " + (last_line(why.read_text()) if why.is_file() else "no word")


def compare(out: Path, name: str) -> Row:
    about = json.loads((out / name / "about.json").read_text())
    try:
        done = run(sys.executable, "tests.exports.compare", str(out / name))
    except subprocess.TimeoutExpired:
        return Row(name, about, {}, (f"takes more than {TIMEOUT} s",))
    if done.returncode != 0:
        why = f"the process ended with {done.returncode}: {last_line(done.stderr)}"
        return Row(name, about, {}, (why,))
    found = json.loads(done.stdout)
    return Row(name, about, found, tuple(found.pop("faults")))


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.exports",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("out", metavar="OUT_DIR", type=Path, help="where exported models are, and go to")
    add("names", metavar="NAME", nargs="*", help="only these; all without")
    add(
        "--torch",
        metavar="PYTHON",
        default=os.environ.get("TESSEL_TORCH_PYTHON", sys.executable),
        help="the Python that exports; else TESSEL_TORCH_PYTHON, or this one",
    )
    add("--table", action="store_true", help="print rows of a table in Markdown")
    add("--export-only", action="store_true", help="compile nothing")
    options = parser.parse_args()
    out = options.out.resolve()

    listed = run(options.torch, "tests.exports.export", "--list")
    if listed.returncode != 0:
        print(NO_TORCH.format(python=options.torch, why=last_line(listed.stderr)), file=sys.stderr)
        return 2
    known = listed.stdout.split()
    if unknown := set(options.names) - set(known):
        parser.error(f"no such export: {', '.join(sorted(unknown))}; there are {', '.join(known)}")

    names = options.names or known
    export(options.torch, out, names)
    failed = 0
    for name in names:
        why = refusal(out, name)
        if why is None and options.export_only:
            print(out / name)
            continue
        row = compare(out, name) if why is None else Row(name, {}, {}, (why,))
        failed += bool(row.faults)
        print(row.markdown() if options.table else row.text(), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
