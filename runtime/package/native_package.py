"""NativeCode to and from what a package's manifest can say."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...compiler.analysis.run_checks import Check
from ...compiler.errors import PackageError, TesselError
from ...compiler.ir.dim_parse import parse_dim
from ...compiler.kernels.machine import Machine
from ...compiler.kernels.restore import read, written
from .arrays import Packed, packed_array

if TYPE_CHECKING:
    from ...compiler.backends.llvm.program.native_code import NativeCode
    from ...compiler.kernels.kernel import HostCallback, Ref

ENTRY = "tessel_main"


def dump_code(code: "NativeCode", packed: Packed, objects: dict[str, bytes]) -> dict[str, Any]:
    """The manifest's entry for `code`; its weights go to `packed`, its objects to `objects`."""
    names = {}
    for name, data in code.objects.items():
        unique = name
        while objects.setdefault(unique, data) != data:
            unique += "_"  # every specialization has an entry of its own, of the same name
        names[unique] = name
    weights = [packed.add(w) for w in code.weights]
    return {
        "objects": names,
        "weights": weights,
        "restores": list(_dump_packings(code, weights, packed)),
        "layout": [code.layout.inputs, code.layout.outputs, code.layout.weights],
        "arena": code.arena,
        "scratch": str(code.scratch),
        "parallel": code.parallel,
        "externs": [_dump_host_callback(e) for e in code.host_callbacks],
        "tail": code.tail,
        "counters": code.counters,
        "alone": code.alone,
        "agrees": code.agrees,
        "asks": code.asks,
        "symbols": list(code.symbols),
        "slots": [str(d) for d in code.slots],
        "checks": [_dump_check(c) for c in code.checks],
        "conditions": [[str(a), str(b)] for a, b in code.conditions],
        "equations": [[str(a), str(b)] for a, b in code.equations],
    }


def _dump_packings(code: "NativeCode", weights: list, packed: Packed) -> Iterator[list]:
    for p in code.packings:
        name = packed.restores(weights[p.weight], p.source(), p.recipe)
        if name is not None:
            yield [p.weight, name, written(p.recipe)]


def load_code(
    entry: Mapping,
    machine: Machine,
    objects: Mapping[str, bytes],
    weights: Mapping[str, np.ndarray],
    packed: tuple[list, np.ndarray],
    where: str,
) -> "NativeCode":
    """The NativeCode of a manifest's entry. `packed`: the places and the bytes of that section."""
    from ...compiler.backends.llvm.program.native_code import Layout, NativeCode, Packing

    arrays = [
        weights[k] if isinstance(k, str) else packed_array(*packed, k) for k in entry["weights"]
    ]
    symbols, slots = tuple(entry["symbols"]), tuple(parse_dim(d) for d in entry["slots"])
    conditions = tuple((parse_dim(a), parse_dim(b)) for a, b in entry["conditions"])
    equations = tuple((parse_dim(a), parse_dim(b)) for a, b in entry.get("equations", ()))
    checks = tuple(_load_check(c) for c in entry.get("checks", ()))  # older packages have none
    inputs, outputs, count = entry["layout"]
    layout = Layout(inputs, outputs, count, len(slots), len(symbols), min(1, len(checks)))
    if layout.weights != len(arrays):
        raise PackageError("the package's weights do not fit its code", where=where)
    counters = entry.get("counters", 0)
    if not 0 <= counters <= entry["arena"]:
        raise PackageError("the package's memory does not fit its code", where=where)
    return NativeCode(
        machine,
        {name: objects[key] for key, name in entry["objects"].items()},
        arrays,
        layout,
        entry["arena"],
        parse_dim(entry["scratch"]),
        entry["parallel"],
        [_load_host_callback(e) for e in entry["externs"]],
        entry.get("tail", 0),
        counters,
        symbols=symbols,
        slots=slots,
        conditions=conditions,
        equations=equations,
        alone=entry["alone"],
        agrees=bool(entry["agrees"]),
        asks=bool(entry.get("asks", False)),
        checks=checks,
        packings=tuple(
            Packing(number, partial(weights.__getitem__, name), read(recipe))
            for number, name, recipe in entry.get("restores", ())  # older packages have none
        ),
    )


def _dump_check(check: Check) -> dict:
    dims = {k: None if d is None else str(d) for k, d in (("low", check.low), ("high", check.high))}
    return {**asdict(check), **dims}


def _load_check(entry: Mapping) -> Check:
    low, high = (None if entry[k] is None else parse_dim(entry[k]) for k in ("low", "high"))
    return Check(**{**entry, "low": low, "high": high})


def _dump_host_callback(step: "HostCallback") -> dict:
    """The call as a graph of one node, whose text holds attributes and types, and its places."""
    from ...compiler.ir import op
    from ...compiler.ir.graph import Graph, Node, Value
    from ...compiler.ir.text import print_graph

    inputs = [Value(f"x{i}", t) for i, t in enumerate(step.input_types) if t is not None]
    given = iter(inputs)
    operands = [None if t is None else next(given) for t in step.input_types]
    names = [f"y{i}" for i in range(len(step.output_types))]
    node = Node(
        op.get(step.op), operands, step.attrs, step.output_types, names, step.origin or None
    )
    graph = Graph("extern", inputs, list(node.outputs), names, [node])
    table: dict[str, np.ndarray] = {}
    text = print_graph(graph, table)
    arrays = {n: [a.dtype.str, list(a.shape), a.reshape(-1).tolist()] for n, a in table.items()}
    return {
        "op": step.op,
        "graph": text,
        "arrays": arrays,
        "inputs": [None if r is None else _dump_ref(r) for r in step.inputs],
        "outputs": [_dump_ref(r) for r in step.outputs],
    }


def _load_host_callback(entry: Mapping) -> "HostCallback":
    from ...compiler.ir.host_callbacks import host_callback_of
    from ...compiler.ir.text import parse_graph
    from ...compiler.kernels.kernel import HostCallback

    arrays = {n: np.array(v, d).reshape(s) for n, (d, s, v) in entry["arrays"].items()}
    (node,) = parse_graph(entry["graph"], arrays).nodes
    python = host_callback_of(node)
    if python is None:
        raise TesselError(f"{node.op.name} is compiled here, and was not when the package was made")
    return HostCallback(
        node.op.name,
        python.kernel,
        node.attrs,
        tuple(None if r is None else _load_ref(r) for r in entry["inputs"]),
        tuple(None if v is None else v.type for v in node.inputs),
        tuple(_load_ref(r) for r in entry["outputs"]),
        tuple(v.type for v in node.outputs),
        node.origin or "",
    )


def _dump_ref(ref: "Ref") -> list:
    return [ref.slot.kind, ref.slot.index, ref.offset, [list(s) for s in ref.steps]]


def _load_ref(entry: Sequence) -> "Ref":
    from ...compiler.kernels.kernel import Ref, Slot

    kind, index, offset, steps = entry
    return Ref(Slot(kind, index), offset, tuple((a, b) for a, b in steps))
