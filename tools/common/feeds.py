"""Inputs for a model when the user has none: shapes from the command line, values from a seed.

A signature is a list of objects with `.name`, `.dtype` (numpy) and `.shape` (a tuple of ints and,
for symbolic dims, names): an executable's `inputs`, or `read_signature(path)`.

Values are plausible rather than realistic; real ones come from `--inputs FILE.npz`.

    floats              standard normal; their magnitudes for the type that has no signs
    bool                true or false
    integers            0 … 99, except where the name tells more:
      *mask*, *len*       1      (nothing masked out; a length that fits every dim)
      *type*, *segment*   0 or 1 (BERT's token types)
    strings             short words

What a model takes as indices or lengths is in the range that it allows.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import ml_dtypes
import numpy as np

from ...compiler.analysis.input_limits import InputLimit
from ...compiler.classes import dataclass
from ...compiler.errors import InputError, ModelError, UnsupportedError, UsageError
from ...compiler.ir import dims
from ...compiler.system.files import shown

Shape = tuple[int | str, ...]
DIGITS = 12  # of a dim

SHAPE_FIX = "write x:1x3x224x224 or x[1,3,224,224]; several are separated by commas or spaces"

# `name[dims]` or `name:dims`, where the name may itself contain colons (`input:0:1x3`).
_SHAPE_ITEM = re.compile(
    r"""[\s,]*
    (?P<name>[^\s,\[\]]+?)
    (?: \[(?P<listed>[^\[\]]*)\] | :(?P<crossed>[^\s,:\[\]]+) )
    (?=[\s,]|$)""",
    re.VERBOSE,
)


class Input(Protocol):
    """One entry of a signature; the inputs of an executable are such objects."""

    name: str
    dtype: np.dtype
    shape: Shape


@dataclass(frozen=True)
class ModelInput:
    """An `Input` as `read_signature` finds it in an ONNX file."""

    name: str
    dtype: np.dtype
    shape: Shape


def parse_shapes(text: str | Iterable[str] | None) -> dict[str, Shape]:
    """`"x:1x3x224x224, n[batch,4], s[]"` → `{"x": (1, 3, 224, 224), "n": ("batch", 4), "s": ()}`.

    Takes one text or several (an option given more than once). Dims are integers ≥ 0; between
    brackets a dim may also be a name, which stays symbolic.
    """
    text = "" if text is None else text if isinstance(text, str) else " ".join(text)
    shapes: dict[str, Shape] = {}
    position = 0
    while text[position:].strip(" ,\t\n"):
        item = _SHAPE_ITEM.match(text, position)
        if item is None:
            received = repr(text[position:].strip(" ,"))
            raise UsageError("This is not a shape.", received=shown(received), fix=SHAPE_FIX)
        if item["listed"] is not None:
            parts = [p.strip() for p in item["listed"].split(",")] if item["listed"].strip() else []
            shape = tuple(_dim(p, item["name"], named=True) for p in parts)
        else:
            shape = tuple(_dim(p, item["name"], named=False) for p in item["crossed"].split("x"))
        if shapes.setdefault(item["name"], shape) != shape:
            raise UsageError(
                f"Input {item['name']!r} has two shapes.",
                received=f"{shapes[item['name']]} and {shape}",
                fix="give each input one shape",
            )
        position = item.end()
    return shapes


def _dim(text: str, name: str, *, named: bool) -> int | str:
    if text.isascii() and text.isdecimal() and len(text) <= DIGITS:
        return int(text)
    if named and text.isidentifier():
        return text
    expected = f"an integer ≥ 0 of at most {DIGITS} digits" + (" or a name" if named else "")
    raise UsageError(
        f"Input {shown(name)!r}: a dim cannot be {shown(text)!r}.",
        expected=expected,
        received=shown(text),
        fix=SHAPE_FIX,
    )


def read_signature(path: str | Path) -> Sequence[Input]:
    """The inputs of an ONNX file, read without its weights, or of a `.tsl` package."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"There is no file {str(path)!r}.", fix="check the path")
    if path.suffix == ".tsl":
        from ... import load

        return load(path).inputs

    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise ModelError(
            "This is not an ONNX file.", where=str(path), received=str(error)
        ) from error
    return _onnx_signature(model, str(path))


def _onnx_signature(model, where: str) -> list[ModelInput]:
    from onnx import helper

    # Old exporters list the weights as inputs too.
    weights = {tensor.name for tensor in model.graph.initializer}
    signature = []
    for value in model.graph.input:
        if value.name in weights:
            continue
        if value.type.WhichOneof("value") != "tensor_type":
            raise UnsupportedError(
                f"Input {value.name!r} is not a tensor.",
                where=where,
                received=value.type.WhichOneof("value"),
                fix="give the inputs in a .npz file",
            )
        tensor = value.type.tensor_type
        dims = [d.dim_value if d.HasField("dim_value") else d.dim_param for d in tensor.shape.dim]
        # An unnamed dim, or the 0 that some exporters write for one, gets a name of its own.
        shape = tuple(d if d else f"{value.name}.{i}" for i, d in enumerate(dims))
        dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        signature.append(ModelInput(value.name, dtype, shape))
    return signature


def random_feeds(
    signature: Sequence[Input],
    seed: int = 0,
    shapes: Mapping[str, Shape] | None = None,
    *,
    high: int = 100,
    limits: Mapping[str, Sequence[InputLimit]] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """One array per input, the same for the same seed.

    `shapes` fixes whole shapes by input name; a symbolic dim that it fixes in one input has that
    size in all of them, others are as `sizes` has them, else 1. Integers are in [0, high), and meet
    the `limits` of their input (`compiler/analysis/input_limits.py`).
    """
    limits = {} if limits is None else limits
    shapes = {} if shapes is None else shapes
    sizes = bind_sizes(signature, shapes) | dict(sizes or {})
    rng = np.random.default_rng(seed)
    feeds = {}
    for item in signature:
        dims = shapes.get(item.name, item.shape)
        shape = [d if isinstance(d, int) else sizes.get(d, 1) for d in dims]
        low, below = _limits(limits.get(item.name, ()), sizes, high)
        values = _values(rng, item.name.lower(), np.dtype(item.dtype), shape, below)
        if item.name in limits:
            values = np.clip(values, low, below - 1).astype(values.dtype)
        feeds[item.name] = values
    return feeds


def _limits(limits: Iterable[InputLimit], sizes: Mapping[str, int], high: int) -> tuple[int, int]:
    """(low, high) of random integers that meet all limits, none below 0 unless it must be."""

    def number(d) -> int:
        return dims.substitute(d, {n: sizes.get(n, 1) for n in dims.symbols(d)})

    lows = [number(x.low) for x in limits if x.low is not None]
    highs = [number(x.high) for x in limits if x.high is not None]
    low = max([0, *lows])
    return low, max(low + 1, min([max(high, low + 1), *highs]))


def bind_sizes(signature: Sequence[Input], shapes: Mapping[str, Shape]) -> dict[str, int]:
    """Sizes of the symbolic dims, from the shapes that the user gave; all misfits in one error."""
    inputs = {item.name: item for item in signature}
    sizes: dict[str, int] = {}
    findings = []
    for name, given in shapes.items():
        if name not in inputs:
            findings.append(InputError(f"No input is called {name!r}.", expected=_listing(inputs)))
            continue
        declared = inputs[name].shape
        fits = len(declared) == len(given) and all(
            want == got or isinstance(want, str) or isinstance(got, str)
            for want, got in zip(declared, given)
        )
        if not fits:
            findings.append(
                InputError(
                    f"Input {name!r} cannot have this shape.", expected=declared, received=given
                )
            )
            continue
        for want, got in zip(declared, given):
            known = isinstance(want, str) and isinstance(got, int)
            if known and sizes.setdefault(want, got) != got:
                findings.append(
                    InputError(
                        f"Dim {want!r} has two sizes.", received=f"{sizes[want]} and {got} ({name})"
                    )
                )
    if findings:
        raise InputError(
            "The shapes do not fit the model's inputs.", fix=SHAPE_FIX, findings=findings
        )
    return sizes


def _listing(inputs: Mapping[str, Input]) -> str:
    return ", ".join(f"{i.name}[{','.join(map(str, i.shape))}]" for i in inputs.values())


def _values(rng, name: str, dtype: np.dtype, shape: list[int], high: int) -> np.ndarray:
    if dtype.kind in "OUST":
        return rng.choice(np.array(["tessel", "graph", "loop", "code"], object), shape)
    if dtype.kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind == "c":
        parts = rng.standard_normal((2, *shape))
        return np.asarray(parts[0] + 1j * parts[1]).astype(dtype)
    try:
        largest = int(ml_dtypes.iinfo(dtype).max)
    except ValueError:
        values = np.asarray(rng.standard_normal(shape), np.float32)
        if dtype.name == "float8_e8m0fnu":  # has powers of two only
            values = np.abs(values)
        return values.astype(dtype)
    if "mask" in name or "len" in name:
        return np.ones(shape, dtype)
    if "type" in name or "segment" in name:
        high = 2
    return np.asarray(rng.integers(0, min(high, largest + 1), shape)).astype(dtype)
