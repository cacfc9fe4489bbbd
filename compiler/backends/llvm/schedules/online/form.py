"""How a product with a softmax's weights is cut into blocks and tiles, as data: `Blocks`."""

from math import ceil

from .....classes import dataclass
from .....ir.bounds import size_hint
from .....ir.dims import Sym, ceil_div, prod
from .....kernels.machine import LINE, Machine
from .....kernels.online import Online
from .....kernels.tiling import Tile, fits_registers, linear_load

KEYS = 256  # keys of a block at most
ROWS = 256  # rows of a block at most
FEWEST = 64  # rows of a block, where there are so many
UNITS = 4  # blocks of rows that threads may share, where there are enough rows
STEP = 1.0  # cycles around a step
LATENCY = 4.0  # from a multiply-add to the next one that needs it
WIDEST = 6  # vectors of a tile
DEEPEST = 512  # of what is summed for a score, and columns: panels of those stay near


@dataclass(frozen=True)
class Blocks:
    """`rows` and `keys` of a block; its scores are made by tiles of `tile`, what they weigh by
    tiles of `rows` × `vectors` vectors."""

    online: Online
    lanes: int
    tile: Tile
    vectors: int
    rows: int
    keys: int

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return self.online.reduce.dtype.bytes

    @property
    def depth(self) -> int:
        return self.online.depth[0].extent

    @property
    def columns(self) -> int:
        return self.online.column.extent

    @property
    def width(self) -> int:
        """Keys of a panel."""
        return self.tile.vectors * self.lanes

    @property
    def value_width(self) -> int:
        """Columns of a panel of values."""
        return self.vectors * self.lanes

    @property
    def is_single(self) -> bool:
        """Whether one block has all keys, so that no maximum is found anew."""
        extent = self.online.key.extent
        return not isinstance(extent, Sym) and extent <= self.keys

    @property
    def row_blocks(self):
        return ceil_div(self.online.row.extent, self.rows)

    @property
    def turns_keys(self) -> bool:
        """Whether keys are rows in memory, turned into panels in registers."""
        read = linear_load(self.online.keys)
        if read is None or self.depth < self.lanes:
            return False
        return read[0].get(self.online.depth[0]) == 1

    # -- scratch memory, in elements ------------------------------------------------------

    @property
    def query_pitch(self) -> int:
        return _pitch(ceil(self.depth / self.lanes) * self.lanes, self.size)

    @property
    def score_pitch(self) -> int:
        return _pitch(ceil(self.keys / self.width) * self.width, self.size)

    @property
    def sum_pitch(self) -> int:
        """From one row of sums that wait to the next."""
        return ceil(self.columns / self.value_width) * self.value_width

    @property
    def groups(self) -> int:
        """Vectors of rows."""
        return ceil(self.rows / self.lanes)

    @property
    def regions(self) -> dict[str, int]:
        """What lies in scratch memory, and how many elements each takes."""
        each = self.groups * self.lanes
        return {
            "panel": max(self.depth * self.width, self.keys * self.value_width),
            "query": self.rows * self.query_pitch,
            "scores": self.rows * self.score_pitch,
            "partial": each * self.lanes,  # the greatest of each lane, then the sum
            "most": each,
            "total": each,
            "shrunk": each,  # what earlier sums are multiplied with
            "inverse": each,
            "sums": 0 if self.is_single else self.rows * self.sum_pitch,
        }

    def start_of(self, region: str) -> int:
        start, line = 0, LINE // self.size
        for name, size in self.regions.items():
            if name == region:
                return start
            start += ceil(size / line) * line
        return start

    @property
    def scratch(self) -> int:
        """Bytes."""
        return self.start_of("") * self.size


def _pitch(elements: int, size: int) -> int:
    """An odd number of cache lines, so that the rows of a tile lie in different sets."""
    line = LINE // size
    return (ceil(elements / line) | 1) * line


def choose_blocks(online: Online, target: Machine) -> Blocks:
    """The blocks of known sizes, or of those to expect."""
    dtype = online.reduce.dtype
    lanes = target.lanes(dtype.bits)
    rows, keys = size_hint(online.row.extent), size_hint(online.key.extent)
    depth, columns = online.depth[0].extent, online.column.extent
    is_open = isinstance(online.key.extent, Sym)
    cuts = ceil(keys / KEYS)
    block = KEYS if is_open else ceil(keys / cuts)
    tile, vectors = _tiles(rows, block, depth, columns, lanes, target)
    if cuts > 1 or is_open:
        block = ceil(block / (tile.vectors * lanes)) * tile.vectors * lanes
    row = block + depth + (columns if cuts > 1 or is_open else 0)
    most = max(FEWEST, min(ROWS, target.l2 * 9 // 16 // (row * dtype.bytes)))
    if isinstance(online.row.extent, Sym):
        rows = max(rows, FEWEST)
    pieces = ceil(rows / most)
    outer = size_hint(prod([a.extent for a in online.outer]))
    while outer * pieces < UNITS and ceil(rows / (pieces + 1)) >= FEWEST:
        pieces += 1
    height = ceil(ceil(rows / pieces) / tile.rows) * tile.rows
    return Blocks(online, lanes, tile, vectors, height, block)


def _tiles(
    rows: int, keys: int, depth: int, columns: int, lanes: int, target: Machine
) -> tuple[Tile, int]:
    """Tiles of as many rows for both products that take the fewest cycles."""
    embedded = target.vector_bytes == 64

    def best(height: int, width: int) -> tuple[float, int]:
        """The cycles per row and step of a product so many columns wide, and vectors of a tile."""
        found = []
        for vectors in range(1, WIDEST + 1):
            if fits_registers(height, vectors, target.registers):
                panels = ceil(width / (vectors * lanes))
                cycles = panels * _step(height, vectors, embedded)
                found.append((cycles / height, vectors))
        return min(found, default=(float("inf"), 1))

    def total(height: int) -> float:
        tiles = ceil(rows / height) * height / rows
        return tiles * (best(height, keys)[0] * depth + best(height, columns)[0] * keys)

    height = min(range(1, min(rows, 28) + 1), key=total)
    return Tile(height, best(height, keys)[1]), best(height, columns)[1]


def _step(rows: int, vectors: int, embedded: bool) -> float:
    """Cycles of a step of a tile whose panel is in the first-level cache, which gives two vectors
    a cycle: multiply-adds on two ports, four instructions a cycle."""
    broadcasts = 0 if embedded and vectors == 1 else rows
    slots = rows * vectors + vectors + broadcasts
    return STEP + max(rows * vectors / 2, slots / 4, (vectors + rows) / 2, LATENCY)
