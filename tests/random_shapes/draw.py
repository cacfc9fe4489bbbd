"""Draw a model of a seed: node after node, each tried by ONNX Runtime at all sizes.

drawn = draw(17)            # drawn.model, drawn.feeds: one dict of arrays for each combination
"""

import random
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper

OPSET = 21
IR_VERSION = 10
NAMES = ("N", "M", "K")
COMBINATIONS = 6
LARGEST = 1e6  # of values; sums of larger ones differ by their order
MOST = 4096  # elements of a value
TYPES = {"f": TensorProto.FLOAT, "i": TensorProto.INT64, "b": TensorProto.BOOL}
DTYPES = {"f": np.float32, "i": np.int64, "b": np.bool_}


@dataclass(eq=False)
class Value:
    """A value of the model: what it is in each combination, None where nothing came of it."""

    name: str
    arrays: list
    constant: bool = False

    @property
    def one(self) -> np.ndarray:
        """It in the first combination that has it."""
        return next(a for a in self.arrays if a is not None)

    @property
    def rank(self) -> int:
        return self.one.ndim

    @property
    def kind(self) -> str:
        return next(k for k, d in DTYPES.items() if self.one.dtype == d)


@dataclass
class Drawn:
    """A model, and what it is run with."""

    seed: int
    model: onnx.ModelProto
    feeds: list[dict]


@dataclass
class Drawing:
    """A model that is being drawn."""

    seed: int
    rng: random.Random
    sizes: list[dict]
    values: list[Value] = field(default_factory=list)
    nodes: list = field(default_factory=list)
    weights: list = field(default_factory=list)
    inputs: list = field(default_factory=list)
    feeds: list[dict] = field(default_factory=list)
    count: int = 0

    # -- what templates use -----------------------------------------------------------------

    def name(self, hint: str = "v") -> str:
        self.count += 1
        return f"{hint}{self.count}"

    def pick(self, kinds: str = "fib", ranks=range(9), fits=lambda v: True) -> Value:
        """One of the values, the latest more likely. Raises LookupError where there is none."""
        found = [v for v in self.values if v.kind in kinds and v.rank in ranks and fits(v)]
        if not found:
            raise LookupError
        weights = [1 + i for i in range(len(found))]
        return self.rng.choices(found, weights)[0]

    def constant(self, array, dtype=np.int64) -> Value:
        array = np.asarray(array, dtype)
        name = self.name("c")
        self.weights.append(onnx.numpy_helper.from_array(array, name))
        return Value(name, [array] * len(self.sizes), constant=True)

    def node(self, op: str, operands: list, outputs: int = 1, **attrs) -> list[Value] | None:
        """Append a node, if ONNX Runtime takes it; its results are values from now on."""
        names = [self.name() for _ in range(outputs)]
        node = helper.make_node(op, ["" if v is None else v.name for v in operands], names, **attrs)
        return self.append([node], [v for v in operands if v is not None], names)

    def append(self, nodes: list, operands: list[Value], names: list[str]) -> list[Value] | None:
        """Append nodes that read `operands`, also in their graphs; `names` are the results."""
        operands = list({v.name: v for v in operands}.values())
        results = self._tried(nodes, operands, names)
        if results is None:
            return None
        self.nodes += nodes
        made = [Value(n, list(column)) for n, column in zip(names, zip(*results))]
        self.values += made
        return made

    def _tried(self, nodes: list, operands: list[Value], names: list[str]) -> list | None:
        """The results in each combination; None where too few have any."""
        fed = [v for v in operands if not v.constant]
        weights = [onnx.numpy_helper.from_array(v.one, v.name) for v in operands if v.constant]
        inputs = [helper.make_tensor_value_info(v.name, TYPES[v.kind], None) for v in fed]
        session = open_session(
            _model(nodes, inputs, [onnx.ValueInfoProto(name=n) for n in names], weights)
        )
        if session is None:
            return None
        results: list = [None] * len(self.sizes)
        for i in range(len(self.sizes)):
            arrays = {v.name: v.arrays[i] for v in fed}
            if all(a is not None for a in arrays.values()):
                found = run_session(session, arrays)
                results[i] = found if found is not None and all(map(_is_small, found)) else None
        given = [r for r in results if r is not None]
        needed = len(results) if self.rng.random() < 0.8 else len(results) // 2
        if len(given) < needed:
            return None
        for column in zip(*given):
            kinds, ranks = {a.dtype for a in column}, {a.ndim for a in column}
            if len(kinds) > 1 or len(ranks) > 1 or not kinds <= set(map(np.dtype, DTYPES.values())):
                return None
        return [r if r is not None else [None] * len(names) for r in results]


def open_session(model: onnx.ModelProto):
    """ONNX Runtime's session of a model; None where it refuses it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return ort.InferenceSession(model.SerializeToString(), options)
    except Exception:  # its errors have no common kind
        return None


def run_session(session, arrays: dict) -> list | None:
    """What ONNX Runtime gives; None where it refuses."""
    try:
        return session.run(None, arrays)
    except Exception:
        return None


def _is_small(array) -> bool:
    if not isinstance(array, np.ndarray) or array.size > MOST:
        return False
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return not finite.size or array.dtype == bool or np.abs(finite).max() <= LARGEST


def _model(nodes, inputs, outputs, weights) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
    )


# -- inputs ---------------------------------------------------------------------------------


def _sizes(rng: random.Random) -> list[dict]:
    """Combinations of sizes; each kind of them occurs."""
    primes = [2, 3, 5, 7, 11]
    kinds = [
        dict(zip(NAMES, rng.sample(primes, len(NAMES)))),
        dict.fromkeys(NAMES, rng.choice([2, 3, 4])),
        dict.fromkeys(NAMES, 1),
        {n: rng.choice([0, 1, 2, 3]) for n in NAMES},
        {**{n: rng.choice([1, 2, 4, 5]) for n in NAMES}, rng.choice(NAMES): 0},
        {n: rng.choice([1, 2, 3, 4, 6, 8]) for n in NAMES},
    ]
    return kinds


def _inputs(drawing: Drawing) -> None:
    rng = drawing.rng
    drawing.feeds = [{} for _ in drawing.sizes]
    for i in range(rng.choice([1, 2, 2, 3])):
        rank = rng.choice([1, 2, 2, 3, 3])
        shape = [rng.choice([*NAMES, *NAMES, 1, 2, 3]) for _ in range(rank)]
        kind = rng.choice("fffi")
        name = "xyz"[i]
        numbers = np.random.default_rng(rng.randrange(1 << 30))
        arrays = []
        for sizes, feeds in zip(drawing.sizes, drawing.feeds):
            own = [sizes.get(d, d) for d in shape]
            array = numbers.integers(-2, 4, own) * (rng.random() < 0.85)
            if kind == "f" and rng.random() < 0.5:
                array = array / 2
            feeds[name] = array.astype(DTYPES[kind])
            arrays.append(feeds[name])
        drawing.inputs.append(helper.make_tensor_value_info(name, TYPES[kind], shape))
        drawing.values.append(Value(name, arrays))


def draw(seed: int) -> Drawn:
    """The model of a seed."""
    from .nodes import TEMPLATES

    rng = random.Random(seed)
    drawing = Drawing(seed, rng, _sizes(rng))
    _inputs(drawing)
    wanted, tries = rng.randint(4, 14), 0
    names, weights = list(TEMPLATES), [w for w, _ in TEMPLATES.values()]
    while len(drawing.nodes) < wanted and tries < 200:
        tries += 1
        try:
            TEMPLATES[rng.choices(names, weights)[0]][1](drawing)
        except LookupError:
            continue
    return Drawn(seed, whole(drawing), drawing.feeds)


def whole(drawing: Drawing) -> onnx.ModelProto:
    """The model; what no node reads is an output."""
    read = {n for node in drawing.nodes for n in node.input}
    made = {n for node in drawing.nodes for n in node.output}
    outputs = [
        helper.make_tensor_value_info(v.name, TYPES[v.kind], [None] * v.rank)
        for v in drawing.values
        if v.name in made and v.name not in read
    ]
    used = [w for w in drawing.weights if w.name in read or _in_bodies(drawing.nodes, w.name)]
    return _model(drawing.nodes, drawing.inputs, outputs, used)


def _in_bodies(nodes, name: str) -> bool:
    return any(
        name in n.input or _in_bodies([n], name)
        for node in nodes
        for a in node.attribute
        if a.HasField("g")
        for n in a.g.node
    )
