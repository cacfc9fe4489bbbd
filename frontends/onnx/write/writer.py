"""A Graph as an ONNX model: names, initializers, nodes, subgraphs.

Each op is written by its entry in `table.TABLE`; without one, a composite is expanded into other
ops first, and an elementwise op is what its body computes. Static attributes become constant
operands; symbolic dims become dim_params, and where their sizes are needed as data they are
computed from the shapes of the inputs. The model is in opset 21, or in a later one if asked for or
where an operator or a dtype needs it.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper

from ....compiler.errors import UnsupportedError
from ....compiler.ir.builder import Builder
from ....compiler.ir.dim_arrays import at_least
from ....compiler.ir.dims import Sym, symbols
from ....compiler.ir.graph import Graph, Node, Value
from ....compiler.ir.op import Elementwise, Expand
from ....compiler.ir.types import DType, TensorType
from .elementwise import by_body
from .structure import put_together, structure_of, take_apart
from .types import NewerOpset, newer_opset, refused, schema_types, type_proto, wider

OPSET, IR_VERSION = 21, 10
_DOMAINS = {"ai.onnx.ml": 3}
_KNOWN = ("", "ai.onnx.ml", "ai.onnx.preview.training")


class Writer:
    """State of one model: names, initializers, and nodes of the graph being written."""

    def __init__(self, graph: Graph, opset: int, table: Mapping[str, Callable]):
        self.table = table  # op's name → what writes a node of it
        self.graph = graph
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.arrays: dict[str, np.ndarray] = {}
        self.constants: dict[tuple, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.prologue: list[onnx.NodeProto] = []
        self.sizes: dict[object, str] = {}
        self.bound: dict[str, str] = {}  # symbols whose sizes data decide
        self.origin: str | None = None
        self.domains: dict[str, int] = {"": opset}

    def model(self) -> onnx.ModelProto:
        graph, structure = self.graph, structure_of(self.graph.metadata)
        if structure is None:
            inputs = [self.input(value) for value in graph.inputs]
        else:
            inputs = take_apart(self, structure.inputs)
            self.taken |= {g.name for g in structure.outputs if g.tree != g.name}
        self._reserve_outputs(graph)
        first, self.nodes = self.nodes, []
        for node in graph.nodes:
            self.write(node)
        if structure is None:
            outputs = [self.output(n, v) for n, v in zip(graph.output_names, graph.outputs)]
        else:
            outputs = put_together(self, structure.outputs)
        nodes = first + self.prologue + self.nodes
        proto = helper.make_graph(nodes, graph.name or "main", inputs, outputs)
        opsets = [helper.make_opsetid(d, v) for d, v in self.domains.items()]
        known = [o for o in opsets if o.domain in _KNOWN]
        model = helper.make_model(
            proto,
            opset_imports=opsets,
            ir_version=max(IR_VERSION, helper.find_min_ir_version_for(known)),
            producer_name="tessel",
        )
        helper.set_model_props(model, graph.metadata)
        return model

    def input(self, value: Value) -> onnx.ValueInfoProto:
        self.names[value] = self.unique(value.name)
        return helper.make_value_info(self.names[value], type_proto(value.type))

    def output(self, name: str, value: Value) -> onnx.ValueInfoProto:
        if self.names[value] != name:
            self.nodes.append(helper.make_node("Identity", [self.names[value]], [name]))
        return helper.make_value_info(name, type_proto(value.type))

    def _reserve_outputs(self, graph: Graph) -> None:
        """A node's result that is an output takes the output's name."""
        for name, value in zip(graph.output_names, graph.outputs):
            if name in self.taken:
                if self.names.get(value) != name:
                    raise UnsupportedError(
                        "two values of the model would have one name", where=f"output {name}"
                    )
                continue
            self.taken.add(name)
            if value not in self.names and value.constant is None:
                self.names[value] = name

    @property
    def opset(self) -> int:
        return self.domains[""]

    # -- names ----------------------------------------------------------------------------

    def unique(self, stem: str) -> str:
        name, i = stem, 0
        while not name or name in self.taken:
            i += 1
            name = f"{stem}_{i}"
        self.taken.add(name)
        return name

    def name(self, value: Value | None) -> str:
        """The ONNX name of an operand or result ('' if absent)."""
        if value is None:
            return ""
        if value not in self.names:
            self.names[value] = self.unique(value.name)
        return self.names[value]

    # -- what entries use -----------------------------------------------------------------

    def write(self, node: Node) -> None:
        """Append what says `node`; dtypes that ONNX lacks for it are widened around it."""
        self.origin = node.where
        entry = self.table.get(node.op.name)
        if entry is None:
            if isinstance(node.op.loops, Elementwise):
                self.inline(node, by_body(node))
            elif isinstance(node.op.loops, Expand):
                self.expand(node)
            else:
                raise UnsupportedError(f"ONNX has no way to say {node.op.name}", where=node.where)
            return
        mark = len(self.nodes)
        entry(self, node)
        written = self.nodes[mark:]
        dtypes = {
            self.name(v): v.dtype
            for v in (*node.inputs, *node.outputs)
            if v is not None and isinstance(v.type, TensorType)
        }
        for proto in written:
            version = self.domains[proto.domain]
            if proto.domain not in _KNOWN:
                continue
            if schema_types(proto.domain, proto.op_type, version) is None:
                self._lift(node, proto, dtypes)
            dtype = refused(proto, dtypes, version)
            if dtype is not None:
                del self.nodes[mark:]
                self._widen(node, dtype, proto, dtypes)
                return

    def _lift(self, node: Node, proto: onnx.NodeProto, dtypes) -> None:
        """Start again in an opset that has this node, if there is one."""
        opset = newer_opset(proto, dtypes, self.domains[proto.domain])
        if opset is None:
            names = ", ".join(sorted({str(d) for d in dtypes.values()}))
            raise UnsupportedError(
                f"ONNX has no {node.op.name} of {names}", where=node.where, received=node
            )
        raise NewerOpset(opset)

    def _widen(self, node: Node, dtype: DType, proto: onnx.NodeProto, dtypes) -> None:
        """cast(op(cast(x)))"""
        wide = wider(node.op.name, dtype)
        if wide is None:
            self._lift(node, proto, dtypes)

        def rule(b, *tensors, **attrs):
            tensors = [x.cast(wide) if x is not None and x.dtype == dtype else x for x in tensors]
            results = b.emit(node.op.name, *tensors, **attrs)
            results = results if isinstance(results, tuple) else (results,)
            return [r.cast(v.dtype) for r, v in zip(results, node.outputs)]

        self.inline(node, rule)

    def expand(self, node: Node) -> None:
        """Write the ops that a composite stands for."""
        self.inline(node, node.op.loops.rule)

    def inline(self, node: Node, rule) -> None:
        """Write what `rule(b, *operands, **attributes)` builds in place of the node."""
        b = Builder()
        operands = [None if v is None else b.input(v.name, v.type) for v in node.inputs]
        operands += [None] * (len(node.op.inputs) - len(operands))
        results = rule(b, *operands, **node.attrs)
        results = results if isinstance(results, (tuple, list)) else [results]
        for inner, outer in zip(b.graph.inputs, [v for v in node.inputs if v is not None]):
            self.names[inner] = self.name(outer)
        for inner in b.graph.nodes:
            inner.origin = node.origin
            self.write(inner)
        for result, outer in zip(results, node.outputs):
            self.op("Identity", [self.name(result.value)], [self.name(outer)])

    def op(self, op_type: str, inputs: Sequence[str], outputs=1, *, domain: str = "", **attrs):
        """Append an ONNX node; `outputs` are names, or how many new ones. Returns them."""
        single = outputs == 1
        if isinstance(outputs, int):
            outputs = [self.unique(f"{op_type}_out") for _ in range(outputs)]
        inputs = list(inputs)
        while inputs and inputs[-1] == "":
            inputs.pop()
        attrs = {k: v for k, v in attrs.items() if v is not None and v != []}
        self.domains.setdefault(domain, _DOMAINS.get(domain, 1))
        name = self.unique(self._stem(op_type))
        self.nodes.append(
            helper.make_node(op_type, inputs, outputs, name=name, domain=domain, **attrs)
        )
        return outputs[0] if single else outputs

    def _stem(self, op_type: str) -> str:
        """Nodes have the names that they had; those that only round values do not take them from
        the nodes around which they stand."""
        if self.origin is None:
            return op_type
        rounds = op_type in ("QuantizeLinear", "DequantizeLinear")
        return f"{self.origin}_{op_type}" if rounds and op_type not in self.origin else self.origin

    def constant(self, array, dtype=None, stem: str = "constant") -> str:
        """The name of an initializer; equal small ones are shared."""
        array = np.asarray(array, dtype)
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size <= 64 else None
        if array.dtype == object:
            key = None
        if key is not None and key in self.constants:
            return self.constants[key]
        name = self.unique(stem)
        self.arrays[name] = array
        if key is not None:
            self.constants[key] = name
        return name

    def bind(self, dims: Sequence, vector: str) -> None:
        """Let the elements of `vector` be the sizes that these symbols stand for."""
        for i, symbol in enumerate(dims):
            if isinstance(symbol, Sym):
                extra = [self.constant(np.asarray([v], np.int64)) for v in (i, i + 1)]
                self.bound[str(symbol)] = self.op("Slice", [vector, *extra])

    def ints(self, values) -> str:
        """An i64 vector of dims: an initializer, or computed from the inputs' shapes."""
        values = list(values)
        if all(not isinstance(v, Sym) for v in values):
            return self.constant(np.asarray(values, np.int64))
        return self._computed(
            values, lambda parts: parts[0] if len(parts) == 1 else self.op("Concat", parts, axis=0)
        )

    def scalar(self, value) -> str:
        """A dim as an i64 scalar."""
        if not isinstance(value, Sym):
            return self.constant(np.int64(value))
        return self._computed([value], lambda parts: self.op("Squeeze", parts))

    def _computed(self, values: Sequence, join) -> str:
        """`join` of the sizes: before all nodes, or here where data decide one of them."""
        if any(symbols(v) & self.bound.keys() for v in values):
            kept, self.sizes = self.sizes, dict(self.bound)
            result = join([self._size(v) for v in values])
            self.sizes = kept
            return result
        nodes, self.nodes = self.nodes, self.prologue
        result = join([self._size(v) for v in values])
        self.nodes = nodes
        return result

    def _size(self, d) -> str:
        """A dim as an i64[1], computed once, from `Shape` of the inputs."""
        if not isinstance(d, Sym):
            return self.constant(np.asarray([d], np.int64))
        if d not in self.sizes:
            total = None
            for monomial, c in d.terms.items():
                term = self.constant(np.asarray([c], np.int64)) if c != 1 or not monomial else None
                for atom in monomial:
                    factor = self._atom(atom)
                    term = factor if term is None else self.op("Mul", [term, factor])
                total = term if total is None else self.op("Add", [total, term])
            self.sizes[d] = total
        return self.sizes[d]

    def _atom(self, atom) -> str:
        if atom in self.sizes:
            return self.sizes[atom]
        if isinstance(atom, str):
            self.sizes[atom] = self._symbol(atom)
        else:
            function, dividend, divisor = atom
            a, b = self._size(dividend), self._size(divisor)
            if function == "floordiv":
                if not at_least(dividend, 0):
                    # ONNX truncates: (a - a mod b) / b is the floor for b > 0
                    a = self.op("Sub", [a, self.op("Mod", [a, b])])
                self.sizes[atom] = self.op("Div", [a, b])
            elif function == "broadcast":
                one = self.op("Equal", [a, self.constant(np.asarray([1], np.int64))])
                self.sizes[atom] = self.op("Where", [one, b, a])
            else:
                op = {"mod": "Mod", "max": "Max", "min": "Min"}[function]
                self.sizes[atom] = self.op(op, [a, b])
        return self.sizes[atom]

    def _symbol(self, name: str) -> str:
        for value in self.graph.inputs:
            if isinstance(value.type, TensorType):
                for axis, d in enumerate(value.shape):
                    if d == Sym.named(name):
                        return self.op("Shape", [self.names[value]], start=axis, end=axis + 1)
        raise UnsupportedError(
            f"no input has the symbolic dim {name} as an axis", where=self.origin
        )

    def bind_shapes(self, values: Sequence[Value], dims: Sequence) -> None:
        """Let the symbols `dims` be sizes of these values, which have them as axes."""
        for symbol in dims:
            at = [(v, v.shape.index(symbol)) for v in values if symbol in v.shape]
            if at and isinstance(symbol, Sym):
                (value, axis), *_ = at
                size = self.op("Shape", [self.name(value)], start=axis, end=axis + 1)
                self.bound[str(symbol)] = size

    def region(
        self, graph: Graph, own: int, captured: Sequence[Value], turn: Sequence = ()
    ) -> onnx.GraphProto:
        """A region as an ONNX graph: its first `own` inputs stay, the rest read outer values.
        `turn` are the symbols that the shapes of its own inputs bind."""
        for inner, outer in zip(graph.inputs[own:], captured, strict=True):
            self.names[inner] = self.name(outer)
        nodes, self.nodes = self.nodes, []
        inputs = [
            helper.make_value_info(self.name(v), type_proto(v.type)) for v in graph.inputs[:own]
        ]
        self.bind_shapes(graph.inputs[:own], turn)
        for node in graph.nodes:
            self.write(node)
        outputs = []
        for value in graph.outputs:
            # a region's output must be made in it, and once
            name = self.op("Identity", [self.name(value)])
            outputs.append(helper.make_value_info(name, type_proto(value.type)))
        proto = helper.make_graph(self.nodes, self.unique(graph.name), inputs, outputs)
        self.nodes = nodes
        return proto
