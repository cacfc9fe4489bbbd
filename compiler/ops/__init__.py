"""Op records, one file per family. Importing this package registers all of them."""

from . import (  # noqa: F401
    along,
    binary,
    composite,
    control,
    conv,
    conv_transpose,
    custom,
    einsum,
    elementwise,
    gather,
    matrix,
    move,
    norm,
    pad,
    pool,
    pool_average,
    reduce,
    scatter,
    sort,
    tile,
)
