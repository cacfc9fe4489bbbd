"""The native frontend: Python functions traced into graphs, and layers for them."""

from typing import TYPE_CHECKING

from ...compiler.system.concurrency import exports

if TYPE_CHECKING:
    from . import functional, losses
    from .derivatives import checkpoint, hessian, jacobian, jvp, vjp
    from .export import flat_values, nested_values, to_graph, training_graphs
    from .initializers import glorot_normal, glorot_uniform, he_normal, he_uniform
    from .layers.basic import (
        GELU,
        Activation,
        Embedding,
        Flatten,
        HardSwish,
        LeakyReLU,
        Linear,
        Mish,
        ReLU,
        Sequential,
        Sigmoid,
        SiLU,
        Softmax,
        Softplus,
        Tanh,
    )
    from .layers.convolution import (
        AvgPool1d,
        AvgPool2d,
        AvgPool3d,
        Conv1d,
        Conv2d,
        Conv3d,
        ConvTranspose1d,
        ConvTranspose2d,
        ConvTranspose3d,
        GlobalAvgPool,
        GlobalMaxPool,
        MaxPool1d,
        MaxPool2d,
        MaxPool3d,
    )
    from .layers.normalization import (
        BatchNorm1d,
        BatchNorm2d,
        BatchNorm3d,
        GroupNorm,
        InstanceNorm,
        LayerNorm,
        RMSNorm,
    )
    from .layers.random import Dropout, DropPath, GaussianNoise, SpatialDropout
    from .layers.sequences import GRU, LSTM, RNN, MultiHeadAttention
    from .losses import accuracy, cross_entropy, mse
    from .module import Module, Scope
    from .regions import cond, custom_gradient, scan, while_loop
    from .tracing import Array, trace
    from .transforms import grad, jit, value_and_grad
    from .tree import register_tree, tree_map

__all__ = [
    "GELU",
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Array",
    "AvgPool1d",
    "AvgPool2d",
    "AvgPool3d",
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "DropPath",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAvgPool",
    "GlobalMaxPool",
    "GroupNorm",
    "HardSwish",
    "InstanceNorm",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "MaxPool3d",
    "Mish",
    "Module",
    "MultiHeadAttention",
    "RMSNorm",
    "ReLU",
    "Scope",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "SpatialDropout",
    "Tanh",
    "accuracy",
    "checkpoint",
    "cond",
    "cross_entropy",
    "custom_gradient",
    "flat_values",
    "functional",
    "glorot_normal",
    "glorot_uniform",
    "grad",
    "he_normal",
    "he_uniform",
    "hessian",
    "jacobian",
    "jit",
    "jvp",
    "losses",
    "mse",
    "nested_values",
    "register_tree",
    "scan",
    "to_graph",
    "trace",
    "training_graphs",
    "tree_map",
    "value_and_grad",
    "vjp",
    "while_loop",
]

__getattr__, __dir__ = exports(
    __name__,
    {
        ".": "functional losses",
        ".derivatives": "checkpoint hessian jacobian jvp vjp",
        ".export": "flat_values nested_values to_graph training_graphs",
        ".initializers": "glorot_normal glorot_uniform he_normal he_uniform",
        ".layers.basic": (
            "GELU Activation Embedding Flatten HardSwish LeakyReLU Linear Mish ReLU "
            "Sequential SiLU Sigmoid Softmax Softplus Tanh"
        ),
        ".layers.convolution": (
            "AvgPool1d AvgPool2d AvgPool3d Conv1d Conv2d Conv3d ConvTranspose1d "
            "ConvTranspose2d ConvTranspose3d GlobalAvgPool GlobalMaxPool MaxPool1d MaxPool2d "
            "MaxPool3d"
        ),
        ".layers.normalization": (
            "BatchNorm1d BatchNorm2d BatchNorm3d GroupNorm InstanceNorm LayerNorm RMSNorm"
        ),
        ".layers.random": "DropPath Dropout GaussianNoise SpatialDropout",
        ".layers.sequences": "GRU LSTM RNN MultiHeadAttention",
        ".losses": "accuracy cross_entropy mse",
        ".module": "Module Scope",
        ".regions": "cond custom_gradient scan while_loop",
        ".tracing": "Array trace",
        ".transforms": "grad jit value_and_grad",
        ".tree": "register_tree tree_map",
    },
)
