"""What commands share: options, opening models, inputs from files or seeds.

A model is an `.onnx` file, a `.tsl` package, or a `.graph` text as `--emit graph -o` writes it,
with its weights in a `.safetensors` file beside it.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from ... import compile, from_onnx, load, read
from ...compiler.errors import ModelError, UnsupportedError, UsageError
from ...compiler.ir.graph import Graph
from ...compiler.system.files import reading, shown, size_of
from ...runtime.base.signature import Port, Signature
from .feeds import parse_shapes, read_signature
from .given import Given, read_given
from .interface import Interface, of_executable, of_graph, of_specialized, of_unread
from .tables import console
from .terminal import write

MODEL = click.Path(dir_okay=False)


def shapes_option(f: Callable) -> Callable:
    return click.option(
        "--shapes",
        multiple=True,
        metavar="SHAPES",
        help="Sizes of dynamic dims, as x:1x3x224x224 or x[1,3,224,224].",
        callback=lambda context, parameter, texts: parse_shapes(texts),
    )(f)


def target_option(f: Callable) -> Callable:
    return click.option(
        "--target",
        default="cpu",
        show_default=True,
        help="cpu (this machine), cpu:x86-64-v3, cpu:aarch64, numpy, cuda, cuda:sm_90, …",
    )(f)


def level_option(f: Callable) -> Callable:
    return click.option(
        "-O",
        "opt_level",
        type=click.IntRange(0, 3),
        default=2,
        show_default=True,
        help="How much is rewritten: -O0 nothing, -O1 what keeps every bit, -O2 the usual, -O3 "
        "also one product in place of several that read the same operand.",
    )(f)


def passes_option(f: Callable) -> Callable:
    return click.option(
        "--passes",
        metavar="PASSES",
        is_eager=True,
        callback=_list_passes,
        help="Passes in place of those of -O, as default,combine_products{least=3}; `help` lists "
        "all, with their fields.",
    )(f)


def _list_passes(context: click.Context, parameter: click.Parameter, said: str | None):
    if said != "help":
        return said
    from ...compiler.passes.named import listing
    from ...compiler.pipelines import known_passes

    write(listing(known_passes()) + "\n")
    context.exit()


def precision_option(f: Callable) -> Callable:
    return click.option(
        "--precision",
        metavar="NAME",
        help="How f32 products are computed; default: exactly. For cuda also tf32x3 (nearly) and "
        "tf32 (10 bits, fastest).",
    )(f)


def quantize_option(f: Callable) -> Callable:
    return click.option(
        "--quantize",
        metavar="RECIPE",
        help="Narrow numbers in place of weights: int8-dynamic, int8-weights, int4, int4-int8, "
        "fp8, fp8-e5m2, mxfp8, mxfp4, nf4. With data: tessel quantize.",
    )(f)


def threads_option(f: Callable) -> Callable:
    return click.option(
        "--threads",
        type=click.IntRange(1),
        help="Cores to use; default: $TESSEL_THREADS, or all that are allowed.",
    )(f)


def unchecked_option(f: Callable) -> Callable:
    return click.option(
        "--unchecked",
        is_flag=True,
        help="Take the nearest index inside for one that is out of range, instead of failing.",
    )(f)


def trust_option(f: Callable) -> Callable:
    return click.option(
        "--trust",
        multiple=True,
        metavar="KEY",
        callback=lambda context, parameter, keys: keys or None,
        help="Insist on a package that is signed with this public key: a .pub file or hex digits.",
    )(f)


def inputs_options(f: Callable) -> Callable:
    f = click.option(
        "--random", "seed", type=click.IntRange(0), metavar="SEED", help="Random inputs."
    )(f)
    return given_option(
        "A .npz with the inputs by name, a folder of input_0.pb, …, or one input as NAME=[1,4], "
        "NAME=FILE.npy, NAME=IMAGE.png; may be repeated."
    )(f)


def values_option(f: Callable) -> Callable:
    return given_option("As of tessel run, where values of inputs decide shapes.")(f)


def given_option(help: str) -> Callable:
    return click.option("--inputs", multiple=True, metavar="FILE|NAME=VALUE", help=help)


def tune_option(f: Callable) -> Callable:
    return click.option(
        "--tune",
        type=float,
        metavar="SECONDS",
        help="Measure for so long which schedules are fastest here, and use those; 0: use what was "
        "measured before.",
    )(f)


def tuning_for(model: str | Path, tune: float | None, target: str):
    """The `Tuning` that `--tune` asks for, with progress on stderr, or None. It begins with the
    tuning records that a package carries, which are also used without `--tune`."""
    carried = None
    if is_package(model) and target.startswith("cpu"):
        from ...runtime.execution.package import Package

        carried = Package(model).tuning()
    if tune is None:
        return carried
    from ...runtime.tuning.tune import Tuning, tuning_file

    tuning_records = {} if carried is None else carried.known
    progress = console(stderr=True).print
    return Tuning(tune, tuning_file(), tuning_records=tuning_records, progress=progress)


def limits():
    """What `tessel --limit` allows a model to cost; None: the defaults."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.find_root().obj


def is_package(path: str | Path) -> bool:
    return Path(path).suffix == ".tsl"


def open_graph(path: str | Path, shapes: Mapping | None = None) -> Graph:
    """The graph of a model file before any pass (of a package: as it was saved)."""
    if not isinstance(path, (str, Path)):
        return read(path, shapes)  # an ONNX file, and which of its defaults are fed
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"there is no file {str(path)!r}", fix="check the path")
    if is_package(path):
        from ...runtime.execution.package import Package

        return read(Package(path).graph(), shapes)
    if path.suffix == ".graph":
        return read(_read_text(path), shapes)
    return from_onnx(path, shapes=shapes, limits=limits())


def model_ports(path: str | Path) -> Sequence[Port]:
    """The inputs that a model file declares, and those that have a default."""
    if Path(path).suffix in (".tsl", ".graph") or not Path(path).is_file():
        signature = Signature.of(open_graph(path))
    else:
        from ...frontends.onnx.specialized import declare

        signature = Signature.of(declare(path))
    return [*signature.inputs, *(Port(n, t) for n, t in signature.optional.items())]


def given_for(path: str | Path, texts: Sequence[str]) -> Given:
    """What `--inputs` says for the inputs of a model file."""
    return read_given(texts, lambda: model_ports(path))


def open_for(
    path: str | Path, shapes: Mapping, given: Given | None = None, seed: int | None = None
) -> Graph:
    """The graph with dynamic dims; where it cannot be read so, the one for inputs that are `given`
    and others at random.

    Those that decide shapes are then part of it by value; defaults that are given become inputs.
    """
    given = Given() if given is None else given
    source = _feeding(path, given.arrays)
    try:
        return open_graph(source, shapes)
    except UnsupportedError as error:
        from ...frontends.onnx.specialized import StructureSpecialized, specialized_model
        from ...runtime.execution.structured import take

        specialized = specialized_model(source, shapes, error)
        if specialized is None:
            raise
        interface = of_specialized(specialized)
        named = {p.name for p in interface.ports}
        rest = {n: s for n, s in shapes.items() if n in named and n not in given.arrays}
        feeds = interface.feeds(given, seed, rest, path)
        signature = Signature.of(specialized.graph)
        if isinstance(specialized, StructureSpecialized):
            return specialized(*take(signature.inputs, feeds))
        arrays, binding = signature.check({n: feeds[n] for n in signature.names})
        return specialized(binding, dict(zip(signature.names, arrays)))


def open_interface(path: str | Path) -> Interface:
    """The inputs of a model file, also if tessel cannot read all of it: others may."""
    if is_package(path):
        return of_executable(load(path))
    try:
        return of_graph(open_graph(path))
    except UnsupportedError as error:
        from ...frontends.onnx.specialized import specialized_model

        specialized = specialized_model(path, None, error)
        return (
            of_unread(read_signature(path)) if specialized is None else of_specialized(specialized)
        )


def _feeding(path: str | Path, given: Mapping[str, np.ndarray]):
    """The model, or one of its initializers as inputs, where `given` replaces them."""
    if not given or Path(path).suffix in (".tsl", ".graph") or not Path(path).is_file():
        return path
    from ...frontends.onnx.file.proto import load as load_onnx
    from ...frontends.onnx.read.overridable import Feeding, overridable

    fed = frozenset(i.name for i in overridable(load_onnx(path).model) if i.name in given)
    return Feeding(path, fed) if fed else path


def _read_text(path: Path) -> Graph:
    from ...compiler.ir.text import parse_graph
    from ...runtime.package.arrays import read_safetensors

    table = {}
    weights = path.with_suffix(".safetensors")
    if weights.exists():
        with reading(weights, ModelError) as file:
            table = read_safetensors(np.fromfile(file, np.uint8), str(weights))
    try:
        with reading(path, ModelError) as file:
            return parse_graph(file.read(size_of(file)).decode(), table)
    except UnicodeDecodeError:
        raise ModelError("this is no text", where=str(path)) from None


def open_executable(
    path: str | Path,
    shapes: Mapping | None = None,
    *,
    native=True,
    trust=None,
    progress=None,
    **options,
):
    """An executable of a model file; `native=False` compiles a package anew."""
    if is_package(path):
        if shapes:
            raise UsageError("a package's shapes are fixed", fix="leave out --shapes")
        exe = load(path, native=native, threads=options.get("threads"), trust=trust)
        exe.session.driver.progress = progress
        return exe
    if trust is not None:
        raise UsageError("only packages are signed", received=shown(path), fix="leave out --trust")
    if not Path(path).is_file():
        raise UsageError(f"there is no file {str(path)!r}", fix="check the path")
    model = open_graph(path) if Path(path).suffix == ".graph" else path
    return compile(model, shapes=shapes or None, limits=limits(), progress=progress, **options)
