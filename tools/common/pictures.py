"""Pictures by matplotlib, which is there or not: `check` says so before anything is computed."""

from pathlib import Path

from ...compiler.errors import UnsupportedError, UsageError


def check(path: str) -> None:
    """Raise if a picture cannot be written: matplotlib is missing, or the format unknown."""
    formats = pyplot().figure.Figure().canvas.get_supported_filetypes()
    if Path(path).suffix.removeprefix(".") not in formats:
        raise UsageError(
            "this is no format for a picture",
            expected="a name that ends in .png, .svg or .pdf",
            received=path,
        )


def pyplot():
    """matplotlib with what pictures need of it. Raises UnsupportedError."""
    try:
        import matplotlib
        import matplotlib.backends.backend_agg
        import matplotlib.figure
        import matplotlib.ticker
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            "a picture needs matplotlib",
            received=f"no module {error.name}",
            fix="pip install 'tessel[bench]'",
        ) from error
    return matplotlib
