"""What an export is made of.

    Export(call, model, {"ids": tokens("batch", "seq"), "past": normal("batch", 2, "past", 8)},
           sizes=[{"batch": 2, "seq": 3, "past": 5}, …])

A dim of an input is a number, or an expression of sizes ("past+seq") that stays open in the file.
The first sizes are those that the exporter traces with; it takes 0, 1 and equal sizes to be meant.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

Dim = int | str
Maker = Callable[[tuple[int, ...], torch.Generator], torch.Tensor]


@dataclass(frozen=True)
class Input:
    """Shape with dynamic dims as text, and what makes a tensor of some sizes."""

    shape: tuple[Dim, ...]
    make: Maker

    def at(self, sizes: Mapping[str, int], generator: torch.Generator) -> torch.Tensor:
        return self.make(tuple(self.number(d, sizes) for d in self.shape), generator)

    @staticmethod
    def number(dim: Dim, sizes: Mapping[str, int]) -> int:
        return dim if isinstance(dim, int) else eval(dim, {}, dict(sizes))

    @property
    def open(self) -> dict[int, str]:
        """Names of dynamic dims by axis, as exporters want them."""
        named = {i: d for i, d in enumerate(self.shape) if isinstance(d, str)}
        return {i: re.sub(r"\W", "_", d.replace("+", "_and_")) for i, d in named.items()}


@dataclass(frozen=True)
class Export:
    """A model, its inputs, and the sizes to try; see the module.

    `call(model, **inputs)` gives a tensor, or a tuple of tensors. `script` uses the exporter that
    traces TorchScript, otherwise torch.export is used.
    """

    call: Callable
    model: torch.nn.Module
    inputs: Mapping[str, Input]
    sizes: Sequence[Mapping[str, int]]
    opset: int = 20
    script: bool = False


def tokens(*shape: Dim, below: int = 100, least: int = 3) -> Input:
    """Integers from `least` on, past the usual numbers of padding and ends."""
    return Input(shape, lambda s, g: torch.randint(least, below, s, generator=g))


def normal(*shape: Dim, scale: float = 1.0) -> Input:
    return Input(shape, lambda s, g: torch.randn(s, generator=g) * scale)


def ones(*shape: Dim, dtype: torch.dtype = torch.int64) -> Input:
    return Input(shape, lambda s, g: torch.ones(s, dtype=dtype))


def padded(*shape: Dim, left: bool = False) -> Input:
    """A mask of rows that are 1, with zeros at an end of each other one (its last third)."""

    def make(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        mask = torch.ones(shape, dtype=torch.int64)
        mask[1::2, shape[1] - shape[1] // 3 :] = 0
        return mask.flip(1) if left else mask

    return Input(shape, make)


def counting(*shape: Dim) -> Input:
    """0, 1, 2, … along the last axis."""
    return Input(shape, lambda s, g: torch.arange(s[-1]).expand(s).contiguous())


def lively(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The model for inference, with weights of such sizes that every part shows in the outputs:
    what is made for training begins with zeros, ones and very small numbers."""
    generator = torch.Generator().manual_seed(seed)

    def draw(shape: torch.Size, scale: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * scale

    with torch.no_grad():
        for module in model.modules():
            for name, p in module.named_parameters(recurse=False):
                if p.ndim >= 2 and name.startswith("weight"):
                    p.copy_(draw(p.shape, (p[0].numel()) ** -0.5))
                elif p.ndim == 3 and name.endswith("proj"):  # of experts
                    p.copy_(draw(p.shape, p.shape[-1] ** -0.5))
                elif p.ndim == 1:
                    p.add_(draw(p.shape, 0.1))
            if isinstance(module, torch.nn.Embedding):
                module.weight.copy_(draw(module.weight.shape, 0.5))
            if getattr(module, "running_var", None) is not None:
                module.running_mean.add_(draw(module.running_mean.shape, 0.1))
                module.running_var.mul_(1 + draw(module.running_var.shape, 0.2).abs())
    return model.eval()
