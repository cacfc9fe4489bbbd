"""What values are: `DType`, `TensorType` (`f32[N,3,224,224]`), sequences and maps of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from ..classes import dataclass
from ..errors import TypeMismatch
from ..system.concurrency import lazy
from . import dims
from .bounds import assume_equal
from .dim_parse import parse_dim
from .dims import Dim

if TYPE_CHECKING:
    import numpy.typing as npt

Shape: TypeAlias = tuple[Dim, ...]
MAX_RANK = 64  # as many axes as numpy has


@dataclass(frozen=True)
class DType:
    """An element type. `kind`: f(loat), i(nt), u(nsigned), b(ool), s(tring); `called`: by numpy, or
    by ml_dtypes."""

    name: str
    kind: str
    bits: int
    called: str

    def __repr__(self) -> str:
        return self.name

    @lazy
    def numpy(self) -> np.dtype:
        """numpy's. Models of types that numpy has by itself need no ml_dtypes, slow to import."""
        if self.called in _NATIVE:
            return np.dtype(self.called)
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, self.called))

    @property
    def bytes(self) -> int:
        """Bytes of one element in memory (types below 8 bits are stored one per byte)."""
        return max(1, self.bits // 8)

    @property
    def is_float(self) -> bool:
        return self.kind == "f"

    @property
    def is_int(self) -> bool:
        return self.kind in "iu"

    @property
    def compute(self) -> DType:
        """The type that arithmetic on this type is done in: f32 for narrower floats."""
        return F32 if self.kind == "f" and self.bits < 32 else self


# The types that numpy has by itself, as it calls them.
_NATIVE = {
    "float64",
    "float32",
    "float16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint64",
    "uint32",
    "uint16",
    "uint8",
    "bool",
    "object",
}
DTYPES = {
    d.name: d
    for d in [
        DType("f64", "f", 64, "float64"),
        DType("f32", "f", 32, "float32"),
        DType("f16", "f", 16, "float16"),
        DType("bf16", "f", 16, "bfloat16"),
        DType("f8e4m3fn", "f", 8, "float8_e4m3fn"),
        DType("f8e4m3fnuz", "f", 8, "float8_e4m3fnuz"),
        DType("f8e5m2", "f", 8, "float8_e5m2"),
        DType("f8e5m2fnuz", "f", 8, "float8_e5m2fnuz"),
        DType("f8e8m0", "f", 8, "float8_e8m0fnu"),
        DType("f6e2m3", "f", 6, "float6_e2m3fn"),
        DType("f6e3m2", "f", 6, "float6_e3m2fn"),
        DType("f4e2m1", "f", 4, "float4_e2m1fn"),
        DType("i64", "i", 64, "int64"),
        DType("i32", "i", 32, "int32"),
        DType("i16", "i", 16, "int16"),
        DType("i8", "i", 8, "int8"),
        DType("i4", "i", 4, "int4"),
        DType("i2", "i", 2, "int2"),
        DType("u64", "u", 64, "uint64"),
        DType("u32", "u", 32, "uint32"),
        DType("u16", "u", 16, "uint16"),
        DType("u8", "u", 8, "uint8"),
        DType("u4", "u", 4, "uint4"),
        DType("u2", "u", 2, "uint2"),
        DType("bool", "b", 1, "bool"),
        DType("str", "s", 64, "object"),
    ]
}
F64, F32, F16, BF16 = (DTYPES[n] for n in ("f64", "f32", "f16", "bf16"))
I64, I32, I16, I8 = (DTYPES[n] for n in ("i64", "i32", "i16", "i8"))
U64, U32, U16, U8 = (DTYPES[n] for n in ("u64", "u32", "u16", "u8"))
BOOL, STR = DTYPES["bool"], DTYPES["str"]
_CALLED = {d.called: d for d in DTYPES.values()}
_BY_NUMPY = {d.numpy: d for d in DTYPES.values() if d.called in _NATIVE}

# Dtype classes that op records name.
FLOATS = frozenset(d for d in DTYPES.values() if d.kind == "f")
INTS = frozenset(d for d in DTYPES.values() if d.kind in "iu")
SIGNED = frozenset(d for d in DTYPES.values() if d.kind in "fi")
NUMERIC = FLOATS | INTS
ANY = NUMERIC | {BOOL, STR}
CLASSES = {
    "float": FLOATS,
    "int": INTS,
    "signed": SIGNED,
    "numeric": NUMERIC,
    "bool": frozenset([BOOL]),
    "any": ANY,
}


DTypeLike: TypeAlias = "DType | str | npt.DTypeLike"  # what `dtype_of` takes, besides arrays


def dtype_of(x: Any) -> DType:
    """The DType of a DType, its name, a numpy dtype or array. Raises TypeMismatch if none."""
    if isinstance(x, DType):
        return x
    if isinstance(x, str) and x in DTYPES:
        return DTYPES[x]
    if isinstance(x, str) and x in _CALLED:
        return _CALLED[x]
    try:
        d = x.dtype if hasattr(x, "dtype") and not isinstance(x, type) else np.dtype(x)
        if d.kind in "US":
            return STR
        d = d.newbyteorder("=")
        return _BY_NUMPY.get(d) or _others()[d]
    except (TypeError, KeyError):
        raise TypeMismatch(
            f"no tessel dtype for {x!r}", expected=f"one of {', '.join(DTYPES)}"
        ) from None


@functools.cache
def _others() -> dict[np.dtype, DType]:
    """The dtypes that numpy has not by itself."""
    return {d.numpy: d for d in DTYPES.values() if d.called not in _NATIVE}


def view_bits(x: np.ndarray, dtype: DType) -> np.ndarray:
    """The same bits as another dtype of that width; those below 8 are the low bits of a byte, and
    a bool is a byte that is true if it is not zero."""
    x, source = np.asarray(x), dtype_of(x)
    if BOOL in (source, dtype) or source.bits < 8:
        mask = (1 << (8 if source == BOOL else source.bits)) - 1
        x = x.view(np.uint8) & np.uint8(mask)
    return np.asarray(x != 0) if dtype == BOOL else np.asarray(x).view(dtype.numpy)


@dataclass(frozen=True)
class TensorType:
    """A dtype and a shape of dims (ints or `dims.Sym`); prints as `f32[N,3]`."""

    dtype: DType
    shape: Shape

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", dtype_of(self.dtype))
        object.__setattr__(
            self, "shape", tuple(d if isinstance(d, dims.Sym) else int(d) for d in self.shape)
        )
        if len(self.shape) > MAX_RANK:
            raise TypeMismatch(
                "a tensor of too many axes",
                expected=f"at most {MAX_RANK}",
                received=len(self.shape),
            )

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.shape))}]"

    __repr__ = __str__

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        return dims.prod(self.shape)

    @property
    def nbytes(self) -> Dim:
        return self.size * self.dtype.bytes

    @property
    def is_static(self) -> bool:
        return dims.is_static(self.shape)

    def with_shape(self, shape: Iterable[Dim]) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DTypeLike) -> TensorType:
        return TensorType(dtype_of(dtype), self.shape)

    def substitute(self, binding: dims.Binding) -> TensorType:
        return self.with_shape(dims.substitute(d, binding) for d in self.shape)


@dataclass(frozen=True)
class SequenceType:
    """A list of values of one type; prints as `seq(f32[3])`."""

    element: Type

    def __str__(self) -> str:
        return f"seq({self.element})"

    def substitute(self, binding: dims.Binding) -> SequenceType:
        return SequenceType(self.element.substitute(binding))


@dataclass(frozen=True)
class MapType:
    """A dict from scalar keys to values; prints as `map(i64, f32[])`."""

    key: DType
    value: Type

    def __str__(self) -> str:
        return f"map({self.key},{self.value})"

    def substitute(self, binding: dims.Binding) -> MapType:
        return MapType(self.key, self.value.substitute(binding))


@dataclass(frozen=True)
class AnyRank:
    """A tensor of which a model does not say the rank; prints as `f32[…]`. No value of a graph
    has this type."""

    dtype: DType

    def __str__(self) -> str:
        return f"{self.dtype.name}[…]"

    def substitute(self, binding: dims.Binding) -> AnyRank:
        return self


@dataclass(frozen=True)
class OptionalType:
    """A value or none; prints as `optional(f32[3])`. No value of a graph has this type."""

    element: Type

    def __str__(self) -> str:
        return f"optional({self.element})"

    def substitute(self, binding: dims.Binding) -> OptionalType:
        return OptionalType(self.element.substitute(binding))


Type = TensorType | SequenceType | MapType | AnyRank | OptionalType


def parse_type(text: str) -> Type:
    """The type that prints as `text`, such as `f32[N,3]`; also of what is no value of a graph, such
    as `optional(f32[…])`. Raises GraphError."""
    type = _plain_tensor(text)
    if type is not None:
        return type
    from .parse import parse_type

    return parse_type(text)


def _plain_tensor(text: str) -> TensorType | None:
    """The type of a text such as `f32[N,3]`, for which nobody has to build a parser; None for all
    others, wrong ones among them."""
    name, _, rest = text.partition("[")
    parts = rest.removesuffix("]").split(",") if rest != "]" else []
    if name not in DTYPES or not rest.endswith("]") or not all(map(_is_plain, parts)):
        return None
    try:
        return TensorType(DTYPES[name], tuple(map(parse_dim, parts)))
    except TypeMismatch:  # `f32[if]`
        return None


def _is_plain(dim: str) -> bool:
    """Whether it is a number or a name that every reader takes for one dim."""
    return dim.isascii() and (dim.isdecimal() or dim.isidentifier()) and len(dim) < 18


def tensor_type_of(array: np.ndarray) -> TensorType:
    return TensorType(dtype_of(array), array.shape)


def as_tensor_type(x: Any) -> Any:
    """TensorType of a TensorType, its text, or an array."""
    if isinstance(x, TensorType):
        return x
    if isinstance(x, str):
        return parse_type(x)
    return tensor_type_of(np.asarray(x))


def broadcast(*shapes: Sequence[Dim]) -> Shape:
    """The numpy broadcast of shapes; a symbol against 1 gives the symbol, against another number
    the number, and two symbols `broadcast(N,M)`, which is N where M is 1.

    Code for all sizes takes different symbols to be equal (`sizes.assume_equal`). Raises
    TypeMismatch if two known dims differ and neither is 1.
    """
    rank, one = max((len(s) for s in shapes), default=0), cast(Dim, 1)
    padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
    try:
        result = tuple(functools.reduce(dims.dim_broadcast, axis, one) for axis in zip(*padded))
    except TypeMismatch:
        raise TypeMismatch(
            "shapes do not broadcast",
            expected="equal dims, or 1",
            received=" and ".join(f"[{','.join(map(str, s))}]" for s in shapes),
        ) from None
    for axis in zip(*padded):
        open_ = [d for d in axis if isinstance(d, dims.Sym) or d != 1]
        for d in open_[1:]:
            assume_equal(open_[0], d)
    return result


def normalize_axis(axis: int, rank: int) -> int:
    """`axis` counted from the front. Raises TypeMismatch outside [-rank, rank)."""
    if not -rank <= axis < rank:
        raise TypeMismatch(
            "axis out of range", expected=f"[{-rank}, {rank - 1}]", received=f"axis={axis}"
        )
    return axis % rank if rank else 0


def normalize_axes(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    """Distinct axes counted from the front, in the given order."""
    result = tuple(normalize_axis(a, rank) for a in axes)
    if len(set(result)) != len(result):
        raise TypeMismatch("an axis is named twice", received=f"axes={list(axes)}")
    return result
