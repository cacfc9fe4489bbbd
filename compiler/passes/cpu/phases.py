"""Transposed convolutions as convolutions of stride 1: each output knows which taps reach it.

    %y = conv_transpose(%x, %w) {strides=[s]}   =>   %p = conv(%x, %v)     [N, M, s·O] v: w's taps
                                                     %y = reshape(%p)      [N, s·M, O]

The s phases of an axis read different taps (`ops/contraction/phases.py`). Either all of them are
outputs of one convolution, with zeros for the taps that a phase lacks; or what lies before the
first whole window is computed as well and cut off, so that no tap lacks; or phases that read at
different offsets are convolutions of their own, pieces of %y's memory. What costs least is taken.

For CPUs, after layouts are chosen and before Winograd's filtering, which often pays for zeros.
"""

import itertools
from collections.abc import Sequence
from dataclasses import replace
from math import ceil, prod
from typing import Any, ClassVar

import numpy as np

from ...analysis.core_model import Core, core_of
from ...classes import dataclass
from ...ir.bounds import size_hint
from ...ir.builder import Builder, Tensor
from ...ir.dims import Dim, ceil_div, is_static
from ...ir.graph import Graph, Node, Value
from ...ops.contraction.conv_transpose import transpose_attrs
from ...ops.contraction.phases import Phases, apart, together
from ...ops.contraction.windows import first_to_last, last_to_first, spatial_pads
from ..base import Pass, Report
from .epilogues import chains_from
from .winograd import least_cycles

PIECES = 16  # convolutions that one may become
FEW = 32  # outputs and phases that a channels-first product takes as its rows
ALONE = 32  # outputs of an axis that one element reaches
PIECE = 4000.0  # cycles that a further convolution costs: kernels that start, borders, tails


@dataclass(frozen=True)
class ConvTransposePhases(Pass):
    """conv_transpose(x, w) => convolutions of stride 1, for vectors of so many bytes"""

    name: ClassVar[str] = "phases"
    vector_bytes: int = 64
    winograd: bool = True
    cpu: str = ""

    def run(self, graph: Graph, report: Report) -> bool:
        chains = {chain[-1]: chain for chain in chains_from("conv_transpose", graph)}

        def by_phases(b: Builder, last: Node) -> Value | None:
            if last not in chains:
                return None
            node, *after = chains[last]
            known = _Transposed.of(node, after)
            if known is None:
                report.decline("phases", node.where, "sizes of its window are not known")
                return None
            plans = known.plans()
            if known.has_few_columns(plans[0]):
                report.apply("conv_transpose(x, w) => a product with few rows", node.where)
                return known.emit_rows(b, plans[0]).value
            plan = min(plans, key=lambda p: known.cycles(p, self))
            made = "one convolution" if plan.pieces == 1 else f"{plan.pieces} convolutions"
            report.apply(f"conv_transpose(x, w) => {made} of stride 1", node.where)
            return known.emit(b, plan).value

        return self.exchange(graph, report, by_phases)


@dataclass(frozen=True)
class Plan:
    """How the phases of each axis are grouped; `cut` outputs before the first are cut off."""

    axes: tuple[list[Phases], ...]
    cut: tuple[int, ...]

    @property
    def pieces(self) -> int:
        return prod(map(len, self.axes))

    def groups(self) -> itertools.product:
        """The phases of the axes of each convolution."""
        return itertools.product(*self.axes)


@dataclass(frozen=True)
class _Transposed:
    """A transposed convolution, what is computed of each element after it, and its attributes
    without defaults."""

    node: Node
    after: list[Node]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    begin: tuple[int, ...]
    dilations: tuple[int, ...]

    @classmethod
    def of(cls, node: Node, after: list[Node]) -> "_Transposed | None":
        (x, w), a = node.inputs[:2], node.attrs
        kernel = w.shape[:-2] if a["channels_last"] else w.shape[2:]
        if not is_static(w.shape) or 0 in (*x.shape, *w.shape, *node.output.shape):
            return None
        attrs = (a["strides"], a["pads"], a["dilations"], a["output_padding"])
        strides, pads, dilations, _ = transpose_attrs(kernel, *attrs)
        begin = pads[: len(kernel)]
        if not is_static(begin):
            return None
        known = cls(node, after, kernel, strides, begin, dilations)
        return replace(known, strides=tuple(map(known._stride, range(len(kernel)))))

    def _stride(self, axis: int) -> int:
        """The stride of an axis, or any other where x has one element, which reaches every output
        by one tap at most: then all outputs are phases."""
        size, made = (self.spatial(v)[axis] for v in (self.node.inputs[0], self.node.output))
        extent = self.dilations[axis] * (self.kernel[axis] - 1) + 1
        if size != 1 or self.begin[axis] < 0 or not isinstance(made, int):
            return self.strides[axis]
        reach = max(made + self.begin[axis], extent)
        return reach if reach <= ALONE else self.strides[axis]

    @property
    def group(self) -> int:
        return self.node.attrs["group"]

    @property
    def channels(self) -> tuple[int, int]:
        """Of a group: (inputs, outputs)."""
        w = self.node.inputs[1].shape
        inputs, outputs = w[-2:] if self.node.attrs["channels_last"] else w[:2]
        return inputs // self.group, outputs

    def spatial(self, v: Value) -> tuple[Dim, ...]:
        return v.shape[1:-1] if self.node.attrs["channels_last"] else v.shape[2:]

    def blocks(self, plan: Plan) -> tuple[Dim, ...]:
        """How many times the strides go into the outputs of each axis."""
        sizes = zip(self.spatial(self.node.output), plan.cut, self.strides)
        return tuple(ceil_div(p + cut, stride) for p, cut, stride in sizes)

    # -- costs ---------------------------------------------------------------------------------

    def plans(self) -> list[Plan]:
        windows = list(zip(self.kernel, self.strides, self.begin, self.dilations))
        none = (0,) * len(windows)
        single = self.group > 1  # else groups would scatter what lies beside each other
        found = [
            Plan(tuple(together(*w) for w in windows), none),
            Plan(tuple(apart(*w, single) for w in windows), none),
        ]
        cut = tuple(begin % stride for _, stride, begin, _ in windows)
        if any(cut):
            moved = [(k, s, begin - c, d) for (k, s, begin, d), c in zip(windows, cut)]
            found.append(Plan(tuple(together(*w) for w in moved), cut))
        return [found[0], *(p for p in found[1:] if p.pieces <= PIECES)]

    def cycles(self, plan: Plan, options: ConvTransposePhases) -> float:
        """About how long a plan takes."""
        core, lanes = core_of(options.vector_bytes, options.cpu), options.vector_bytes // 4
        n, sizes = size_hint(self.node.output.shape[0]), [size_hint(d) for d in self.blocks(plan)]
        inputs, outputs = self.channels
        total = 0.0
        for phases in plan.groups():
            made = outputs * prod(p.count for p in phases)
            taps = [len(p.taps) for p in phases]
            rows = n * prod(sizes)
            wide = ceil(made / lanes) * lanes if self.group == 1 else made * self.group
            direct = core.product_cycles(float(rows * prod(taps) * inputs * wide), rows)
            total += PIECE + self._filtered(direct, taps, sizes, n, made, core, options)
        stored = n * prod(sizes) * prod(self.strides) * outputs * self.group
        scattered = self.group > 1 and outputs < lanes and prod(self.strides) > plan.pieces
        again = any(plan.cut) + 8 * scattered
        return total + again * 2 * 4 * stored * core.clock / core.l3

    def _filtered(self, direct, taps, sizes, n, made, core: Core, options) -> float:
        """The cycles of a convolution, by Winograd's filtering where that is less."""
        w = self.node.inputs[1]
        usual = taps == [3, 3] and self.group == 1 and self.node.attrs["channels_last"]
        if not (options.winograd and usual and w.constant is not None and w.dtype.bits == 32):
            return direct
        channels = self.channels[0]
        if channels < 16 or made < 16:
            return direct
        return min(direct, least_cycles(n, *sizes, channels, made, core)[1])

    # -- products with few rows ----------------------------------------------------------------

    @property
    def first(self) -> Value | None:
        """x with its channels first, if it lies in memory so."""
        x = self.node.inputs[0]
        if not self.node.attrs["channels_last"]:
            return x
        turn = x.node
        is_turn = turn is not None and turn.op.name == "transpose"
        return turn.inputs[0] if is_turn and turn.attrs["perm"] == first_to_last(x.rank) else None

    def has_few_columns(self, plan: Plan) -> bool:
        """Whether each output has one tap, and there are so few that they are better rows of a
        product, whose columns, the pixels, are read where they lie."""
        (phases,) = plan.groups() if plan.pieces == 1 else [()]
        plain = all(len(p.taps) == 1 and p.low == 0 for p in phases)
        made = self.channels[1] * prod(self.strides)
        if self.first is None or self.group > 1 or not plain or made > FEW:
            return False
        return self.blocks(plan) == self.spatial(self.node.inputs[0])

    def emit_rows(self, b: Builder, plan: Plan) -> Tensor:
        """conv(x, w) with channels first, [N, O · phases, *S], and its phases interleaved."""
        (phases,), (inputs, outputs), n = plan.groups(), self.channels, len(self.strides)
        w = self._taps(b, phases).reshape(inputs, prod(self.strides), outputs).transpose(2, 1, 0)
        w = _constant(b, w.reshape(-1, inputs, *[1] * n))
        bias = b.tensor(self.node.inputs[2]) if len(self.node.inputs) > 2 else None
        y = b.conv(b.tensor(self.first), w)
        sizes = y.shape[2:]
        y = y.reshape(y.shape[0], outputs, *self.strides, *sizes)
        y = y.transpose(0, 1, *itertools.chain(*((2 + n + i, 2 + i) for i in range(n))))
        y = y.reshape(*y.shape[:2], *(d * s for d, s in zip(sizes, self.strides)))
        wanted = self.spatial(self.node.output)
        if y.shape[2:] != wanted:
            y = b.slice(y, axes=range(2, n + 2), starts=[0] * n, steps=[1] * n, sizes=wanted)
        if bias is not None:
            y = y + bias.reshape(-1, *[1] * n)
        if self.node.attrs["channels_last"]:
            y = y.transpose(first_to_last(n + 2))
        return self._epilogue(b, y)

    # -- nodes ---------------------------------------------------------------------------------

    def emit(self, b: Builder, plan: Plan) -> Tensor:
        last, rank = self.node.attrs["channels_last"], self.node.output.rank
        b.origin = self.node.origin
        x, blocks = b.tensor(self.node.inputs[0]), self.blocks(plan)
        if not last:
            x = x.transpose(first_to_last(rank))
        groups = list(plan.groups())
        if len(groups) == 1:
            y = self._piece(b, x, groups[0], blocks)
        else:
            y = self._pieces(b, x, groups, blocks)
        y = y.reshape(x.shape[0], *(m * s for m, s in zip(blocks, self.strides)), y.shape[-1])
        sizes = self.spatial(self.node.output)
        if y.shape[1:-1] != sizes:
            axes, steps = range(1, rank - 1), [1] * len(sizes)
            y = b.slice(y, axes=axes, starts=plan.cut, steps=steps, sizes=sizes)
        return y if last else y.transpose(last_to_first(rank))

    def _pieces(self, b: Builder, x: Tensor, groups: list, blocks: Sequence[Dim]) -> Tensor:
        """Several convolutions of one padded x, each in its place."""
        read = [phases for phases in groups if _has_taps(phases)]
        low = tuple(map(min, zip(*([p.low for p in phases] for phases in read))))
        high = tuple(map(max, zip(*([p.high for p in phases] for phases in read))))
        x, pads = _framed(b, x, low, high, blocks)
        if any(pads):
            x = b.pad(x, pads=spatial_pads(pads, x.rank, True), mode="constant")
        pieces, starts = [], []
        for phases in groups:
            seen = x
            if _has_taps(phases):
                sizes = [m + p.high - p.low for m, p in zip(blocks, phases)]
                begin = [p.low - first for p, first in zip(phases, low)]
                if list(x.shape[1:-1]) != sizes:
                    axes, steps = range(1, x.rank - 1), [1] * len(sizes)
                    seen = b.slice(x, axes=axes, starts=begin, steps=steps, sizes=sizes)
            pieces.append(self._piece(b, seen, phases, blocks, padded=True))
            starts += [0, *itertools.chain(*((0, p.first) for p in phases)), 0]
        shape = [x.shape[0], *itertools.chain(*zip(blocks, self.strides)), pieces[0].shape[-1]]
        return b.mosaic(*pieces, shape=shape, starts=starts)

    def _piece(
        self, b: Builder, x: Tensor, phases: tuple[Phases, ...], blocks, padded: bool = False
    ) -> Tensor:
        """The outputs of some phases of each axis, [N, M1, phases, M2, phases, …, O]; x has its
        borders already, or is the whole operand."""
        node, outputs = self.node, self.channels[1]
        counts = [p.count for p in phases]
        channels = outputs * self.group
        shape = [x.shape[0], *itertools.chain(*zip(blocks, counts)), channels]
        bias = b.tensor(node.inputs[2]) if len(node.inputs) > 2 else None
        if not _has_taps(phases):
            y = (b.scalar(0, x.dtype) if bias is None else bias).expand(shape)
            return self._epilogue(b, y)
        pads: Sequence[Dim] = (0,) * 2 * len(phases)
        if not padded:
            low, high = [p.low for p in phases], [p.high for p in phases]
            x, pads = _framed(b, x, low, high, blocks)
        if bias is not None and prod(counts) > 1:
            bias = self._per_phase(b, bias, prod(counts))
        y = b.conv(
            x, self._weights(b, phases), bias,
            pads=pads, dilations=[p.step for p in phases], group=self.group, channels_last=True,
        )  # fmt: skip
        n, axes = len(phases), [i for i, c in enumerate(counts) if c > 1]
        if axes and (self.group > 1 or axes != [n - 1]):
            y = y.reshape(x.shape[0], *blocks, self.group, *counts, outputs)
            each = itertools.chain(*((1 + i, n + 2 + i) for i in range(n)))
            y = y.transpose(0, *each, n + 1, 2 * n + 2)
        return self._epilogue(b, y.reshape(shape))

    def _epilogue(self, b: Builder, y: Tensor) -> Tensor:
        """What is computed of each element, of those of a piece."""
        value = self.node.output
        for node in self.after:
            b.origin = node.origin
            operands = [
                y if v is value else v and b.tensor(v).reshape(v.shape[-1:]) for v in node.inputs
            ]
            y, value = b.emit(node.op.name, *operands, **node.attrs), node.output
        b.origin = self.node.origin
        return y

    def _per_phase(self, b: Builder, bias: Tensor, phases: int) -> Tensor:
        """The bias as often as a convolution has outputs for it: [groups, phases, O/g]."""
        outputs = self.channels[1]
        shape, made = (self.group, phases, outputs), self.group * phases * outputs
        if bias.constant is not None:
            parts = bias.constant.reshape(self.group, 1, outputs)
            return b.constant(np.broadcast_to(parts, shape).reshape(made))
        return bias.reshape(self.group, 1, outputs).expand(shape).reshape(made)

    def _weights(self, b: Builder, phases: tuple[Phases, ...]) -> Tensor:
        """[*taps, C/g, groups · phases · O/g] of one convolution."""
        w, n = self._taps(b, phases), len(phases)
        return _constant(b, w.reshape(*w.shape[:n], w.shape[n], -1))

    def _taps(self, b: Builder, phases: tuple[Phases, ...]) -> Any:
        """The weights of some phases, an array or a tensor: [*taps, C/g, groups, *phases, O/g]."""
        weights = b.tensor(self.node.inputs[1])
        w: Any = weights if weights.constant is None else weights.constant
        n, (inputs, outputs) = len(phases), self.channels
        if not self.node.attrs["channels_last"]:
            w = w.transpose(*range(2, n + 2), 0, 1)
        w = w.reshape(*self.kernel, self.group, inputs, outputs)
        for axis, p in enumerate(phases):
            w = _taken(b, w, p.taps, 2 * axis)
        order = (*range(0, 2 * n, 2), 2 * n + 1, 2 * n, *range(1, 2 * n, 2), 2 * n + 2)
        return w.transpose(*order)


def _constant(b: Builder, w: Any) -> Tensor:
    return b.constant(np.ascontiguousarray(w)) if isinstance(w, np.ndarray) else w


def _has_taps(phases: tuple[Phases, ...]) -> bool:
    return all(len(p.taps) for p in phases)


def _framed(b: Builder, x: Tensor, low: Sequence[int], high: Sequence[int], blocks: Sequence[Dim]):
    """x without what lies before element `low` and behind block + `high`, and the pads that are
    missing there."""
    sizes = x.shape[1:-1]
    begin: list[Dim] = [-o for o in low]
    end = [m + o - d for m, o, d in zip(blocks, high, sizes)]
    cut = [max(-p, 0) if isinstance(p, int) else 0 for p in begin]
    cut_end = [max(-p, 0) if isinstance(p, int) else 0 for p in end]
    if any(cut) or any(cut_end):
        left = [d - c - e for d, c, e in zip(sizes, cut, cut_end)]
        axes, steps = range(1, x.rank - 1), [1] * len(sizes)
        x = b.slice(x, axes=axes, starts=cut, steps=steps, sizes=left)
    return x, (*(p + c for p, c in zip(begin, cut)), *(p + c for p, c in zip(end, cut_end)))


def _taken(b: Builder, w: Any, taps: np.ndarray, axis: int) -> Any:
    """Axis `axis` of w, an array or a tensor, as two: taps[j, p] of it, zeros for -1."""
    if isinstance(w, np.ndarray):
        found = np.take(w, np.maximum(taps, 0), axis)
        lacks = (taps < 0).reshape(*taps.shape, *(1,) * (w.ndim - axis - 1))
        return np.where(lacks, np.zeros((), w.dtype), found)
    if (taps < 0).any():
        one = [int(i == axis) for i in range(w.rank)]
        w = b.pad(w, pads=(*(0,) * w.rank, *one), mode="constant")
        taps = np.where(taps < 0, w.shape[axis] - 1, taps)
    return b.gather(w, b.constant(taps.astype(np.int64)), axis=axis)
