"""The stages of a compiled model as files or text: `tessel compile --emit STAGE`."""

from pathlib import Path

from ..compiler.errors import UsageError
from ..compiler.ir.text import print_graph
from ..compiler.kernels.kernel import ENDLESS, Call, For, HostCallback, If, Ref
from ..compiler.system.files import replacing, write_file
from ..runtime.base.build import Built
from ..runtime.execution.executable import Executable
from .common.terminal import say, write


def emit(exe: Executable, stage: str, output: str | None) -> None:
    """Write a stage to `output`, or text to the terminal."""
    EMITTERS[stage](exe, output)


def write_text(text: str, output: str | None) -> None:
    text = text if text.endswith("\n") else text + "\n"
    if output is None:
        write(text)
    else:
        write_file(output, text.encode(), UsageError)


def _only(exe: Executable, sized: bool = False) -> Built:
    """The compiled specialization; the code for all sizes, if it need not be `sized`."""
    built = None if sized else exe.for_all_sizes
    if built is None and not exe.specializations:
        raise UsageError(
            "code needs sizes, and some dims are dynamic",
            received=", ".join(map(str, exe.inputs)),
            fix="give them: --shapes x:1x3x224x224",
        )
    built = exe.specializations[-1] if built is None else built
    if built.stages:
        raise UsageError(
            "this model runs in stages, as shapes depend on data, and has no one program",
            received=f"{len(built.stages)} stages",
            fix="--emit package or graph",
        )
    return built


def _stage(exe: Executable, name: str) -> str | bytes:
    """A stage of the target's own on the way to the machine."""
    if not exe.target.native:
        exe.target.stage(name, None, {})  # raises: this target has no such thing
    return exe.target.stage(name, _only(exe).code, exe.signature.updates)


def emit_graph(exe, output):
    from ..runtime.package.arrays import safetensors_pieces

    table: dict = {}
    graph = exe.graph if exe.specialize is None else _only(exe).graph
    write_text(print_graph(graph, table), output)
    if table and output is not None:
        weights = Path(output).with_suffix(".safetensors")
        with replacing(weights, UsageError) as file:
            for piece in safetensors_pieces(table):
                file.write(piece)
        say(f"wrote {output}, and its weights in {weights}")


def emit_onnx(exe, output):
    from ..frontends.onnx.exporter import write

    if output is None:
        raise UsageError("ONNX is no text", fix="say where it goes: -o FILE.onnx")
    write(exe.graph if exe.specialize is None else _only(exe).graph, output)


def emit_loops(exe, output):
    write_text(program_text(_only(exe).program), output)


def emit_llvm(exe, output):
    write_text(_stage(exe, "llvm"), output)


def emit_asm(exe, output):
    write_text(_stage(exe, "asm"), output)


def emit_object(exe, output):
    """One relocatable object with every kernel and the entry."""
    if output is None:
        raise UsageError("an object file is no text", fix="say where it goes: -o FILE.o")
    write_file(output, _stage(exe, "object"), UsageError)


def emit_triton(exe, output):
    from ..compiler.backends.triton.backend import compile_program

    built = _only(exe, sized=True)
    target = exe.target.name if exe.target.name.startswith("cuda") else "cuda:sm_90"
    precision = exe.options.precision or "ieee"
    write_text(compile_program(built.program, target, precision=precision).source(), output)


EMITTERS = {
    "onnx": emit_onnx,
    "graph": emit_graph,
    "loops": emit_loops,
    "llvm": emit_llvm,
    "asm": emit_asm,
    "object": emit_object,
    "triton": emit_triton,
}


# -- programs as text ----------------------------------------------------------------------


def program_text(program) -> str:
    """Kernels, each once, and below them the steps that call them."""
    names: dict[str, str] = {}
    kernels, steps = [], []
    for call in program.kernels():
        text = call.kernel.text("NAME")
        if text not in names:
            names[text] = f"{call.kernel.name}_{len(names)}"
            kernels.append(call.kernel.text(names[text]))

    def visit(items, indent):
        for step in items:
            match step:
                case Call(kernel=kernel, refs=refs):
                    called = names[kernel.text("NAME")]
                    origins = ", ".join(kernel.origins)
                    steps.append(f"{indent}{called}({_refs(refs)})  # {origins}")
                case For(id=loop, trips=trips, body=body, condition=condition):
                    bound = f" t{loop}" if trips == ENDLESS else f" t{loop}<{trips}"
                    kind = "for" if condition is None else f"while {_ref(condition)},"
                    steps.append(f"{indent}{kind}{bound} {{")
                    visit(body, indent + "  ")
                    steps.append(indent + "}")
                case If(condition=condition, then=then, orelse=orelse):
                    steps.append(f"{indent}if {_ref(condition)} {{")
                    visit(then, indent + "  ")
                    steps.append(indent + "} else {")
                    visit(orelse, indent + "  ")
                    steps.append(indent + "}")
                case HostCallback():
                    refs = [r for r in (*step.inputs, *step.outputs) if r is not None]
                    steps.append(f"{indent}callback {step.op}({_refs(refs)})  # {step.origin}")

    visit(program.steps, "  ")
    head = f"program (arena {program.arena} bytes, {len(program.weights)} weights) {{"
    return "\n\n".join([*kernels, "\n".join([head, *steps, "}"])])


def _refs(refs) -> str:
    return ", ".join(map(_ref, refs))


def _ref(ref: Ref) -> str:
    """arena+4096, input0, weight3+256*t0"""
    text = "arena" if ref.slot.kind == "arena" else f"{ref.slot.kind}{ref.slot.index}"
    if ref.offset:
        text += f"+{ref.offset}"
    return text + "".join(f"{step:+d}*t{loop}" for loop, step in ref.steps)
