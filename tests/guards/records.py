"""Cases of op records: a sample with other sizes, some of its dims symbols, some operands weights.

ops/NAME.SAMPLE/SEED
"""

import random
from dataclasses import replace

import numpy as np
from tessel.compiler.errors import InternalError, KernelError, TesselError
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dims import Sym
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.ir.op import OPS
from tessel.compiler.ir.types import MapType, TensorType, dtype_of, tensor_type_of

from . import perturb
from .subject import Feed, Refused, Subject, tolerance

# Ops whose results mean something for some inputs only, which other values need not be.
UNSPECIFIED = {
    "choose_places": "the limit is the k-th key",
    "find_sorted": "the vector is sorted",
    "max_unpool": "the indices are those of a pool",
    "place": "ranks are a permutation",
    "radix_order": "the order is a permutation",
    "search": "keys are sorted and differ",
    "tree_leaves": "nodes are those of trees",
}


def names() -> list[str]:
    return [f"ops/{op.name}.{i}" for op in OPS.values() for i, _ in enumerate(op.samples())]


def subject(name: str, rng: random.Random) -> Subject:
    """Raises Refused."""
    op, _, number = name.removeprefix("ops/").rpartition(".")
    op = OPS[op]
    sample = list(op.samples())[int(number)]
    sample = replace(sample, inputs=tuple(_array(x) for x in sample.inputs))
    style = rng.choice(["fixed", "fixed", "own symbols", "own symbols", "shared symbols"])
    wanted, feeds = perturb.several(sample.inputs, style != "fixed", rng)
    first = wanted[0] if style == "fixed" else [getattr(x, "shape", None) for x in sample.inputs]
    weights = _weights(sample, rng) if style == "fixed" else ()
    graph = _graph(op, sample, first, style, weights, feeds[0][0], rng)

    def fed(arrays):
        return {f"x{i}": x for i, x in enumerate(arrays) if x is not None and i not in weights}

    return Subject(
        graph,
        [Feed(fed(a), planned, op.name not in UNSPECIFIED) for a, planned in feeds],
        lambda arrays: interpret(graph, [arrays[v.name] for v in graph.inputs]),
        tolerance(sample.inputs, 4 * sample.rtol),
        about=f"{op.name} {style} {dict(sample.attrs)}"[:300] + f" of {_shown(graph)}",
    )


def _array(x):
    """A number as an array; None and maps as they are."""
    return x if x is None or isinstance(x, dict) else np.asarray(x)


def _weights(sample, rng: random.Random) -> tuple[int, ...]:
    """Operands that are constants; one at least stays an input."""
    places = [i for i, x in enumerate(sample.inputs) if isinstance(x, np.ndarray)]
    if len(places) < 2 or rng.random() < 0.6:
        return ()
    return tuple(rng.sample(places, rng.randrange(1, len(places))))


def _graph(op, sample, shapes, style: str, weights, arrays, rng: random.Random):
    b = Builder(name=op.name)
    operands = []
    for i, (x, shape) in enumerate(zip(sample.inputs, shapes)):
        if x is None:
            operands.append(None)
        elif i in weights:
            operands.append(b.constant(arrays[i], name=f"x{i}"))
        elif isinstance(x, np.ndarray):
            dims = [_dim(n, i, d, style, rng) for d, n in enumerate(shape)]
            operands.append(b.input(f"x{i}", TensorType(dtype_of(x), tuple(dims))))
        else:
            operands.append(b.input(f"x{i}", _map_type(x)))
    try:
        results = b.emit(op.name, *operands, **sample.attrs)
    except (InternalError, KernelError):
        raise
    except TesselError as error:
        raise Refused(str(error)) from error
    except TypeError as error:  # Python's comparison of dims: shapes do not follow without sizes
        if style == "fixed":
            raise
        raise Refused(str(error)) from error
    for i, y in enumerate(results if isinstance(results, tuple) else (results,)):
        b.output(f"y{i}", y)
    return b.graph


def _dim(n: int, operand: int, axis: int, style: str, rng: random.Random):
    if style == "fixed" or rng.random() < 0.06:
        return n
    return Sym.named(f"d{n}" if style == "shared symbols" else f"d{operand}_{axis}")


def _map_type(x: dict) -> MapType:
    (key, value), *_ = x.items()
    return MapType(dtype_of(np.asarray(key)), tensor_type_of(np.asarray(value)))


def _shown(graph) -> str:
    return ", ".join(f"{v.name}: {v.type}" for v in graph.inputs)
