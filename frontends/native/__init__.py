"""The native frontend: Python functions traced into graphs, and layers for them."""

from typing import TYPE_CHECKING

from ...compiler.system.concurrency import exports

if TYPE_CHECKING:
    from . import functional, losses
    from .derivatives import checkpoint, hessian, jacobian, jvp, vjp
    from .export import flat_values, nested_values, to_graph, training_graphs
    from .initializers import glorot_normal, glorot_uniform, he_normal, he_uniform
    from .layers import (
        GELU,
        AvgPool2d,
        BatchNorm2d,
        Conv2d,
        Embedding,
        Flatten,
        LayerNorm,
        Linear,
        MaxPool2d,
        ReLU,
        Sequential,
        Tanh,
    )
    from .losses import accuracy, cross_entropy, mse
    from .module import Module, Scope
    from .regions import cond, custom_gradient, scan, while_loop
    from .tracing import Array, trace
    from .transforms import grad, jit, value_and_grad
    from .tree import register_tree, tree_map

__all__ = [
    "GELU",
    "Array",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv2d",
    "Embedding",
    "Flatten",
    "LayerNorm",
    "Linear",
    "MaxPool2d",
    "Module",
    "ReLU",
    "Scope",
    "Sequential",
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
        ".layers": (
            "GELU AvgPool2d BatchNorm2d Conv2d Embedding Flatten LayerNorm Linear MaxPool2d ReLU "
            "Sequential Tanh"
        ),
        ".losses": "accuracy cross_entropy mse",
        ".module": "Module Scope",
        ".regions": "cond custom_gradient scan while_loop",
        ".tracing": "Array trace",
        ".transforms": "grad jit value_and_grad",
        ".tree": "register_tree tree_map",
    },
)
