"""`--inputs`: what a user gives, as arrays by the names of inputs.

    --inputs in.npz                     arrays by name, all that the model needs
    --inputs test_data_set_0            a folder with input_0.pb, input_1.pb, … as ONNX's tests have
    --inputs shape=[1,4]                numbers, true, false, "texts", lists of them: JSON
    --inputs x=x.npy                    an array
    --inputs image=cat.png              pixels, fitted to the input (`images.py`)

Values become what the input wants where that is exact: 1 is a float and an integer, 1.5 no integer.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
from google.protobuf.message import DecodeError

from ...compiler.classes import dataclass
from ...compiler.errors import InputError, ModelError, UsageError
from ...compiler.ir.types import AnyRank, DType, OptionalType, SequenceType, TensorType, Type
from ...compiler.system.files import reading, shown, size_of
from ...compiler.system.nesting import read_json
from ...frontends.onnx.file import proto as pb
from ...runtime.base.signature import Port
from .images import SUFFIXES, fitted
from .terminal import say

FIX = "--inputs FILE.npz, FOLDER of input_0.pb, or NAME=VALUE: JSON, a .npy file or an image"
Ports = Callable[[], Sequence[Port]]


@dataclass(frozen=True)
class Given:
    """Arrays by name, and where they are from; `whole`: a file or folder that should have all."""

    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    where: str = "--inputs"
    whole: bool = False

    def __bool__(self):
        return bool(self.where != "--inputs" or self.arrays)


def read_given(texts: Iterable[str], ports: Ports) -> Given:
    """What all `--inputs` together say; `ports()` are the model's inputs. Raises UsageError,
    InputError for values that are none of the input's."""
    arrays: dict[str, np.ndarray] = {}
    files = []
    for text in texts:
        path = Path(text)
        name, equals, value = text.partition("=")
        if equals and not _exists(path):
            found = {name: _named(name, value, _type_of(name, ports()))}
        elif _exists(path) and path.is_dir():
            found = read_folder(path, "input", ports())
        else:
            found = load_npz(text)
        if not equals or _exists(path):
            files.append(text)
        twice = [n for n in found if n in arrays]
        if twice:
            raise UsageError("an input is given twice", received=", ".join(twice))
        arrays |= found
    return Given(arrays, ", ".join(files) or "--inputs", bool(files))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # longer than a name can be: a value
        return False


def load_npz(path: str) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file; pickled ones, which would run code, are refused."""
    with reading(path, UsageError, fix=FIX) as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                return dict(arrays)
        except MemoryError:
            raise
        except Exception as error:  # of zip files, of pickles, of headers that numpy evaluates
            raise UsageError(
                f"this is not a .npz of plain arrays: {error}", where=shown(path), fix=FIX
            ) from error


def load_npy(path: str) -> np.ndarray:
    """The array of a `.npy` file; pickles are refused."""
    with reading(path, UsageError) as file:
        try:
            return np.lib.format.read_array(file, allow_pickle=False)
        except MemoryError:
            raise
        except Exception as error:
            raise UsageError(
                f"this is not a .npy of a plain array: {error}", where=shown(path)
            ) from error


# -- one input --------------------------------------------------------------------------------


def _type_of(name: str, ports: Sequence[Port]) -> Type:
    """The type of an input, or of an item of a list: xs[0]."""
    types = {p.name: p.type for p in ports}
    base, places = name, 0
    while base not in types and (item := re.fullmatch(r"(.*)\[\d+\]", base)):
        base, places = item[1], places + 1
    if base not in types:
        raise InputError(f"no input is called {shown(name)!r}", expected=", ".join(map(str, ports)))
    found = types[base]
    while isinstance(found, (OptionalType, SequenceType)):
        places -= isinstance(found, SequenceType)
        found = found.element
    if places or not isinstance(found, (TensorType, AnyRank)):
        raise InputError(
            f"a value cannot be given to {shown(name)!r} like this",
            expected=f"{base}: {types[base]}",
            fix=f"items of lists have names: {base}[0]=…",
        )
    return found


def _named(name: str, value: str, type: Type) -> np.ndarray:
    suffix = Path(value).suffix.lower()
    if suffix == ".npy":
        return load_npy(value)
    if suffix in SUFFIXES:
        array, said = fitted(value, name, type)
        say(f"note: {said}")
        return array
    where, dtype = f"input {shown(name)}", type.dtype
    if dtype.kind == "s" and not value.lstrip().startswith(("[", '"')):
        return _shaped(np.array(value, object), type)
    try:
        parsed = read_json(value.encode(), "the value", UsageError, where)
    except UsageError as error:
        raise UsageError(error.message, where=where, received=shown(value), fix=FIX) from None
    return _shaped(_array(parsed, dtype, where), type)


def _shaped(array: np.ndarray, type: Type) -> np.ndarray:
    """A number as the only element that an input has."""
    rank = type.rank if isinstance(type, TensorType) else array.ndim
    single = (
        array.ndim == 0 and all(not isinstance(d, int) or d == 1 for d in type.shape[:rank])
        if isinstance(type, TensorType)
        else False
    )
    return array.reshape((1,) * rank) if single else array


def _array(value, dtype: DType, where: str) -> np.ndarray:
    """What JSON said as an array of this dtype, exactly. Raises InputError."""
    shape, leaves = _flatten(value, where)
    wrong = next((x for x in leaves if not _fits(x, dtype)), None)
    if wrong is not None or (None in leaves):
        raise InputError(
            "an element does not fit the input",
            where=where,
            expected=str(dtype),
            received=json.dumps(wrong),
        )
    kind = {"s": object, "f": np.float64, "b": np.bool_}.get(dtype.kind, object)
    flat = np.empty(len(leaves), kind)
    flat[:] = leaves
    if dtype.kind not in "sfb":
        flat = flat.astype(np.uint64 if dtype.kind == "u" else np.int64)
    with np.errstate(over="ignore"):
        array = flat.astype(dtype.numpy)
    if dtype.is_float and any(np.isinf(array.astype(np.float64)) != np.isinf(flat)):
        raise InputError(
            "an element is too large for the input",
            where=where,
            expected=str(dtype),
            received=shown(json.dumps(value)),
        )
    return array.reshape(shape)


def _fits(x, dtype: DType) -> bool:
    match dtype.kind:
        case "s":
            return isinstance(x, str)
        case "b":
            return isinstance(x, bool)
        case "f":
            whole = isinstance(x, int) and not isinstance(x, bool)
            return isinstance(x, float) or (whole and abs(x) < 1 << 1023)
        case "i" | "u":
            whole = isinstance(x, int) and not isinstance(x, bool)
            info = ml_dtypes.iinfo(dtype.numpy)
            return whole and int(info.min) <= x <= int(info.max)
    return False


def _flatten(value, where: str) -> tuple[tuple[int, ...], list]:
    """The shape of nested lists, and their elements. Raises InputError for ragged ones."""
    shape, items = [], [value]
    while items and isinstance(items[0], list):
        sizes = {len(x) if isinstance(x, list) else None for x in items}
        if len(sizes) > 1:
            break
        shape.append(len(items[0]))
        items = [y for x in items for y in x]
    if any(isinstance(x, (list, dict)) for x in items):
        raise InputError(
            "lists within lists have one length, and hold numbers or texts",
            where=where,
            received=shown(json.dumps(value)),
        )
    return tuple(shape), items


# -- folders of ONNX's tests ------------------------------------------------------------------


def read_folder(folder: Path, kind: str, ports: Sequence[Port]) -> dict[str, np.ndarray]:
    """`input_0.pb`, … (or `output_0.pb`, …) in the order of the ports. Lists are taken apart, as in
    a `.npz`. Raises UsageError, ModelError."""
    names = ((re.fullmatch(rf"{kind}_(\d+)\.pb", p.name), p) for p in folder.iterdir())
    found = sorted((int(m[1]), p) for m, p in names if m)
    if not found:
        raise UsageError(f"the folder has no {kind}_0.pb", where=shown(folder), fix=FIX)
    if found[-1][0] >= len(ports):
        raise InputError(
            f"the folder has more than the model's {len(ports)} {kind}s",
            where=shown(folder),
            received=found[-1][1].name,
        )
    arrays: dict[str, np.ndarray] = {}
    for number, path in found:
        arrays |= _read_value(path, ports[number].name, ports[number].type)
    return arrays


def _read_value(path: Path, name: str, type: Type) -> dict[str, np.ndarray]:
    with reading(path, UsageError) as file:
        data = file.read(size_of(file))
    message = {OptionalType: onnx.OptionalProto, SequenceType: onnx.SequenceProto}.get(
        type.__class__, onnx.TensorProto
    )
    try:
        return dict(_arrays(message.FromString(data), name, shown(path)))
    except DecodeError:
        raise ModelError(
            "this is not ONNX's file of a value, or it is damaged",
            where=shown(path),
            expected=message.DESCRIPTOR.name,
        ) from None


def _arrays(value, name: str, where: str) -> Iterable[tuple[str, np.ndarray]]:
    match value:
        case onnx.TensorProto():
            yield name, pb.to_array(value, None, where)
        case onnx.SequenceProto():
            for i, item in enumerate((*value.tensor_values, *value.sequence_values)):
                yield from _arrays(item, f"{name}[{i}]", where)
        case onnx.OptionalProto():
            if value.HasField("tensor_value"):
                yield from _arrays(value.tensor_value, name, where)
            elif value.HasField("sequence_value"):
                yield from _arrays(value.sequence_value, name, where)
