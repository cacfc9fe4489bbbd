"""Vector math as LLVM IR: one formula per function for any lane count, with a stated error.

    y = vmath.emit(builder, "tanh", x)          x: float, double, or a vector of them
    z = vmath.emit(builder, "pow", x, y)

`emit` writes the instructions at the builder's place; `declare_as_function` gives an internal
function instead, for a kernel that uses a large one several times. `FUNCTIONS` states for each
name the largest error in units in the last place (of the exact result, for results in the normal
range) and the method. These bounds are no proofs: each is the
maximum over some million arguments of all exponents, denser where a function turns, rounded up.
The formulas are in `vmath_functions` and `vmath_trigonometry`.

Shared by all: nothing is called outside the module but LLVM intrinsics with a machine instruction
(fma, sqrt, fabs, copysign, floor, ...); on a target without FMA or SSE4.1, LLVM calls libm for
those. No fast-math flags: a lane's value does not depend on the lane count. NaN in gives NaN out
(its payload is not kept), overflow gives inf, underflow is gradual (only sigmoid and exp_flushed
flush), odd functions keep the sign of zero. The rounding mode is round-to-nearest.
"""

from collections.abc import Callable

import llvmlite.ir as ir

from ....classes import dataclass
from ....errors import TypeMismatch, UnsupportedError
from . import functions as f
from . import trigonometry as t
from .emitter import Emitter, V, type_suffix


@dataclass(frozen=True)
class Bound:
    """A function with its stated error.

    ulp_f32, ulp_f64  largest error in ulp; 0 means exact, 0.5 correctly rounded
    method            how it is computed, and after whom
    build             (Emitter, *values) -> value
    arity             number of operands
    """

    ulp_f32: float
    ulp_f64: float
    method: str
    build: Callable[..., V]
    arity: int = 1


def _intrinsic(name: str) -> Callable[..., V]:
    return lambda m, *args: m.intrinsic(name, *args)


_EXP = "Cody-Waite reduction by ln2, minimax polynomial, 2^n in two halves (Cephes)"
_LOG = "x = 2^k (1+f), atanh series in f/(2+f) (fdlibm)"
_SIN = "fused Cody-Waite reduction by pi/2 (SLEEF; f32 in double), from 2^40 on Payne-Hanek, fdlibm"
_LOG1P = "log(1+x) plus the rounding error of 1+x over 1+x (fdlibm)"

# Formulas of many instructions, which fill a core's registers by themselves.
FORMULAS: dict[str, Bound] = {
    "exp": Bound(1.0, 1.0, _EXP, f.exp),
    "exp2": Bound(1.1, 1.1, "exact reduction by rint, minimax polynomial", f.exp2),
    "expm1": Bound(2.0, 2.5, _EXP + ", 2^n p + (2^n - 1)", f.expm1),
    "log": Bound(1.0, 1.0, _LOG, f.log),
    "log1p": Bound(1.0, 1.0, _LOG1P, f.log1p),
    "log2": Bound(2.0, 2.0, _LOG + " times 1/ln2 in two parts", f.log2),
    "rsqrt": Bound(1.5, 1.5, "division by llvm.sqrt", f.rsqrt),
    "sin": Bound(1.6, 1.0, _SIN, t.sin),
    "cos": Bound(1.6, 1.0, _SIN, t.cos),
    "tan": Bound(3.5, 2.5, _SIN + ", quotient", t.tan),
    "asin": Bound(2.2, 2.2, "polynomial, half-angle formula beyond 1/2 (Cephes)", t.asin),
    "acos": Bound(1.5, 1.5, "polynomial, half-angle formula beyond 1/2 (Cephes)", t.acos),
    "atan": Bound(2.0, 2.0, "three ranges by tan(pi/8), one quotient, polynomial (Cephes)", t.atan),
    "sinh": Bound(2.0, 2.0, "polynomial up to 1, then e^|x|/2 less its quarter inverse", f.sinh),
    "cosh": Bound(1.5, 1.5, "e^|x|/2 plus its quarter inverse", f.cosh),
    "tanh": Bound(3.0, 3.0, "M / (M + 2), M = expm1(2|x|) (fdlibm)", f.tanh),
    "asinh": Bound(2.0, 2.0, "log1p (fdlibm)", f.asinh),
    "acosh": Bound(3.0, 3.0, "log1p (fdlibm)", f.acosh),
    "atanh": Bound(2.5, 2.5, "log1p (fdlibm)", f.atanh),
    "erf": Bound(
        2.5,
        1.5,
        "f32: -expm1 of a fit of log(erfc); f64: polynomial to 1, e^(-x^2) rational",
        f.erf,
    ),
    "normal_area": Bound(5.5, 2.5, "f32: x P(x^2) / Q(x^2) up to 5.5; f64: erf", f.normal_area),
    "sigmoid": Bound(2.5, 2.5, "1 / (1 + e^-x)", f.sigmoid),
    "pow": Bound(0.6, 0.8, "f32: in double; f64: log2, times y, 2^ in two doubles", f.power, 2),
}
INTRINSICS: dict[str, Bound] = {
    "sqrt": Bound(0.5, 0.5, "llvm.sqrt", _intrinsic("sqrt")),
    "floor": Bound(0.0, 0.0, "llvm.floor", _intrinsic("floor")),
    "ceil": Bound(0.0, 0.0, "llvm.ceil", _intrinsic("ceil")),
    "trunc": Bound(0.0, 0.0, "llvm.trunc", _intrinsic("trunc")),
    "round_even": Bound(0.0, 0.0, "llvm.roundeven", _intrinsic("roundeven")),
    "abs": Bound(0.0, 0.0, "llvm.fabs", _intrinsic("fabs")),
    "fma": Bound(0.5, 0.5, "llvm.fma", _intrinsic("fma"), 3),
    "copysign": Bound(0.0, 0.0, "llvm.copysign", _intrinsic("copysign"), 2),
}
# What schedules compute besides, and no expression asks for.
OTHERS: dict[str, Bound] = {
    "exp_flushed": Bound(1.0, 1.0, _EXP + ", x <= 0, without gradual underflow", f.exp_flushed),
}
FUNCTIONS = FORMULAS | INTRINSICS


def emit(b: ir.IRBuilder, name: str, x: ir.Value, *args: ir.Value) -> ir.Value:
    """The instructions of `name` at the builder's place; all operands have the type of x."""
    bound = _bound(name, x.type)
    operands = (x, *args)
    if len(operands) != bound.arity or any(a.type != x.type for a in args):
        raise TypeMismatch(
            f"{name} does not take these operands",
            expected=f"{bound.arity} of one type",
            received=", ".join(str(a.type) for a in operands),
        )
    m = Emitter(b, x.type)
    return bound.build(m, *(V(m, a) for a in operands)).ir


def declare_as_function(module: ir.Module, name: str, type: ir.Type) -> ir.Function:
    """An internal function that computes `name` on `type`; the same one on each request."""
    bound = _bound(name, type)
    symbol = f"tessel.{name}.{type_suffix(type)}"
    existing = module.globals.get(symbol)
    if existing is not None:
        return existing
    function = ir.Function(module, ir.FunctionType(type, [type] * bound.arity), symbol)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    b = ir.IRBuilder(function.append_basic_block("entry"))
    b.ret(emit(b, name, *function.args))
    return function


def _bound(name: str, type: ir.Type) -> Bound:
    bound = FUNCTIONS.get(name, OTHERS.get(name))
    if bound is None:
        raise UnsupportedError(
            f"there is no vector math function {name!r} (asked for {type})",
            expected=", ".join(FUNCTIONS),
            received=name,
        )
    return bound
