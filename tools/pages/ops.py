"""docs/reference/ops.md: every op, from its record.

    python -m tessel.tools.pages.ops docs/reference/ops.md

Nothing is said here that a record does not know, but for two things: which ONNX operators read
into an op (`onnx_ops.py` looks at the reader's table), and whether the GPU backend takes it: it is
asked, with the record's own samples.
"""

import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ...compiler.backends.triton.backend import compile_program
from ...compiler.errors import TesselError
from ...compiler.ir import op as registry
from ...compiler.ir.builder import Builder
from ...compiler.ir.op import OPS, Attr, Op
from ...compiler.ir.types import CLASSES, tensor_type_of
from ...compiler.lowering.lower import lower
from ...compiler.ops.common import through_expansion
from .onnx_ops import readers

MEANINGS = {
    "Elementwise": "elementwise",
    "Pull": "pulled: an expression for each output element",
    "Kernels": "kernels of its own",
    "Expand": "expands to other ops",
    "Extern": "a host callback (Python)",
    "Control": "regions",
    "Alias": "the same bytes under another shape",
}
HEAD = """\
# Ops

Every op of the graph, as its record says ([how records are made](../architecture.md#ops)): {count}
in {families} families. This page is generated: `make docs`.

A signature reads `operand: dtype`, with `?` for one that may be absent and `*` for any number;
letters are dtype variables. Attributes are listed with their defaults. *Zero gradient*: piecewise
constant, so that gradients stop there; *no gradient*: asking for one is an error. All ops run on
the CPU; *GPU* says whether the Triton backend makes kernels of the record's own samples.
"""


def page() -> str:
    """The whole page as Markdown."""
    families: dict[str, list[Op]] = defaultdict(list)
    for op in OPS.values():
        families[op.group].append(op)
    read = readers()
    parts = [HEAD.format(count=len(OPS), families=len(families)), _index(families)]
    for family in sorted(families):
        parts.append(f"## {family}\n")
        parts += [entry(op, read.get(op.name, [])) for op in _sorted(families[family])]
    return "\n".join(parts)


def _sorted(ops: list[Op]) -> list[Op]:
    return sorted(ops, key=lambda op: op.name)


def _index(families: dict[str, list[Op]]) -> str:
    rows = [
        f"| [{family}](#{family}) | " + ", ".join(f"[{o.name}](#{o.name})" for o in _sorted(ops))
        for family, ops in sorted(families.items())
    ]
    return "\n".join(["| family | ops |", "| --- | --- |", *(r + " |" for r in rows)]) + "\n"


def entry(op: Op, onnx_names: list[str]) -> str:
    """The section of one op."""
    lines = [f"### {op.name}\n", f"`{signature(op)}`{_dtypes(op)}\n", plain(op.doc) + "\n"]
    lines += [f"- `{name}`: {_attribute(attr)}" for name, attr in op.attrs.items()]
    lines += [f"- {gradient(op)}", f"- {meaning(op)}; {gpu(op)}"]
    if onnx_names:
        lines.append(f"- ONNX: {', '.join(onnx_names)}")
    return "\n".join(lines) + "\n"


def signature(op: Op) -> str:
    inputs = (
        f"{i.name}: {i.dtype}" + ("?" if i.optional else "*" if i.variadic else "")
        for i in op.inputs
    )
    return f"{op.name}({', '.join(inputs)}) -> {', '.join(op.outputs)}"


def _dtypes(op: Op) -> str:
    """`, T: float; I: i32, i64`"""
    found = []
    for variable, allowed in op.dtypes.items():
        name = next((n for n, c in CLASSES.items() if c == allowed and len(c) > 1), None)
        found.append(f"{variable}: {name or ', '.join(sorted(d.name for d in allowed))}")
    return f", {'; '.join(found)}" if found else ""


def _attribute(attr: Attr) -> str:
    if attr.default is registry.REQUIRED:
        kind = f"{attr.kind}, required"
    else:
        kind = f"{attr.kind} = `{attr.default!r}`"
    return f"{kind}. {plain(attr.doc)}" if attr.doc else kind


def gradient(op: Op) -> str:
    if isinstance(op.grad, registry.NotDifferentiable):
        return f"{'zero' if op.grad.zero else 'no'} gradient: {plain(op.grad.reason)}"
    return "gradient of its expansion" if op.grad is through_expansion else "gradient"


def meaning(op: Op) -> str:
    kind = MEANINGS[type(op.loops).__name__]
    reason = getattr(op.loops, "reason", None)
    return kind if reason is None else f"{kind}: {reason}"


def gpu(op: Op) -> str:
    """What the Triton backend says to the samples."""
    if isinstance(op.loops, registry.Extern):
        return "GPU: the same kernel, on the host"
    results = list(_gpu_refusals(op))
    refused = [r for r in results if r is not None]
    if not refused:
        return "GPU"
    if len(refused) == len(results):
        return f"not on the GPU: {plain(refused[0])}"
    return f"GPU, in part: {plain(refused[0])}"


def _gpu_refusals(op: Op) -> Iterator[str | None]:
    """For each sample, why the GPU backend refuses it, or None."""
    for sample in op.samples():
        b = Builder()
        given = [
            None if x is None else b.input(f"x{i}", tensor_type_of(x))
            for i, x in enumerate(sample.inputs)
        ]
        try:
            results = b.emit(op.name, *given, **sample.attrs)
            for i, y in enumerate(results if isinstance(results, tuple) else (results,)):
                b.output(f"y{i}", y)
            compile_program(lower(b.graph), "cuda:sm_90").source()
            yield None
        except TesselError as error:
            yield error.message


def plain(text: str) -> str:
    """Text that Markdown shows as it is; what stands between backquotes is code."""
    parts = inspect.cleandoc(text).split("`")
    for i in range(0, len(parts), 2):
        for mark in "*_<>|":
            parts[i] = parts[i].replace(mark, "\\" + mark)
    return "`".join(parts)


def main(path: str) -> None:
    Path(path).write_text(page())
    print(f"wrote {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
