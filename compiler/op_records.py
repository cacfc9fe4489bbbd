"""All record files: importing this registers every op (`registry.OPS` does so when it is read)."""

from .ir.op import OPS
from .ops.contraction import (  # noqa: F401
    conv,
    conv_transpose,
    det,
    dft,
    einsum,
    linear,
    matrix,
)
from .ops.control import (  # noqa: F401
    bind_dims,
    custom_gradient,
    helpers,
    host_control,
    if_scan,
    while_loop,
    within,
)
from .ops.elementwise import binary, cast, unary  # noqa: F401
from .ops.internal import mosaic, strassen, winograd  # noqa: F401
from .ops.movement import (  # noqa: F401
    col2im,
    gather,
    kv_cache,
    move,
    pad,
    scatter,
    tile,
    unbroadcast,
)
from .ops.normalization import norm, softmax_attention  # noqa: F401
from .ops.pooling import average, windows  # noqa: F401
from .ops.quantization import blocks, fake_quantize, quant, quantize  # noqa: F401
from .ops.random import draws  # noqa: F401
from .ops.recurrent import cells, quantized  # noqa: F401
from .ops.reduction import along, reduce, scans  # noqa: F401
from .ops.sorting import argsort, nms, nms_lazily, search, selection, topk  # noqa: F401
from .ops.text import maps, ngrams, strings, tree  # noqa: F401
from .ops.vision import deform, grid_sample, image, points, resize, roi  # noqa: F401

OPS.loaded = True
