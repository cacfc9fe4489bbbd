"""Op records, one file per family. Importing this package registers all of them."""

from . import custom  # noqa: F401
