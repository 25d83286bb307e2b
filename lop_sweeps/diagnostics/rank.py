"""Ranks of a representation: summaries of the singular values of the activations of one layer.

Activations are neither centred nor scaled. An all-zero matrix has rank 0 and 1 by every other measure, as in the
authors' code (miscellaneous.py, compute_matrix_rank_summaries).
"""

from __future__ import annotations

import torch
from torch import Tensor


def singular_values(h: Tensor) -> Tensor:
    """Singular values (..., min(samples, units)), descending, of h (..., samples, units), computed in float64.

    Not from the Gram matrix, though that is two to three times faster: the square root of its rounding errors, 1e-8
    of the largest value, hides the many small values of a matrix of low rank, which count in the effective rank.
    """
    sigma: Tensor = torch.linalg.svdvals(h.double())
    return sigma


def effective_rank(sigma: Tensor) -> Tensor:
    """exp(entropy of sigma / sum(sigma)) (Roy & Vetterli 2007; Dohare et al. 2024)."""
    p = sigma / sigma.sum(-1, keepdim=True).clamp(min=1e-300)
    return torch.exp(-torch.xlogy(p, p).sum(-1))


def _count_for_share(values: Tensor, share: float) -> Tensor:
    """Smallest k such that the k largest values hold `share` of the sum; 1 if all are 0."""
    total = values.sum(-1, keepdim=True)
    below = (values.cumsum(-1) < share * total).sum(-1)
    return torch.clamp(below + 1, max=values.shape[-1]).double()


def approximate_rank(sigma: Tensor) -> Tensor:
    """Number of singular values that hold 99 % of the sum of squares (Yang et al. 2020, arXiv 1909.12255)."""
    return _count_for_share(sigma * sigma, 0.99)


def srank99(sigma: Tensor) -> Tensor:
    """Number of singular values that hold 99 % of their sum (Kumar et al. 2021, arXiv 2010.14498).

    "Stable rank" in the text of Dohare et al., "absolute approximate rank" in their code.
    """
    return _count_for_share(sigma, 0.99)


def stable_rank_fro(sigma: Tensor) -> Tensor:
    """The textbook stable rank, ||H||_F^2 / ||H||_2^2; 1 for an all-zero matrix."""
    largest = sigma[..., 0] ** 2
    return torch.where(largest > 0, (sigma * sigma).sum(-1) / largest.clamp(min=1e-300), 1.0)


def numerical_rank(sigma: Tensor) -> Tensor:
    """Number of singular values that are not 0 (above 1e-7 of the largest).

    The authors count every value that is not exactly 0 in floating point, which counts rounding errors.
    """
    return (sigma > 1e-7 * sigma[..., :1]).sum(-1).double()
