"""Diagnostics of hidden units, from the activations of one layer on a sample of inputs.

Each function takes activations (..., samples, units) and returns one number per leading index. In the literature one
word has many meanings; the names here say which one (docs/metrics.md lists them with their sources).
"""

from __future__ import annotations

from torch import Tensor


def dead_fraction(h: Tensor) -> Tensor:
    """Share of units whose activation is exactly 0 on every sample (Dohare et al. 2024, Extended Data Fig. 3)."""
    return (h == 0).all(-2).double().mean(-1)


def dormant_fraction(h: Tensor, tau: float = 0.025) -> Tensor:
    """Share of units whose mean |h| is at most `tau` times the layer's (Sokar et al. 2023, arXiv 2302.12902, Eq. 1).

    A layer that is silent on all samples is wholly dormant (the authors' score is 0/0 there).
    """
    magnitude = h.abs().double().mean(-2)
    return (magnitude <= tau * magnitude.mean(-1, keepdim=True)).double().mean(-1)


def rarely_active_fraction(h: Tensor, share: float = 0.01) -> Tensor:
    """Share of units that are non-zero on less than 1 % of the samples (the CIFAR-100 definition of Dohare et al.)."""
    return ((h != 0).double().mean(-2) < share).double().mean(-1)


def inactive_fraction(h: Tensor) -> Tensor:
    """Share of activations that are exactly 0, over units and samples: sparsity, not death."""
    return (h == 0).double().mean((-2, -1))


def saturated_fraction(h: Tensor, bound: float = 0.9) -> Tensor:
    """Share of activations with |h| > 0.9, over units and samples (the authors' measure for tanh)."""
    return (h.abs() > bound).double().mean((-2, -1))
