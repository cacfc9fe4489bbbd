"""`tessel inspect`: what a model file or package holds."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import click
import numpy as np

from ..compiler.errors import InputError, TesselError, UsageError
from ..compiler.ir.graph import Graph
from ..compiler.ir.types import dtype_of
from ..frontends.onnx.file.proto import load as load_file
from ..runtime.base.signature import Signature
from ..runtime.execution.package import Package
from ..runtime.package.trust import signer
from ..runtime.training.checkpoint import contents
from .common.models import (
    MODEL,
    given_for,
    is_package,
    open_for,
    shapes_option,
    trust_option,
    values_option,
)
from .common.tables import console, size, table
from .common.terminal import Console
from .inspect_onnx import print_file

EPILOG = """\b
Examples:
  tessel inspect model.onnx
  tessel inspect model.onnx --types --shapes x:1x3x224x224
  tessel inspect model.tsl --check
"""


@click.command(epilog=EPILOG)
@click.argument("file", type=MODEL)
@shapes_option
@values_option
@click.option("--types", is_flag=True, help="Print every value of the model with its type.")
@trust_option
@click.option("--check", is_flag=True, help="Verify the hashes of a package's large sections.")
def inspect(file, shapes, inputs, types, trust, check):
    """Summarise FILE (.onnx, .graph, .tsl, .safetensors): inputs, outputs, operators, weights,
    code; and what tessel cannot read of it."""
    out = console()
    if not Path(file).is_file():
        raise UsageError(f"there is no file {file!r}", fix="check the path")
    suffix = Path(file).suffix
    if check and not is_package(file):
        raise UsageError("only packages have hashes", received=file)
    if suffix == ".safetensors":
        metadata, arrays = contents(file)
        print_heading(file, out)
        print_arrays(metadata, arrays, out)
        return
    if is_package(file):
        package = Package(file, trust)
        if check:
            package.container.check()
        print_heading(file, out)
        print_package(package, out)
        print_findings(out, lambda: print_whole(package.graph(), types, out))
        return
    if suffix == ".graph":
        graph = open_for(file, shapes, given_for(file, inputs))
        print_heading(file, out)
        print_whole(graph, types, out)
        return
    loaded = load_file(file)
    print_heading(file, out)
    print_file(loaded, out)
    given = given_for(file, inputs)
    asked = bool(shapes or given)
    print_findings(out, lambda: print_contents(open_for(file, shapes, given), out), asked)
    if types:
        print_findings(out, lambda: print_model_types(file, shapes, given.arrays, out), asked)


def print_heading(file: str, out: Console) -> None:
    out.print(f"{file}: {size(Path(file).stat().st_size)}", style="bold")


def print_findings(out: Console, show: Callable[[], None], asked: bool = False) -> None:
    """Call `show`; what tessel cannot read is printed, not raised, unless it is the fault of what
    was `asked` for on the command line."""
    try:
        show()
    except TesselError as error:
        if asked and isinstance(error, (InputError, UsageError)):
            raise
        out.print("\ntessel cannot compile it as it is", style="bold")
        out.print(str(error))


def print_whole(graph: Graph, types: bool, out: Console) -> None:
    """A graph, and the types of its values if these are asked for."""
    print_graph(graph, out)
    if types:
        print_types({v.name: v.type for v in graph.values()}, out)


def print_arrays(metadata: Mapping[str, str], arrays: Sequence[tuple], out: Console) -> None:
    """What a file of named arrays holds (weights of a `.graph`, a checkpoint of training)."""
    out.print("  arrays by name" + "".join(f", {k}={v}" for k, v in metadata.items()))
    t = table("dtype", "shape", "array")
    for name, dtype, shape in arrays:
        t.add_row(dtype, f"[{','.join(map(str, shape))}]", name)
    out.print(f"\n{len(arrays)} arrays", style="bold")
    out.print(t)


def print_model_types(file: str, shapes, given, out: Console) -> None:
    """By the names of the file, also if not all of it can be read: that is then raised."""
    from ..frontends.onnx.read.dependence import needed
    from ..frontends.onnx.shapes import value_types

    found, error = value_types(file, shapes=shapes)
    wanted = [n for n in needed(error) or () if n in given] if error is not None else []
    if wanted:
        found, error = value_types(file, shapes=shapes, values={n: given[n] for n in wanted})
    print_types(found, out)
    if error is not None and not wanted and needed(error) is None:
        raise error


def print_types(types: Mapping, out: Console) -> None:
    t = table("value", "type")
    for name, type in types.items():
        t.add_row(name, "?" if type is None else str(type))
    out.print(t)


def print_graph(graph: Graph, out: Console) -> None:
    signature = Signature.of(graph)
    for p in signature.inputs:
        out.print(f"  in   {p}")
    for p in signature.outputs:
        out.print(f"  out  {p}")
    print_contents(graph, out)


def print_contents(graph: Graph, out: Console) -> None:
    """Weights and nodes of a graph."""
    weights = list(constants(graph))
    dtypes: Counter = Counter()
    for a in weights:
        dtypes[dtype_of(a).name] += a.nbytes
    kinds = ", ".join(f"{n} {size(b)}" for n, b in dtypes.most_common())
    count = sum(a.size for a in weights)
    out.print(f"  {count:,} weights in {len(weights)} arrays ({kinds or 'none'})")
    if graph.metadata:
        out.print("  " + ", ".join(f"{k}={v}" for k, v in graph.metadata.items()), style="dim")
    ops = Counter(n.op.name for n in nodes(graph) if n.op.name != "constant")
    t = table("nodes", "op", right="nodes")
    for name, n in ops.most_common():
        t.add_row(str(n), name)
    out.print(f"\n{sum(ops.values())} nodes in the graph", style="bold")
    out.print(t)


def nodes(graph: Graph):
    """Every node, also of regions."""
    for node in graph.nodes:
        yield node
        for _, region in node.regions():
            yield from nodes(region)


def constants(graph: Graph):
    """The arrays of the graph, each once."""
    seen: dict[int, np.ndarray] = {}
    for node in nodes(graph):
        if node.op.name == "constant":
            array = node.attrs["value"]
            seen[id(array)] = array
    return seen.values()


def print_package(package: Package, out: Console) -> None:
    manifest = package.manifest
    machine = manifest["machine"]
    out.print(f"  tessel package, target {manifest['target']}, -O{manifest['level']}")
    if machine is not None:
        out.print(f"  code for {machine['triple']}, {machine['cpu']}")
        why = package.foreign()
        out.print("  which runs here" if why is None else f"  which does not run here: {why}")
    t = table("bytes", "section", "hash", right="bytes")
    for name, entry in package.container.table.items():
        verified = name in package.container.verified
        t.add_row(size(entry["size"]), name, "verified" if verified else "not read (--check)")
    out.print(t)
    key = signer(package.container)
    out.print("  not signed" if key is None else f"  says that it is signed with {key} (--trust)")
    general = manifest["for_all_sizes"]
    if general is not None:
        names = ", ".join(general["symbols"])
        out.print(f"  all sizes of {names}: {_code(general)}, arena as large as they need")
    entries = list(manifest["specializations"])
    for staged in manifest["staged"]:
        sizes = ", ".join(f"{k}={v}" for k, v in staged["binding"].items())
        sizes = "all sizes" if staged["is_open"] else sizes or "fixed sizes"
        out.print(f"  {sizes}: {len(staged['stages'])} stages, cut where shapes depend on data")
        for stage in staged["stages"]:
            if stage["for_all_sizes"] is not None:
                out.print(f"    all sizes: {_code(stage['for_all_sizes'])}")
            entries += stage["specializations"]
    for entry in entries:
        sizes = ", ".join(f"{k}={v}" for k, v in entry["binding"].items()) or "fixed sizes"
        out.print(f"  {sizes}: {_code(entry)}, arena {size(entry['arena'])}")
        for extern in entry["externs"]:
            out.print(f"    host callback: {extern['op']}")
    if manifest.get("winners"):
        out.print(f"  tuning records: {len(manifest['winners'])} (tessel explain shows them)")
    if not entries and not manifest["staged"] and general is None:
        out.print("  no code: it is compiled when it is run")


def _code(entry: dict) -> str:
    threads = "several threads" if entry["parallel"] else "one thread"
    return f"{len(entry['objects']) - 1} kernels, {threads}"
