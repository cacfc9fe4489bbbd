"""`tessel cache`: what was compiled before, how much of it is kept, and how to be rid of it."""

import os
import re
from pathlib import Path

import click

from ..compiler.backends.llvm.base.cache import cache_folder
from ..compiler.errors import UsageError
from ..runtime.reuse import folder as kept
from .common.tables import console, size

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


EPILOG = """\b
Examples:
  tessel cache
  tessel cache limit 8G
  tessel cache clear
"""


@click.group(invoke_without_command=True, epilog=EPILOG)
@click.pass_context
def cache(context):
    """What was compiled before: whole packages, and the code of single kernels."""
    if context.invoked_subcommand is None:
        context.invoke(info)


@cache.command()
def info():
    """Say where the cache is and how large."""
    folder = cache_folder()
    packages = kept.entries(folder / "packages")
    objects = _objects(folder)
    out = console()
    out.print(f"folder    {folder}", soft_wrap=True, markup=False)
    held = _bytes(packages)
    limit = kept.limit_of(folder / "packages")
    out.print(f"packages  {len(packages)}, {size(held)} of at most {size(limit)}")
    out.print(f"kernels   {len(objects)}, {size(_bytes(objects))}")
    if left := _left(folder):
        out.print(f"unfinished {len(left)}, {size(_bytes(left))}: being written, or left over")


@cache.command()
def clear():
    """Remove packages and kernels. Models are compiled anew; what is running goes on."""
    folder = cache_folder()
    packages, objects = kept.entries(folder / "packages"), _objects(folder)
    for path, _ in (*packages, *objects, *_left(folder)):
        kept.remove(path)
    console().print(f"removed {len(packages)} packages and {len(objects)} kernels")


@cache.command()
@click.argument("limit", metavar="SIZE")
def limit(limit):
    """Keep packages of at most SIZE in all (500M, 8G; 0: none)."""
    kept.set_limit(cache_folder() / "packages", to_bytes(limit))
    info.callback()


def to_bytes(text: str) -> int:
    """The number of bytes that "500M" or "8 GiB" means."""
    found = re.fullmatch(r"(\d{1,12})\s*([KMGT]?)(i?B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise UsageError("this is no size", expected="a number and K, M, G or T", received=text)
    return int(found[1]) * UNITS[found[2].upper()]


Files = list[tuple[Path, os.stat_result]]


def _objects(folder: Path) -> Files:
    return kept.found(folder / "objects", "*/[!.]*")


def _left(folder: Path) -> Files:
    return kept.unfinished(folder / "packages") + kept.unfinished(folder / "objects")


def _bytes(files: Files) -> int:
    return sum(stat.st_size for _, stat in files)
