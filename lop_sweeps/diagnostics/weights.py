"""Diagnostics of weights. Biases and normalisation parameters are excluded, as in the paper's weight magnitude."""

from __future__ import annotations

from torch import Tensor


def weight_magnitude(weight: Tensor) -> Tensor:
    """Mean |w| of one weight matrix: weight (runs, ...) -> (runs,).

    The average over several matrices weighted by their sizes is the paper's "average weight magnitude" (Dohare et
    al. 2024: the sum of |w| divided by the number of weights).
    """
    return weight.flatten(1).abs().double().mean(1)
