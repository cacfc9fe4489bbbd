"""Cases of ONNX's backend tests: other shapes of inputs, declared as numbers or as symbols.

onnx/NAME/SEED
"""

import functools
import random

import numpy as np
import onnx
import tessel
from tessel.compiler.errors import UnsupportedError
from tessel.compiler.ir.interpret import interpret
from tessel.frontends.onnx.read.dependence import needed

from ..conformance.cases import Case, load_cases, runtime_inputs
from . import perturb
from .subject import Feed, Subject, tolerance

LARGEST = 1 << 18  # bytes of a model
OPEN = 0.95  # share of dims that are symbols, where some are


@functools.cache
def cases() -> dict[str, Case]:
    return {
        f"onnx/{c.name}": c for c in load_cases() if c.category == "node" and len(c.model) < LARGEST
    }


def names() -> list[str]:
    return list(cases())


def subject(name: str, rng: random.Random) -> Subject:
    model, sets = cases()[name].load()
    return perturbed(model, sets[0][0], rng, cases()[name].rtol)


def perturbed(
    model: onnx.ModelProto, inputs: list, rng: random.Random, rtol: float, still: float = 0.0
) -> Subject:
    """The model with shapes of its inputs declared in one of three ways, and inputs for it."""
    style = rng.choice(["fixed", "symbols", "symbols"])
    wanted, runs = perturb.several(inputs, style != "fixed", rng, still)
    ports = runtime_inputs(model)
    feeds = [Feed(dict(zip((p.name for p in ports), arrays)), ok) for arrays, ok in runs]
    for i, port in enumerate(ports):
        if wanted[0][i] is not None:
            _declare(port, wanted[0][i], style, i, rng)
    for output in model.graph.output:
        if output.type.HasField("tensor_type"):
            output.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    return Subject(
        model,
        feeds,
        functools.partial(_reference, model),
        tolerance(inputs, rtol),
        about=f"{style}: {', '.join(n.op_type for n in model.graph.node)}",
    )


def _declare(port: onnx.ValueInfoProto, shape: tuple, style: str, number: int, rng) -> None:
    dims = port.type.tensor_type.shape
    del dims.dim[:]
    dims.SetInParent()
    for axis, n in enumerate(shape):
        dim = dims.dim.add()
        if style == "symbols" and rng.random() < OPEN:
            dim.dim_param = f"d{number}_{axis}"
        else:
            dim.dim_value = n


def _reference(model: onnx.ModelProto, arrays: dict) -> list:
    """The model read for these shapes, and for those values that it follows from."""
    tensors = {n: x for n, x in arrays.items() if isinstance(x, np.ndarray)}
    shapes, values = {n: x.shape for n, x in tensors.items()}, {}
    while True:
        try:
            graph = tessel.from_onnx(model, shapes=shapes, values=values)
            break
        except UnsupportedError as error:
            more = (needed(error) or set()) - set(values)
            if not more:
                raise
            values |= {n: tensors[n] for n in more}
    return interpret(graph, [arrays[v.name] for v in graph.inputs])
