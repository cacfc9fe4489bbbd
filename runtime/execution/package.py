"""`.tsl` packages: a graph, its weights, and the code that has been compiled for it.

    manifest   JSON: signature, options, and what the code for all sizes and for each specialization
               needs: sizes, memory, weights
    graph      the optimized graph as text
    weights    its arrays, in the safetensors format
    packed     weights as the code wants them, each at a multiple of 64 bytes
    code       object files, each once

A model whose data decides sizes has code for each of its stages (`staged.py`), which are cut from
its graph again when it is loaded.

Weights are kept once: those that the code reads as the graph has them in `weights`; of others that
it has packed the packed form alone, from which the graph's arrays are restored where the graph is
compiled after all (`kernels/restore.py`). All arrays are mapped from the file, so loading costs
little whatever their size. Code for another CPU is left alone, and the
graph compiled for this one; `native=False` asks for that.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any, cast

import numpy as np

from ...compiler.arguments import require, require_path
from ...compiler.errors import PackageError, TesselError, UsageError
from ...compiler.ir.dim_parse import parse_dim
from ...compiler.ir.graph import Graph
from ...compiler.ir.metadata.dims_apart import KEY, dims_apart, written
from ...compiler.ir.metadata.known_values import plain
from ...compiler.ir.types import parse_type
from ...compiler.options import Options
from ...compiler.system.mapped import check_files
from ...compiler.system.nesting import read_json
from ..base.build import Built
from ..base.signature import Port, Signature
from ..native.module import NativeModule
from ..package import arrays as store
from ..package.container import HEADER, Container, Writer
from ..package.native_package import dump_code, load_code
from .executable import Executable
from .session import Session
from .zeros import ZeroCode

OLD = (
    "the package was made by a version that took dynamic dims that broadcast to be equal, and is "
    "perhaps wrong where one of them is 1: compile the model again"
)


def save(
    exe: Executable,
    path: str | os.PathLike[str],
    durable: bool = True,
    about: Mapping | None = None,
    only: Built | None = None,
) -> None:
    """Write an executable to `path`. A file that is there is replaced once the new one is whole; if
    it is to be `durable`, once it is on the disk. `about` is JSON that comes along. Of a model that
    is compiled for one set of sizes and values at a time, it has to be known which (`only`)."""
    from ...compiler.ir.metadata.structure import KEY as STRUCTURE
    from ...compiler.ir.text import print_graph

    require_path("the package", path)
    graph, built = _content(exe, only)
    table: dict[str, np.ndarray] = {}
    text = print_graph(graph, table)
    packed = store.Packed(table)
    objects: dict[str, bytes] = {}
    own = _entries(exe, built, packed, objects)
    taken = packed.take_restorable(table)
    names = list(objects)
    check_files(table.values())
    manifest = {
        "signature": written_signature(Signature.of(graph)),
        "target": exe.target.name,
        "machine": asdict(exe.target.machine) if exe.target.native else None,
        **exe.options.to_dict(),
        "needs_sizes": exe.needs_sizes,
        "strings": store.strings(table),
        "objects": [[n, len(objects[n])] for n in names],
        **own,
        "structure": graph.metadata.get(STRUCTURE),
        "packed": packed.places,
        "restored": taken,
        "winners": _tuning_records(exe),
    }
    with Writer(path, durable) as out:
        out.add("manifest", [json.dumps(manifest).encode()])
        out.add("graph", [text.encode()])
        out.add("weights", store.safetensors_pieces(table))
        out.add("packed", packed.pieces())
        out.add("code", [objects[n] for n in names])
        if about is not None:
            out.add("about", [json.dumps(about).encode()])


def _entries(
    exe: Executable, built: list[Built], packed: store.Packed, objects: dict[str, bytes]
) -> dict:
    """What the manifest says of an executable's code for all sizes, of its specializations, and of
    those that run in stages, which are executables themselves."""
    if not exe.target.native:
        return {"for_all_sizes": None, "specializations": [], "zeros": [], "staged": []}

    def entry(b: Built) -> dict:
        return {"binding": b.binding, **dump_code(b.code, packed, objects)}

    def typed(b: Built) -> dict:
        """A graph that was read anew for sizes of 0 may give shapes that the signature has not."""
        types = b.module.output_types if b.graph is None else [v.type for v in b.graph.outputs]
        return {**entry(b), "outputs": list(map(str, types))}

    general = exe.for_all_sizes
    every = ([] if general is None else [general]) + [b for b in built if not b.is_dynamic]
    return {
        "for_all_sizes": None if general is None or general.stages else entry(general),
        "specializations": [typed(b) for b in built if not b.is_dynamic and not b.stages],
        "zeros": [
            {
                **typed(code.built),
                "zeros": sorted(key),
                "nonempty": [str(d) for d in code.nonempty],
                "equal": [[str(a), str(b)] for a, b in code.equal],
            }
            for key, code in exe.zeros.codes.items()
            if not code.built.stages
        ],
        "staged": [
            {
                "binding": b.binding,
                "is_open": b.is_dynamic,
                "stages": [_entries(e, e.specializations, packed, objects) for e in b.stages],
            }
            for b in every
            if b.stages
        ],
    }


def _content(exe: Executable, only: Built | None) -> tuple[Graph, list[Built]]:
    """The graph and the specializations to save."""
    if exe.specialize is None:
        return exe.graph, exe.specializations
    if only is None and len(exe.specializations) != 1:
        raise UsageError(
            "this model is compiled for one set of sizes and values at a time, and a package holds "
            "one",
            received=f"{len(exe.specializations)} sets",
            fix="give shapes={…} (--shapes), or run it once before (--inputs) where values decide",
        )
    built = exe.specializations[0] if only is None else only
    graph = built.graph if built.read is None else built.read()
    if graph is None:
        raise UsageError("this package's graph is not known", fix="save the original executable")
    return graph, [replace(built, binding={})]


def _tuning_records(exe: Executable) -> dict[str, dict]:
    """The measured schedules that its code was made with, for compiling its graph anew."""
    tuning = exe.target.tuning
    return {} if tuning is None else {k: w.data() for k, w in tuning.used.items()}


def written_signature(signature: Signature) -> dict:
    """What `read_signature` reads, in JSON."""
    return {
        "inputs": [[p.name, str(p.type)] for p in signature.inputs],
        "outputs": [[p.name, str(p.type)] for p in signature.outputs],
        "updates": [[o, i] for o, i in signature.updates.items()],
        "values": {n: plain(a) for n, a in signature.values.items()},
        "optional": {n: str(t) for n, t in signature.optional.items()},
        "apart": written(signature.apart),
    }


def read_signature(described: Mapping) -> Signature:
    """What a manifest says of inputs and outputs. Raises what nonsense raises."""
    inputs = [_port(n, t) for n, t in described["inputs"]]
    outputs = [_port(n, t) for n, t in described["outputs"]]
    ports = {p.name: p for p in inputs}
    values = {
        n: np.array(v, ports[n].dtype).reshape(cast(Any, ports[n].shape))
        for n, v in described.get("values", {}).items()
    }
    optional = {n: parse_type(t) for n, t in described.get("optional", {}).items()}
    apart = dims_apart({KEY: described.get("apart", "{}")})
    return Signature(inputs, outputs, dict(described["updates"]), values, optional, apart)


def _port(name: str, type: Any) -> Port:
    if not isinstance(name, str):
        raise TypeError(f"{name!r} is no name")
    return Port(name, parse_type(type))


def load(
    path: str | os.PathLike[str],
    *,
    native: bool = True,
    threads: int | None = None,
    cache: Any = None,
    trust: Any = None,
) -> Executable:
    """The executable of a package. Raises PackageError for files that are damaged or foreign, or
    not signed with a key of `trust` where that is given."""
    from .pickling import Source

    require_path("the package", path, "tessel.compile takes models, tessel.load the path of a .tsl")
    if trust is not None:
        keys = str, bytes, os.PathLike, Iterable
        require("trust", trust, keys, "a key (a file, hex digits, 32 bytes), or several")
    package = Package(path, trust)
    exe = package.load(native, threads, cache)
    header = bytes(package.container.data[: HEADER.size])
    exe.source = Source(os.path.abspath(path), header, native)
    return exe


class Package:
    """An open package: what `load` and `tessel inspect` read."""

    def __init__(self, path: str | os.PathLike[str], trust: Any = None):
        self.container = Container(path)
        if trust is not None:
            from ..package.trust import verify

            verify(self.container, trust)
        self.where = str(path)
        try:
            self.manifest: dict[str, Any] = self._json("manifest")
            self.signature = read_signature(self.manifest["signature"])
        except (KeyError, TypeError, ValueError, TesselError) as error:
            raise PackageError(
                f"the package's manifest cannot be read: {error}", where=self.where
            ) from None
        self._weights: Mapping[str, np.ndarray] | None = None

    def _json(self, section: str) -> Any:
        data = bytes(self.container.section(section))
        return read_json(data, f"the package's {section}", PackageError, self.where)

    def load(
        self, native: bool = True, threads: int | None = None, cache: Any = None
    ) -> Executable:
        """Its executable. Raises PackageError where the package contradicts itself."""
        try:
            return self.executable(native, threads, cache)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise PackageError(
                f"the package does not make sense: {type(error).__name__}: {error}",
                where=self.where,
            ) from error

    @property
    def about(self) -> Any:
        """What was written beside it (`save`)."""
        return self._json("about")

    @property
    def weights(self) -> Mapping[str, np.ndarray]:
        """The graph's arrays by name, mapped from the file, or restored from what is packed."""
        if self._weights is None:
            sections = self.container.section("weights"), self.container.section("packed")
            self._weights = store.Weights.of(self.manifest, *sections, self.where)
        return self._weights

    def graph(self) -> Graph:
        """The graph that the package carries."""
        from ...compiler.ir.parse import parse_graph

        self.container.check()
        try:
            text = bytes(self.container.section("graph")).decode()
            graph = parse_graph(text, dict(self.weights))
        except (TesselError, UnicodeDecodeError) as error:
            raise PackageError(f"its graph cannot be read: {error}", where=self.where) from error
        if written_signature(Signature.of(graph)) != written_signature(self.signature):
            raise PackageError("its graph is not the one it describes", where=self.where)
        return graph

    def executable(self, native: bool, threads: int | None, cache: Any) -> Executable:
        manifest = self.manifest
        name, note = manifest["target"], None
        foreign = self.foreign()
        if foreign is not None and native:
            note = f"the package's code is for {name}, and {foreign}: compiled anew for this CPU"
        use = native and foreign is None and manifest["machine"] is not None
        tuning = self.tuning()
        if tuning is not None and use:
            tuning.used = dict(tuning.known)
        try:
            session = Session.open(
                "cpu" if foreign is not None else name,
                Options.from_dict(manifest),
                cache=cache,
                tuning=tuning,
            )
        except UsageError as error:
            raise PackageError(f"the package's target: {error}", where=self.where) from None
        exe = Executable(self.graph, session, signature=self.signature, threads=threads)
        if note is not None:
            exe.notes.append(note)
        if not native:
            exe.notes.append("the package's code was ignored and its graph compiled")
        general = manifest["for_all_sizes"]
        if general is not None and "equations" not in general and len(self.signature.symbols) > 1:
            exe.notes.append(OLD)
        if use:
            self._load_code(exe)
        if exe.for_all_sizes is None and use and manifest.get("needs_sizes") is not None:
            exe.without_dynamic(str(manifest["needs_sizes"]))
        elif exe.for_all_sizes is None:
            exe.open()
        if not exe.specializations and not self.signature.symbols:
            exe.specialization({})
        if not manifest.get("structure"):
            return exe
        from ...compiler.ir.metadata.structure import KEY as STRUCTURE
        from .structured import with_structure

        return with_structure(exe, {STRUCTURE: manifest["structure"]})

    def tuning(self) -> Any:
        """A `Tuning` of the tuning records that the package carries, or None."""
        data = self.manifest.get("winners")
        if not data:
            return None
        from ...compiler.backends.llvm.schedules.tuning_records import read_tuning_records
        from ..tuning.tune import Tuning

        try:
            return Tuning(tuning_records=read_tuning_records(data))
        except ValueError as error:
            raise PackageError(f"its tuning records: {error}", where=self.where) from None

    def foreign(self) -> str | None:
        """Why the code of this package cannot run here, or None."""
        if self.manifest["machine"] is None:
            return None
        from ...compiler.backends.llvm.base.target import runs_here
        from ...compiler.kernels.machine import Machine

        return runs_here(Machine(**self.manifest["machine"]))

    def _load_code(self, exe: Executable) -> None:
        from ...compiler.kernels.machine import Machine

        machine = Machine(**self.manifest["machine"])
        objects, at, code = {}, 0, self.container.section("code")
        for name, size in self.manifest["objects"]:
            objects[name] = bytes(code[at : at + size])
            at += size
        packed = self.manifest["packed"], self.container.section("packed")

        def loaded(exe: Executable, entry: Mapping, is_dynamic: bool) -> Built:
            binding = {} if is_dynamic else dict(entry["binding"])
            native = load_code(entry, machine, objects, self.weights, packed, self.where)
            if "outputs" in entry:
                types = [parse_type(t) for t in entry["outputs"]]
            else:
                types = [p.type.substitute(binding) for p in exe.signature.outputs]
            module = NativeModule(native, types, exe.signature.updates)
            return Built(
                binding, module, native, values=exe.signature.values, is_dynamic=is_dynamic
            )

        def fill(exe: Executable, manifest: Mapping) -> None:
            general = manifest["for_all_sizes"]
            if general is not None:
                exe.open(loaded(exe, general, True))
            for entry in manifest["specializations"]:
                exe.keep(loaded(exe, entry, False))
            for entry in manifest.get("zeros", ()):  # older packages have none
                nonempty = tuple(map(parse_dim, entry["nonempty"]))
                equal = tuple((parse_dim(a), parse_dim(b)) for a, b in entry["equal"])
                code = ZeroCode(loaded(exe, entry, True), nonempty, equal)
                exe.zeros.keep(frozenset(entry["zeros"]), code)
            for entry in manifest["staged"]:
                made = [partial(fill, manifest=stage) for stage in entry["stages"]]
                built = self._staged(exe, dict(entry["binding"]), made, entry["is_open"])
                (exe.open if built.is_dynamic else exe.keep)(built)

        fill(exe, self.manifest)

    def _staged(
        self, exe: Executable, binding: dict[str, int], made: list, is_dynamic: bool
    ) -> Built:
        """The stages of the package's graph for a binding, with the code that was made for them."""
        driver = exe.session.driver
        graph = driver.specialize(exe.graph, binding) if binding else exe.graph
        built = exe.session.load(driver.stages(graph, binding, is_dynamic=is_dynamic), made)
        return replace(built, values=exe.signature.values)
