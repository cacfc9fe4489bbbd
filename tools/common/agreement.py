"""Are two engines' outputs the same, up to rounding? Values of every kind that ONNX knows."""

import numpy as np

# How far outputs may be from the reference's, as a share of the largest magnitude in the output.
# Everything else (integers, strings, booleans) must be equal.
TOLERANCE = {"float16": 5e-3, "bfloat16": 2e-2, "float32": 1e-3, "float64": 1e-3}


def disagreement(right: list, given: list, tolerance: float | None) -> tuple[float, str | None]:
    """The largest error, as a share of its output's magnitude, and what is wrong, if anything is.

    Outputs are compared by position: engines differ in how they name them.
    """
    if len(right) != len(given):
        return np.inf, f"{len(given)} values, expected {len(right)}"
    worst, reason = 0.0, None
    for index, (a, b) in enumerate(zip(right, given)):
        error, wrong = _difference(a, b, tolerance)
        worst = max(worst, error)
        if wrong is not None and reason is None:
            reason = f"value {index}: {wrong}"
    return worst, reason


def _difference(a: object, b: object, tolerance: float | None) -> tuple[float, str | None]:
    if isinstance(a, dict) and isinstance(b, dict):
        if list(a) != list(b):
            return np.inf, f"keys {list(b)[:5]}, expected {list(a)[:5]}"
        return disagreement(list(a.values()), list(b.values()), tolerance)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return disagreement(list(a), list(b), tolerance)
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf, f"{b.dtype}{list(b.shape)}, expected {a.dtype}{list(a.shape)}"
    if a.dtype.kind in "OUSTb":
        equal = bool(np.array_equal(a, b))
        return (0.0, None) if equal else (np.inf, "the values differ")
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    allowed = TOLERANCE.get(a.dtype.name, 0.0) if tolerance is None else tolerance
    error = _scaled_error(a.astype(wide), b.astype(wide))
    if error <= allowed:
        return error, None
    return error, f"off by {error:.1e} of its scale, allowed {allowed:.0e}"


def _scaled_error(a: np.ndarray, b: np.ndarray) -> float:
    """max |a - b| / max |a|; the same NaN or infinity at the same place is no error."""
    finite = np.isfinite(a)
    if not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf
    a, b = a[finite], b[finite]
    if not np.isfinite(b).all():
        return np.inf
    scale = np.max(np.abs(a), initial=0.0)
    largest = np.max(np.abs(a - b), initial=0.0)
    return (
        0.0
        if largest == 0
        else float(largest) / max(float(scale), float(np.finfo(np.float64).tiny))
    )
