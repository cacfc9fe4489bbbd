"""Read an ONNX model into a Graph.

    graph = read("model.onnx", shapes={"input_ids": (1, 128)})

Nodes are visited in order; each is looked up in `table.TABLE`, which appends ops or evaluates
shape arithmetic (`values.py`). Everything that cannot be read is collected and reported at once.
"""

from collections.abc import Callable, Mapping

import onnx

from ....compiler.classes import dataclass
from ....compiler.errors import ModelError, TesselError, UnsupportedError, at
from ....compiler.ir.bounds import DynamicSize
from ....compiler.ir.builder import Tensor
from ....compiler.ir.graph import Graph
from ....compiler.ir.metadata.optional_inputs import remember_optional
from ....compiler.ir.metadata.structure import Group, Structure, Tree, remember_structure
from ....compiler.ir.nonempty import noting, remember_nonempty
from ....compiler.system.budgets import FOLDED, Limits
from ..file import proto as pb
from ..file.order import in_order
from ..file.schema import check_node, find_schema
from . import functions
from .call import Call
from .continuation import BranchesDiffer, continued
from .dependence import SizeDependence, ValueDependence
from .findings import Findings
from .folded import FoldedValue, FoldingBuilder
from .inputs import declared_type, optional_types, read_inputs
from .scope import EMPTY, FAILED, UNDEFINED, Scope, Sequence, Skip
from .trial import fits_some_sizes
from .unsupported import report_unsupported

_DAMAGE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
CONTINUED = 64  # Ifs whose branches take in what follows them: each doubles that
_TENSOR = (None, "tensor_type")  # kinds of an output: unsaid, or said


@dataclass(frozen=True)
class Operators:
    """What reads which operator: `table` by (domain, op_type); `beyond` those of ai.onnx that its
    schemas lack; `layouts` what is said of a domain's operators that nothing reads."""

    table: Mapping[tuple[str, str], Callable]
    beyond: Mapping[str, Callable]
    layouts: Mapping[str, str]


class Reader:
    def __init__(self, loaded: pb.Loaded, operators: Operators):
        self.operators = operators
        self.model, self.folder, self.where = loaded.model, loaded.folder, loaded.where
        self.weights, self.limits = loaded.weights, loaded.limits
        self.budget, self.depth = loaded.budget(), 0
        self.findings = Findings()
        self.functions = {(_domain(f.domain), f.name, f.overload): f for f in self.model.functions}
        self.inlining: list[tuple[str, str, str]] = []
        self.notes: dict[str, list[str]] = {}
        self.seen, self.scope = {}, None  # nodes that were met, by id; names of the model's graph
        self.taken: set[str] = set()  # symbols of sizes that data decides
        self.continued: list[onnx.NodeProto] = []  # Ifs with what follows them in their branches

    def read(
        self,
        shapes: Mapping[str, tuple],
        values: Mapping[str, object],
        structures: Mapping[str, object],
    ) -> Graph:
        graph = self.model.graph
        if not self.model.HasField("graph") or not (graph.output or graph.node):
            raise ModelError("this is not an ONNX file, or it is empty", where=self.where)
        if not graph.output:
            raise ModelError("the model has no outputs", where=self.where)
        builder = FoldingBuilder(name=graph.name or "main")
        builder.graph.metadata = {p.key: p.value for p in self.model.metadata_props}
        builder.budget = self.budget
        if self.limits.folded != Limits.folded:
            builder.graph.metadata[FOLDED] = str(self.limits.folded)
        self.scope = scope = Scope(builder, self._opsets())
        self.graph = builder.graph
        remember_optional(builder.graph, optional_types(self.model))
        with noting() as nonempty:
            inputs = read_inputs(graph, scope, self.where, shapes, values, structures)
            self.body(graph, scope)
            values = self.outputs(graph, scope)
        self.findings.raise_if_any(self.where)
        builder.graph.metadata |= {k: "; ".join(v) for k, v in self.notes.items()}
        outputs = []
        for info, value in zip(graph.output, values):
            plain = isinstance(value, Tensor) and info.type.WhichOneof("value") in _TENSOR
            type = value.type if plain else declared_type(info.type, info.name, info.name)
            outputs.append(Group(info.name, str(type), _put_out(builder, info.name, value)))
        remember_nonempty(builder.graph, nonempty)
        remember_structure(builder.graph, Structure(tuple(inputs), tuple(outputs)))
        return builder.graph

    def note(self, text: str, where: str) -> None:
        """Leave word in the graph's metadata of something that the user may want to know."""
        self.notes.setdefault(text, []).append(where)

    def _opsets(self) -> dict[str, int]:
        opsets = {_domain(o.domain): o.version for o in self.model.opset_import}
        newest = onnx.defs.onnx_opset_version()
        if not opsets:
            opsets = {"": 1}
        if opsets.get("", 1) > newest:
            raise UnsupportedError(
                "the model's opset is newer than the onnx package's",
                where=self.where,
                expected=f"at most {newest}",
                received=opsets[""],
                fix="update the onnx package, or export the model with an older opset",
            )
        return opsets

    # -- graphs ---------------------------------------------------------------------------

    def body(self, graph, scope: Scope) -> None:
        """Read a graph's (or function's) initializers and nodes into `scope`."""
        self.budget.level(self.depth, scope.prefix)
        self.depth += 1
        try:
            self._body(graph, scope)
        finally:
            self.depth -= 1

    def _body(self, graph, scope: Scope) -> None:
        scope.nodes = graph.node
        weights = self.weights if scope.parent is None else {}
        for tensor in getattr(graph, "initializer", ()):
            raw = weights.get(tensor.name)
            self._initializer(scope, tensor.name, lambda t=tensor, r=raw: self._array(t, r))
        for sparse in getattr(graph, "sparse_initializer", ()):
            name = sparse.values.name
            self._initializer(scope, name, lambda s=sparse, n=name: self._dense(s, n))
        nodes = in_order(graph.node)
        later = {o: i for i, n in enumerate(nodes) for o in n.output if o}
        for i, node in enumerate(nodes):
            try:
                self._node(node, i, scope, later)
            except BranchesDiffer:
                whole = continued(node, nodes[i + 1 :], graph.output)
                self.continued.append(whole)  # kept: nodes are known by their ids
                self._node(whole, i, scope, {})
                break

    def _dense(self, sparse, name: str):
        return pb.densify(sparse, self.folder, name, self.budget)

    def _array(self, tensor, raw):
        return pb.to_array(tensor, self.folder, f"initializer {tensor.name}", raw)

    def _initializer(self, scope: Scope, name: str, array) -> None:
        try:
            if name in scope.values:
                raise ModelError("two values have one name", where=f"initializer {name}")
            scope.values[name] = FoldedValue(scope.builder, array(), name=name)
        except (ModelError, UnsupportedError) as error:
            scope.values[name] = FAILED
            self.findings.add(error)

    def outputs(self, graph, scope: Scope, wants=lambda i: True) -> list:
        """The values of a graph's outputs; None for one that is missing and not wanted."""
        results = []
        for i, info in enumerate(graph.output):
            name = info if isinstance(info, str) else info.name
            value = scope.find(name)
            if value is UNDEFINED and not wants(i):
                value = None
            elif value is UNDEFINED or value is None:
                error = ModelError("no node makes this output", where=f"output {name}")
                self.findings.add(error)
                value = FAILED
            results.append(value)
        return results

    # -- nodes ----------------------------------------------------------------------------

    def _node(self, node, index: int, scope: Scope, later: Mapping[str, int]) -> None:
        domain = _domain(node.domain)
        where = scope.prefix + (node.name or f"{node.op_type}#{index}")
        version = scope.opsets.get(domain)
        context = (node.op_type, domain, version)
        results: list = [FAILED] * len(node.output)
        self.seen[id(node)] = node
        self.budget.node()
        try:
            operands = [self._operand(n, scope, where, later, index) for n in node.input]
            entry = self._entry(node, domain, version, where)
            if not any(v is FAILED for v in operands):
                results = self._read(node, entry, operands, context, where, scope)
        except Skip:
            pass
        except TesselError as error:
            known = any(node is n for n in self.continued)
            if isinstance(error, BranchesDiffer) and not known and len(self.continued) < CONTINUED:
                raise
            shown = operands if "operands" in locals() else []
            self.findings.add(error, context, shown, where)
        if FAILED in results:
            report_unsupported(self, node, where, scope.opsets)
        for name, value in zip(node.output, results):
            if not name:
                continue
            if name in scope.values:
                self.findings.add(ModelError("two values have one name", where=where), context)
            scope.values[name] = value
            _rename(value, name)

    def _operand(self, name: str, scope: Scope, where: str, later, index: int):
        if not name:
            return None
        value = scope.find(name)
        if value is UNDEFINED:
            ordered = later.get(name, -1) >= index
            raise ModelError(
                f"{name!r} is used before it is made: nodes form a cycle"
                if ordered
                else f"nothing makes the value {name!r}",
                where=where,
            )
        return value

    def _entry(self, node, domain, version, where):
        """What reads this node: a function of the model, of the table, or of the ONNX standard."""
        function = self.functions.get((domain, node.op_type, node.overload))
        if function is not None:
            return lambda c: functions.inline_function(c, function)
        if version is None:
            raise ModelError(f"the model imports no opset for domain {domain!r}", where=where)
        schema = find_schema(domain, node.op_type, version)
        if schema is not None:
            check_node(node, schema, where)
        elif domain == "" and node.op_type in self.operators.beyond:
            return self.operators.beyond[node.op_type]
        elif domain == "":
            raise UnsupportedError(f"opset {version} of ONNX has no such operator", where=where)
        if (domain, node.op_type) in self.operators.table:
            return self.operators.table[domain, node.op_type]
        if schema is not None and schema.functional:
            return lambda c: functions.inline_standard(c, schema.record)
        fix = f"an op of your own can be it: tessel.ops.register(…, onnx='{domain}:{node.op_type}')"
        fix = self.operators.layouts.get(domain, fix if domain else None)
        raise UnsupportedError("unsupported operator", where=where, fix=fix)

    def _read(self, node, entry, operands, context, where, scope: Scope) -> list:
        """The node's results. Raises SizeDependence where no more than sizes is missing."""

        def read(reader, scope, operands):
            return reader._call(node, entry, operands, context, where, scope)

        try:
            return read(self, scope, operands)
        except (SizeDependence, ValueDependence):
            raise
        except TesselError as error:
            if not fits_some_sizes(self, scope, node, operands, read):
                raise
            raise SizeDependence(
                error.message,
                where=error.where or where,
                expected=error.expected,
                received=error.received,
            ) from error

    def _call(self, node, entry, operands, context, where, scope: Scope) -> list:
        op_type, domain, version = context
        b = scope.builder
        attrs = self._attributes(node, scope, where)
        c = Call(
            b,
            op_type,
            domain,
            version,
            where,
            operands,
            attrs,
            list(node.output),
            self,
            scope,
            node,
        )
        b.origin = where
        try:
            results = entry(c)
        except TesselError:
            raise
        except DynamicSize as error:
            raise SizeDependence(str(error), where=where) from error
        except _DAMAGE as error:
            raise ModelError(
                f"the node does not make sense: {type(error).__name__}: {error}", where=where
            ) from error
        except Exception as error:
            at(error, where)
            raise
        finally:
            b.origin = None
        unread = set(attrs) - c.read_attributes
        if unread:
            raise UnsupportedError(
                f"unsupported attribute {', '.join(sorted(unread))}", where=where
            )
        results = list(results) if isinstance(results, (tuple, list)) else [results]
        results += [None] * (len(node.output) - len(results))
        missing = [n for n, r in zip(node.output, results) if n and r is None]
        if missing:
            raise UnsupportedError(f"unsupported output {', '.join(missing)}", where=where)
        return results

    def _attributes(self, node, scope: Scope, where: str) -> dict:
        attrs = {}
        for a in node.attribute:
            if not a.ref_attr_name:
                attrs[a.name] = pb.attribute(a, self.folder, where, self.budget)
            elif scope.attributes is None:
                raise ModelError("a reference to an attribute outside a function", where=where)
            elif a.ref_attr_name in scope.attributes:
                attrs[a.name] = scope.attributes[a.ref_attr_name]
        return attrs


def _domain(text: str) -> str:
    return "" if text == "ai.onnx" else text


def _put_out(b: FoldingBuilder, name: str, value) -> Tree:
    """Make a value an output of the graph, or several."""
    if isinstance(value, Sequence):
        return [_put_out(b, f"{name}[{i}]", v) for i, v in enumerate(value.items)]
    if value is EMPTY:
        return None
    b.output(name, value)
    return name


def _rename(value, name: str) -> None:
    """Call a value made for this output by the user's name."""
    if type(value) is Tensor and value.value.node is not None and value.value.name.isdigit():
        value.value.name = value.b._unique(name)
