"""`register`: a user's record, checked with all findings at once, and its names in ONNX."""

import functools
import keyword
from collections.abc import Callable, Iterable, Mapping

from ...compiler.errors import UsageError
from ...compiler.ir import op as registry
from ...compiler.ir.op import OPS, Attr, Extern, Meaning, NotDifferentiable, Op, Sample
from ...compiler.ir.types import CLASSES, DTYPES
from ..native.tracing import user_line
from .foreign import CFunction, kernel_of
from .onnx_entry import add_entries, remove_entries, wrong_names

SIGNATURE = "'x: T, w: f32?, more: T* -> T': operands with dtypes, -> the results' dtypes"
_USERS: set[str] = set()  # ops that came through `register`


def register(
    name: str,
    signature: str,
    doc: str,
    *,
    ref: Callable | None = None,
    grad: "Callable | NotDifferentiable | None" = None,
    loops: "Meaning | CFunction | None" = None,
    samples: Callable[[], Iterable[Sample]] | None = None,
    shape: Callable | None = None,
    infer: Callable | None = None,
    attrs: Mapping[str, Attr] | None = None,
    commutative: bool = False,
    pure: bool = True,
    limits: Callable | None = None,
    onnx: str | Iterable[str] | Mapping[str, Callable] = (),
    replace: bool = False,
    **dtypes: str | Iterable,
) -> Op:
    """Add an op, for every stage and both frontends. Returns its record.

    signature   operands and results with their dtypes: "x: T, y: T? -> T"
    dtypes      what each dtype variable stands for: T="float", T=("f32", "f64")
    shape       (types…, **attrs) -> the result's shape, or a list of them; or `infer`, which gives
                whole types
    ref         (arrays…, **attrs) -> array, or a tuple: what the op means, in numpy
    grad        (c, dy…) -> a gradient per operand, or NotDifferentiable(reason)
    loops       Elementwise, Pull, Kernels, Expand, Extern (a Python kernel) or CFunction
    samples     () -> Samples, from which `check` tests the op
    limits      (types…, **attrs) -> Limits: what values of operands are allowed. A run with others
                is refused
    onnx        "domain:Name" of ONNX operators that are this op, attribute for attribute; or a
                mapping from such names to functions of a `Call`, for those that differ
    replace     take the place of an op of that name that was registered before (in a notebook)

    Raises one UsageError that lists everything which is missing or wrong.
    """
    where = user_line()
    names = [onnx] if isinstance(onnx, str) else list(onnx)
    findings = [
        *_wrong_name(name, replace),
        *_wrong_signature(signature, dtypes),
        *_wrong_parts(doc, ref, grad, loops, shape, infer, attrs),
        *_wrong_samples(samples),
        *wrong_names(names, replaced=name if replace else None),
    ]
    if isinstance(loops, CFunction) and not findings:
        findings += loops.problems(signature, attrs or {})
    if findings:
        raise UsageError(
            f"the record of {name} is not complete",
            where=where,
            findings=findings,
            fix="docs/custom-ops.md has an example of each part",
        )
    if name in OPS:
        unregister(name)
    if isinstance(loops, CFunction):
        loops = Extern(kernel_of(name, loops), loops.reason)
    elif isinstance(loops, Extern):
        loops = Extern(_with_absent(loops.kernel, signature), loops.reason)
    classes = {
        k: v if isinstance(v, str) and v in CLASSES else frozenset(map(_dtype, _several(v)))
        for k, v in dtypes.items()
    }
    _USERS.add(name)  # first: what is interrupted from here on can be replaced
    op = registry.register(
        name,
        signature,
        doc,
        ref=_with_absent(ref, signature),
        grad=grad,
        loops=loops,
        samples=samples,
        shape=shape,
        infer=infer,
        attrs=attrs,
        commutative=commutative,
        pure=pure,
        limits=limits,
        group="user",
        **classes,
    )
    add_entries(op, onnx if isinstance(onnx, Mapping) else dict.fromkeys(names))
    return op


def unregister(name: str) -> None:
    """Forget an op that came through `register`, and its names in ONNX. Graphs and executables
    that have it keep it. Raises UsageError for any other op."""
    if name not in _USERS:
        raise UsageError("no such op of yours", expected=", ".join(_USERS) or None, received=name)
    _USERS.discard(name)
    OPS.pop(name, None)
    remove_entries(name)


def registered() -> frozenset[str]:
    """The names of users' ops that there are now."""
    return frozenset(_USERS)


def _with_absent(f: Callable, signature: str) -> Callable:
    """`f` called with an argument for every operand: None for those at the end that are absent."""
    inputs, _ = registry.parse_signature(signature)
    if not any(i.optional for i in inputs) or inputs[-1].variadic:
        return f

    @functools.wraps(f)
    def padded(*operands, **attrs):
        return f(*operands, *[None] * (len(inputs) - len(operands)), **attrs)

    return padded


def _several(dtypes) -> list:
    return [dtypes] if isinstance(dtypes, str) or not isinstance(dtypes, Iterable) else list(dtypes)


def _dtype(x):
    return DTYPES.get(x, x) if isinstance(x, str) else x


# -- what can be wrong ---------------------------------------------------------------------


def _wrong_name(name: str, replace: bool) -> Iterable[UsageError]:
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        yield UsageError("an op's name must be a Python name", received=repr(name))
    elif name in OPS and name not in _USERS:
        yield UsageError("tessel has an op of this name", received=name, fix="choose another")
    elif name in OPS and not replace:
        yield UsageError("this name is registered", received=name, fix="replace=True replaces it")


def _wrong_signature(signature: str, dtypes: Mapping) -> Iterable[UsageError]:
    try:
        inputs, outputs = registry.parse_signature(signature)
    except (AttributeError, ValueError):
        yield UsageError("the signature does not read", expected=SIGNATURE, received=signature)
        return
    if any(i.variadic for i in inputs[:-1]):
        yield UsageError("only the last operand may repeat (*)", received=signature)
    for variable, allowed in dtypes.items():
        wrong = [
            d
            for d in _several(allowed)
            if not (d in CLASSES and isinstance(allowed, str)) and _dtype(d) not in DTYPES.values()
        ]
        if wrong:
            known = f"one of {', '.join(CLASSES)}, or of {', '.join(DTYPES)}"
            yield UsageError(f"{variable} is no dtype", expected=known, received=repr(wrong[0]))
    used = {i.dtype for i in inputs} | {o for o in outputs if o[:1] not in ("@", "*")}
    for variable in sorted(used - set(dtypes) - set(DTYPES) - {"*"}):
        yield UsageError(
            f"the signature uses {variable}, which is neither a dtype nor bound",
            fix=f"say what it stands for: {variable}='float'",
        )


def _wrong_parts(doc, ref, grad, loops, shape, infer, attrs) -> Iterable[UsageError]:
    if not isinstance(doc, str) or not doc.strip():
        yield UsageError("`doc` is missing", fix="one sentence: what the op computes")
    if not callable(ref):
        yield UsageError("`ref` is missing", fix="the op as a function of numpy arrays")
    if not callable(grad) and not isinstance(grad, NotDifferentiable):
        yield UsageError(
            "`grad` is missing",
            expected="a rule (c, dy…) -> gradients",
            fix="or say why there is none: NotDifferentiable('…')",
        )
    if not isinstance(loops, (Meaning, CFunction)):
        yield UsageError(
            "`loops` is missing",
            expected="Elementwise, Pull, Kernels, Expand, Extern, CFunction",
            received=repr(loops),
            fix="a host callback is Extern(function, reason)",
        )
    elif isinstance(loops, Extern) and not (callable(loops.kernel) and loops.reason):
        yield UsageError(
            "a host callback needs a function and a reason",
            received=repr(loops),
            fix="Extern(function, 'why it cannot be compiled')",
        )
    if (shape is None) == (infer is None):
        yield UsageError("give either `shape` or `infer`", fix="shape=same_shape, for one")
    for key, attr in (attrs or {}).items():
        if not isinstance(attr, Attr):
            yield UsageError(
                f"attribute {key} is no Attr",
                received=repr(attr),
                fix="Attr('float', 1.0), for one",
            )
        elif attr.kind not in registry._CONVERT:
            yield UsageError(
                f"attribute {key} has no such kind",
                received=attr.kind,
                expected=", ".join(registry._CONVERT),
            )


def _wrong_samples(samples) -> Iterable[UsageError]:
    if not callable(samples):
        yield UsageError(
            "`samples` is missing", fix="lambda: [Sample((array,), {'attribute': value})]"
        )
        return
    try:
        found = list(samples())
    except Exception as error:
        yield UsageError("`samples()` raises", received=f"{type(error).__name__}: {error}")
        return
    if not found or not all(isinstance(x, Sample) for x in found):
        yield UsageError("`samples()` must give Samples", received=repr(found)[:200])
