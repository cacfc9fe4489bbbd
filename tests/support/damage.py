"""Seeded damage: ONNX files and packages as they must not be."""

import hashlib
import json
import random
import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tessel.runtime.package import container


def sample_model() -> onnx.ModelProto:
    """Convolution, pooling, reshape, product, slice, gather, branch, recurrence: a bit of all."""
    rng = np.random.default_rng(0)

    def weight(name, *shape, dtype=np.float32):
        array = rng.standard_normal(shape).astype(dtype) if dtype == np.float32 else shape[0]
        return numpy_helper.from_array(np.asarray(array, dtype), name)

    node = helper.make_node
    branch = [
        helper.make_graph(
            [node("Neg", ["h"], ["n"])],
            "then",
            [],
            [helper.make_tensor_value_info("n", TensorProto.FLOAT, None)],
        ),
        helper.make_graph(
            [node("Relu", ["h"], ["r"])],
            "else",
            [],
            [helper.make_tensor_value_info("r", TensorProto.FLOAT, None)],
        ),
    ]
    nodes = [
        node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1], strides=[1, 1]),
        node("Relu", ["c"], ["a"], "relu"),
        node("MaxPool", ["a"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        node("Shape", ["p"], ["s"]),
        node("Gather", ["s", "zero"], ["batch"], axis=0),
        node("Unsqueeze", ["batch", "axes"], ["n0"]),
        node("Concat", ["n0", "rest"], ["shape"], axis=0),
        node("Reshape", ["p", "shape"], ["flat"], "flatten"),
        node("MatMul", ["flat", "m"], ["h"], "dense"),
        node("ReduceMax", ["h"], ["top"], keepdims=0),
        node("Greater", ["top", "limit"], ["flag"]),
        node("If", ["flag"], ["i"], "if", then_branch=branch[0], else_branch=branch[1]),
        node("Slice", ["i", "axes", "four", "one"], ["z"], "slice"),
        node("Softmax", ["z"], ["y"], "softmax", axis=-1),
        node("LSTM", ["q", "lw", "lr"], ["", "hidden"], "lstm", hidden_size=3),
    ]
    weights = [
        weight("w", 4, 1, 3, 3),
        weight("b", 4),
        weight("m", 16, 6),
        weight("lw", 1, 12, 2),
        weight("lr", 1, 12, 3),
        weight("zero", 0, dtype=np.int64),
        weight("axes", [0], dtype=np.int64),
        weight("rest", [16], dtype=np.int64),
        weight("limit", 1.0, dtype=np.float64),
        weight("four", [4], dtype=np.int64),
        weight("one", [1], dtype=np.int64),
    ]
    weights[8] = numpy_helper.from_array(np.float32(1.0), "limit")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "sample",
        [info("x", TensorProto.FLOAT, ["N", 1, 4, 4]), info("q", TensorProto.FLOAT, [5, 1, 2])],
        [info("y", TensorProto.FLOAT, None), info("hidden", TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


# -- bytes ---------------------------------------------------------------------------------


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut off, flipped bits, zeroed, removed or doubled ranges."""
    data = bytearray(data)
    start = rng.randrange(len(data))
    length = rng.randrange(1, 1 + min(64, len(data) - start))
    match rng.choice(["cut", "flip", "flip", "zero", "remove", "double"]):
        case "cut":
            del data[start:]
        case "flip":
            for _ in range(rng.randrange(1, 9)):
                data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case "zero":
            data[start : start + length] = bytes(length)
        case "remove":
            del data[start : start + length]
        case "double":
            data[start:start] = data[start : start + length]
    return bytes(data)


# -- ONNX ----------------------------------------------------------------------------------


def damage_model(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """One to three changes of the kind that a broken exporter makes."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for _ in range(rng.randrange(1, 4)):
        rng.choice(CHANGES)(changed.graph, changed, rng)
    return changed


def _node(graph, rng):
    return rng.choice(graph.node or [onnx.NodeProto()])


def drop_operand(graph, model, rng):
    node = _node(graph, rng)
    if node.input:
        del node.input[rng.randrange(len(node.input))]


def rename_operand(graph, model, rng):
    node = _node(graph, rng)
    if node.input:
        names = ["", "nowhere", *(o for n in graph.node for o in n.output)]
        node.input[rng.randrange(len(node.input))] = rng.choice(names)


def drop_node(graph, model, rng):
    if len(graph.node) > 1:
        del graph.node[rng.randrange(len(graph.node))]


def swap_nodes(graph, model, rng):
    i, j = rng.randrange(len(graph.node)), rng.randrange(len(graph.node))
    first = onnx.NodeProto()
    first.CopyFrom(graph.node[i])
    graph.node[i].CopyFrom(graph.node[j])
    graph.node[j].CopyFrom(first)


def other_operator(graph, model, rng):
    _node(graph, rng).op_type = rng.choice(
        [
            "Add",
            "Conv",
            "Reshape",
            "Gather",
            "Loop",
            "Scan",
            "Resize",
            "TopK",
            "Einsum",
            "Nothing",
            "GRU",
            "QLinearConv",
            "NonZero",
            "Pad",
            "Concat",
            "BatchNormalization",
            "",
        ]
    )


def damage_attribute(graph, model, rng):
    node = _node(graph, rng)
    if not node.attribute:
        return
    i = rng.randrange(len(node.attribute))
    a = node.attribute[i]
    match rng.choice(["drop", "retype", "value", "name"]):
        case "drop":
            del node.attribute[i]
        case "retype":
            a.type = rng.choice(list(onnx.AttributeProto.AttributeType.values()))
        case "value":
            values = [0, -1, 7, 1 << 40, -(1 << 62)]
            a.i = rng.choice(values)
            for k in range(len(a.ints)):
                a.ints[k] = rng.choice(values)
        case "name":
            a.name = rng.choice(["axis", "nothing", "pads", ""])


def damage_weight(graph, model, rng):
    """Of an initializer, or of a tensor that is an attribute."""
    attributes = [a.t for n in graph.node for a in n.attribute if a.HasField("t")]
    if not graph.initializer and not attributes:
        return
    tensor = rng.choice([*graph.initializer, *attributes])
    match rng.choice(["dims", "rank", "dtype", "data", "drop", "name"]):
        case "dims" if tensor.dims:
            k = rng.randrange(len(tensor.dims))
            tensor.dims[k] = rng.choice([0, 1, 5, -1, 1 << 45])
        case "rank":
            tensor.dims.append(rng.choice([1, 2]))
        case "dtype":
            tensor.data_type = rng.choice([0, 1, 2, 7, 8, 10, 11, 16, 99])
        case "data":
            tensor.raw_data = tensor.raw_data[: rng.randrange(1 + len(tensor.raw_data))]
        case "drop" if tensor in graph.initializer:
            graph.initializer.remove(tensor)
        case "name":
            tensor.name = rng.choice(["x", "w", "", "elsewhere"])


def weight_values(graph, model, rng):
    """Other numbers in place of shapes, indices, axes."""
    tensors = [t for t in graph.initializer if t.data_type == TensorProto.INT64]
    if not tensors:
        return
    tensor = rng.choice(tensors)
    array = numpy_helper.to_array(tensor)
    values = rng.choices([0, -1, 3, 1 << 20, -(1 << 40), (1 << 63) - 1], k=array.size)
    fresh = numpy_helper.from_array(np.array(values, np.int64).reshape(array.shape), tensor.name)
    tensor.CopyFrom(fresh)


def damage_input(graph, model, rng):
    infos = [*graph.input, *graph.output]
    if not infos:
        return
    info = rng.choice(infos)
    tensor = info.type.tensor_type
    match rng.choice(["dtype", "dim", "rank", "type", "name"]):
        case "dtype":
            tensor.elem_type = rng.choice([0, 2, 7, 8, 9, 10, 16, 99])
        case "dim" if tensor.shape.dim:
            rng.choice(tensor.shape.dim).dim_value = rng.choice([0, 1, 3, -2, 1 << 50])
        case "rank":
            tensor.shape.dim.add().dim_value = 2
        case "type":
            info.ClearField("type")
        case "name":
            info.name = rng.choice(["", "x", "nowhere"])


def damage_opset(graph, model, rng):
    if not model.opset_import:
        return
    match rng.choice(["none", "old", "new", "domain"]):
        case "none":
            del model.opset_import[:]
        case "old":
            model.opset_import[0].version = rng.choice([0, 1, 6, 11])
        case "new":
            model.opset_import[0].version = rng.choice([22, 99, -1])
        case "domain":
            model.opset_import[0].domain = "com.nobody"


def input_dims(graph, model, rng):
    """All inputs of another rank, or with dims that only fit by themselves."""
    for info in graph.input:
        dims = info.type.tensor_type.shape.dim
        match rng.choice(["fewer", "large", "open", "zero"]):
            case "fewer" if dims:
                del dims[0]
            case "large" if dims:
                dims[0].dim_value = rng.choice([1 << 16, 1 << 31, 1 << 40])
            case "open" if dims:
                rng.choice(dims).dim_param = rng.choice(["N", "", "N*M+", "2*N", "-3"])
            case "zero" if dims:
                dims[-1].dim_value = 0


def close_cycle(graph, model, rng):
    """A node reads what follows from it."""
    node = _node(graph, rng)
    if node.input and node.output:
        node.input[rng.randrange(len(node.input))] = node.output[-1]


def nest(graph, model, rng):
    """A node inside of branches inside of branches, deeper than messages may be or not."""
    node = _node(graph, rng)
    condition = helper.make_tensor("truth", TensorProto.BOOL, [], [True])
    for _ in range(rng.choice([1, 8, 20, 60])):
        infos = [helper.make_tensor_value_info(o, rng.choice([1, 7]), None) for o in node.output]
        branch = helper.make_graph([node], "branch", [], infos)
        node = helper.make_node("If", ["truth"], list(node.output))
        node.attribute.extend(
            helper.make_attribute(k, branch)
            for k in ("then_branch", "else_branch")[: rng.choice([1, 2, 2, 2])]
        )
        if node.ByteSize() > 1 << 20:  # two branches each time
            break
    graph.initializer.append(condition)
    graph.node.append(node)
    for i, name in enumerate(node.output):
        node.output[i] = f"{name}_nested"


def call_itself(graph, model, rng):
    """Functions of the model that call each other in a circle, or one that calls nothing."""
    node = _node(graph, rng)
    names = ["first", "second", "third"][: rng.randrange(1, 4)]
    for name, other in zip(names, names[1:] + names[: rng.randrange(2)]):
        body = [helper.make_node(other, ["x"], ["y"], domain="own")]
        opsets = [helper.make_opsetid("own", 1)]
        model.functions.append(helper.make_function("own", name, ["x"], ["y"], body, opsets))
    model.opset_import.append(helper.make_opsetid("own", 1))
    node.op_type, node.domain = "first", "own"


CHANGES = [
    drop_operand,
    rename_operand,
    drop_node,
    swap_nodes,
    other_operator,
    damage_attribute,
    damage_weight,
    weight_values,
    damage_input,
    damage_opset,
    input_dims,
    close_cycle,
    nest,
    call_itself,
]


def extreme(x, rng: random.Random):
    """Half of the elements replaced, in lists too: indices, sizes, numbers that nobody means."""
    if isinstance(x, list):
        return [extreme(item, rng) for item in x]
    if x.dtype.kind in "iu":
        info = np.iinfo(x.dtype)
        values = [0, -1, 5, 100, 1000, info.max, info.min, 1 << 31, 1 << 40, -(1 << 40)]
        values = [v for v in values if info.min <= v <= info.max]
    elif x.dtype.kind == "f":
        values = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e30, -1.5, 3e38]
    else:
        return x
    chosen = [v if rng.random() < 0.5 else rng.choice(values) for v in x.reshape(-1).tolist()]
    return np.array(chosen, dtype=object).astype(x.dtype).reshape(x.shape)


# -- packages ------------------------------------------------------------------------------


def damage_manifest(path: Path, target: Path, rng: random.Random) -> None:
    """A package whose manifest or graph was changed and whose hashes are right again."""
    package = container.Container(path)
    sections = {name: bytes(package.section(name)) for name in package.table}
    if rng.random() < 0.5:
        manifest = json.loads(sections["manifest"])
        _damage_json(manifest, rng)
        sections["manifest"] = json.dumps(manifest).encode()
    else:
        name = rng.choice(["manifest", "graph", "weights"])
        sections[name] = damage_bytes(sections[name], rng)
    with container.Writer(target) as out:
        for name, data in sections.items():
            out.add(name, [data])


def _damage_json(value, rng: random.Random) -> None:
    """Replace or remove something, at a random depth."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = rng.choice(keys)
        inner = value[key]
        if isinstance(inner, (dict, list)) and inner and rng.random() < 0.7:
            value = inner
            continue
        if rng.random() < 0.3:
            del value[key]
        else:
            value[key] = rng.choice([None, -1, 0, 3, 1 << 40, "x", "f32[2]", [], {}, True])
        return


def copy_damaged(path: Path, target: Path, rng: random.Random) -> None:
    """A copy with damaged bytes, hashes left alone."""
    shutil.copy(path, target)
    target.write_bytes(damage_bytes(path.read_bytes(), rng))


def seed(*parts) -> random.Random:
    """A generator that is the same for the same parts, on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return random.Random(int.from_bytes(digest[:8], "little"))
