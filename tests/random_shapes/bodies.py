"""Branches, loops and sequences."""

from onnx import TensorProto, helper

from .draw import Drawing, Value
from .sizes import must, one_size


def condition(d: Drawing) -> Value:
    v = one_size(d, 0)
    test = d.rng.choice(["Less", "Greater", "Equal"])
    return must(d.node(test, [v, d.constant(d.rng.choice([0, 1, 2]))]))


def if_(d: Drawing):
    """Two branches, each a node that reads a value from outside."""
    c, x = condition(d), d.pick("f", range(1, 4))
    graphs, captured = [], [x]
    for name in ("then", "else"):
        out = d.name("b")
        kind = d.rng.choice(["Relu", "Neg", "Slice", "Slice", "Concat", "Identity"])
        operands, attrs = [x], {}
        if kind == "Slice":
            begin, end = d.rng.choice([0, 1]), d.rng.choice([1, 2, 99])
            operands += [d.constant([begin]), d.constant([end]), d.constant([0])]
        elif kind == "Concat":
            operands, attrs = [x, x], {"axis": 0}
        captured += operands
        node = helper.make_node(kind, [v.name for v in operands], [out], **attrs)
        info = helper.make_tensor_value_info(out, TensorProto.FLOAT, [None] * x.rank)
        graphs.append(helper.make_graph([node], name, [], [info]))
    out = d.name()
    node = helper.make_node("If", [c.name], [out], then_branch=graphs[0], else_branch=graphs[1])
    d.append([node], [c, *captured], [out])


def loop(d: Drawing):
    """A state that is added to, grows or shrinks; rows of what it was."""
    m, x = one_size(d, 0), d.pick("f", range(1, 3))
    kind = d.rng.choice(["add", "grow", "shrink", "range"])
    i, going, state, out, again, row = (d.name(n) for n in ("i", "g", "s", "o", "a", "r"))
    f, captured = TensorProto.FLOAT, []
    nodes = [helper.make_node("Identity", [going], [again])]
    if kind == "add":
        nodes.append(helper.make_node("Add", [state, state], [out]))
    elif kind == "grow":
        captured = [x]
        nodes.append(helper.make_node("Concat", [state, x.name], [out], axis=0))
    elif kind == "shrink":
        captured = [d.constant([1]), d.constant([99]), d.constant([0])]
        nodes.append(helper.make_node("Slice", [state, *(v.name for v in captured)], [out]))
    else:
        t = d.name("t")
        nodes += [
            helper.make_node("Cast", [i], [t], to=f),
            helper.make_node("Add", [state, t], [out]),
        ]
    rows = d.rng.random() < 0.5 and kind in ("add", "range")
    results = [
        helper.make_tensor_value_info(again, TensorProto.BOOL, []),
        helper.make_tensor_value_info(out, f, [None] * x.rank),
    ]
    if rows:
        nodes.append(helper.make_node("ReduceSum", [out], [row], keepdims=0))
        results.append(helper.make_tensor_value_info(row, f, []))
    inputs = [
        helper.make_tensor_value_info(i, TensorProto.INT64, []),
        helper.make_tensor_value_info(going, TensorProto.BOOL, []),
        helper.make_tensor_value_info(state, f, [None] * x.rank),
    ]
    m = must(d.node("Min", [m, d.constant(3)]))
    names = [d.name() for _ in range(1 + rows)]
    body = helper.make_graph(nodes, "body", inputs, results)
    node = helper.make_node("Loop", [m.name, "", x.name], names, body=body)
    d.append([node], [m, x, *captured], names)


def scan(d: Drawing):
    """The running sum of rows."""
    x = d.pick("f", [2])
    state, row, out, again = (d.name(n) for n in ("s", "w", "o", "a"))
    f = TensorProto.FLOAT
    nodes = [helper.make_node("Add", [state, row], [out]), helper.make_node("Neg", [out], [again])]
    start = must(d.node("ReduceMax", [x, d.constant([0])], keepdims=0))
    infos = [helper.make_tensor_value_info(n, f, [None]) for n in (state, row, out, again)]
    body = helper.make_graph(nodes, "body", infos[:2], infos[2:])
    names = [d.name(), d.name()]
    node = helper.make_node("Scan", [start.name, x.name], names, body=body, num_scan_inputs=1)
    d.append([node], [start, x], names)


def sequence(d: Drawing):
    """Pieces of a value, joined again; how many there are."""
    x = d.pick("f", range(1, 4))
    axis, pieces, out = d.rng.randrange(x.rank), d.name("q"), d.name()
    split = one_size(d, d.rng.randrange(2)) if d.rng.random() < 0.5 else d.constant(1)
    nodes = [helper.make_node("SplitToSequence", [x.name, split.name], [pieces], axis=axis)]
    if d.rng.random() < 0.7:
        nodes.append(helper.make_node("ConcatFromSequence", [pieces], [out], axis=axis))
    else:
        nodes.append(helper.make_node("SequenceLength", [pieces], [out]))
    d.append(nodes, [x, split], [out])
