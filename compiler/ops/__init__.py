"""Op records, one file per family. Importing this package registers all of them."""

from . import along, binary, custom, elementwise, reduce  # noqa: F401
