"""Arrays back out of the packed constants that were made of them.

A schedule that packs constants says by recipes which of their elements its packed form holds, and
where (`Schedule.restores`). So a package keeps the packed form alone, and restores an array where
something asks for it after all. Who leaves an array out compares what recipes give with it, bit by
bit: a recipe is a way to try.

A recipe is data: `written` and `read` turn it into JSON and back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import prod
from typing import Any

import numpy as np

from ..classes import dataclass
from ..ir.types import DTYPES
from .codes import pack_codes

PIECE = 1 << 22  # codes that are unpacked at a time


@dataclass(frozen=True)
class Place:
    """Where numbers [shape] lie in an array, in elements: from `offset` on, `strides` apart."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    def put(self, values: np.ndarray, into: np.ndarray) -> None:
        """Store `values`, of as many elements, into a flat array. Raises ValueError for places
        outside of it."""
        ends = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        low = self.offset + sum(min(0, end) for end in ends)
        high = self.offset + sum(max(0, end) for end in ends)
        if low < 0 or high >= into.size or min(self.shape, default=1) < 1:
            raise ValueError("a recipe stores outside of its array")
        strides = [s * into.itemsize for s in self.strides]
        view = np.lib.stride_tricks.as_strided(into[self.offset :], self.shape, strides)
        view[...] = values.reshape(self.shape)


@dataclass(frozen=True)
class Panels:
    """Out of panels [lead…, panel, step, column, each] of `dtype`: `columns` columns of `depth`
    elements, of which the last panel's overlap those before it. They are placed as [lead…, column,
    what is along `depth`…]. A step may have columns of several `sums`, those of this `number`."""

    dtype: str
    lead: tuple[int, ...]
    width: int
    each: int
    columns: int
    depth: int
    place: Place
    sums: int = 1
    number: int = 0

    def restore(self, packed: np.ndarray, into: np.ndarray) -> None:
        """Store what is in `packed` (bytes) into a flat array."""
        numbers = packed.reshape(-1).view(DTYPES[self.dtype].numpy)
        panels, steps = -(-self.columns // self.width), -(-self.depth // self.each)
        numbers = numbers.reshape(*self.lead, panels, steps, self.sums, self.width, self.each)
        numbers = numbers[..., self.number, :, :]
        values = np.moveaxis(numbers, -2, -3)  # [lead…, panel, column, step, each]
        for p in range(panels):
            first = max(0, min(p * self.width, self.columns - self.width))
            count = min(self.width, self.columns)
            part = values[(..., p, slice(0, count), slice(None), slice(None))]
            part = part.reshape(*self.lead, count, steps * self.each)[..., : self.depth]
            place = self.place
            at = place.offset + first * place.strides[len(self.lead)]
            shape = (*place.shape[: len(self.lead)], count, *place.shape[len(self.lead) + 1 :])
            Place(shape, place.strides, at).put(part, into)


@dataclass(frozen=True)
class Blocks:
    """Out of panels of blocks of codes (`schedules/blocks/planes.py`), `start` bytes into them.

    `part` is a block's codes or numbers of its columns. These are `dtype`, `at` bytes into it. They
    are placed as [column, block, what is along it…]; without a place, codes are packed, `bits` of
    them, as matmul_blocks has them.
    """

    part: str
    start: int
    columns: int
    blocks: int
    block: int
    block_bytes: int
    bits: int
    planes: tuple[tuple[int, int, int, int], ...]  # bits, shift, first vector, vectors
    lanes: int
    vectors: int
    chunks: int
    least: int
    dtype: str
    at: int
    place: Place | None

    @property
    def width(self) -> int:
        return self.lanes * self.vectors

    def restore(self, packed: np.ndarray, into: np.ndarray) -> None:
        """Store what is in `packed` (bytes) into a flat array."""
        panels = -(-self.columns // self.width)
        whole = packed.reshape(-1)[self.start :].reshape(panels, self.blocks, self.block_bytes)
        some = max(1, PIECE // (self.width * self.blocks * self.block))
        get = self._codes if self.part == "codes" else self._numbers
        for start in range(0, panels, some):
            values = get(whole[start : start + some])  # [panel, column, block, …]
            for p, own in enumerate(values, start):
                first = max(0, min(p * self.width, self.columns - self.width))
                self._put(own[: self.columns], first, into)

    def _put(self, values: np.ndarray, first: int, into: np.ndarray) -> None:
        if self.place is None:
            found = pack_codes(values, self.bits)
            size = found[0].size
            into[first * size :][: found.size] = found.reshape(-1)
            return
        if self.least:
            values = values.astype(np.int32) + self.least
        place = self.place
        shape = (len(values), *place.shape[1:])
        at = place.offset + first * place.strides[0]
        Place(shape, place.strides, at).put(values.astype(into.dtype), into)

    def _codes(self, panels: np.ndarray) -> np.ndarray:
        words, narrowest = 4, self.planes[-1][0]
        vectors = sum(own for *_, own in self.planes)
        shape = (len(panels), self.blocks, self.chunks, self.vectors, vectors, self.lanes, words)
        data = panels[..., : prod(shape[2:])].reshape(shape)
        total: Any = None
        for bits, shift, first, own in self.planes:
            part = data[..., first : first + own, :, :]
            mask = np.uint8((1 << bits) - 1)
            fields = [(part >> np.uint8(h * bits)) & mask for h in range(8 // bits)]
            # [panel, block, chunk, vector, plane's vector, field, lane, byte]
            found = np.stack(fields, 5) << np.uint8(shift)
            found = found.transpose(0, 3, 6, 1, 2, 4, 5, 7)
            steps = words * 8 // narrowest
            found = found.reshape(len(panels), self.width, self.blocks, self.chunks * steps)
            total = found if total is None else total | found
        return total[..., : self.block]

    def _numbers(self, panels: np.ndarray) -> np.ndarray:
        dtype = DTYPES[self.dtype].numpy
        data = panels[..., self.at : self.at + self.width * dtype.itemsize]
        return np.ascontiguousarray(data).view(dtype).transpose(0, 2, 1)


@dataclass(frozen=True)
class Quads:
    """Out of panels of quads of bytes behind tables (`contraction/quads.py`), [lead, panel, word]:
    `columns` of elements along k, whose `length` bytes of each run lie from one of `starts` on in a
    row of the other factor. A table says of its quads how many are bytes (`ends`: which number of
    it), where they lie in a row (from its number `offsets` on) and, after these, what they take."""

    lead: tuple[int, ...]
    width: int
    columns: int
    steps: int
    table: int
    pitch: int
    offsets: int
    length: int
    starts: tuple[int, ...]
    place: Place

    def restore(self, packed: np.ndarray, into: np.ndarray) -> None:
        """Store what is in `packed` (bytes) into a flat array."""
        many, panels = prod(self.lead), -(-self.columns // self.width)
        words = packed.reshape(-1).view(np.int32).reshape(many, panels, self.pitch)
        k_of = np.zeros(max(self.starts) + self.length, np.int64)
        for run, start in enumerate(self.starts):
            k_of[start : start + self.length] = run * self.length + np.arange(self.length)
        values = np.zeros((many, self.columns, len(self.starts) * self.length), into.dtype)
        for number, panel in np.ndindex(many, panels):
            first = max(0, min(panel * self.width, self.columns - self.width))
            places, found = self._quads(words[number, panel])
            # Bytes that a quad leaves out are zero in all columns.
            some = found.any(1)
            own = values[number, first : first + self.width]
            own[:, k_of[places[some]]] = found[some, : len(own)].T
        self.place.put(values, into)

    def _quads(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where each byte of a panel's quads lies in a row, and its weights [byte, column]."""
        lying, good = int(words[0]), int(words[1])
        begin = self.offsets + self.steps
        offsets = words[self.offsets : begin].astype(np.int64)
        takes = np.ascontiguousarray(words[begin : begin + self.steps]).view(np.int8).reshape(-1, 4)
        within = np.tile(np.arange(4), (self.steps, 1))
        within[lying:good] = takes[lying:good]
        within[good:] = 0, 2, 1, 3
        quads = words[self.table :][: good * self.width].view(np.int8)
        found = [quads.reshape(good, self.width, 4).transpose(0, 2, 1).reshape(-1, self.width)]
        wide = words[self.table + good * self.width :][: 2 * (self.steps - good) * self.width]
        halves = wide.view(np.int16).reshape(-1, 2, self.width, 2).transpose(0, 1, 3, 2)
        found.append(halves.reshape(-1, self.width).astype(np.int8))
        return (offsets[:, None] + within).reshape(-1), np.concatenate(found)


Recipe = Panels | Blocks | Quads
KINDS: dict[str, type[Recipe]] = {"panels": Panels, "blocks": Blocks, "quads": Quads}


def restored(
    recipes: Sequence[tuple[np.ndarray, Recipe]], dtype: np.dtype, shape: tuple[int, ...]
) -> np.ndarray:
    """The array of which (packed constant, recipe) hold the elements. Raises ValueError for
    recipes that do not fit."""
    array = np.zeros(prod(shape), dtype)
    for packed, recipe in recipes:
        recipe.restore(packed.reshape(-1).view(np.uint8), array)
    return array.reshape(shape)


def written(recipe: Recipe) -> dict[str, Any]:
    """What `read` reads, in JSON."""
    (kind,) = (name for name, c in KINDS.items() if isinstance(recipe, c))
    return {"kind": kind, **asdict(recipe)}


def read(data: Mapping[str, Any]) -> Recipe:
    """A recipe from JSON. Raises what nonsense raises."""
    fields = {k: _tuples(v) for k, v in data.items() if k not in ("kind", "place")}
    place = data["place"]
    if place is not None:
        fields["place"] = Place(**{k: _tuples(v) for k, v in place.items()})
    return KINDS[data["kind"]](**{"place": None, **fields})


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value
