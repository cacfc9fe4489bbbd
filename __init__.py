"""tessel: a compiler-based graph optimizer, inference and training toolkit.

    exe = tessel.compile("model.onnx")
    y = exe(x)                                  # or exe.run({"x": x})
    exe.save("model.tsl"); exe = tessel.load("model.tsl")

This is the face: it joins the frontends, the compiler and the runtime, each loaded when needed.
"""

import functools
import sys
from typing import TYPE_CHECKING

from .compiler.errors import TesselError, entrance

if TYPE_CHECKING:
    from .compiler.budgets import Limits
    from .compiler.grad import graph_gradients as gradients
    from .compiler.ir import Graph
    from .compiler.progress import Progress
    from .frontends import native
    from .frontends import user as ops
    from .frontends.native import custom_gradient
    from .runtime import optimizers
    from .runtime.executable import Executable
    from .runtime.training import Trainer

__version__ = "0.1.0"
__all__ = [
    "Executable", "Graph", "Limits", "Progress", "TesselError", "Trainer", "compile",
    "custom_gradient", "from_onnx", "grad", "gradients", "jit", "load", "native", "ops",
    "optimizers", "to_onnx", "value_and_grad",
]  # fmt: skip


@entrance
def compile(
    model, *,
    target="cpu", shapes=None, opt_level=2, precision=None, quantize=None, prune=None,
    threads=None, strict=False, unchecked=False, dims="check", cache=None, observer=None, tune=None,
    verify_bounds=False, limits=None, reuse=True, progress=None,
) -> "Executable":  # fmt: skip
    """Compile a model: a path, the bytes of an ONNX file, a ModelProto or a Graph.

    target      "cpu" (this machine), "cpu:x86-64-v3", …, "cuda", "cuda:sm_90", "numpy"
    shapes      sizes of dims that the model leaves open, by input: {"x": (1, 3, 224, 224)};
                dims that stay open are arguments of the code, which serves all sizes; models
                with inputs that decide shapes (Reshape to an input) are compiled when inputs
                arrive, for each of their values
    opt_level   0 nothing is rewritten … 2 the default, 3 the most
    threads     how many cores a run may use; None: what TESSEL_THREADS says, or those that this
                process may use (affinity, and quotas of its control group)
    strict      refuse models of which a part would run outside compiled code, and keep the order
                of sums as the model has it (no Winograd convolutions)
    unchecked   do not look for indices out of range: the nearest ones inside are taken, lengths
                and positions mean what they may, and branches that shapes make impossible give
                NaN. Else a run with such values raises InputError
    dims        "check": a run that gives a dim's name two sizes is refused; "warn": it is warned
                of (RuntimeWarning), and each of them is a size of its own
    cache       folder of what was compiled; None: the user's cache folder, False: none
    reuse       take the whole package of an earlier compilation of the same file with the same
                options, if the cache has it. False: compile anew, for who wants to see how
    observer    sees `(pass, graph, changed)` after each pass
    progress    is called with a `Progress(stage, done, total)` while this compiles, and while runs
                compile for further sizes, also from other threads, one call at a time; what it
                raises ends the compilation
    tune        seconds to measure which schedules are fastest on this machine, and to use those;
                0: use what was measured before. None: the default schedules
                (or a `runtime.tune.Tuning`, which can report its progress)
    verify_bounds   prove of everything that is compiled that it cannot leave its arrays; raises
                CheckFailed where there is no proof
    limits      what the model may cost to compile, as {"nodes": 1_000_000} or `tessel.Limits`; the
                defaults are more than models of practice need

    `precision`, `quantize` and `prune` take None: the model's own weights and dtypes are kept.
    An initializer that is an input too (since ONNX's IR version 4) is a weight, until a run feeds
    it: that run has a specialisation of its own. `exe.inputs` lists it with its `default`.
    Raises TesselError: UsageError for options, ModelError, UnsupportedError, OutOfMemoryError, ….
    """
    options = {
        "target": target, "shapes": shapes, "opt_level": opt_level, "precision": precision,
        "quantize": quantize, "prune": prune, "threads": threads, "strict": strict, "cache": cache,
        "unchecked": unchecked, "verify_bounds": verify_bounds,
    }  # fmt: skip
    from .compiler.garbage import seldom_collected

    model = _named_apart(_limited(model, limits), dims)
    with seldom_collected:
        if reuse and observer is None and tune is None and not verify_bounds:
            exe = _compile_once(model, options, progress)
        else:
            exe = _compile(model, observer=observer, tune=tune, progress=progress, **options)
        return _with_overrides(exe, model, options)


def _with_empty(exe: "Executable", model, shapes) -> "Executable":
    """`exe`, which reads its ONNX model anew for sizes of 0, where its graph does not mean them."""
    from .compiler.ir import Graph
    from .runtime.empty import WhenEmpty

    if not isinstance(model, Graph) and exe.signature.symbols:
        exe.empty = WhenEmpty(functools.partial(_read_sized, model, dict(shapes or {})))
    return exe


def _read_sized(model, shapes: dict, sized: dict, values: dict):
    return read(model, shapes | sized, values)


def _compile_once(model, options: dict, progress) -> "Executable":
    """`_compile`, unless an earlier one of the same left its package in the cache."""
    from .compiler import concurrency  # noqa: F401  first: from here on forks wait for imports
    from .compiler.cores import check_threads
    from .runtime.build import object_cache, package_folder
    from .runtime.reuse import find, why_not

    decisive = {n: x for n, x in options.items() if n not in ("threads", "cache")}
    # Users' ops decide what a model means, and what they do is in no hash.
    users = sys.modules.get(f"{__name__}.frontends.user.registration")
    registered = getattr(users, "registered", None)  # None: another thread is importing it
    plain = users is None or (registered is not None and not registered())
    folder = package_folder(options["cache"])
    entry = find(model, decisive, folder) if plain else None
    if entry is not None:
        threads = check_threads(options["threads"])
        make = functools.partial(_defer, model, options["shapes"])
        exe = entry.load(threads, object_cache(options["cache"]), make)
        if exe is not None:
            exe.target.progress = progress
            return exe if exe.specialize is not None else _with_empty(exe, model, options["shapes"])
    if entry is None:
        exe = _compile(model, progress=progress, **options)
        if (reason := why_not(folder)) is not None:
            exe.notes.append(reason)
        return exe
    from .frontends.onnx.watched import Watched

    source = Watched(model)
    exe = _compile(source, progress=progress, **options)
    entry.keep(exe, source.files)
    return exe


def _defer(model, shapes):
    """A model that is read anew for sizes or values, as an earlier process found out."""
    from .compiler.errors import ModelError, UnsupportedError
    from .frontends.onnx.declared import defer

    try:
        read(model, shapes)
    except UnsupportedError as error:
        if (deferred := defer(model, shapes, error)) is not None:
            return deferred
        raise
    raise ModelError("the file has changed since it was compiled", fix="compile it again")


def _named_apart(model, dims: str):
    """The model whose dims of one name may differ, if `dims` says so."""
    from .compiler.errors import UsageError
    from .compiler.ir import Graph

    if dims not in ("check", "warn"):
        raise UsageError("unknown way with dims", expected="'check' or 'warn'", received=dims)
    if dims == "check":
        return model
    if isinstance(model, Graph):
        raise UsageError("a graph's dims are what it says", fix="leave out dims, or rename them")
    from .frontends.onnx.apart import Apart

    return Apart(model)


def _limited(model, limits):
    """The model, which knows what it may cost."""
    if limits is None:
        return model
    from .compiler.budgets import FOLDED, Limits
    from .compiler.ir import Graph
    from .frontends.onnx.proto import Limited

    limits = Limits.of(limits)
    if not isinstance(model, Graph):
        return Limited(model, limits)
    model = model.copy()
    model.metadata[FOLDED] = str(limits.folded)
    return model


def _with_overrides(exe: "Executable", model, options: dict) -> "Executable":
    """`exe`, which takes values for those of its weights that a run may replace."""
    from .compiler.ir import Graph

    if not exe.signature.optional or isinstance(model, Graph):
        return exe
    from .runtime.overrides import Overrides
    from .runtime.signature import Port

    def default(name: str):
        from .frontends.onnx.overridable import default_of

        return default_of(model, name)

    def fed(names: frozenset[str]) -> "Executable":
        from .frontends.onnx.overridable import Feeding

        return _compile(Feeding(model, names), **options)

    ports = [
        Port(name, type, functools.partial(default, name))
        for name, type in exe.signature.optional.items()
    ]
    exe.overrides = Overrides(ports, fed)
    return exe


def _compile(
    model, *, target, shapes, opt_level, precision, quantize, prune, threads, strict, cache,
    unchecked, verify_bounds, observer=None, tune=None, progress=None,
) -> "Executable":  # fmt: skip
    """`compile`, with every initializer as a weight."""
    from .compiler import concurrency  # noqa: F401  first: from here on forks wait for imports
    from .compiler.budgets import SPENT
    from .compiler.cores import check_threads
    from .compiler.errors import UnsupportedError
    from .compiler.nonempty import nonempty
    from .compiler.passes.base import Report
    from .compiler.progress import tell
    from .compiler.structure import KEY
    from .runtime.build import check_options, object_cache, open_target, optimize
    from .runtime.executable import Executable

    check_options(opt_level, precision=precision, quantize=quantize, prune=prune)
    threads = check_threads(threads)
    tuning = None
    if tune is not None:
        from .runtime.tune import open_tuning

        tuning = open_tuning(tune, cache)
    objects = object_cache(cache)
    where = open_target(target, objects, tuning)
    where.checked = not unchecked
    where.progress = progress
    where.verified = 0 if verify_bounds else None
    options = {"level": opt_level, "threads": threads, "strict": strict}
    tell(progress, "read", 0, 1)
    try:
        graph = read(model, shapes)
    except UnsupportedError as error:
        from .frontends.onnx.declared import Formed, defer
        from .runtime.structured import Structured

        deferred = defer(model, shapes, error)
        if deferred is None:
            raise
        if isinstance(deferred, Formed):
            return Structured.of(deferred, where, **options)
        return Executable(deferred.graph, where, specialize=deferred, **options)
    tell(progress, "read", 1, 1)
    report = Report()
    graph = optimize(graph, opt_level, where, report, observer=observer)
    exe = Executable(graph, where, **options)
    exe.report = report
    if nonempty(graph):
        _with_empty(exe, model, shapes)
    exe.open()
    if not exe.signature.symbols:
        exe.specialization({})
    if tuning is not None:
        exe.notes.extend(tuning.notes)
    if SPENT in graph.metadata:
        exe.notes.append(f"{SPENT} (limits: folded): {graph.metadata[SPENT]}")
    if objects.note is not None:
        exe.notes.append(objects.note)
    if KEY not in graph.metadata:
        return exe
    from .runtime.structured import with_structure

    return with_structure(exe, graph.metadata)


@entrance
def read(model, shapes=None, values=None) -> "Graph":
    """The Graph of a model (see `compile`), before any pass. `shapes` as in `compile`.

    `values`: arrays of those inputs of an ONNX model that decide shapes, where it has such; the
    graph is right for these values only.
    """
    from .compiler.errors import UsageError
    from .compiler.ir import Graph
    from .runtime.signature import fix_shapes

    if isinstance(model, Graph):
        if values:
            raise UsageError("a graph's shapes never depend on values", received=", ".join(values))
        return fix_shapes(model, shapes) if shapes else model
    from .frontends.onnx.reader import read as read_onnx

    return read_onnx(model, shapes=shapes, values=values)


@entrance
def from_onnx(model, *, shapes=None, values=None, limits=None) -> "Graph":
    """The Graph of an ONNX model: a path, the bytes of a file, or a ModelProto. No pass has run.

    `shapes` and `values` as in `read`, `limits` as in `compile`. Raises TesselError listing all
    that cannot be read.
    """
    return read(_limited(model, limits), shapes, values)


@entrance
def to_onnx(model, path=None, *, shapes=None, values=None, opt_level=2, opset=21, limits=None):
    """A model (see `compile`) as an `onnx.ModelProto`, optimised; written to `path` if given.

    Operators are those of the ONNX standard from `opset` on; what it lacks is written as what it is
    made of. Weights of more than 1.5 GB go to `<path>.data`. `opt_level=0` keeps the graph as it
    is. Raises UnsupportedError for what ONNX cannot say.
    """
    from .compiler.passes.base import run_pipeline
    from .compiler.passes.pipelines import default_pipeline
    from .frontends.onnx.writer import write
    from .runtime.build import check_options

    check_options(opt_level)
    graph = run_pipeline(read(_limited(model, limits), shapes, values), default_pipeline(opt_level))
    return write(graph, path, opset=opset)


@entrance
def load(path, *, native=True, threads=None, cache=None, trust=None) -> "Executable":
    """Load a `.tsl` package; its weights are mapped from the file.

    Loading a package is running its code, with all rights of this process: load what you trust.
    `trust` is a public key (a file, or hex digits) or several: the package has to be signed with
    one of them (`tessel sign`), and every byte of it is looked at first. `native=False` ignores the
    code and compiles the graph which the package carries, as happens where the code was made for
    another CPU (`exe.notes` says so). Raises PackageError.
    """
    from .compiler import concurrency  # noqa: F401  first: from here on forks wait for imports
    from .compiler.cores import check_threads
    from .runtime.build import object_cache
    from .runtime.package import load as load_package

    threads = check_threads(threads)
    return load_package(
        path, native=native, threads=threads, cache=object_cache(cache), trust=trust
    )


def _load(name: str):
    """What the face re-exports, imported at its first use."""
    from .compiler import concurrency  # noqa: F401  first: from here on forks wait for imports

    if name == "Graph":
        from .compiler.ir import Graph as value
    elif name == "Limits":
        from .compiler.budgets import Limits as value
    elif name == "Progress":
        from .compiler.progress import Progress as value
    elif name == "Executable":
        from .runtime.executable import Executable as value
    elif name == "gradients":
        from .compiler.grad import graph_gradients as value
    elif name == "native":
        from .frontends import native as value
    elif name == "ops":
        from .frontends import user as value

        value.check = value.make_check(compile)
    elif name == "custom_gradient":
        from .frontends.native import custom_gradient as value
    elif name == "optimizers":
        from .runtime import optimizers as value
    elif name == "Trainer":
        from .runtime.training import Trainer as value
    elif name in ("jit", "grad", "value_and_grad"):
        from .frontends.native.transforms import make_transforms

        value = dict(zip(("jit", "grad", "value_and_grad"), make_transforms(compile)))[name]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return value


def __getattr__(name: str):
    return globals().setdefault(name, _load(name))


def __dir__():
    return sorted({*globals(), *__all__})
