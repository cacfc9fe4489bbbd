"""The cases with every dim of their inputs left open: each is a symbol of its own.

    python -m tests.conformance --engine tessel-dynamic

A model is compiled once and run with the sizes of the case. Then sizes are changed: every axis that
has a size gets one more, which repeats what is there, so that indices and lengths in the data stay
what they were. Where the interpreter takes the model that declares these sizes, the open model has
to agree with it.
"""

import numpy as np
import onnx

from .cases import runtime_inputs
from .compare import Wrong, compare

LARGEST = 1 << 16  # elements of inputs that are run with other sizes
RTOL, ATOL = 1e-3, 1e-5
_RANDOM = {
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
    "Dropout",
}
_ONCE = {"MaxUnpool"}  # which value an index names is open where it comes twice


def open_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a symbol of its own for every dim of its inputs; outputs declare no shape."""
    opened = onnx.ModelProto.FromString(model.SerializeToString())
    for info in runtime_inputs(opened):
        for i, d in enumerate(info.type.tensor_type.shape.dim):
            d.dim_param = f"{info.name}_{i}"
    for info in opened.graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")
    del opened.graph.value_info[:]
    return opened


def tessel_dynamic(model: onnx.ModelProto):
    """Compiled for all sizes, or for each; other sizes are tried in the last run."""
    from .engines import tessel

    inner = tessel(open_model(model))

    def run(inputs, threads):
        results = inner(inputs, threads)
        if threads == 1:
            check_other_sizes(model, inner, inputs)
        return results

    run.executable = inner.executable
    return run


def check_other_sizes(model: onnx.ModelProto, run, inputs: list) -> None:
    """Raise Wrong where a run with other sizes differs from the interpreter's."""
    if any(n.op_type in _RANDOM | _ONCE for n in model.graph.node):
        return
    if not all(o.type.HasField("tensor_type") for o in model.graph.output):
        return
    for changed in other_sizes(inputs):
        expected = interpreted(model, changed)
        if expected is None:
            continue
        shapes = " ".join(str(list(x.shape)) for x in changed)
        try:
            got = run(changed, 1)
        except Exception as error:
            raise Wrong(f"with {shapes}: {type(error).__name__}: {error}") from error
        for info, e, g in zip(model.graph.output, expected, got, strict=True):
            compare(e, g, RTOL, ATOL, f"with {shapes}: {info.name}")


def other_sizes(inputs: list):
    """The inputs with one more of the smallest size that is not 1, the largest, and all sizes."""
    if not all(isinstance(x, np.ndarray) for x in inputs) or not inputs:
        return
    if sum(x.size for x in inputs) > LARGEST:
        return
    sizes = sorted({d for x in inputs for d in x.shape if d > 1})
    for chosen in dict.fromkeys((*((d,) for d in sizes[:1] + sizes[1:][-1:]), tuple(sizes))):
        if chosen:
            yield [_longer(x, chosen) for x in inputs]


def _longer(x: np.ndarray, sizes: tuple) -> np.ndarray:
    for axis, d in enumerate(x.shape):
        if d in sizes:
            x = np.take(x, np.arange(d + 1) % d, axis)
    return np.ascontiguousarray(x).reshape(x.shape)


def interpreted(model: onnx.ModelProto, inputs: list) -> list | None:
    """The outputs of the model that declares the sizes of these inputs, by the ops' references;
    None if there is no such model."""
    from tessel import from_onnx
    from tessel.compiler.errors import TesselError
    from tessel.compiler.ir.interpret import interpret

    names = [i.name for i in runtime_inputs(model)]
    opened = open_model(model)
    small = {n: x for n, x in zip(names, inputs) if x.size <= 64 and x.dtype.kind in "iub"}
    for values in ({}, small):
        try:
            graph = from_onnx(
                opened, shapes={n: x.shape for n, x in zip(names, inputs)}, values=values
            )
            return interpret(graph, inputs)
        except (TesselError, ArithmeticError, LookupError, ValueError):
            continue
    return None
