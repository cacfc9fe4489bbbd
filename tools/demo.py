"""`tessel demo`: classify handwritten digits, see how the model was compiled and how fast it is."""

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from rich.columns import Columns
from rich.panel import Panel

from .. import compile as compile_model
from ..compiler.errors import UsageError
from .common.tables import size, table
from .common.terminal import Console

MODEL = Path(__file__).resolve().parent.parent / "examples" / "models" / "digits.onnx"

# Eight by eight, grey levels from 0 to g (16): handwriting from the UCI optical
# recognition data (Alpaydin and Kaynak, 1998; CC BY 4.0), as scikit-learn's load_digits has it.
DIGITS = [
    (0, "00aeb300 04gd6e10 04g20b70 08g00a50 08g00e40 08g01g10 04g1bf00 00bgc300"),
    (1, "0000c500 0002gc00 001cgb00 02cgga00 06b5f600 0001g900 0002gb00 0003g800"),
    (2, "0005ec20 007f8e40 00623d10 0001d400 001b9000 08gd0000 05egb200 0006cd30"),
    (3, "009gd600 0065gg00 0008f500 0005e300 00009f20 00000bc0 0048bfc0 00bec800"),
    (4, "0009f100 004gc000 00fe2b30 04g94ga0 09gbdg20 009gge00 0008g600 0009g200"),
    (5, "02dgggb0 05ga5410 06g73000 09ggg600 0384bf00 0001cf00 004dg600 02gf8000"),
    (6, "0005e200 001db000 005g2000 006f5000 01fgfb10 02de1c90 004g7d90 0005gf30"),
    (7, "0009fc00 00477e00 00000d30 0498ad10 04gfgg60 0000e300 0009c000 000b7000"),
    (8, "0077dg40 00dd6c70 00a4ab10 008ga000 03eg0000 088b5000 04a98000 01bg6000"),
    (9, "002d8000 006gg600 005fdb00 0007gf00 00000e30 000007b0 000344g2 002fded2"),
]
SHADES = " ░▒▓█"
EPILOG = """\b
Example:
  tessel demo
"""


@click.command(epilog=EPILOG)
@click.option("--target", default="cpu", show_default=True, help="cpu, numpy, cuda, …")
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True)
def demo(target, threads):
    """Compile a small network, classify a few handwritten digits with it, and time it."""
    if not MODEL.is_file():
        raise UsageError(
            "the demo's model is not in this installation",
            received="examples/models/digits.onnx",
            fix="pip install --force-reinstall tessel; examples/train_digits.py trains the model",
        )
    out = Console(highlight=False)
    start = time.perf_counter()
    exe = compile_model(MODEL, target=target, threads=threads, reuse=False)
    images = np.stack([image(text) for _, text in DIGITS])
    logits = exe(images)
    spent = time.perf_counter() - start
    out.print(
        f"[bold]{MODEL.name}[/]: {size(MODEL.stat().st_size)} of ONNX, read, optimized, "
        f"compiled and run in {spent:.2f} s"
    )
    explain_briefly(exe, out)
    guesses = logits.argmax(axis=1)
    out.print(Columns([picture(x, g, y) for x, g, (y, _) in zip(images, guesses, DIGITS)]))
    right = sum(int(g) == y for g, (y, _) in zip(guesses, DIGITS))
    out.print(f"{right} of {len(DIGITS)} are right")
    compare(exe, images[:1], threads, out)


def explain_briefly(exe, out: Console) -> None:
    built = exe.specializations[-1]
    rules = Counter(a.rule for a in exe.report.applied)
    for rule, n in rules.most_common(6):
        out.print(f"  {n} × {rule}", markup=False, soft_wrap=True)
    nodes = sum(n.op.name not in ("constant", "reshape") for n in built.graph.nodes)
    kernels = Counter(call.kernel.origins for call in built.program.kernels())
    out.print(f"  {nodes} operations became {kernels.total()} kernels of machine code, from")
    for origins, n in kernels.items():
        times = f" ({n} kernels)" if n > 1 else ""
        out.print(f"    {' + '.join(origins)}{times}", markup=False, style="dim", soft_wrap=True)


def image(text: str) -> np.ndarray:
    """f32[1,8,8] in [0, 1]"""
    levels = [int(c, 17) / 16 for c in text.replace(" ", "")]
    return np.array(levels, np.float32).reshape(1, 8, 8)


def picture(x: np.ndarray, guess: int, label: int) -> Panel:
    """The image drawn with two columns per pixel, and what the network says."""
    rows = ["".join(SHADES[round(float(v) * 4)] * 2 for v in row) for row in x[0]]
    colour = "green" if guess == label else "red"
    return Panel("\n".join(rows), title=f"[bold {colour}]{guess}[/]", border_style=colour)


def compare(exe, x: np.ndarray, threads: int, out: Console) -> None:
    """Time one image, and the same with the other engines that are installed."""
    name = exe.inputs[0].name
    rows, missing = {"tessel": lambda: exe.run({name: x})}, []
    for label, (module, prepare) in ENGINES.items():
        try:
            rows[label] = prepare(name, x, threads)
        except ImportError:
            missing.append(module)
    t = table("one image", "µs", right="µs")
    for label, microseconds in alternate(rows).items():
        t.add_row(label, f"{microseconds:.1f}")
    out.print(t)
    threads_of = f"{threads} thread" + ("s" if threads > 1 else "")
    out.print(f"medians of {SLICES} slices each, in turns, on {threads_of}", style="dim")
    if missing:
        out.print(f"not installed, and so not compared: {', '.join(missing)}", style="dim")


def _onnxruntime(name: str, x: np.ndarray, threads: int) -> Callable:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {name: x})


def _openvino(name: str, x: np.ndarray, threads: int) -> Callable:
    import openvino

    options = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(str(MODEL), "CPU", options)
    request = model.create_infer_request()
    return lambda: request.infer({name: x})


# Label: module, and what gives a function that runs the model once (ImportError without it).
ENGINES = {
    "ONNX Runtime": ("onnxruntime", _onnxruntime),
    "OpenVINO": ("openvino", _openvino),
}
SLICES = 20


def alternate(rows: dict[str, Callable], slices: int = SLICES, runs: int = 100) -> dict[str, float]:
    """The median time of a run of each, in µs.

    Each gets `slices` slices of `runs` runs. They take turns, and every second round goes
    backwards, so that what the machine does meanwhile (clock, other work) falls on all alike.
    """
    times: dict[str, list] = {label: [] for label in rows}
    for turn in range(slices):
        for label, run in list(rows.items())[:: -1 if turn % 2 else 1]:
            run()
            start = time.perf_counter()
            for _ in range(runs):
                run()
            times[label].append((time.perf_counter() - start) / runs * 1e6)
    return {label: float(np.median(t)) for label, t in times.items()}
