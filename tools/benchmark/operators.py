"""`tessel bench --ops`: each operator of an ONNX model by itself, at the shapes and with the values
that it meets there.

    operators_of(path, feeds)  -> [Operator], {why an operator is left out: how many}
    print_operators(rows, …)   the table: what is lost to the fastest other engine comes first

A model runs once with every value as an output, so that operators whose inputs are places or sizes
are measured with values that make sense. Nodes that are alike (operator, attributes, types, which
inputs are weights, and what the small ones hold) are one operator that counts as often.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import exp, log
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ... import compile as compile_model
from ...compiler.classes import dataclass
from ...compiler.errors import UsageError
from ...compiler.ir.types import TensorType
from ...frontends.onnx.file import proto as pb
from ...frontends.onnx.shapes import value_types
from ..common.tables import Column, console, duration, print_table
from .worker import BACKENDS

SMALL = 64  # elements up to which a constant input is a parameter, as axes or a shape are
DURATION = 0.5  # seconds of timed runs per operator and backend
NEAR = 1.10  # times as long as the fastest other engine: what is above is counted
COLUMNS = (
    Column("time / best", "tessel's median by that of the fastest other engine"),
    Column("tessel", "one call, the median"),
    Column("best", "of the fastest other engine"),
    Column("engine", "which that is", right=False, rank=2),
    Column("calls", "nodes of the model that are this operator"),
    Column("lost", "calls times the difference, where tessel is slower", rank=1),
    Column("operator", "with the shapes of its inputs; [w] is a weight", right=False),
)


@dataclass(frozen=True)
class Operator:
    """One operator as a model of its own. `nodes` are the names of those that are alike."""

    text: str
    model: onnx.ModelProto
    feeds: Mapping[str, np.ndarray]
    nodes: tuple[str, ...]


def operators_of(
    path: str, feeds: Mapping[str, np.ndarray]
) -> tuple[list[Operator], Mapping[str, int]]:
    """The distinct operators of a model's graph in order, and how many nodes were left out and why.

    Raises UsageError for files other than ONNX, and what compiling and running the model raise.
    """
    if Path(path).suffix in (".tsl", ".graph"):
        raise UsageError("--ops takes models apart that are ONNX files", received=path)
    loaded = pb.load(path)
    weights = {
        t.name: pb.to_array(t, loaded.folder, t.name, loaded.weights.get(t.name))
        for t in loaded.model.graph.initializer
    }
    values = dict(feeds) | weights | _values(loaded, feeds)
    constant = set(weights) - set(feeds)
    groups: dict[tuple, list[onnx.NodeProto]] = {}
    left_out: Counter[str] = Counter()
    for node in loaded.model.graph.node:
        known = all(not n or n in constant for n in node.input)
        if known and node.op_type not in ("RandomNormal", "RandomUniform"):
            constant.update(node.output)
            left_out["it is made of constants, which are computed while compiling"] += 1
            continue
        reason = _left_out(node, values, loaded.model)
        if reason is not None:
            left_out[reason] += 1
            continue
        groups.setdefault(_key(node, values, constant), []).append(node)
    found = [_operator(nodes, values, constant, loaded.model) for nodes in groups.values()]
    return found, left_out


def _values(loaded: pb.Loaded, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What every node gives for these inputs, as far as that is tensors."""
    shapes = {name: a.shape for name, a in feeds.items()}
    types, _ = value_types(_Whole(loaded), shapes=shapes)
    model = onnx.ModelProto()
    model.CopyFrom(loaded.model)
    own = {o.name for o in model.graph.output}
    results = (n for node in model.graph.node for n in node.output)
    names = [n for n in results if isinstance(types.get(n), TensorType) and n not in own]
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names)
    source = _Whole(pb.Loaded(model, loaded.where, loaded.folder, loaded.weights, loaded.limits))
    return dict(compile_model(source, threads=1, reuse=False).run(feeds))


@dataclass(frozen=True)
class _Whole(pb.Source):
    """A model that was loaded, and changed."""

    loaded: pb.Loaded

    def load(self) -> pb.Loaded:
        return self.loaded


def _left_out(node: onnx.NodeProto, values: Mapping, model: onnx.ModelProto) -> str | None:
    """Why a node is not measured by itself, if it isn't."""
    if any(a.HasField("g") or a.graphs for a in node.attribute):
        return "it holds graphs: a loop, a branch or a scan"
    if (node.domain, node.op_type) in {(f.domain, f.name) for f in model.functions}:
        return "it is a function of the model's own"
    if not all(isinstance(values.get(n), np.ndarray) for n in (*node.input, *node.output) if n):
        return "it works on sequences or optionals"
    if any(values[n].dtype.kind in "OSU" for n in (*node.input, *node.output) if n):
        return "it works on strings"
    return None


def _key(node: onnx.NodeProto, values: Mapping, constant: set[str]) -> tuple:
    """What nodes that are alike have in common."""
    attributes = sorted(a.SerializeToString(deterministic=True) for a in node.attribute)
    inputs = []
    for name in node.input:
        a = values[name] if name else None
        held = a.tobytes() if a is not None and name in constant and a.size <= SMALL else None
        inputs.append(name and (a.dtype.str, a.shape, name in constant, held))
    outputs = tuple(bool(n) for n in node.output)
    return (node.domain, node.op_type, tuple(attributes), tuple(inputs), outputs)


def _operator(
    nodes: Sequence[onnx.NodeProto], values: Mapping, constant: set[str], model: onnx.ModelProto
) -> Operator:
    node = nodes[0]
    names = [n for n in dict.fromkeys(node.input) if n]
    fed = [n for n in names if n not in constant]
    typed = lambda n: helper.make_tensor_value_info(
        n, helper.np_dtype_to_tensor_dtype(values[n].dtype), values[n].shape
    )
    graph = helper.make_graph(
        [node],
        "operator",
        [typed(n) for n in fed],
        [typed(n) for n in node.output if n],
        [
            numpy_helper.from_array(np.ascontiguousarray(values[n]), n)
            for n in names
            if n in constant
        ],
    )
    alone = helper.make_model(
        graph, opset_imports=list(model.opset_import), ir_version=model.ir_version
    )
    feeds = {n: np.ascontiguousarray(values[n]) for n in fed}
    return Operator(_text(node, values, constant), alone, feeds, tuple(n.name for n in nodes))


def _text(node: onnx.NodeProto, values: Mapping, constant: set[str]) -> str:
    """Conv 1×64×56×56, [128×64×3×3] strides=2,2"""
    inputs = []
    for name in node.input:
        if name and (name not in constant or values[name].size > 1):
            shape = "×".join(map(str, values[name].shape)) or "scalar"
            inputs.append(f"[{shape}]" if name in constant else shape)
    told = [f"{a.name}={_attribute(a)}" for a in node.attribute if a.type != a.TENSOR]
    prefix = f"{node.domain}:" if node.domain not in ("", "ai.onnx") else ""
    return " ".join([f"{prefix}{node.op_type} {', '.join(inputs)}", *told]).strip()


def _attribute(a: onnx.AttributeProto) -> str:
    value = helper.get_attribute_value(a)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return ",".join(map(str, value)) if isinstance(value, Iterable) else f"{value:g}"


# -- the table -----------------------------------------------------------------------------


def row_of(operator: Operator, backends: Mapping[str, Mapping]) -> dict:
    """The figures of an operator, from `compare`'s reports: as they stand in the JSON report.
    `ratio` is missing where tessel, or every other engine, was not timed."""
    row: dict = {
        "operator": operator.text,
        "calls": len(operator.nodes),
        "nodes": list(operator.nodes),
        "backends": dict(backends),
    }
    timed = {name: r["p50_ms"] for name, r in backends.items() if r["status"] == "ok"}
    others = {n: ms for n, ms in timed.items() if n not in BACKENDS or BACKENDS[n].peer}
    if "tessel" in timed and others:
        best = min(others, key=others.__getitem__)
        row["engine"], row["best_ms"], row["tessel_ms"] = best, others[best], timed["tessel"]
        row["ratio"] = timed["tessel"] / others[best]
        row["lost_ms"] = max(0.0, timed["tessel"] - others[best]) * len(operator.nodes)
    return row


def print_operators(title: str, rows: Sequence[dict], left_out: Mapping[str, int]) -> None:
    """What is lost most comes first; then what could not be compared, and a line about all."""
    out = console()
    out.print(title, style="bold")
    compared = [r for r in rows if "ratio" in r]
    compared.sort(key=lambda r: (-r["lost_ms"], -r["ratio"]))
    if compared:
        print_table(out, COLUMNS, [_cells(r) for r in compared])
    for r in rows:
        for name, report in r["backends"].items():
            if report["status"] not in ("ok", "unavailable"):
                reason = str(report["reason"]).strip().splitlines()[0]
                out.print(f"{name}, {r['operator']}: {reason}", style="red")
    for reason, count in left_out.items():
        out.print(f"  {count} × not measured: {reason}", style="dim")
    out.print(summary(compared) + "\n")


def summary(compared: Sequence[dict]) -> str:
    """geometric mean 0.72 of 34 operators; 3 above 1.10"""
    if not compared:
        return "no operator was timed by tessel and another engine"
    mean = exp(statistics.mean(log(r["ratio"]) for r in compared))
    slower = sum(r["ratio"] > NEAR for r in compared)
    calls = sum(r["calls"] for r in compared)
    return (
        f"geometric mean {mean:.2f} of {len(compared)} operators ({calls} nodes); "
        f"{slower} above {NEAR:.2f}"
    )


def _cells(row: dict) -> list[str]:
    return [
        f"{row['ratio']:.2f}",
        duration(row["tessel_ms"]),
        duration(row["best_ms"]),
        row["engine"],
        str(row["calls"]),
        duration(row["lost_ms"]) if row["lost_ms"] else "",
        row["operator"],
    ]
