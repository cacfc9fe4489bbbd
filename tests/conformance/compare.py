"""Whether outputs are what a case expects, by the rules of onnx.backend.test.runner.

Same number of outputs, shape and dtype; |got - expected| <= atol + rtol * |expected|, NaN equal to
NaN; bfloat16 with rtol at least 2**-6; strings exactly. Stricter in one thing: a sequence must have
the expected length.
"""

import numpy as np


class Wrong(Exception):
    """How an output differs."""


def compare(expected, got, rtol: float, atol: float, where: str) -> None:
    """Raise Wrong unless the values agree. Sequences are lists, maps dicts, absent ones None."""
    match expected:
        case None:
            if got is not None:
                raise Wrong(f"{where}: expected an empty optional, got {type(got).__name__}")
        case list() | tuple():
            if not isinstance(got, (list, tuple)) or len(got) != len(expected):
                raise Wrong(f"{where}: expected a sequence of {len(expected)}, got {_kind(got)}")
            for i, (e, g) in enumerate(zip(expected, got)):
                compare(e, g, rtol, atol, f"{where}[{i}]")
        case dict():
            if not isinstance(got, dict) or set(got) != set(expected):
                raise Wrong(f"{where}: expected a map of {sorted(expected)}, got {_kind(got)}")
            for k, e in expected.items():
                compare(e, np.asarray(got[k]), rtol, atol, f"{where}[{k!r}]")
        case _:
            _compare_arrays(np.asarray(expected), got, rtol, atol, where)


def _kind(value) -> str:
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else str(value)


def _compare_arrays(expected: np.ndarray, got, rtol: float, atol: float, where: str) -> None:
    if not isinstance(got, (np.ndarray, np.generic)):
        raise Wrong(f"{where}: expected an array, got {type(got).__name__}")
    got = np.asarray(got)
    if got.shape != expected.shape:
        raise Wrong(f"{where}: shape {got.shape} instead of {expected.shape}")
    if expected.dtype.kind in "OUS":
        same = got.dtype.kind in "OUS" and got.astype(object).tolist() == expected.tolist()
        if not same:
            raise Wrong(f"{where}: {got.tolist()} instead of {expected.tolist()}")
        return
    if got.dtype != expected.dtype:
        raise Wrong(f"{where}: dtype {got.dtype} instead of {expected.dtype}")
    if expected.dtype.name == "bfloat16":
        rtol = max(rtol, 2.0**-6)
    if expected.dtype.kind == "V" or type(expected.dtype.type(0)).__module__ == "ml_dtypes":
        expected, got = expected.astype(np.float32), got.astype(np.float32)
    with np.errstate(all="ignore"):
        close = np.isclose(got, expected, rtol=rtol, atol=atol, equal_nan=True)
    if not close.all():
        at = tuple(np.argwhere(~close)[0].tolist())
        raise Wrong(
            f"{where}: {(~close).sum()} of {close.size} elements differ, "
            f"first at {list(at)}: {got[at]} instead of {expected[at]}"
        )
