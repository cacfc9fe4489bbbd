"""Writes exports; runs in a Python that has torch and what the models need, without tessel.

    python -m tests.exports.export --list
    python -m tests.exports.export OUT_DIR NAME…

OUT_DIR/NAME holds model.onnx, `about.json`, and sizes0.npz, …: inputs by their names, and what
PyTorch computes (`=0`, `=1`, …); or `refused.txt`, which says why there is no model.
"""

import importlib
import json
import logging
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from .case import Export

MODULES = (
    "decoders",
    "language",
    "sound",
    "series",
    "vision",
    "vision_language",
    "torchvision",
    "diffusion",
)


def models() -> dict[str, Callable[[], Export]]:
    """Every export there is, by its name."""
    found = {}
    for name in MODULES:
        found |= importlib.import_module(f".{name}", __package__).MODELS
    return found


class Flat(torch.nn.Module):
    """A model whose inputs are tensors in order."""

    def __init__(self, export: Export):
        super().__init__()
        self.model, self.call, self.names = export.model, export.call, tuple(export.inputs)

    def forward(self, *tensors):
        given = self.call(self.model, **dict(zip(self.names, tensors)))
        return given if isinstance(given, torch.Tensor) else tuple(given)


def write(export: Export, folder: Path) -> None:
    """The model, and inputs and outputs at each of its sizes."""
    module = Flat(export).eval()
    for i, sizes in enumerate(export.sizes):
        tensors = inputs_at(export, sizes, seed=i)
        with torch.no_grad():
            outputs = module(*tensors.values())
        outputs = (outputs,) if isinstance(outputs, torch.Tensor) else outputs
        arrays = {n: t.numpy() for n, t in tensors.items()}
        arrays |= {f"={k}": t.numpy() for k, t in enumerate(outputs)}
        np.savez(folder / f"sizes{i}.npz", **arrays)
    trace(export, module, folder / "model.onnx")
    about = {
        "exporter": "TorchScript" if export.script else "dynamo",
        "opset": export.opset,
        "torch": torch.__version__,
        "sizes": export.sizes,
    }
    (folder / "about.json").write_text(json.dumps(about))


def inputs_at(export: Export, sizes: Mapping[str, int], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: port.at(sizes, generator) for name, port in export.inputs.items()}


def trace(export: Export, module: torch.nn.Module, path: Path) -> None:
    """Export at the first sizes, with every dim open that has a name."""
    tensors = inputs_at(export, export.sizes[0], seed=0)
    given = {
        "input_names": list(tensors),
        "opset_version": export.opset,
        "verbose": False,
        "dynamo": not export.script,
    }
    dims = {name: port.open for name, port in export.inputs.items()}
    if export.script:
        given["dynamic_axes"] = dims
    else:
        given["dynamic_shapes"] = (tuple(dims.values()),)
        given["external_data"] = False
    with torch.no_grad():
        torch.onnx.export(module, tuple(tensors.values()), str(path), **given)


def cause(error: BaseException) -> str:
    """What was raised first, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def main() -> None:
    if sys.argv[1:] == ["--list"]:
        print(*models(), sep="\n")
        return
    out, *names = sys.argv[1:]
    warnings.filterwarnings("ignore")
    logging.disable()
    torch.set_num_threads(1)
    known = models()
    for name in names:
        folder = Path(out) / name
        folder.mkdir(parents=True, exist_ok=True)
        refused = folder / "refused.txt"
        refused.unlink(missing_ok=True)
        torch.manual_seed(0)
        try:
            write(known[name](), folder)
        except Exception as error:  # of the model's code, or of what the exporter does not take
            refused.write_text(traceback.format_exc() + "\n" + cause(error))


if __name__ == "__main__":
    main()
