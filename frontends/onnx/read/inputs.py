"""The inputs of a model as values of its graph.

A tensor is one input of the graph, with the dims that the file declares and the caller fixes. A
sequence, an optional and a tensor of unknown rank have no type of their own in a graph: they are
read for a *structure*, which says how long it is, whether it is there, which rank it has.

    structure ::= RANK | (structure, …) | None | "map"        {"xs": (1, 1), "o": None}
"""

from collections.abc import Mapping

import numpy as np
import onnx

from ....compiler.errors import InputError, ModelError, UnsupportedError
from ....compiler.ir import dims
from ....compiler.ir.dim_parse import parse_dim
from ....compiler.ir.metadata.known_values import remember_values
from ....compiler.ir.metadata.optional_inputs import optional_inputs
from ....compiler.ir.metadata.structure import Group, Tree, leaves, structure_tree
from ....compiler.ir.types import AnyRank, MapType, OptionalType, SequenceType, TensorType, Type
from ..file import proto as pb
from .dependence import known_input
from .overridable import overridable
from .scope import EMPTY, Scope, Sequence


class StructureDependence(UnsupportedError):
    """The model cannot be read without the structures of some inputs."""


def true_inputs(graph) -> list[onnx.ValueInfoProto]:
    """The inputs that are no weights: old files list initializers as inputs too."""
    given = {t.name for t in graph.initializer}
    given |= {t.values.name for t in graph.sparse_initializer}
    return [i for i in graph.input if i.name not in given]


def optional_types(model: onnx.ModelProto) -> dict[str, Type]:
    """The types of the inputs that have a default."""
    inputs, taken = overridable(model), named_dims(model.graph)
    return {i.name: declared_type(i.type, i.name, f"input {i.name}", taken) for i in inputs}


def read_inputs(
    graph,
    scope: Scope,
    where: str,
    shapes: Mapping[str, tuple],
    values: Mapping[str, object],
    structures: Mapping[str, object],
) -> list[Group]:
    """Put the inputs into `scope` and say what became of each.

    `shapes` and `values` are by the names of the graph's tensors (`xs[0]`); shapes of inputs that
    have a default are for who feeds them. Raises StructureDependence where a structure is missing.
    """
    arrays = {n: np.asarray(v) for n, v in values.items()}
    shapes = {n: a.shape for n, a in arrays.items()} | dict(shapes)
    inputs = true_inputs(graph)
    groups, types, taken = [], {}, named_dims(graph)
    for info in inputs:
        if info.name in scope.values or info.name in types:
            raise ModelError("two inputs have one name", where=info.name)
        declared = declared_type(info.type, info.name, f"input {info.name}", taken)
        structure = _structure_given(info.name, declared, shapes, structures)
        tree = structure_tree(info.name, structure)
        groups.append(Group(info.name, str(declared), tree))
        types |= dict(zip(leaves(tree), _flat_types(declared, structure, info.name)))
    optional = optional_inputs(scope.builder.graph)
    unknown = [n for n in shapes if n not in types and n not in optional]
    if unknown:
        raise InputError(
            f"no input named {', '.join(map(repr, unknown))}",
            where=where,
            expected=" or ".join(map(repr, types)) or "no shapes: the model has no inputs",
        )
    binding: dict[str, object] = {}
    for name, type in types.items():
        if name in shapes and isinstance(type, TensorType):
            _bind(f"input {name}", type.shape, shapes[name], binding)
    tensors = {}
    for name, type in types.items():
        tensors[name] = scope.builder.input(name, type.substitute(binding))
        if name in arrays:
            tensors[name] = known_input(tensors[name], arrays[name])
    for group in groups:
        scope.values[group.name] = _value(group.tree, tensors)
    remember_values(scope.builder.graph, arrays)
    return groups


def _value(tree: Tree, tensors: Mapping):
    if isinstance(tree, list):
        return Sequence([_value(t, tensors) for t in tree])
    return EMPTY if tree is None else tensors[tree]


# -- types ------------------------------------------------------------------------------------


def named_dims(graph: onnx.GraphProto) -> frozenset[str]:
    """The symbols that the file itself names in its inputs."""
    tensors = [i.type.tensor_type for i in graph.input if i.type.HasField("tensor_type")]
    named = [d.dim_param for t in tensors for d in t.shape.dim if is_name(d.dim_param)]
    return frozenset(map(dims.symbol_name, named))


def is_name(text: str) -> bool:
    """Whether a dim's text names it: some exporters write `?`, `-1` or `None` for any size."""
    return text not in ("-1", "None") and any(c.isalnum() for c in text)


def declared_type(
    type: onnx.TypeProto, name: str, where: str, taken: frozenset[str] = frozenset()
) -> Type:
    """What the file says of an input or output; dynamic dims are symbols, named after it if need
    be, which are none of `taken`.

    Raises UnsupportedError for kinds and dtypes that tessel does not have.
    """
    kind = type.WhichOneof("value")
    if kind == "tensor_type":
        tensor = type.tensor_type
        dtype = pb.dtype_of_element(tensor.elem_type, where)
        if not tensor.HasField("shape"):
            return AnyRank(dtype)
        shape = [_declared_dim(name, i, d, where, taken) for i, d in enumerate(tensor.shape.dim)]
        if pb.is_absurd(shape):
            raise ModelError("absurd dims", where=where, received=pb.short(shape))
        return TensorType(dtype, shape)
    if kind == "sequence_type":
        return SequenceType(declared_type(type.sequence_type.elem_type, name, where, taken))
    if kind == "optional_type":
        return OptionalType(declared_type(type.optional_type.elem_type, name, where, taken))
    if kind == "map_type":
        key = pb.dtype_of_element(type.map_type.key_type, where)
        value = declared_type(type.map_type.value_type, name, where, taken)
        if isinstance(value, AnyRank):
            value = TensorType(value.dtype, ())  # files leave out that the values are scalars
        return MapType(key, value)
    raise UnsupportedError("an input or output of this kind", where=where, received=kind)


def _declared_dim(name: str, axis: int, d, where: str, taken: frozenset[str]):
    """An int, or the symbol of a dim that the file leaves open (no value or name, 0 or -1)."""
    if is_name(d.dim_param):
        return dims.Sym.named(dims.symbol_name(d.dim_param))
    if d.dim_value > 0:
        return d.dim_value
    if d.dim_value < -1:
        raise ModelError("a negative dim", where=where, received=d.dim_value)
    own = dims.symbol_name(f"{name}_{axis}")
    while own in taken:
        own += "_"
    return dims.Sym.named(own)


def _structure_given(
    name: str, declared: Type, shapes: Mapping[str, tuple], structures: Mapping[str, object]
):
    if isinstance(declared, TensorType):
        return declared.rank
    if name in structures:
        return structures[name]
    if isinstance(declared, AnyRank):
        if name in shapes:
            return len(shapes[name])
        raise StructureDependence(
            "the rank of an input is unknown", where=f"input {name}", fix="pass its --shapes"
        )
    if is_opaque(declared):
        return "map"
    raise StructureDependence(
        "the structure of an input is unknown",
        where=f"input {name}",
        received=declared,
        fix="compile it: it is read when a run shows how long its lists are (terminal: --inputs)",
    )


def is_opaque(type: Type) -> bool:
    """Maps, and sequences of them, are values of the graph as they are."""
    if isinstance(type, SequenceType):
        return is_opaque(type.element)
    return isinstance(type, MapType)


def _flat_types(declared: Type, structure, name: str) -> list[Type]:
    """The types of the tensors that an input of this structure consists of."""
    if structure == "map":
        return [declared]
    if structure is None:
        return []
    if isinstance(declared, OptionalType):
        return _flat_types(declared.element, structure, name)
    if isinstance(structure, tuple):
        items = [_flat_types(declared.element, f, f"{name}_{i}") for i, f in enumerate(structure)]
        return [_own_dims(t, f"{name}_{i}") for i, types in enumerate(items) for t in types]
    if isinstance(declared, AnyRank):
        shape = [dims.Sym.named(dims.symbol_name(f"{name}_{i}")) for i in range(structure)]
        return [TensorType(declared.dtype, shape)]
    return [declared]


def _own_dims(type: Type, name: str) -> Type:
    """The elements of a sequence may differ in their dynamic dims, also where those have a name."""
    if not isinstance(type, TensorType):
        return type
    own = [dims.Sym.named(dims.symbol_name(f"{name}_{i}")) for i in range(type.rank)]
    return type.with_shape(d if isinstance(d, int) else s for d, s in zip(type.shape, own))


def _bind(where: str, declared: tuple, shape: tuple, binding: dict) -> None:
    """Note the sizes that `shape` gives to dynamic dims. Raises InputError where they
    contradict."""

    def refuse():
        raise InputError(
            "the shape does not fit the model",
            where=where,
            expected=f"[{','.join(map(str, declared))}]",
            received=f"[{','.join(map(str, shape))}]",
        )

    if len(shape) != len(declared):
        refuse()
    for d, size in zip(declared, shape):
        if size is None:
            continue
        if isinstance(size, str):
            size = parse_dim(size)
        if isinstance(size, int) and size < 0:
            refuse()
        if isinstance(d, int):
            if d != size:
                refuse()
            continue
        name = str(d)
        if binding.setdefault(name, size) != size:
            refuse()
