"""Products with weights by Strassen's seven products of quarters, where that is less work.

    %y = matmul(%x, %w)   =>   %a = strassen_input(%x)              [7, ..., M/2, K/2]
                               %p = strassen_product(%a, %u)        [7, ..., M/2, N/2]
                               %y = strassen_output(%p)

An eighth of the products is saved, less what the sums of quarters take: those of weights pay where
there are many rows, those of x and y where matrices are wide and deep. Weights take as much memory
as before. What the sums write and read again comes from memory: a core that multiplies fast for its
memory (AVX-512 at full rate) loses there what it saves. Rounding errors about double
(`strassen.py`); where the quarters of a weight differ much in size, and with `strict`, products
stay as they are. For CPUs; also for convolutions of one tap, channels last. Where the number of
rows is open there may be too few of them.
"""

from math import ceil, prod
from typing import ClassVar

import numpy as np

from ...analysis.core_model import CORES, Core, core_of
from ...classes import dataclass
from ...ir.builder import Builder, Tensor
from ...ir.dims import is_static
from ...ir.graph import Graph, Node, Value
from ...ir.types import F32
from ...ops.internal.strassen import PRODUCTS, right_factors
from ..base import Pass, Report

GAIN = 0.97  # share of the plain product's time below which it pays
SUMMED = 3.4  # rows whose products take as long as the sums of their weights
CACHED = 8 << 20  # bytes of left factors and products that a cache holds
MOST = 64 << 20  # bytes of them that are worth an eighth of the products
ALIKE = 64.0  # how many times larger than another a quarter of a weight may be, in the mean square


@dataclass(frozen=True)
class Strassen(Pass):
    """matmul(x, w) => strassen_output(strassen_product(strassen_input(x), u)), for a core"""

    name: ClassVar[str] = "strassen"
    vector_bytes: int = 32
    cpu: str = ""

    def run(self, graph: Graph, report: Report) -> bool:
        factors: dict[Value, Tensor] = {}
        core = core_of(self.vector_bytes, self.cpu)

        def seven(b: Builder, node: Node) -> Value | None:
            if not pays(node, core):
                return None
            x = node.inputs[0]
            if x not in factors:
                factors[x] = b.strassen_input(x)
            report.apply("x @ w => Strassen's seven products", node.where)
            return _convert(b, node, factors[x]).value

        return self.exchange(graph, report, seven)


def pays(node: Node, core: Core = CORES[32]) -> bool:
    """Whether a node is a product that this pass knows, and takes less time by seven products."""
    if not _is_candidate(node):
        return False
    *outer, m, k = node.inputs[0].shape
    n, images = node.output.shape[-1], prod(outer)
    rows, depth, columns = images * ceil(m / 2), k // 2, ceil(n / 2)
    moved = PRODUCTS * rows * (depth + columns)
    if moved * F32.bytes > MOST:
        return False
    direct = core.product_cycles(images * m * k * n)
    seven = core.product_cycles(PRODUCTS * (rows + SUMMED) * depth * columns)
    seven += moved * core.passed_on(moved * F32.bytes, CACHED)
    return seven <= GAIN * direct and _are_alike(node.inputs[1].constant)


def _is_candidate(node: Node) -> bool:
    if node.op.name not in ("matmul", "conv"):
        return False
    x, w = node.inputs[:2]
    if w.constant is None or x.dtype != F32 or not is_static(x.shape) or x.rank < 2:
        return False
    if node.op.name == "conv" and not _is_of_one_tap(node):
        return False
    return (
        (w.rank == 2 or node.op.name == "conv")
        and w.shape[-2] % 2 == 0
        and w.shape[-2] == x.shape[-1]
        and 0 not in node.output.shape
    )


def _is_of_one_tap(conv: Node) -> bool:
    a, w = conv.attrs, conv.inputs[1]
    plain = a["channels_last"] and a["group"] == 1 and set(w.shape[:-2]) == {1}
    return plain and set(a["strides"]) <= {1} and not any(a["pads"])


def _are_alike(w: np.ndarray) -> bool:
    """Whether the quarters of a weight are of similar size: the largest one makes the errors."""
    w = w.reshape(w.shape[-2:])
    k, n = w.shape[0] // 2, ceil(w.shape[1] / 2)
    sizes = [
        np.sqrt(np.mean(np.square(quarter, dtype=np.float64)))
        for half in (w[:k], w[k:])
        for quarter in (half[:, :n], half[:, n:])
    ]
    return max(sizes) <= ALIKE * min(sizes) and np.isfinite(sizes).all()


def _convert(b: Builder, node: Node, left: Tensor) -> Tensor:
    x, w, *bias = node.inputs
    u = b.constant(right_factors(w.constant.reshape(w.shape[-2:])))
    p = b.strassen_product(left, u)
    y = b.strassen_output(p, sizes=(x.shape[-2], w.shape[-1]))
    return y if not bias or bias[0] is None else y + b.tensor(bias[0])
