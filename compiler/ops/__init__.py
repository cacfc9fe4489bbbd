"""Op records, one file per family. Importing this package registers all of them."""

from . import (  # noqa: F401
    along,
    binary,
    composite,
    custom,
    elementwise,
    norm,
    reduce,
)
