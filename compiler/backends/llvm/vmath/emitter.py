"""Arithmetic on scalars and vectors written with operators, for `vmath`.

An `Emitter` is a builder plus one floating-point type: `float`, `double`, `<N x float>` or
`<N x double>`. Its values, `V`, carry Python's operators, so that a function of `vmath` reads like
its formula and holds for every lane count:

    n, i = m.nearest(x, 1 / ln2)        n = rint(x / ln2) as a float, i = its bits as an integer
    r = m.fma(n, -ln2, x)
    return m.poly(r, coefficients) * m.pow2(i)

Nothing carries a fast-math flag and every fused multiply-add is explicit, so a lane's result does
not depend on how many lanes there are. Comparisons are ordered: false on NaN.
"""

import builtins
import struct
from collections.abc import Callable, Sequence

import llvmlite.ir as ir

from ....errors import TypeMismatch

_MANTISSA = {32: 23, 64: 52}
_BIAS = {32: 127, 64: 1023}


def type_suffix(type: ir.Type) -> str:
    """LLVM's name of the type in overloaded intrinsics: f32, f64, v16f32, ..."""
    vector = isinstance(type, ir.VectorType)
    element = type.element if vector else type
    if not isinstance(element, ir.FloatType | ir.DoubleType):
        raise TypeMismatch(
            "vector math works on float and double",
            expected="float, double or a vector of them",
            received=str(type),
            fix="convert to float before the call and back after it",
        )
    name = "f32" if isinstance(element, ir.FloatType) else "f64"
    return f"v{type.count}{name}" if vector else name


class _Splat(ir.Constant):
    """A vector constant with equal lanes, printed `splat (float 0x...)`: short for any N."""

    def __init__(self, type: ir.VectorType, lane: ir.Constant):
        super().__init__(type, [lane] * type.count)

    def _get_reference(self) -> str:
        return f"splat ({self.type.element} {self.constant[0].get_reference()})"


class V:
    """An SSA value with operators; a Python number on either side becomes a constant."""

    __slots__ = ("ir", "m")

    def __init__(self, m: "Emitter", value: ir.Value):
        self.m, self.ir = m, value

    @property
    def _is_float(self) -> bool:
        return self.ir.type == self.m.type

    def _lift(self, other: "V | float") -> "V":
        if isinstance(other, V):
            return other
        return self.m.const(other) if self._is_float else self.m.int(other)

    def _apply(self, method: str, other: "V | float", swap: bool = False) -> "V":
        sides = (self.ir, self._lift(other).ir)
        return V(self.m, getattr(self.m.b, method)(*(sides[::-1] if swap else sides)))

    def _compare(self, op: str, other: "V | float") -> "V":
        compare = self.m.b.fcmp_ordered if self._is_float else self.m.b.icmp_signed
        return V(self.m, compare(op, self.ir, self._lift(other).ir))

    def __add__(self, other):
        return self._apply("fadd" if self._is_float else "add", other)

    def __radd__(self, other):
        return self._lift(other) + self

    def __sub__(self, other):
        return self._apply("fsub" if self._is_float else "sub", other)

    def __rsub__(self, other):
        return self._lift(other) - self

    def __mul__(self, other):
        return self._apply("fmul" if self._is_float else "mul", other)

    def __rmul__(self, other):
        return self._lift(other) * self

    def __truediv__(self, other):
        return self._apply("fdiv", other)

    def __rtruediv__(self, other):
        return self._lift(other) / self

    def __neg__(self):
        return V(self.m, self.m.b.fneg(self.ir))

    def __lshift__(self, other):
        return self._apply("shl", other)

    def __rshift__(self, other):
        return self._apply("ashr", other)

    def halved(self) -> "V":
        """An integer without its lowest bit, shifted down; no sign is kept."""
        return self._apply("lshr", 1)

    def __and__(self, other):
        return self._apply("and_", other)

    def __or__(self, other):
        return self._apply("or_", other)

    def __xor__(self, other):
        return self._apply("xor", other)

    def __lt__(self, other):
        return self._compare("<", other)

    def __gt__(self, other):
        return self._compare(">", other)

    def __le__(self, other):
        return self._compare("<=", other)

    def __ge__(self, other):
        return self._compare(">=", other)

    def eq(self, other: "V | float") -> "V":
        return self._compare("==", other)

    def ne(self, other: "V | float") -> "V":
        """Ordered and unequal: false when a side is NaN."""
        return self._compare("!=", other)


def cold_function(module: ir.Module, name: str, signature: ir.FunctionType) -> ir.Function:
    """An internal function that is rarely called and stays one."""
    function = ir.Function(module, signature, name)
    function.linkage = "internal"
    for attribute in ("nounwind", "noinline", "cold"):
        function.attributes.add(attribute)
    return function


def _any_lane(module: ir.Module, type: ir.VectorType) -> ir.Function:
    """Whether any lane of a vector of i1 is set."""
    name = f"llvm.vector.reduce.or.v{type.count}i1"
    existing = module.globals.get(name)
    signature = ir.FunctionType(ir.IntType(1), [type])
    return ir.Function(module, signature, name) if existing is None else existing


class Emitter:
    """A builder and the floating-point type that its functions work in."""

    def __init__(self, b: ir.IRBuilder, type: ir.Type):
        self.b, self.type, self.suffix = b, type, type_suffix(type)
        self.lanes = type.count if isinstance(type, ir.VectorType) else None
        self.bits = int(self.suffix[-2:])
        self.mantissa, self.bias = _MANTISSA[self.bits], _BIAS[self.bits]
        self.int_type = self._shaped(ir.IntType(self.bits))
        self.smallest_normal = 2.0 ** (1 - self.bias)
        self.epsilon = 2.0**-self.mantissa
        # Adding 1.5 * 2^mantissa leaves no bits for a fraction: the sum is rounded to an integer,
        # which then stands in the low bits. Unlike fptosi this has no undefined case.
        self.magic = 1.5 * 2.0**self.mantissa

    def _shaped(self, element: ir.Type) -> ir.Type:
        return element if self.lanes is None else ir.VectorType(element, self.lanes)

    def _constant(self, type: ir.Type, value: float) -> V:
        if isinstance(type, ir.VectorType):
            return V(self, _Splat(type, ir.Constant(type.element, value)))
        return V(self, ir.Constant(type, value))

    def const(self, value: float) -> V:
        return self._constant(self.type, float(value))

    def int(self, value: int) -> V:
        return self._constant(self.int_type, value)

    def pick(self, f32: float, f64: float) -> float:
        """The constant of this type's precision."""
        return f32 if self.bits == 32 else f64

    def bits_of(self, value: float) -> builtins.int:
        """The bit pattern of a Python number in this type."""
        as_float, as_int = ("<f", "<i") if self.bits == 32 else ("<d", "<q")
        return struct.unpack(as_int, struct.pack(as_float, value))[0]

    # Intrinsics -------------------------------------------------------------------------------

    def intrinsic(self, name: str, *args: V) -> V:
        """Call `llvm.<name>` on values of this type; declared once per module."""
        full = f"llvm.{name}.{self.suffix}"
        module = self.b.module
        function = module.globals.get(full)
        if function is None:
            # Module.declare_intrinsic does not know vector types.
            signature = ir.FunctionType(self.type, [self.type] * len(args))
            function = ir.Function(module, signature, full)
        return V(self, self.b.call(function, [a.ir for a in args]))

    def fma(self, a: V | float, b: V | float, c: V | float) -> V:
        """a * b + c, rounded once."""
        return self.intrinsic("fma", *(v if isinstance(v, V) else self.const(v) for v in (a, b, c)))

    def sqrt(self, x: V) -> V:
        return self.intrinsic("sqrt", x)

    def abs(self, x: V) -> V:
        return self.intrinsic("fabs", x)

    def trunc(self, x: V) -> V:
        return self.intrinsic("trunc", x)

    def copysign(self, magnitude: V, sign: V) -> V:
        return self.intrinsic("copysign", magnitude, sign)

    # Selection --------------------------------------------------------------------------------

    def select(self, condition: V, then: V | float, other: V | float) -> V:
        then, other = (v if isinstance(v, V) else self.const(v) for v in (then, other))
        return V(self, self.b.select(condition.ir, then.ir, other.ir))

    def at_least(self, x: V, low: float) -> V:
        """max(x, low) that keeps NaN; one instruction on x86."""
        return self.select(x < low, low, x)

    def at_most(self, x: V, high: float) -> V:
        """min(x, high) that keeps NaN."""
        return self.select(x > high, high, x)

    def isnan(self, x: V) -> V:
        return V(self, self.b.fcmp_unordered("uno", x.ir, x.ir))

    def rarely(self, condition: V, usual: V, compute: Callable[[], V]) -> V:
        """`compute()` in place of `usual` where the condition holds in any lane: behind a branch
        that is expected not to be taken."""
        b, before = self.b, self.b.block
        any_lane = condition.ir
        if self.lanes is not None:
            any_lane = b.call(_any_lane(b.module, any_lane.type), [any_lane])
        with b.if_then(any_lane, likely=False):
            found, after = compute(), b.block
        result = b.phi(self.type)
        result.add_incoming(usual.ir, before)
        result.add_incoming(found.ir, after)
        return V(self, result)

    def outlined(self, name: str, build: Callable[..., V], *args: V) -> V:
        """`build(emitter, *args)` as a call of an internal function, for code that rarely runs."""
        module, symbol = self.b.module, f"tessel.{name}.{self.suffix}"
        function = module.globals.get(symbol)
        if function is None:
            signature = ir.FunctionType(self.type, [self.type] * len(args))
            function = cold_function(module, symbol, signature)
            m = Emitter(ir.IRBuilder(function.append_basic_block("entry")), self.type)
            m.b.ret(build(m, *(V(m, a) for a in function.args)).ir)
        return V(self, self.b.call(function, [a.ir for a in args]))

    # Bits -------------------------------------------------------------------------------------

    def to_bits(self, x: V) -> V:
        return V(self, self.b.bitcast(x.ir, self.int_type))

    def from_bits(self, i: V) -> V:
        return V(self, self.b.bitcast(i.ir, self.type))

    def pow2(self, i: V) -> V:
        """2^i for integers i of the normal exponent range, of which only the low bits count."""
        return self.from_bits((i + self.bias) << self.mantissa)

    def nearest(self, x: V, scale: float) -> tuple[V, V]:
        """rint(x * scale) as a float and as an integer; |x * scale| < 2^(mantissa - 1). Of the
        integer the low bits are right, and the high ones those of `magic`: enough for `pow2`."""
        t = self.fma(x, scale, self.magic)
        return t - self.magic, self.to_bits(t)

    def to_float(self, i: V) -> V:
        """A small integer as a float, |i| < 2^(mantissa - 1)."""
        return self.from_bits(i + self.bits_of(self.magic)) - self.magic

    # Polynomials and precision ----------------------------------------------------------------

    def poly(self, x: V, coefficients: Sequence[float]) -> V:
        """c0 + c1 x + c2 x^2 + ..., by Horner's rule."""
        *rest, last = coefficients
        result = self.const(last)
        for c in reversed(rest):
            result = self.fma(result, x, c)
        return result

    def wide(self) -> "Emitter":
        """The emitter of as many doubles."""
        return Emitter(self.b, self._shaped(ir.DoubleType()))

    def widen(self, x: V) -> V:
        wide = self.wide()
        return V(wide, self.b.fpext(x.ir, wide.type))

    def narrow(self, x: V) -> V:
        """A double, or a 64-bit integer, as this emitter's float or integer."""
        if x._is_float:
            return V(self, self.b.fptrunc(x.ir, self.type))
        return V(self, self.b.trunc(x.ir, self.int_type))
