"""Moves that repeat, mask or regroup: tile, trilu, depth_to_space, space_to_depth."""

import numpy as np

from ...errors import TypeMismatch
from ...expr import expr as s
from ...ir.bounds import assume_equal
from ...ir.op import Attr, Expand, Pull, register
from ..common import case, floats, ints, through_expansion


def tile_shape(x, *, repeats):
    if len(repeats) != x.rank:
        raise TypeMismatch("tile needs a count per axis", expected=x.rank, received=repeats)
    return tuple(d * r for d, r in zip(x.shape, repeats))


def tile_grad(c, dy):
    """Each axis as [repeat, size]; the repeats are summed."""
    (x,), repeats = c.inputs, c.attrs["repeats"]
    pairs = [d for pair in zip(repeats, x.shape) for d in pair]
    return [dy.reshape(*pairs).sum(range(0, 2 * x.rank, 2)) if x.rank else dy]


register(
    "tile",
    "x: T -> T",
    "x repeated `repeats[d]` times along each axis d.",
    attrs={"repeats": Attr("dims")},
    shape=tile_shape,
    ref=lambda x, *, repeats: np.tile(x, repeats),
    grad=tile_grad,
    loops=Pull(
        lambda out, x, *, repeats: (
            lambda *i: x[tuple(j if r == 1 else j % d for j, r, d in zip(i, repeats, x.shape))]
        )
    ),
    samples=lambda: [
        case(floats((2, 3)), repeats=(2, 1)),
        case(ints((2,)), repeats=(3,)),
        case(floats((1, 2, 2)), repeats=(2, 2, 3)),
        case(floats((2,)), repeats=(0,)),
    ],
    group="move",
    T="any",
)


def _trilu(out, x, *, k, upper):
    def at(*i):
        row, column = i[-2:]
        kept = column - row >= k if upper else column - row <= k
        return s.select(kept, x[i], s.const(0, x.dtype))

    return at


def trilu_ref(x, *, k, upper):
    if x.dtype == object and x.size and isinstance(x.flat[0], str):
        kept = np.tri(*x.shape[-2:], k - 1 if upper else k, bool) ^ upper
        return np.where(kept, x, "")
    return (np.triu if upper else np.tril)(x, k)


def trilu_shape(x, *, k, upper):
    if x.rank < 2:
        raise TypeMismatch("trilu needs matrices", received=x)
    return x.shape


register(
    "trilu",
    "x: T -> T",
    """The upper (or lower) triangle of matrices, from diagonal k on; zero elsewhere (the empty
    string).""",
    attrs={"k": Attr("int", 0), "upper": Attr("bool", True)},
    shape=trilu_shape,
    ref=trilu_ref,
    grad=lambda c, dy: [c.b.trilu(dy, **c.attrs)],
    loops=Pull(_trilu),
    samples=lambda: [
        case(floats((3, 4))),
        case(floats((2, 3, 3)), k=1, upper=False),
        case(ints((4, 3)), k=-1),
        case(np.ones((3, 3), bool), k=0, upper=False),
    ],
    group="move",
    T="any",
)


def _image(x, name):
    if x.rank != 4:
        raise TypeMismatch(f"{name} needs [N, C, H, W]", received=x)
    return x.shape


def depth_to_space_shape(x, *, block, mode):
    n, c, h, w = _image(x, "depth_to_space")
    if mode not in ("DCR", "CRD") or not assume_equal(c % (block * block), 0):
        raise TypeMismatch(
            "depth_to_space: channels must be a multiple of block², mode DCR or CRD",
            received=f"{x}, block={block}, mode={mode!r}",
        )
    return n, c // (block * block), h * block, w * block


def _depth_to_space(b, x, *, block, mode):
    """[N, C, H, W] → [N, C/b², H*b, W*b]"""
    n, c, h, w = x.shape
    c = c // (block * block)
    if mode == "DCR":
        x = x.reshape(n, block, block, c, h, w).transpose(0, 3, 4, 1, 5, 2)
    else:
        x = x.reshape(n, c, block, block, h, w).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, c, h * block, w * block)


def depth_to_space_ref(x, *, block, mode):
    n, c, h, w = x.shape
    y = np.zeros((n, c // block**2, h * block, w * block), x.dtype)
    step = c // block**2
    for i in range(block):
        for j in range(block):
            at = i * block + j
            part = x[:, at * step : (at + 1) * step] if mode == "DCR" else x[:, at :: block**2]
            y[:, :, i::block, j::block] = part
    return y


register(
    "depth_to_space",
    "x: T -> T",
    "Channels into blocks of pixels: DCR takes depth first, CRD columns and rows first.",
    attrs={"block": Attr("int"), "mode": Attr("str", "DCR")},
    shape=depth_to_space_shape,
    ref=depth_to_space_ref,
    grad=through_expansion,
    loops=Expand(_depth_to_space),
    samples=lambda: [
        case(floats((1, 8, 2, 3)), block=2),
        case(floats((2, 8, 2, 3)), block=2, mode="CRD"),
        case(ints((1, 9, 1, 2)), block=3),
    ],
    group="move",
    T="any",
)


def space_to_depth_shape(x, *, block):
    n, c, h, w = _image(x, "space_to_depth")
    if not all(assume_equal(d % block, 0) for d in (h, w)):
        raise TypeMismatch("space_to_depth: sizes must be multiples of the block", received=x)
    return n, c * block * block, h // block, w // block


def _space_to_depth(out, x, *, block):
    """Pulled, not reshaped: where sizes are open, nobody knows that h is block * (h // block)."""
    channels = x.shape[1]

    def at(n, c, h, w):
        place = c // channels
        return x[n, c % channels, h * block + place // block, w * block + place % block]

    return at


def _space_to_depth_grad(c, dy):
    return [c.b.depth_to_space(dy, block=c.attrs["block"]).reshape(c.inputs[0].shape)]


register(
    "space_to_depth",
    "x: T -> T",
    "Blocks of pixels into channels: the inverse of depth_to_space in DCR mode.",
    attrs={"block": Attr("int")},
    shape=space_to_depth_shape,
    ref=lambda x, *, block: np.concatenate(
        [x[:, :, i::block, j::block] for i in range(block) for j in range(block)], 1
    ),
    grad=_space_to_depth_grad,
    loops=Pull(_space_to_depth),
    samples=lambda: [case(floats((1, 2, 4, 6)), block=2), case(ints((1, 1, 3, 3)), block=3)],
    group="move",
    T="any",
)
