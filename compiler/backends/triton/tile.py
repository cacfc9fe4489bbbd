"""A program's tile and its text: names, scopes, axes and masks.

A program works on a *tile* of one or two dims. Each axis of the kernel is bound to a tile dim (the
lanes of `[BLOCK]`, `[BO, 1]` or `[1, BK]`) or to a scalar. A value varies over the dims of the axes
that it depends on and has size 1 along the others, so Triton's broadcasting does the rest.

Equal expressions, and equal right-hand sides, are computed once per scope.
"""

from contextlib import contextmanager

from ...expr import expr as s
from ...expr.expr import Axis, Buffer, Expr
from .primitives import Val, literal

INT32 = (-(2**31), 2**31 - 1)
NONE: frozenset = frozenset()


def power_of_2(n: int) -> int:
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


class Tile:
    """The text of one kernel's body as it grows. `blocks` are the tile's sizes.

    `lanes_taken`: dim 1 is in use, so that a reduction has to loop over scalars.
    """

    def __init__(self, names: dict[Buffer, str], blocks: tuple[int, ...]):
        self.names, self.blocks = names, blocks
        self.lines: list[str] = []
        self.depth = 1
        self.bound: dict[Axis, Val] = {}
        self.linear: dict[Axis, tuple[Val, int, int, bool]] = {}
        self.masks: dict[int, Val | None] = dict.fromkeys(range(len(blocks)))
        self.lanes_taken = len(blocks) < 2
        self._values: list[dict[Expr, Val]] = [{}]
        self._texts: list[dict[str, Val]] = [{}]
        self._count = 0

    # -- writing --------------------------------------------------------------------------

    def line(self, text: str) -> None:
        self.lines.append("    " * self.depth + text)

    def name(self, prefix: str = "t") -> str:
        self._count += 1
        return f"{prefix}{self._count - 1}"

    def let(self, text: str, dims=NONE, type: str = "int32", prefix: str = "t") -> Val:
        """A name for a right-hand side; the same one if it was written before."""
        for texts in reversed(self._texts):
            if text in texts:
                return texts[text]
        val = Val(self.name(prefix), frozenset(dims), type)
        self.line(f"{val.text} = {text}")
        self._texts[-1][text] = val
        return val

    @contextmanager
    def block(self, header: str):
        """An indented block with a scope of its own."""
        self.line(header)
        self.depth += 1
        self._texts.append({})
        with self.scope():
            yield
        self._texts.pop()
        self.depth -= 1

    @contextmanager
    def fresh(self):
        """A scope that nothing computed inside of leaves: memory may change after it."""
        self._texts.append({})
        with self.scope():
            yield
        self._texts.pop()

    @contextmanager
    def scope(self):
        """Bindings, masks and values that hold only inside."""
        saved = dict(self.bound), dict(self.linear), dict(self.masks), self.lanes_taken
        self._values.append({})
        yield
        self._values.pop()
        self.bound, self.linear, self.masks, self.lanes_taken = saved

    def shape(self, dims) -> str:
        if not self.blocks:
            return "()"
        return (
            "[" + ", ".join(str(b) if i in dims else "1" for i, b in enumerate(self.blocks)) + "]"
        )

    def full(self, dims, value, type: str) -> str:
        return f"tl.full({self.shape(dims)}, {literal(value, type)}, tl.{type})"

    def tensor(self, val: Val) -> Val:
        """The value as a tensor where it is a Python literal."""
        if not val.literal:
            return val
        return self.let(f"tl.full((), {val.text}, tl.{val.type})", NONE, val.type)

    # -- axes -----------------------------------------------------------------------------

    def bind(self, axes, linear: Val) -> None:
        """Bind axes to a linear index over them, the last one fastest."""
        stride = 1
        for position, a in reversed(list(enumerate(axes))):
            self.linear[a] = (linear, stride, a.extent, position == 0)
            self.bound.pop(a, None)
            stride *= a.extent
        if len(axes) > 1:
            whole = s.flatten([s.axis(a) for a in axes], [a.extent for a in axes])
            self.set_value(whole, linear)

    def axis(self, a: Axis) -> Val:
        if a in self.bound:
            return self.bound[a]
        linear, stride, extent, first = self.linear[a]
        val = linear
        if stride > 1:
            val = self.let(f"{val.text} // {stride}", linear.dims, linear.type)
        if not first:
            val = self.let(f"{val.text} % {extent}", linear.dims, linear.type)
        self.bound[a] = val
        return val

    def dims_of(self, free) -> frozenset:
        """The tile dims that a value with these free axes varies over."""
        return frozenset().union(
            *((self.bound[a] if a in self.bound else self.linear[a][0]).dims for a in free)
        )

    def knows(self, e: Expr) -> bool:
        return all(a in self.bound or a in self.linear for a in e.free)

    def index(self, dim: int, start: str, total: int, wide: bool) -> Val:
        """The indices `start …` along a tile dim; sets the dim's mask if `total` cuts the block."""
        block = self.blocks[dim]
        at = "" if len(self.blocks) == 1 else "[:, None]" if dim == 0 else "[None, :]"
        text = f"tl.arange(0, {block}){at}"
        if start:
            text = f"{start} + {text}"
        val = self.let(text, {dim}, "int64" if wide else "int32", "i")
        exact = total % block == 0 if start else total == block
        mask = None if exact else self.let(f"{val.text} < {total}", {dim}, "int1", "m")
        self.masks[dim] = mask
        return val

    def mask(self, dims) -> str | None:
        """The lanes of these dims that lie inside the domain; None where all do."""
        names = [self.masks[d].text for d in sorted(dims) if self.masks.get(d) is not None]
        return " & ".join(names) if names else None

    def set_value(self, e: Expr, val: Val) -> None:
        self._values[-1][e] = val
