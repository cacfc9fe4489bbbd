"""Bias correction (Nagel et al. 2019, arXiv:1906.04721, section 4.2).

Rounded weights shift the mean of each output by that of (w' - w) · x, which the bias takes back. It
follows from sums that the calibration has counted (`compiler/compress/sums.py`), for weights
however they were rounded.
"""

from collections.abc import Mapping

import numpy as np

from ...compiler.compress.candidates import Product
from ...compiler.compress.quantize import Plan
from ...compiler.compress.sums import shift_of


def corrected(plan: Plan) -> list[Product]:
    """The products whose biases take back an error."""
    if not plan.recipe.corrects_biases:
        return []
    return [p for p in plan.candidates.products if p.keep is None and p.axis is not None]


def correct_biases(plan: Plan, counted: Mapping[str, np.ndarray]) -> None:
    """Choose what a plan adds to the outputs of its products, from their weights as chosen and the
    sums of what they read."""
    for p in corrected(plan):
        plan.shifts[p.node] = shift_of(p, counted[p.name], plan.weights_of(p).floats())
