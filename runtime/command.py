"""`tessel-run`, the command line of machines that only run packages: numpy is all that it needs.

    tessel-run model.tsl                               what the model takes and gives
    tessel-run model.tsl --inputs in.npz -o out.npz    a run

Running a package is running the code that it carries: run what you trust, or insist on who signed
it. Exit codes: 0 ok, 2 wrong usage or bad input.
"""

import argparse
import sys
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

from ..compiler.errors import TesselError, UsageError
from ..compiler.system.cores import check_threads
from ..compiler.system.files import reading, replacing
from .base.build import object_cache
from .execution.executable import Executable
from .execution.package import load


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit."""
    said = _parser().parse_args(arguments)
    try:
        threads = check_threads(said.threads)
        exe = load(said.package, threads=threads, cache=object_cache(None), trust=said.trust)
        for note in exe.notes:
            print(f"note: {note}", file=sys.stderr)
        if said.inputs is None and said.output is None:
            _describe(exe)
        else:
            _run(exe, said.inputs, said.output)
    except TesselError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tessel-run", description="Run a package (.tsl), or say what it takes and gives."
    )
    parser.add_argument("package", help="a .tsl file, as `tessel compile` writes it")
    parser.add_argument("--inputs", metavar="FILE", help="a .npz with the inputs by name")
    parser.add_argument("-o", "--output", metavar="FILE", help="write a .npz of the outputs")
    parser.add_argument("--threads", type=int, help="cores to use; default: all that are allowed")
    parser.add_argument(
        "--trust",
        action="append",
        metavar="KEY",
        help="insist on a signature by this public key: a .pub file or hex digits",
    )
    return parser


def _describe(exe: Executable) -> None:
    for port in exe.inputs:
        print(f"in   {port}")
    for port in exe.outputs:
        print(f"out  {port}")


def _run(exe: Executable, inputs: str | None, output: str | None) -> None:
    feeds = {} if inputs is None else read_inputs(inputs)
    results: Mapping[str, object] = exe.run(feeds)
    for name, value in results.items():
        if isinstance(value, np.ndarray):
            print(f"{name}: {value.dtype}{list(value.shape)}")
        else:
            print(f"{name}: {value!r}")
    if output is not None:
        write_outputs(output, results)


def read_inputs(path: str) -> dict[str, np.ndarray]:
    """The arrays of a .npz, by name. Raises UsageError."""
    with reading(path, UsageError) as file:
        try:
            found = np.load(file, allow_pickle=False)
            if not isinstance(found, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array")
            return dict(found)
        except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
            raise UsageError(
                f"this is no .npz of inputs: {error}",
                where=path,
                fix="write it with numpy.savez(path, name=array, …)",
            ) from None


def write_outputs(path: str, results: Mapping[str, object]) -> None:
    """A .npz of the outputs; strings are numpy's. Raises UsageError for what it cannot hold."""
    arrays = {}
    for name, value in results.items():
        if not isinstance(value, np.ndarray):
            raise UsageError(
                "a .npz holds arrays only",
                where=name,
                received=type(value).__name__,
                fix="run the package in Python: tessel.load(path).run(inputs)",
            )
        arrays[name] = value.astype(str) if value.dtype == object else value
    with replacing(path, UsageError) as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]  # a name may be one of savez's own words


if __name__ == "__main__":
    main()
