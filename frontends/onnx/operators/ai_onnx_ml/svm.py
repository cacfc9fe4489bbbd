"""Support vector machines of ai.onnx.ml.

    k[n, s] = kernel(x[n], vector s)          one matrix product, or one sum of squares
    score   = k @ coefficients + rho          per target, or per pair of classes

A pair's vote goes to its first class where the score is positive. With prob_a and prob_b, pairs'
scores become probabilities of pairs, and those become probabilities of classes by the second
method of Wu, Lin and Weng, "Probability estimates for multi-class classification by pairwise
coupling" (JMLR 5, 2004), as libsvm has it.
"""

import numpy as np

from .....compiler.errors import ModelError
from .....compiler.ir.builder import Builder, Tensor
from .....compiler.ir.types import F32, TensorType
from .....compiler.ops.contraction.scores import transform
from ...read.call import Call
from .common import class_labels, columns, labelled, rows

TURNS = 100  # of the iteration that joins pairs' probabilities
LEAST = 1e-7  # probability of a pair


def _array(c: Call, name: str) -> np.ndarray:
    return np.asarray(c.attr(name, ()), np.float32)


def _kernel(c: Call, x: Tensor, vectors: np.ndarray, kind: str) -> Tensor:
    """[N, vectors]; x: [N, F], vectors: [vectors, F]."""
    b = c.b
    gamma, coef0, degree = [*c.attr("kernel_params", ()), 0.0, 0.0, 0.0][:3]
    if kind == "RBF":  # the squares of differences: x² - 2xv + v² would lose digits
        n, (m, f) = x.shape[0], vectors.shape
        d = x.reshape(n, 1, f) - b.constant(vectors.reshape(1, m, f))
        return b.exp((d * d).sum(2) * -gamma)
    dot = x @ b.constant(np.ascontiguousarray(vectors.T))
    match kind:
        case "LINEAR":
            return dot
        case "POLY":
            return (dot * gamma + coef0) ** degree
        case "SIGMOID":
            return b.emit("tanh", dot * gamma + coef0)
    raise c.unsupported(
        "unknown kernel_type", expected="LINEAR, POLY, RBF or SIGMOID", received=kind
    )


def _vectors(c: Call, count: int, x: Tensor) -> np.ndarray:
    vectors = _array(c, "support_vectors")
    if x.rank != 2 or len(vectors) != count * x.shape[1]:
        raise ModelError(
            "support_vectors must be rows as long as x's",
            where=c.where,
            expected=f"{count} rows, x of [N, {len(vectors) // max(count, 1)}]",
            received=f"{len(vectors)} numbers, x of {x.type}",
        )
    return vectors.reshape(count, -1)


def _need(c: Call, name: str, array: np.ndarray, count: int) -> np.ndarray:
    if len(array) < count:
        raise ModelError(
            f"attribute {name} is too short", where=c.where, expected=count, received=len(array)
        )
    return array[:count]


def regressor(c: Call):
    coefficients, rho = _array(c, "coefficients"), _need(c, "rho", _array(c, "rho"), 1)
    count = c.attr("n_supports", 0)
    width = len(_array(c, "support_vectors")) // count if count > 0 else len(coefficients)
    x = columns(rows(c.x(0).cast(F32)), width)
    kind = c.attr("kernel_type", "LINEAR")
    if count > 0:
        k = _kernel(c, x, _vectors(c, count, x), kind)
        weights = _need(c, "coefficients", coefficients, count)
    else:
        c.ignore("support_vectors", "kernel_params")
        k, weights = x, _need(c, "coefficients", coefficients, x.shape[1])
    y = k @ c.b.constant(weights.reshape(-1, 1)) + rho
    if c.attr("one_class", 0):
        inside = y > c.b.scalar(0, F32)
        y = c.b.where(inside, c.b.scalar(1, F32), c.b.scalar(-1, F32))
    return transform(c.b, y, c.attr("post_transform", "NONE"))


def classifier(c: Call):
    labels = class_labels(c, "classlabels_ints")
    n, post = len(labels), c.attr("post_transform", "NONE")
    counts = c.attr("vectors_per_class", ())
    given = _array(c, "support_vectors" if sum(counts) else "coefficients")
    x = columns(rows(c.x(0).cast(F32)), len(given) // (sum(counts) or n))
    kind = c.attr("kernel_type", "LINEAR")
    a, b = _array(c, "prob_a"), _array(c, "prob_b")
    if sum(counts) == 0:
        scores = _linear(c, x, n)
        chosen = c.b.arg_max(scores, axis=1, keepdims=False)
        return labelled(c.b, chosen, labels), transform(c.b, scores, post)
    if len(counts) != n:
        raise ModelError(
            "vectors_per_class needs a number per class",
            where=c.where,
            expected=n,
            received=len(counts),
        )
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    k = _kernel(c, x, _vectors(c, sum(counts), x), kind)
    scores = _pairs(c, k, counts, pairs)
    chosen = c.b.arg_max(_ballot(c, scores, n, pairs), axis=1, keepdims=False)
    if len(a):
        a, b = _need(c, "prob_a", a, len(pairs)), _need(c, "prob_b", b, len(pairs))
        scores = transform(c.b, _coupled(c, _limited(c, scores, a, b), n, pairs), post)
    elif n == 2:
        scores = c.b.concat(-scores if post == "NONE" else 1 - scores, scores, axis=1)
    else:
        scores = transform(c.b, scores, post)
    return labelled(c.b, chosen, labels), scores


def _linear(c: Call, x: Tensor, n: int) -> Tensor:
    """A row of coefficients per class, no support vectors."""
    c.ignore("support_vectors", "kernel_params")
    weights = _need(c, "coefficients", _array(c, "coefficients"), n * x.shape[1])
    rho = _need(c, "rho", _array(c, "rho"), 1)
    return x @ c.b.constant(np.ascontiguousarray(weights.reshape(n, -1).T)) + rho


def _pairs(c: Call, k: Tensor, counts, pairs) -> Tensor:
    """[N, pairs]. Row r of a class's coefficients is for the r-th of the other classes."""
    total, n = sum(counts), len(counts)
    given = _need(c, "coefficients", _array(c, "coefficients"), (n - 1) * total)
    given = given.reshape(n - 1, total)
    ends = np.cumsum(counts)
    of = [slice(e - count, e) for e, count in zip(ends, counts)]
    weights = np.zeros((total, len(pairs)), np.float32)
    for p, (i, j) in enumerate(pairs):
        weights[of[i], p] = given[j - 1, of[i]]
        weights[of[j], p] = given[i, of[j]]
    return k @ c.b.constant(weights) + _need(c, "rho", _array(c, "rho"), len(pairs))


def _ballot(c: Call, scores: Tensor, n: int, pairs) -> Tensor:
    """Votes per class: pairs @ (first - second) + what the seconds get if nobody else does."""
    first, second = np.zeros((2, len(pairs), n), np.float32)
    for p, (i, j) in enumerate(pairs):
        first[p, i] = second[p, j] = 1
    won = (scores > c.b.scalar(0, F32)).cast(F32)
    return won @ c.b.constant(first - second) + second.sum(0)


def _limited(c: Call, scores: Tensor, a: np.ndarray, b: np.ndarray) -> Tensor:
    """The probability of a pair's first class, by Platt's sigmoid."""
    p = c.b.sigmoid(-(scores * a + b))
    return c.b.clip(p, c.scalar(LEAST, F32), c.scalar(1 - LEAST, F32))


def _coupled(c: Call, p: Tensor, n: int, pairs) -> Tensor:
    """[N, classes] from [N, pairs]: minimise the sum over i, j of (r[j,i] p[i] - r[i,j] p[j])²."""
    r = {}
    for k, (i, j) in enumerate(pairs):
        r[i, j] = p[:, k : k + 1]
        r[j, i] = 1 - r[i, j]
    q = [[_entry(r, t, j, n) for j in range(n)] for t in range(n)]
    matrix = c.b.concat(*[c.b.concat(*row, axis=1) for row in q], axis=1)
    start = c.scalar(1 / n, F32).expand((p.shape[0], n))
    done = c.scalar(0.0, F32).expand((p.shape[0], 1))
    turns = c.b.emit("iota", shape=(TURNS,), axis=0, dtype=F32)
    body = _turn(p.shape[0], n)
    result = c.b.emit(
        "scan", c.b.value(start), c.b.value(done), turns, matrix, body=body, states=2, scans=1
    )
    return result[0]


def _entry(r: dict, t: int, j: int, n: int) -> Tensor:
    """Element [t, j] of Q, [N, 1]."""
    if t != j:
        return -(r[j, t] * r[t, j])
    total = None
    for k in range(n):
        if k != t:
            square = r[k, t] * r[k, t]
            total = square if total is None else total + square
    return total


def _turn(size, n: int):
    """One turn over all classes; rows whose error is small enough stay as they are."""
    b = Builder(name="turn")
    old, was_done = b.input("p", _row(size, n)), b.input("done", _row(size, 1))
    b.input("turn", TensorType(F32, ()))
    q = b.input("q", _row(size, n * n)).reshape(size, n, n)
    qp = (q * old.reshape(size, 1, n)).sum(2)
    pqp = (old * qp).sum(1, keepdims=True)
    error = b.emit("abs", qp - pqp).max(1, keepdims=True)
    done = b.maximum(was_done, (error < 0.005 / n).cast(F32))
    by_class, marks = q.transpose(1, 0, 2), b.constant(np.eye(n, dtype=np.float32))
    p, *_ = b.emit("scan", old, qp, pqp, by_class, marks, body=_step(size, n), states=3, scans=2)
    b.output("p", b.where(done > 0.5, old, p))
    b.output("done", done)
    return b.graph


def _step(size, n: int):
    """One class: p[t] moves to where its equation holds, given the others, and p is scaled to sum
    to 1; Qp and pQp follow without a new product. `mark` is 1 at t."""
    b = Builder(name="step")
    p, qp = b.input("p", _row(size, n)), b.input("qp", _row(size, n))
    pqp = b.input("pqp", _row(size, 1))
    q, mark = b.input("q", _row(size, n)), b.input("mark", TensorType(F32, (n,)))
    own, qp_t = (q * mark).sum(1, keepdims=True), (qp * mark).sum(1, keepdims=True)
    d = (pqp - qp_t) / own
    b.output("p", (p + d * mark) / (1 + d))
    b.output("qp", (qp + d * q) / (1 + d))
    b.output("pqp", (pqp + d * (d * own + 2 * qp_t)) / ((1 + d) * (1 + d)))
    return b.graph


def _row(size, width: int) -> TensorType:
    return TensorType(F32, (size, width))


TABLE = {"SVMClassifier": classifier, "SVMRegressor": regressor}
