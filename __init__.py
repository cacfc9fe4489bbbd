"""tessel: a compiler-based graph optimizer, inference and training toolkit.

    exe = tessel.compile("model.onnx")
    y = exe(x)                                  # or exe.run({"x": x})
    exe.save("model.tsl"); exe = tessel.load("model.tsl")

This is the face: names and what they mean. What is behind a name is loaded when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from .compiler.errors import TesselError, entrance
from .compiler.system import concurrency  # noqa: F401  from here on forks wait for imports
from .compiler.system.alias import give_lazy_module

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from pathlib import Path
    from types import ModuleType

    import numpy as np
    import onnx

    from .compiler.autodiff.gradients import graph_gradients as gradients
    from .compiler.compress.recipe import Recipe
    from .compiler.ir.graph import Graph
    from .compiler.passes.base import Observer
    from .compiler.system.budgets import Limits
    from .compiler.system.progress import Listener, Progress
    from .frontends import native
    from .frontends import user as ops
    from .frontends.compression import quantize, quantize_for_training
    from .frontends.native import custom_gradient, grad, jit, value_and_grad
    from .runtime.execution.executable import Executable
    from .runtime.training import callbacks, optimizers
    from .runtime.training.trainer import Trainer
    from .runtime.tuning.tune import Tuning

    Model = str | PathLike[str] | bytes | onnx.ModelProto | Graph
    Shapes = Mapping[str, Sequence[int | None]]
    Values = Mapping[str, np.ndarray]
    Trusted = str | PathLike[str] | Sequence[str | PathLike[str]]

__version__ = "0.1.0"
__all__ = [
    "Executable",
    "Graph",
    "Limits",
    "Progress",
    "Recipe",
    "TesselError",
    "Trainer",
    "callbacks",
    "compile",
    "custom_gradient",
    "from_onnx",
    "grad",
    "gradients",
    "jit",
    "load",
    "native",
    "ops",
    "optimizers",
    "quantize",
    "quantize_for_training",
    "to_onnx",
    "value_and_grad",
]

# Where the other names are: a module, and the name there if it is not the module itself.
_PLACES = {
    "Executable": (".runtime.execution.executable", "Executable"),
    "Graph": (".compiler.ir.graph", "Graph"),
    "Limits": (".compiler.system.budgets", "Limits"),
    "Progress": (".compiler.system.progress", "Progress"),
    "Recipe": (".compiler.compress.recipe", "Recipe"),
    "Trainer": (".runtime.training.trainer", "Trainer"),
    "custom_gradient": (".frontends.native", "custom_gradient"),
    "grad": (".frontends.native", "grad"),
    "gradients": (".compiler.autodiff.gradients", "graph_gradients"),
    "jit": (".frontends.native", "jit"),
    "native": (".frontends.native", None),
    "ops": (".frontends.user", None),
    "quantize": (".frontends.compression", "quantize"),
    "quantize_for_training": (".frontends.compression", "quantize_for_training"),
    "callbacks": (".runtime.training.callbacks", None),
    "optimizers": (".runtime.training.optimizers", None),
    "value_and_grad": (".frontends.native", "value_and_grad"),
}


@entrance
def compile(
    model: Model,
    *,
    target: str = "cpu",
    shapes: Shapes | None = None,
    opt_level: int = 2,
    precision: str | None = None,
    quantize: str | None = None,
    prune: None = None,
    threads: int | None = None,
    strict: bool = False,
    unchecked: bool = False,
    passes: str | None = None,
    dims: str = "check",
    cache: str | Path | bool | None = None,
    observer: Observer | None = None,
    tune: float | Tuning | None = None,
    verify_bounds: bool = False,
    limits: Limits | Mapping[str, int] | None = None,
    reuse: bool = True,
    progress: Listener | None = None,
) -> Executable:
    """Compile a model: a path, the bytes of an ONNX file, a ModelProto or a Graph.

    target      "cpu" (this machine), "cpu:x86-64-v3", …, "cuda", "cuda:sm_90", "numpy"
    shapes      sizes of dims that the model leaves open, by input: {"x": (1, 3, 224, 224)};
                dims that stay open are arguments of the code, which serves all sizes; models
                with inputs that decide shapes (Reshape to an input) are compiled when inputs
                arrive, for each of their values
    opt_level   0 nothing is rewritten … 2 the default, 3 also makes one product of several that
                read the same operand (queries, keys, values)
    precision   how f32 products are computed: None exactly; for targets `cuda` also "tf32x3"
                (nearly) and "tf32" (10 bits, fastest)
    quantize    a recipe that needs no data: "int8-dynamic", "int8-weights", "int4", "int4-int8",
                "fp8", "fp8-e5m2", "mxfp8", "mxfp4", "nf4";
                None: the model's own weights. With data: compile(tessel.quantize(model, data))
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
    passes      a text that names the passes to run in place of the level's, with their fields:
                "default,combine_products{least=3}"; `default` are the level's. In a terminal,
                `tessel explain --passes help` lists all
    verify_bounds   prove of everything that is compiled that it cannot leave its arrays; raises
                CheckFailed where there is no proof
    limits      what the model may cost to compile, as {"nodes": 1_000_000} or `tessel.Limits`; the
                defaults are more than models of practice need

    `prune` takes None: the model's own weights are kept.
    An initializer that is an input too (since ONNX's IR version 4) is a weight, until a run feeds
    it: that run has a specialization of its own. `exe.inputs` lists it with its `default`.
    Raises TesselError: UsageError for options, ModelError, UnsupportedError, OutOfMemoryError, ….
    """
    from .compiler.options import Options
    from .frontends.sources import source_of
    from .runtime.compile import compile_model

    options = Options(
        opt_level=opt_level,
        strict=strict,
        precision=precision,
        quantize=quantize,
        prune=prune,
        unchecked=unchecked,
        verify_bounds=verify_bounds,
        passes=passes,
    )
    return compile_model(
        source_of(model, limits=limits, dims=dims),
        options,
        target=target,
        shapes=shapes,
        threads=threads,
        cache=cache,
        observer=observer,
        tune=tune,
        reuse=reuse,
        progress=progress,
    )


@entrance
def read(model: Model, shapes: Shapes | None = None, values: Values | None = None) -> Graph:
    """The Graph of a model (see `compile`), before any pass. `shapes` as in `compile`.

    `values`: arrays of those inputs of an ONNX model that decide shapes, where it has such; the
    graph is right for these values only.
    """
    from .frontends.sources import source_of

    return source_of(model).read(shapes, values)


@overload
def from_onnx(
    model: Model,
    *,
    shapes: Shapes | None = None,
    values: Values | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    trainable: None = None,
) -> Graph: ...
@overload
def from_onnx(
    model: Model,
    *,
    shapes: Shapes | None = None,
    values: Values | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    trainable: str | Sequence[str],
) -> tuple[Graph, dict[str, np.ndarray]]: ...
@entrance
def from_onnx(
    model: Model,
    *,
    shapes: Shapes | None = None,
    values: Values | None = None,
    limits: Limits | Mapping[str, int] | None = None,
    trainable: str | Sequence[str] | None = None,
) -> Graph | tuple[Graph, dict[str, np.ndarray]]:
    """The Graph of an ONNX model: a path, the bytes of a file, or a ModelProto. No pass has run.

    `shapes` and `values` as in `read`, `limits` as in `compile`. `trainable`: patterns (*, ?) of
    names of weights, "*" for all: these become inputs, and (graph, their values by name) is given,
    as `Trainer` and `gradients` take them. Raises TesselError listing all that cannot be read.
    """
    from .frontends.sources import source_of

    graph = source_of(model, limits=limits).read(shapes, values)
    if trainable is None:
        return graph
    from .compiler.autodiff.parameters import with_parameters

    return with_parameters(graph, trainable)


@entrance
def to_onnx(
    model: Model,
    path: str | PathLike[str] | None = None,
    *,
    shapes: Shapes | None = None,
    values: Values | None = None,
    opt_level: int = 2,
    opset: int = 21,
    operators: bool = False,
    limits: Limits | Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A model (see `compile`) as an `onnx.ModelProto`, optimised; written to `path` if given.

    Operators are those of the ONNX standard from `opset` on (13 to 20: only where that has them
    all); what it lacks is written as what it is made of. Weights of more than 1.5 GB go to
    `<path>.data`. `opt_level=0` keeps the graph as it is, and what `quantize` gives is written with
    its quantize and dequantize nodes whatever the level; `operators`: as QLinearConv, QLinearMatMul
    and QLinearAdd where these say it, with biases rounded. Raises UnsupportedError for what ONNX
    cannot say.
    """
    from .compiler.driver import Driver
    from .compiler.options import Options
    from .compiler.targets.table import open_target
    from .frontends.onnx.exporter import write
    from .frontends.sources import source_of

    source = source_of(model, limits=limits)
    options = Options(0 if source.is_prepared else opt_level)
    driver = Driver(open_target("numpy"), options)  # readers choose layouts themselves
    graph = driver.optimize(source.read(shapes, values))
    if operators:
        from .compiler.rewrite.rules.qoperators import as_operators

        graph = as_operators(graph)
    return write(graph, path, opset=opset)


@entrance
def load(
    path: str | PathLike[str],
    *,
    native: bool = True,
    threads: int | None = None,
    cache: str | Path | bool | None = None,
    trust: Trusted | None = None,
) -> Executable:
    """Load a `.tsl` package; its weights are mapped from the file.

    Loading a package is running its code, with all rights of this process: load what you trust.
    `trust` is a public key (a file, or hex digits) or several: the package has to be signed with
    one of them (`tessel sign`), and every byte of it is looked at first. `native=False` ignores the
    code and compiles the graph which the package carries, as happens where the code was made for
    another CPU (`exe.notes` says so). Raises PackageError.
    """
    from .compiler.system.cores import check_threads
    from .runtime.base.build import object_cache
    from .runtime.execution.package import load as load_package

    threads = check_threads(threads)
    return load_package(
        path, native=native, threads=threads, cache=object_cache(cache), trust=trust
    )


def _load(name: str) -> Any:
    """What is behind a name, imported at its first use."""
    from importlib import import_module

    if name == "keras":
        lazy = import_module(f"{__name__}.keras")
        lazy.__path__  # noqa: B018  loads it now, before others import Keras for another backend
        return lazy
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, within = _PLACES[name]
    value = import_module(module, __name__)
    return value if within is None else getattr(value, within)


def _load_keras(name: str) -> ModuleType:
    """Keras with tessel as its backend: `import tessel.keras as keras`."""
    from .frontends.keras.hook import load_keras

    return load_keras(name)


give_lazy_module(f"{__name__}.keras", _load_keras.__doc__ or "", _load_keras)

if not TYPE_CHECKING:  # else every wrong name would be taken for one

    def __getattr__(name: str) -> Any:
        return globals().setdefault(name, _load(name))


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
