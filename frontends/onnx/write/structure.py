"""Sequences and optionals as inputs and outputs of a written model.

A graph has their tensors only, and says in its metadata which belong together
(`metadata/structure.py`): lists are taken apart before all nodes and put together after them. The
model is right for lists of the lengths that the graph was made for.
"""

import numpy as np
import onnx
from onnx import helper

from ....compiler.errors import UnsupportedError
from ....compiler.ir.metadata import structure
from ....compiler.ir.types import DTYPES
from ..file.proto import ELEMENT_TYPE_OF


def structure_of(metadata):
    """The structure in a graph's metadata; None if all its inputs and outputs are tensors."""
    if "tessel.structure" not in metadata:
        return None
    return structure.structure_of(metadata)


def take_apart(w, groups) -> list[onnx.ValueInfoProto]:
    """The model's inputs, and nodes that give their tensors the names of the graph's inputs."""
    values = {v.name: v for v in w.graph.inputs}
    infos = []
    for group in groups:
        if group.tree == group.name:
            infos.append(w.input(values[group.name]))
            continue
        w.taken.add(group.name)
        infos.append(helper.make_value_info(group.name, _proto(group.type)))
        x = group.name
        if group.type.startswith("optional(") and group.tree is not None:
            x = w.op("OptionalGetElement", [x])
        _elements(w, group, x, group.tree, values)
    return infos


def _elements(w, group, x: str, tree, values) -> None:
    if isinstance(tree, str):
        w.names[values[tree]] = x
    for i, part in enumerate(tree if isinstance(tree, list) else ()):
        if not isinstance(part, str):
            raise _nested(f"input {group.name}")
        at = w.constant(np.int64(i))
        w.names[values[part]] = w.op("SequenceAt", [x, at])


def put_together(w, groups) -> list[onnx.ValueInfoProto]:
    """The model's outputs, and nodes that make them of the graph's outputs."""
    values = dict(zip(w.graph.output_names, w.graph.outputs))
    infos = []
    for group in groups:
        if group.tree == group.name:
            infos.append(w.output(group.name, values[group.name]))
            continue
        name = _built(w, group, values)
        w.op("Identity", [name], [group.name])
        infos.append(helper.make_value_info(group.name, _proto(group.type)))
    return infos


def _built(w, group, values) -> str:
    tree, optional = group.tree, group.type.startswith("optional(")
    if tree is None:
        return w.op("Optional", [], type=_proto(group.type).optional_type.elem_type)
    if isinstance(tree, str):
        name = w.names[values[tree]]
    elif not all(isinstance(part, str) for part in tree):
        raise _nested(f"output {group.name}")
    elif not tree:
        name = w.op("SequenceEmpty", [], dtype=ELEMENT_TYPE_OF[DTYPES[_element(group.type)]])
    else:
        name = w.op("SequenceConstruct", [w.names[values[part]] for part in tree])
    return w.op("Optional", [name]) if optional else name


def _nested(where: str) -> UnsupportedError:
    return UnsupportedError("ONNX has no operators on sequences of sequences", where=where)


def _element(type: str) -> str:
    """f32 of optional(seq(f32[N]))"""
    return type.rpartition("(")[2].partition("[")[0]


def _proto(type: str) -> onnx.TypeProto:
    """Sizes of elements stay open: they may differ."""
    if type.startswith("optional("):
        return helper.make_optional_type_proto(_proto(type[len("optional(") : -1]))
    if type.startswith("seq("):
        return helper.make_sequence_type_proto(_proto(type[len("seq(") : -1]))
    return helper.make_tensor_type_proto(ELEMENT_TYPE_OF[DTYPES[_element(type)]], None)
