"""Sizes and values as nobody planned them. All from a generator that a case's name seeds."""

import random
from collections.abc import Sequence

import numpy as np

PRIMES = (7, 13, 17, 31, 37, 67)
LARGE = (65, 129, 257, 1000)
OPEN_RUNS, FIXED_RUNS = 5, 3  # of one model; compiling it takes longer than a run
MOST = 1 << 15  # elements of an array
MOST_ONCE = 1 << 18  # elements of all arrays of a case

Shapes = list[tuple[int, ...] | None]


def size(n: int, rng: random.Random) -> int:
    """Another size in place of `n`: beside it, twice it, none, one, a prime, a large one."""
    kind = rng.choice(["less", "more", "more", "twice", "none", "one", "prime", "prime", "large"])
    return {
        "less": max(0, n - 1),
        "more": n + 1,
        "twice": 2 * n,
        "none": 0,
        "one": 1,
        "prime": rng.choice(PRIMES),
        "large": rng.choice(LARGE),
    }[kind]


def shapes(given: Shapes, rng: random.Random) -> Shapes:
    """One dim or several changed, of one operand or of all that have the size, or of nobody."""
    for _ in range(8):
        result = _CHANGES[rng.choice(list(_CHANGES))](given, rng)
        counts = [int(np.prod(s, dtype=float)) for s in result if s is not None]
        if max(counts, default=0) <= MOST and sum(counts) <= MOST_ONCE:
            return result
    return list(given)


def _one_dim(given: Shapes, rng: random.Random) -> Shapes:
    places = [(i, d) for i, s in enumerate(given) if s for d in range(len(s))]
    result = list(given)
    for i, d in rng.sample(places, min(len(places), rng.choice([1, 1, 1, 2]))):
        s = result[i]
        result[i] = (*s[:d], size(s[d], rng), *s[d + 1 :])
    return result


def _one_size(given: Shapes, rng: random.Random) -> Shapes:
    """Wherever a size occurs: operands fit each other as before."""
    sizes = sorted({n for s in given if s for n in s})
    if not sizes:
        return list(given)
    old = rng.choice(sizes)
    new = size(old, rng)
    return [None if s is None else tuple(new if n == old else n for n in s) for s in given]


def _every_size(given: Shapes, rng: random.Random) -> Shapes:
    sizes = sorted({n for s in given if s for n in s})
    new = {n: size(n, rng) for n in sizes}
    return [None if s is None else tuple(new[n] for n in s) for s in given]


def _one_axis(given: Shapes, rng: random.Random) -> Shapes:
    """The same axis of all operands, as of a batch."""
    rank = max((len(s) for s in given if s), default=0)
    if not rank:
        return list(given)
    axis = rng.randrange(rank)
    new = size(next(s[axis] for s in given if s and len(s) > axis), rng)
    return [(*s[:axis], new, *s[axis + 1 :]) if s and len(s) > axis else s for s in given]


_CHANGES = {
    "one dim": _one_dim,
    "one size": _one_size,
    "every size": _every_size,
    "one axis": _one_axis,
    "none": lambda given, rng: list(given),
}


def several(
    inputs: Sequence, is_dynamic: bool, rng: random.Random, still: float = 0.0
) -> tuple[list[Shapes], list]:
    """Shapes, and arrays of them with whether their floats are as planned, of each run of a model:
    where its sizes are open each has its own; where they are not, integers differ at least.
    `still`: the share of shapes that stay as they are."""
    given = [x.shape if isinstance(x, np.ndarray) else None for x in inputs]
    other = lambda: given if rng.random() < still else shapes(given, rng)
    if is_dynamic:
        wanted = [other() for _ in range(OPEN_RUNS)]
    else:
        whole = any(isinstance(x, np.ndarray) and x.dtype.kind in "iu" for x in inputs)
        wanted = [other()] * (FIXED_RUNS if whole else 1)
    feeds = []
    for each in wanted:
        arrays = [resized(x, s) if isinstance(x, np.ndarray) else x for x, s in zip(inputs, each)]
        arrays, strays = strayed(arrays, rng)
        feeds.append((arrays, not strays))
    return wanted, feeds


def resized(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """An array of another shape with the values of `x`, over and over."""
    if shape == x.shape:
        return x
    count = int(np.prod(shape, dtype=np.int64))
    if x.size == 0:
        return np.zeros(shape, x.dtype)
    flat = np.ascontiguousarray(x).reshape(-1)
    return flat[np.arange(count) % flat.size].reshape(shape)


def stray(x: np.ndarray, near: Sequence[int], rng: random.Random) -> np.ndarray:
    """Some elements of an array of integers replaced: beside sizes that occur (`near`), negative,
    huge. Or of floats: places and scales can be those."""
    if x.size == 0 or x.dtype.kind not in "iuf":
        return x
    if x.dtype.kind == "f":
        values = [0.0, -0.0, np.nan, np.inf, -np.inf, 1e30, -1e30, -1.5, 3e9, 0.999999]
        chosen = np.array(rng.choices(values, k=x.size))
    else:
        info = np.iinfo(x.dtype)
        edges = [v for n in near for v in (n - 1, n, n + 1, -n, -n - 1)]
        values = [0, -1, 100, info.max, info.min, 1 << 31, 1 << 40, -(1 << 40), *edges, *edges]
        values = [v for v in values if info.min <= v <= info.max]
        chosen = np.array(rng.choices(values, k=x.size), object)
    share = rng.choice([0.1, 0.5, 1.0])
    keep = np.array([rng.random() >= share for _ in range(x.size)])
    flat = x.reshape(-1)
    with np.errstate(all="ignore"):
        return np.where(keep, flat, chosen.astype(x.dtype)).astype(x.dtype).reshape(x.shape)


def strayed(arrays: list, rng: random.Random) -> tuple[list, bool]:
    """Arrays of which those of integers, or seldom of floats, hold stray values; whether floats
    do."""
    near = sorted({n for x in arrays if isinstance(x, np.ndarray) for n in x.shape}) or [1]
    draw = rng.random()
    if draw < 0.6:
        return arrays, False
    kinds = "iu" if draw < 0.92 else "iuf"
    result = [
        stray(x, near, rng) if isinstance(x, np.ndarray) and x.dtype.kind in kinds else x
        for x in arrays
    ]
    return result, kinds == "iuf"
