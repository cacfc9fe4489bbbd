"""Arrays in packages: a safetensors section for the graph's, a packed one for the code's.

safetensors: u64 length of the header, header (JSON), data without holes. It is written here
rather than by the library so that weights go to the file without a copy in memory and are mapped
when read; any safetensors reader can open the section. Types that the format lacks are stored as
bytes, with their own name in the metadata.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Self

import numpy as np

from ...compiler.errors import PackageError
from ...compiler.ir.types import DTYPES, STR, dtype_of
from ...compiler.kernels.restore import Recipe, read, restored, written
from ...compiler.system.nesting import read_json

ALIGNMENT = 64
_NAMES = {
    "f64": "F64",
    "f32": "F32",
    "f16": "F16",
    "bf16": "BF16",
    "f8e4m3fn": "F8_E4M3",
    "f8e5m2": "F8_E5M2",
    "i64": "I64",
    "i32": "I32",
    "i16": "I16",
    "i8": "I8",
    "u64": "U64",
    "u32": "U32",
    "u16": "U16",
    "u8": "U8",
    "bool": "BOOL",
}


def _numeric(table: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that have bytes, widest elements first so that all are aligned."""
    found = {n: a for n, a in table.items() if dtype_of(a) != STR}
    return dict(sorted(found.items(), key=lambda t: -t[1].itemsize))


def _bytes(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def safetensors_pieces(table: Mapping[str, np.ndarray]) -> Iterator:
    """The section's bytes, piece by piece."""
    header: dict[str, dict] = {}
    others: dict[str, str] = {}
    at = 0
    arrays = _numeric(table)
    for name, a in arrays.items():
        dtype = dtype_of(a).name
        if dtype not in _NAMES:
            others[name] = dtype
        header[name] = {
            "dtype": _NAMES.get(dtype, "U8"),
            "shape": list(a.shape),
            "data_offsets": [at, at + a.nbytes],
        }
        at += a.nbytes
    header["__metadata__"] = {"format": "tessel", "dtypes": json.dumps(others)}
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    yield len(text).to_bytes(8, "little") + text
    for a in arrays.values():
        yield _bytes(a)


def read_safetensors(section: np.ndarray, where: str) -> dict[str, np.ndarray]:
    """The arrays of a section, as views of it."""
    try:
        length = int.from_bytes(bytes(section[:8]), "little")
        header = read_json(bytes(section[8 : 8 + length]), "their header", PackageError, where)
        others = json.loads(header.pop("__metadata__", {}).get("dtypes", "{}"))
        types = {text: name for name, text in _NAMES.items()}
        data = section[8 + length :]
        result = {}
        for name, entry in header.items():
            dtype = DTYPES[others.get(name) or types[entry["dtype"]]]
            start, end = entry["data_offsets"]
            result[name] = data[start:end].view(dtype.numpy).reshape(entry["shape"])
        return result
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PackageError(f"its weights cannot be read: {error}", where=where) from None


def strings(table: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """String arrays, for the manifest."""
    return {
        n: {"shape": list(a.shape), "values": [str(x) for x in a.reshape(-1)]}
        for n, a in table.items()
        if dtype_of(a) == STR
    }


def read_strings(table: Mapping[str, Mapping]) -> dict[str, np.ndarray]:
    return {
        n: np.array(entry["values"], object).reshape(entry["shape"]) for n, entry in table.items()
    }


class Packed:
    """The weights that code reads: a name in the graph's table, or a place in its own section."""

    def __init__(self, table: Mapping[str, np.ndarray]):
        self._known: dict[tuple, str | int] = {_identity(a): name for name, a in table.items()}
        self._memory = {_memory(a): name for name, a in table.items()}
        self._read: set[str] = set()  # names of arrays that code reads
        self._recipes: dict[str, dict[tuple[int, Recipe], None]] = {}
        self._arrays: dict[int, np.ndarray] = {}
        self._size = 0
        # [offset, bytes, dtype, shape] of each packed array; strings have their texts there too
        self.places: list[list] = []

    def add(self, array: np.ndarray) -> str | int:
        """Where the loader finds `array`: the graph's name, or a number in `places`."""
        found = self._add(array)
        if isinstance(found, str):
            self._read.add(found)
        return found

    def restores(self, place: str | int, source: np.ndarray, recipe: Recipe) -> str | None:
        """The name of the array `source`, of which the packed one at `place` may hold elements."""
        name = self._known.get(_identity(source))
        if name is None:
            name = self._memory.get(_memory(source))
        if not isinstance(name, str) or not isinstance(place, int):
            return None
        self._recipes.setdefault(name, {}).setdefault((place, recipe))
        return name

    def take_restorable(self, table: dict[str, np.ndarray]) -> dict[str, dict]:
        """Take the arrays out of `table` that nobody reads and packed ones hold, bit by bit; and
        for each of them what `Weights` needs to know."""
        taken = {}
        for name, recipes in self._recipes.items():
            array = table[name]
            if name in self._read or not self._hold(list(recipes), array):
                continue
            taken[name] = {
                "dtype": dtype_of(array).name,
                "shape": list(array.shape),
                "from": [[place, written(recipe)] for place, recipe in recipes],
            }
            del table[name]
        return taken

    def _hold(self, recipes: list, array: np.ndarray) -> bool:
        known = [(self._arrays[place], recipe) for place, recipe in recipes]
        try:
            found = restored(known, array.dtype, array.shape)
        except ValueError:
            return False
        return np.array_equal(_bytes(found), _bytes(array))

    def _add(self, array: np.ndarray) -> str | int:
        key = _identity(array)
        if key not in self._known:
            self._known[key] = number = len(self.places)
            if dtype_of(array) == STR:
                texts = [str(x) for x in array.reshape(-1)]
                self.places.append([0, 0, STR.name, list(array.shape), texts])
                return number
            self.places.append([self._size, array.nbytes, dtype_of(array).name, list(array.shape)])
            self._arrays[number] = array
            self._size += -(-array.nbytes // ALIGNMENT) * ALIGNMENT
        return self._known[key]

    def pieces(self) -> Iterator:
        for a in self._arrays.values():
            yield _bytes(a)
            yield bytes(-a.nbytes % ALIGNMENT)


def _identity(a: np.ndarray) -> tuple:
    """Equal for arrays that are the same memory."""
    return a.__array_interface__["data"][0], a.shape, a.strides, a.dtype


def _memory(a: np.ndarray) -> tuple | None:
    """Equal for arrays that are the same bytes, whatever their shape."""
    if not a.flags.c_contiguous or not a.nbytes:
        return None
    return a.__array_interface__["data"][0], a.nbytes, a.dtype


class Weights(Mapping[str, np.ndarray]):
    """The graph's arrays by name: those that are `stored`, and those that are restored from packed
    ones when somebody asks for them. `packed` gives a packed array by its number."""

    def __init__(
        self,
        stored: Mapping[str, np.ndarray],
        described: Mapping[str, Mapping],
        packed: Callable[[int], np.ndarray],
        where: str,
    ):
        self._stored, self._described = dict(stored), described
        self._packed, self._where = packed, where

    @classmethod
    def of(cls, manifest: Mapping, weights: np.ndarray, packed: np.ndarray, where: str) -> Self:
        """Those of a package, from its manifest and the bytes of its sections."""
        stored = read_safetensors(weights, where) | read_strings(manifest["strings"])
        described = manifest.get("restored", {})  # older packages have none
        return cls(stored, described, partial(packed_array, manifest["packed"], packed), where)

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._stored and name in self._described:
            self._stored[name] = self._restored(self._described[name])
        return self._stored[name]

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*self._stored, *self._described)))

    def __len__(self) -> int:
        return len(dict.fromkeys(self))

    def _restored(self, entry: Mapping) -> np.ndarray:
        try:
            recipes = [(self._packed(place), read(recipe)) for place, recipe in entry["from"]]
            dtype, shape = DTYPES[entry["dtype"]].numpy, tuple(entry["shape"])
            array = restored(recipes, dtype, shape)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise PackageError(
                f"its weights cannot be read: {type(error).__name__}: {error}", where=self._where
            ) from None
        array.flags.writeable = False
        return array


def packed_array(places: Sequence[list], section: np.ndarray, number: int) -> np.ndarray:
    """One packed array, as a view of its section."""
    offset, nbytes, dtype, shape, *texts = places[number]
    if dtype == STR.name:
        return np.array(texts[0], object).reshape(shape)
    return section[offset : offset + nbytes].view(DTYPES[dtype].numpy).reshape(shape)
