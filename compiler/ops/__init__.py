"""Op records, one file per family. Importing this package registers all of them."""

from . import binary  # noqa: F401
from . import custom  # noqa: F401
from . import elementwise  # noqa: F401
