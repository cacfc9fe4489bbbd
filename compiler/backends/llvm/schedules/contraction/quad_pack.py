"""Weights as quads of bytes, packed while compiling (`quads.py`)."""

import functools
from collections.abc import Iterator, Mapping
from itertools import combinations
from math import prod

import numpy as np

from .....expr.expr import Buffer
from .....kernels.machine import aligned_empty
from .....kernels.restore import Quads, Recipe
from .pack import PIECE, columns_of, source_of
from .quads import ENDS, GROUP, QUAD, runs_of
from .tiling import Tiling

FITS = 128  # |w0 + w1| at most
PAIRS = tuple(combinations(range(GROUP), 2))
IN_QUADS = ((0, 2, 1, 3), (0, 3, 1, 2))  # other ways to pair a quad's bytes than as they lie
WIDENED = (0, 2, 1, 3, 4, 6, 5, 7)  # bytes at even places, bytes at odd ones
AT_ONCE = 1 << 18  # weights that are looked at together


def pack_quads(plan: Tiling, arrays: dict[Buffer, np.ndarray]) -> np.ndarray:
    """B as [n outer…, batch…, panel, table and quads], in words."""
    c = plan.contraction
    b, outer = c.b, [a for a in plan.outer if a in c.b.free]
    places = Places.of(*runs_of(c))
    many = prod(a.extent for a in outer)
    shape = (many, plan.panels, plan.panel_pitch)
    packed = aligned_empty(prod(shape) * QUAD).view(np.int32).reshape(shape)
    packed[:] = 0
    firsts = np.array(plan.first_columns())
    some = max(1, PIECE // (QUAD * many * plan.width * plan.depth))
    for start in range(0, plan.panels, some):
        here = firsts[start : start + some]
        columns = min(plan.n.extent, here[-1] + plan.width) - here[0]
        value = columns_of(plan, b, outer, here[0], columns, arrays)
        value = value.reshape(many, columns, plan.depth).astype(np.int8)
        value = np.pad(value, [(0, 0), (0, max(0, plan.width - columns)), (0, 0)])
        few = max(1, AT_ONCE // (plan.width * plan.depth))
        for first in range(0, len(here), few):
            rows = here[first : first + few, None] - here[0] + np.arange(plan.width)
            for o in range(many):
                out = packed[o, start + first :][: len(rows)]
                _pack_panels(plan, value[o][rows], places, out)
    return packed


def share_of_quads(plan: Tiling, arrays: Mapping[Buffer, np.ndarray]) -> float:
    """The share of the first panel's quads of which no pair can overflow."""
    c, places = plan.contraction, Places.of(*runs_of(plan.contraction))
    outer = [a for a in plan.outer if a in c.b.free]
    columns = columns_of(plan, c.b, outer, 0, min(plan.width, plan.n.extent), arrays)
    panel = columns.reshape(-1, *columns.shape[-2:])[:1].astype(np.int8)
    w = places.grouped(panel).transpose(3, 1, 0, 2).astype(np.int16)
    kinds, _ = _sorted(w.reshape(GROUP, w.shape[1], -1), places.whole)
    return float((kinds.reshape(-1)[places.quads] < 2).mean())


def quad_recipes(plan: Tiling) -> Iterator[tuple[Buffer, Recipe]]:
    """How the array that B is read from is found in its quads, where B is a plain load."""
    source = source_of(plan)
    if source is None:
        return
    buffer, lead, place = source
    length, starts = runs_of(plan.contraction)
    sizes = plan.width, plan.n.extent, plan.quads.steps, plan.quad_table, plan.panel_pitch
    yield buffer, Quads(lead, *sizes, ENDS + plan.width, length, tuple(starts), place)


class Places:
    """The groups of bytes along k: `index` [group, 8] their places in k, `live` whether each is the
    group's own, `offsets` where each group begins in a row, `quads` the numbers of its halves that
    have bytes. The last group of a run begins early enough to end with it, and leaves out what the
    one before it has."""

    def __init__(self, index: np.ndarray, live: np.ndarray, offsets: np.ndarray):
        self.index, self.live, self.offsets = index, live, offsets
        halves = live.reshape(-1, 2, QUAD).any(2)
        self.quads, self.whole = np.flatnonzero(halves), halves.all(1)

    @classmethod
    def of(cls, length: int, starts: list[int]) -> "Places":
        """Of runs of `length` bytes that begin at `starts` in a row."""
        firsts = np.arange(0, length, GROUP)
        begin = np.minimum(firsts, length - GROUP)
        within = begin[:, None] + np.arange(GROUP)
        runs = np.arange(len(starts))[:, None, None] * length
        index = (runs + within).reshape(-1, GROUP)
        live = np.tile(within >= firsts[:, None], (len(starts), 1))
        return cls(index, live, (np.asarray(starts)[:, None] + begin).reshape(-1))

    def grouped(self, panels: np.ndarray) -> np.ndarray:
        """[panel, column, k] as [panel, column, group, byte]."""
        if self.live.all():
            return panels.reshape(*panels.shape[:2], -1, GROUP)
        return panels[:, :, self.index] * self.live


def _pack_panels(plan: Tiling, panels: np.ndarray, places: Places, out: np.ndarray) -> None:
    """Some panels, [panel, column, k] in bytes, with their tables."""
    width, steps, begin = plan.width, plan.quads.steps, ENDS + plan.width
    groups = places.grouped(panels)
    count, number = len(groups), len(places.offsets)
    if plan.quads.way == "dots":
        kinds = np.zeros((count * number, 2), np.int8)
        orders = np.tile(np.arange(GROUP, dtype=np.int8), (count * number, 1))
    else:
        w = groups.transpose(3, 1, 0, 2).astype(np.int16).reshape(GROUP, width, -1)
        kinds, orders = _sorted(w, np.tile(places.whole, count))
    kinds = kinds.reshape(count, -1)[:, places.quads]
    sorting = np.argsort(kinds, 1, kind="stable")
    kinds = np.take_along_axis(kinds, sorting, 1)
    quads = places.quads[sorting]  # [panel, step]: which half of which group comes when
    takes = np.take_along_axis(orders.reshape(count, -1, QUAD), quads[:, :, None], 1)
    offsets = places.offsets[quads // 2] + np.where(kinds == 1, 0, quads % 2 * QUAD)
    ends = np.stack([(kinds <= kind).sum(1) for kind in range(3)], 1)
    out[:, :3] = ends
    out[:, ENDS:begin] = panels.sum(2, dtype=np.int32)
    out[:, begin : begin + steps] = offsets
    out[:, begin + steps : begin + 2 * steps] = np.ascontiguousarray(takes).view(np.int32)[..., 0]
    lines = np.ascontiguousarray(groups.transpose(0, 2, 3, 1)).reshape(-1, width)
    first = (np.arange(count)[:, None] * number + quads // 2) * GROUP
    taken = lines[(first[:, :, None] + takes).reshape(count, -1)].reshape(count, steps, QUAD, width)
    for panel, (_, good, _), words in zip(taken, ends, out[:, plan.quad_table :]):
        words[: good * width].view(np.int8).reshape(good, width, QUAD)[:] = panel[:good].transpose(
            0, 2, 1
        )
        wide = panel[good:].reshape(-1, 2, 2, width).transpose(0, 1, 3, 2)
        into = words[good * width :][: 2 * width * (steps - good)].view(np.int16)
        into.reshape(wide.shape)[:] = wide


def _sorted(w: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of weights [byte, column, group]: the classes of both halves of each group, [group, half],
    and the bytes of a group that they take, [group, byte]. Bytes are paired across halves only in
    groups that are `whole`."""
    kinds = np.full((len(whole), 2), 2, np.int8)
    orders = np.tile(np.array(WIDENED, np.int8), (len(whole), 1))
    for half, a in enumerate((0, QUAD)):
        lying = _fits(w, a, a + 1) & _fits(w, a + 2, a + 3)
        kinds[lying, half] = 0
        orders[lying, a : a + QUAD] = np.arange(a, a + QUAD)
    some = np.flatnonzero(kinds.any(1))
    w = np.ascontiguousarray(w[:, :, some])
    fits = np.stack([_fits(w, i, j) for i, j in PAIRS])
    pairs, ways = _matchings()
    possible = np.logical_and.reduce([fits[pairs[:, n]] for n in range(QUAD)])
    matched = possible.any(0) & whole[some]
    orders[some[matched]] = ways[possible.argmax(0)][matched]
    kinds[some[matched]] = 1
    for half, a in enumerate((0, QUAD)):
        for within in IN_QUADS:
            one, two = (PAIRS.index((a + i, a + j)) for i, j in (within[:2], within[2:]))
            numbers = some[fits[one] & fits[two] & (kinds[some, half] == 2)]
            kinds[numbers, half] = 1
            orders[numbers, a : a + QUAD] = np.array(within) + a
    return kinds, orders


def _fits(w: np.ndarray, i: int, j: int) -> np.ndarray:
    """Whether the sums of two bytes of all columns, [byte, column, group], are small enough."""
    total = w[i] + w[j]
    total += FITS
    return total.view(np.uint16).max(0) <= 2 * FITS


@functools.cache
def _matchings() -> tuple[np.ndarray, np.ndarray]:
    """All ways to pair eight bytes: [way, pair] as numbers of PAIRS, [way, byte]."""

    def ways(left: tuple[int, ...]) -> list[list[tuple[int, int]]]:
        if not left:
            return [[]]
        first, *rest = left
        return [
            [(first, x), *more] for x in rest for more in ways(tuple(y for y in rest if y != x))
        ]

    found = ways(tuple(range(GROUP)))
    pairs = np.array([[PAIRS.index(p) for p in way] for way in found])
    return pairs, np.array([[x for p in way for x in p] for way in found], np.int8)
