"""NonMaxSuppression of many boxes: what is picked, in which order, and with how much work."""

from itertools import pairwise

import numpy as np
import onnx.parser
import pytest
import tessel
from tessel.compiler.backends.llvm.base.target import NAMED
from tessel.compiler.ir.builder import Builder
from tessel.compiler.ir.dim_parse import parse_dim
from tessel.compiler.ir.graph import Graph
from tessel.compiler.ir.interpret import interpret
from tessel.compiler.kernels.bind import bind
from tessel.compiler.kernels.bounds import verify_bounds
from tessel.compiler.lowering.lower import lower
from tessel.compiler.passes.base import run_pipeline
from tessel.compiler.pipelines import cpu_pipeline

from ...support.growth import executed
from ...support.kernels import native

TARGET = NAMED["x86-64-v3"]
SIZES = (1 << 13, 1 << 14, 1 << 15, 1 << 16)
MANY = 1500  # boxes: more than the leaves below one top
RANDOM = np.random.default_rng(0)


def boxes(n: int, size: float, groups: int = 1) -> np.ndarray:
    """Corners in any order."""
    at = RANDOM.uniform(0, 1, (groups, n, 2))
    to = at + RANDOM.uniform(-size, size, (groups, n, 2))
    return np.concatenate([at, to], 2).astype(np.float32)


def scores(n: int, groups: int = 1, classes: int = 1) -> np.ndarray:
    return RANDOM.uniform(0, 1, (groups, classes, n)).astype(np.float32)


def _ordered(x: np.ndarray) -> np.ndarray:
    return np.sort(x)[..., ::-1].copy()


def _with(x: np.ndarray, **places) -> np.ndarray:
    for value, at in places.items():
        x.reshape(-1)[at] = {"inf": np.inf, "none": -np.inf, "nan": np.nan, "zero": -0.0}[value]
    return x


SQUARES = np.stack([np.arange(MANY), np.zeros(MANY), np.arange(MANY) + 1, np.ones(MANY)], 1)
SQUARES = SQUARES[None].astype(np.float32)  # side by side
HALVES = SQUARES * np.float32([0.5, 1, 0.5, 1]) + np.float32([0, 0, 0.5, 0])  # half over the next

# name -> boxes, scores, overlap
SETS = {
    "few overlap": (boxes(MANY, 0.05), scores(MANY), 0.5),
    "many overlap": (boxes(MANY, 0.7), scores(MANY), 0.3),
    "all are one box": (boxes(1, 0.5).repeat(MANY, 1), scores(MANY), 0.5),
    "none overlap": (SQUARES, scores(MANY), 0.0),
    "each overlaps its neighbours": (HALVES, scores(MANY), 0.3),
    "as much as allowed": (HALVES, scores(MANY), float(np.float32(1) / np.float32(3))),
    "no area": (boxes(MANY, 0.0), scores(MANY), 0.0),
    "the best first": (boxes(MANY, 0.3), _ordered(scores(MANY)), 0.4),
    "the best last": (boxes(MANY, 0.3), _ordered(scores(MANY))[..., ::-1].copy(), 0.4),
    "all scores are equal": (boxes(MANY, 0.3), np.full((1, 1, MANY), 0.5, np.float32), 0.4),
    "few different scores": (boxes(MANY, 0.3), np.round(scores(MANY), 1), 0.4),
    "negative scores": (boxes(MANY, 0.3), scores(MANY) - 2, 0.4),
    "zeros of both signs": (boxes(MANY, 0.3), _with(scores(MANY) * 0, zero=slice(0, None, 2)), 0.4),
    "infinite scores": (
        boxes(MANY, 0.3),
        _with(scores(MANY), inf=[3, 700], none=slice(50, 1400)),
        0.4,
    ),
    "no candidates": (boxes(MANY, 0.3), _with(scores(MANY), none=slice(None)), 0.4),
    "NaN": (boxes(MANY, 0.3), _with(scores(MANY), nan=[900, 20, 21], inf=[5]), 0.4),
    "groups and classes": (boxes(MANY, 0.4, 2), scores(MANY, 2, 3), 0.4),
    "wide": (boxes(MANY, 0.3).astype(np.float64), scores(MANY).astype(np.float64), 0.4),
    "one box": (boxes(1, 0.3), scores(1), 0.5),
}


def suppression(shapes, dtype: str, steps, name="suppress_lazily") -> Graph:
    b = Builder()
    operands = [b.input(x, f"{dtype}[{','.join(map(str, s))}]") for x, s in zip("bso", shapes)]
    b.output("picked", b.emit(name, *operands, steps=steps))
    return b.graph


@pytest.mark.sweep(14, suite=14)
@pytest.mark.parametrize("steps", [7, 200])
@pytest.mark.parametrize("name", SETS)
def test_what_is_picked(name, steps):
    *arrays, overlap = SETS[name]
    arrays.append(np.array(overlap, arrays[0].dtype))
    dtype = {4: "f32", 8: "f64"}[arrays[0].itemsize]
    shapes = [x.shape for x in arrays]
    (expected,) = interpret(suppression(shapes, dtype, steps, "suppress"), arrays)
    program = lower(suppression(shapes, dtype, steps))
    verify_bounds(program)
    (received,) = native(program)(arrays, 1)
    np.testing.assert_array_equal(received, expected)


def parsed(body: str, inputs: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 18]> g ({inputs}) => (int64[K,3] y) {{ {body} }}'
    )


MODEL = "y = NonMaxSuppression{}(b, s, most, overlap, score)"
LIMITS = {"most": np.array([40]), "overlap": np.float32([0.4]), "score": np.float32([0.3])}


@pytest.fixture(scope="module")
def of_any_size():
    """One executable for all sizes, and the same in ONNX Runtime."""
    proto = parsed(
        MODEL.format(""),
        "float[B,N,4] b, float[B,C,N] s, int64[1] most, float[1] overlap, float[1] score",
    )
    return tessel.compile(proto), session(proto)


def session(proto):
    ort = pytest.importorskip("onnxruntime")
    return ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", [n for n in SETS if n not in ("NaN", "wide")])
def test_onnx_runtime_picks_the_same(name, of_any_size):
    b, s, overlap = SETS[name]
    feeds = {"b": b, "s": s} | LIMITS | {"overlap": np.float32([overlap])}
    exe, other = of_any_size
    np.testing.assert_array_equal(exe.run(feeds)["y"], other.run(None, feeds)[0])


@pytest.mark.parametrize("most", [0, -3, 1, MANY - 1, MANY + 1, 1 << 40])
@pytest.mark.parametrize("score", [-1.0, 0.9, 2.0])
def test_limits_of_the_run(most, score, of_any_size):
    exe, other = of_any_size
    b, s, _ = SETS["groups and classes"]
    feeds = {"b": b, "s": s} | LIMITS | {"most": np.array([most]), "score": np.float32([score])}
    np.testing.assert_array_equal(exe.run(feeds)["y"], other.run(None, feeds)[0])


def test_boxes_by_their_middle():
    proto = parsed(
        "most = Constant<value_ints=[30]>() overlap = Constant<value_floats=[0.3]>()"
        "score = Constant<value_floats=[0.5]>()" + MODEL.format("<center_point_box=1>"),
        f"float[1,{MANY},4] b, float[1,4,{MANY}] s",
    )
    feeds = {"b": np.abs(boxes(MANY, 0.3)), "s": scores(MANY, 1, 4)}
    found = tessel.compile(proto, verify_bounds=True).run(feeds)["y"]
    np.testing.assert_array_equal(found, session(proto).run(None, feeds)[0])
    assert len(found) > 4


# -- work ----------------------------------------------------------------------------------------


def counted(graphs) -> list[int]:
    return [executed(p, TARGET) for p in graphs]


def growth(counts: list[int]) -> float:
    return max(b / a for a, b in pairwise(counts))


def test_the_work_grows_with_the_boxes():
    """At most, whatever overlaps: also if each box is a candidate that another one covers."""
    shapes = [((1, n, 4), (1, 3, n), ()) for n in SIZES]
    assert growth(counted(lower(suppression(x, "f32", 50)) for x in shapes)) < 2.3
    open_ = lower(suppression(((1, "N", 4), (1, 3, "N"), ()), "f32", 50), dynamic_shapes=True)
    assert growth(counted(bind(open_, {"N": n}) for n in SIZES)) < 2.3


def test_the_work_grows_with_the_boxes_to_pick():
    programs = [lower(suppression(((1, 500, 4), (1, 1, 500), ()), "f32", n)) for n in SIZES]
    assert growth(counted(programs)) < 2.1


@pytest.mark.parametrize(("n", "lazily"), [(100, False), (127, False), (128, True), ("N", True)])
def test_where_candidates_are_looked_at_one_by_one(n, lazily):
    steps = parse_dim("N") if n == "N" else 10
    graph = suppression(((1, n, 4), (1, 1, n), ()), "f32", steps, "suppress")
    names = [node.op.name for node in run_pipeline(graph, cpu_pipeline()).nodes]
    assert ("suppress_lazily" in names) == lazily
