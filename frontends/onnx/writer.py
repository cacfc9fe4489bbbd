"""Write a Graph as an ONNX model.

    model = write(graph, "model.onnx")

Each op is written by its entry in `write_table.TABLE`; a composite without one is expanded into
other ops first. Static attributes become constant operands; symbolic dims become dim_params, and
where their sizes are needed as data they are computed from the shapes of the inputs. Values are
in opset 21.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ...compiler.builder import Builder
from ...compiler.dims import Sym
from ...compiler.errors import UnsupportedError, UsageError
from ...compiler.ir import Graph, Node, Value
from ...compiler.ops.registry import Expand
from ...compiler.types import (
    DTYPES,
    F32,
    I32,
    DType,
    MapType,
    SequenceType,
    TensorType,
    Type,
)
from .proto import ELEMENT_TYPE_OF
from .values import at_least
from .write_file import check, replace, tensor, write_external

OPSET, IR_VERSION = 21, 10
_DOMAINS = {"ai.onnx.ml": 3}
EXTERNAL = 1_500_000_000  # bytes of weights from which on they go to a file beside the model


def write(
    graph: Graph, path: "str | Path | None" = None, *, external_bytes: int = EXTERNAL
) -> onnx.ModelProto:
    """The ONNX model of `graph`, checked; written to `path` if given.

    Weights of more than `external_bytes` in all go to `<path>.data`. The file appears whole or
    not at all. Raises UnsupportedError naming an op that ONNX cannot say.
    """
    writer = Writer(graph)
    model = writer.model()
    weights = sum(a.nbytes for a in writer.arrays.values())
    if weights <= external_bytes:
        for name, array in writer.arrays.items():
            model.graph.initializer.append(tensor(name, array))
        check(model)
        if path is not None:
            replace(Path(path), model.SerializeToString())
        return model
    if path is None:
        raise UsageError(
            "the weights are too large for one ONNX file",
            expected=f"at most {external_bytes} bytes",
            received=f"{weights} bytes",
            fix="give a path: the weights go to a second file beside it",
        )
    write_external(Path(path), model, writer.arrays)
    return model


class Writer:
    """State of one model: names, initializers, and nodes of the graph being written."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.arrays: dict[str, np.ndarray] = {}
        self.constants: dict[tuple, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.prologue: list[onnx.NodeProto] = []
        self.sizes: dict[object, str] = {}
        self.origin: str | None = None
        self.domains: dict[str, int] = {"": OPSET}

    def model(self) -> onnx.ModelProto:
        graph = self.graph
        for value in graph.inputs:
            self.names[value] = self.unique(value.name)
        self._reserve_outputs(graph)
        for node in graph.nodes:
            self.write(node)
        outputs = []
        for name, value in zip(graph.output_names, graph.outputs):
            if self.names[value] != name:
                self.nodes.append(helper.make_node("Identity", [self.names[value]], [name]))
            outputs.append(helper.make_value_info(name, type_proto(value.type)))
        inputs = [helper.make_value_info(self.names[v], type_proto(v.type)) for v in graph.inputs]
        proto = helper.make_graph(self.prologue + self.nodes, graph.name or "main", inputs, outputs)
        model = helper.make_model(
            proto,
            opset_imports=[helper.make_opsetid(d, v) for d, v in self.domains.items()],
            ir_version=IR_VERSION,
            producer_name="tessel",
        )
        helper.set_model_props(model, graph.metadata)
        return model

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
        from .write_table import TABLE

        self.origin = node.where
        entry = TABLE.get(node.op.name)
        if entry is None:
            if not isinstance(node.op.loops, Expand):
                raise UnsupportedError(f"ONNX has no way to say {node.op.name}", where=node.where)
            self.expand(node)
            return
        mark = len(self.nodes)
        entry(self, node)
        refused = self._refused_dtype(node, mark)
        if refused is not None:
            del self.nodes[mark:]
            self._widen(node, refused)

    def _refused_dtype(self, node: Node, mark: int) -> DType | None:
        """A dtype of the operands that ONNX does not allow in the nodes just written."""
        dtypes = {
            self.name(v): v.dtype
            for v in (*node.inputs, *node.outputs)
            if v is not None and isinstance(v.type, TensorType)
        }
        for written in self.nodes[mark:]:
            schema = _schema(written.domain, written.op_type, self.domains[written.domain])
            for names, formal in [(written.input, schema[0]), (written.output, schema[1])]:
                for i, name in enumerate(names):
                    allowed = formal[min(i, len(formal) - 1)] if formal else ()
                    if name in dtypes and _type_text(dtypes[name]) not in allowed:
                        return dtypes[name]
        return None

    def _widen(self, node: Node, dtype: DType) -> None:
        """cast(op(cast(x)))"""
        wide = _wider(node.op.name, dtype)
        if wide is None:
            raise UnsupportedError(
                f"ONNX has no {node.op.name} of {dtype}", where=node.where, received=node
            )

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
        name = self.unique(self.origin or op_type)
        self.nodes.append(
            helper.make_node(op_type, inputs, outputs, name=name, domain=domain, **attrs)
        )
        return outputs[0] if single else outputs

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

    def ints(self, values) -> str:
        """An i64 vector of dims: an initializer, or computed from the inputs' shapes."""
        values = list(values)
        if all(not isinstance(v, Sym) for v in values):
            return self.constant(np.asarray(values, np.int64))
        nodes, self.nodes = self.nodes, self.prologue
        parts = [self._size(v) for v in values]
        result = parts[0] if len(parts) == 1 else self.op("Concat", parts, axis=0)
        self.nodes = nodes
        return result

    def scalar(self, value) -> str:
        """A dim as an i64 scalar."""
        if not isinstance(value, Sym):
            return self.constant(np.int64(value))
        vector = self.ints([value])
        nodes, self.nodes = self.nodes, self.prologue
        result = self.op("Squeeze", [vector])
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

    def region(self, graph: Graph, own: int, captured: Sequence[Value]) -> onnx.GraphProto:
        """A region as an ONNX graph: its first `own` inputs stay, the rest read outer values."""
        for inner, outer in zip(graph.inputs[own:], captured, strict=True):
            self.names[inner] = self.name(outer)
        nodes, self.nodes = self.nodes, []
        inputs = [
            helper.make_value_info(self.name(v), type_proto(v.type)) for v in graph.inputs[:own]
        ]
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


@cache
def _schema(domain: str, op_type: str, version: int) -> tuple[list, list]:
    """The types allowed for each operand and result."""
    schema = onnx.defs.get_schema(op_type, version, domain)
    return [i.types for i in schema.inputs], [o.types for o in schema.outputs]


def _type_text(dtype: DType) -> str:
    return f"tensor({TensorProto.DataType.Name(ELEMENT_TYPE_OF[dtype]).lower()})"


def _wider(op: str, dtype: DType) -> DType | None:
    """A dtype in which `op` gives the same result, cast back."""
    if op in ("cast", "bit_cast", "quantize_linear", "dequantize_linear"):
        return None
    if op == "shift_left":
        return {"i": DTYPES.get(f"u{dtype.bits}")}.get(dtype.kind)
    if dtype.is_float and dtype.bits < 32:
        return F32
    return I32 if dtype.is_int and dtype.bits < 32 else None


def type_proto(type: Type) -> onnx.TypeProto:
    if isinstance(type, SequenceType):
        return helper.make_sequence_type_proto(type_proto(type.element))
    if isinstance(type, MapType):
        return helper.make_map_type_proto(ELEMENT_TYPE_OF[type.key], type_proto(type.value))
    shape = [str(d) if isinstance(d, Sym) else d for d in type.shape]
    return helper.make_tensor_type_proto(ELEMENT_TYPE_OF[type.dtype], shape)
