"""What a user may give as data, as feeds: one dict of arrays by input name for each run.

    for feed in Data.of(data, ports):        data: arrays, a tuple or dict of them, an .npz,
        exe.run(feed)                        a folder, a callable, or an iterable of samples

A dict, a tuple or an array whose first axis counts samples is cut into batches; where the model's
first dim is a number, into such batches. What an iterable gives is one run each, as it is.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...compiler.errors import InputError, UsageError
from ...compiler.ir.bounds import size_hint
from ...compiler.ir.graph import Graph
from ..base.signature import Port

Feed = dict[str, np.ndarray]
BATCH = 16  # samples of a run where the model leaves their number open


def random_feeds(graph: Graph) -> list[Feed]:
    """One run of normal numbers, and zeros for what is no float; open dims are those to expect."""
    rng, feed = np.random.default_rng(0), {}
    for v in graph.inputs:
        shape = tuple(size_hint(d) for d in v.shape)
        numbers = rng.standard_normal(shape) if v.dtype.kind == "f" else np.zeros(shape)
        feed[v.name] = numbers.astype(v.dtype.numpy)
    return [feed]


class Data:
    """Feeds that can be walked over again and again.

    total    how many there are, None where that is not known
    shapes   of all of them by input, None where they differ or are not known
    begins   the first sample of each, where they are cut out of arrays of `samples`
    """

    def __init__(
        self,
        make: Callable[[], Iterator[Feed]],
        total: int | None = None,
        shapes: Mapping[str, tuple[int, ...]] | None = None,
    ):
        self._make, self.total, self.shapes = make, total, shapes
        self.begins: list[int] | None = None
        self.samples = 0

    def __iter__(self) -> Iterator[Feed]:
        return self._make()

    @classmethod
    def of(cls, data: Any, ports: Sequence[Port], batch: int = BATCH) -> "Data":
        """Raises UsageError for what is no data, InputError where it does not fit the model."""
        if isinstance(data, Data):
            return data
        if isinstance(data, (str, PathLike)):
            return _of_path(Path(data), ports, batch)
        if callable(data):
            return cls(lambda: _checked(data(), ports))
        if isinstance(data, Mapping) or _is_array(data) or _is_set(data, ports):
            return _of_arrays(_named(data, ports), ports, batch)
        if isinstance(data, Iterable):
            several = list(data) if isinstance(data, Iterator) else data
            if not isinstance(several, Sequence):
                return cls(lambda: _checked(several, ports))
            found = {_shapes(_named(s, ports)) for s in several}
            same = dict(found.pop()) if len(found) == 1 else None
            return cls(lambda: _checked(several, ports), len(several), same)
        raise UsageError(
            "this is no data",
            expected="arrays by input, a tuple or an iterable of them, an .npz, a folder, or a "
            "function that gives an iterable",
            received=type(data).__name__,
        )

    def hash(self) -> str:
        """A hash of all feeds: names, types, shapes and bytes."""
        h = hashlib.sha256()
        for feed in self:
            add_to_hash(h, feed)
        return h.hexdigest()[:16]


def add_to_hash(h: Any, feed: Feed) -> None:
    for name, array in feed.items():
        h.update(f"{name} {array.dtype} {array.shape}".encode())
        h.update(np.ascontiguousarray(array))


def _shapes(feed: Feed) -> tuple:
    return tuple((n, a.shape) for n, a in feed.items())


def _is_array(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


def _is_set(data: Any, ports: Sequence[Port]) -> bool:
    """Whether a tuple holds an array for each input, not a sample for each run."""
    return isinstance(data, tuple) and len(data) == len(ports) and all(map(_is_array, data))


def _of_path(path: Path, ports: Sequence[Port], batch: int) -> Data:
    if path.is_dir():
        files = sorted(f for f in path.iterdir() if f.suffix in (".npz", ".npy"))
        if not files:
            raise UsageError("the folder has no .npz and no .npy", where=str(path))
        parts = [_of_path(f, ports, batch) for f in files]
        total = sum(p.total or 0 for p in parts)
        same = parts[0].shapes if all(p.shapes == parts[0].shapes for p in parts) else None
        return Data(lambda: (feed for part in parts for feed in part), total, same)
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UsageError("the data cannot be read", where=str(path), received=str(error)) from None
    if isinstance(loaded, np.ndarray):
        return _of_arrays(_named(loaded, ports), ports, batch)
    with loaded:
        names = {p.name for p in ports}
        arrays = {n: loaded[n] for n in loaded.files if n in names}
        if not arrays and len(ports) == 1 and loaded.files:
            arrays = {ports[0].name: loaded[loaded.files[0]]}
    return _of_arrays(_complete(arrays, ports, str(path)), ports, batch)


def _named(data: Any, ports: Sequence[Port]) -> Feed:
    """One sample or set as arrays by input name."""
    if isinstance(data, Mapping):
        return _complete({n: np.asarray(a) for n, a in data.items()}, ports)
    if isinstance(data, (tuple, list)) and not (len(ports) == 1 and np.isscalar(data[0])):
        if len(data) != len(ports):
            raise _unfit(ports, f"{len(data)} arrays")
        return _complete({p.name: np.asarray(a) for p, a in zip(ports, data)}, ports)
    if len(ports) != 1:
        raise _unfit(ports, "one array")
    return {ports[0].name: np.asarray(data)}


def _complete(arrays: Feed, ports: Sequence[Port], where: str | None = None) -> Feed:
    if set(arrays) != {p.name for p in ports}:
        raise _unfit(ports, ", ".join(arrays) or "nothing", where)
    return arrays


def _unfit(ports: Sequence[Port], received: str, where: str | None = None) -> InputError:
    return InputError(
        "the data does not fit the model's inputs",
        where=where,
        expected=", ".join(map(str, ports)),
        received=received,
        fix="give an array for each input by its name",
    )


def _of_arrays(arrays: Feed, ports: Sequence[Port], batch: int) -> Data:
    """One run where the arrays have the inputs' shapes; else their first axis counts samples."""
    arrays = {p.name: _cast(arrays[p.name], p) for p in ports}
    if all(_fits(arrays[p.name].shape, p) for p in ports) and not _is_open(ports):
        return Data(lambda: iter([arrays]), 1, dict(_shapes(arrays)))
    sizes = {n: len(a) if a.ndim else 0 for n, a in arrays.items()}
    if len(set(sizes.values())) != 1 or 0 in sizes.values():
        raise InputError(
            "the arrays of a data set have one length, above 0",
            received=", ".join(f"{n}: {list(a.shape)}" for n, a in arrays.items()),
            expected=", ".join(map(str, ports)),
        )
    count = next(iter(sizes.values()))
    firsts = {p.shape[0] for p in ports if p.shape} if all(p.shape for p in ports) else {None}
    fixed = [d for d in firsts if isinstance(d, int)]
    size = fixed[0] if fixed else _batch(count, batch)
    for p in ports:
        shape = (size, *arrays[p.name].shape[1:])
        if not _fits(shape, p):
            alone = (1, *arrays[p.name].shape)
            hint = "add the axis of the batch" if _fits(alone, p) else None
            raise InputError(
                f"the data for {p.name!r} does not fit the model",
                expected=str(p),
                received=f"{arrays[p.name].dtype}{list(arrays[p.name].shape)}",
                fix=hint,
            )
    if count < size:
        raise InputError(
            f"a run takes {size} samples at once", received=f"{count} samples", fix="give more"
        )
    # The last batch is full: it begins with samples of the one before.
    begins = [min(start, count - size) for start in range(0, count, size)]

    def feeds() -> Iterator[Feed]:
        for begin in begins:
            yield {n: a[begin : begin + size] for n, a in arrays.items()}

    shapes = {n: (size, *a.shape[1:]) for n, a in arrays.items()}
    found = Data(feeds, len(begins), shapes)
    found.begins, found.samples = begins, count
    return found


def _batch(count: int, most: int) -> int:
    """Samples of a run: what divides their number, unless that is little."""
    fitting = [n for n in range(most, most // 4, -1) if count % n == 0]
    return min(count, fitting[0] if fitting else most)


def _is_open(ports: Sequence[Port]) -> bool:
    return all(p.shape and not isinstance(p.shape[0], int) for p in ports)


def _fits(shape: tuple, port: Port) -> bool:
    if port.shape is None:
        return True
    return len(shape) == len(port.shape) and all(
        not isinstance(d, int) or d == n for d, n in zip(port.shape, shape)
    )


def _cast(array: np.ndarray, port: Port) -> np.ndarray:
    """Numbers of another precision are taken; floats where integers belong are not."""
    if port.dtype is None or array.dtype == port.dtype:
        return array
    same = {"f": "f", "i": "iu", "u": "iu", "b": "b"}.get(np.dtype(port.dtype).kind, "")
    if array.dtype.kind not in same:
        raise InputError(
            f"the data for {port.name!r} has the wrong type",
            expected=str(port),
            received=str(array.dtype),
            fix=f"prepare it as the model's inputs are, then .astype({port.dtype})",
        )
    return array.astype(port.dtype)


def _checked(samples: Iterable[Any], ports: Sequence[Port]) -> Iterator[Feed]:
    """Samples as feeds."""
    for i, sample in enumerate(samples):
        feed = _named(sample, ports)
        for p in ports:
            feed[p.name] = array = _cast(feed[p.name], p)
            if not _fits(array.shape, p):
                raise InputError(
                    f"sample {i} does not fit the model",
                    where=f"input {p.name}",
                    expected=str(p),
                    received=f"{array.dtype}{list(array.shape)}",
                )
        yield feed
