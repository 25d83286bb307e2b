"""Ranks of a representation: summaries of the singular values of the activations of one layer.

Activations are neither centred nor scaled. An all-zero matrix has rank 0 and 1 by every other measure, as in the
authors' code (miscellaneous.py, compute_matrix_rank_summaries).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, PackView, Value
from lop_sweeps.diagnostics.units import by_run

_SMALLEST = 1e-12  # of the largest eigenvalue: down to here those of h^T h are good enough


def singular_values(h: Tensor) -> Tensor:
    """Singular values (..., min(samples, units)), descending, of h (..., samples, units), computed in float64.

    Where samples outnumber units, they are the roots of the eigenvalues of h^T h, in half the time. Those have errors
    of 1e-15 of the largest, and the root of that, 3e-8, would hide the many small singular values of a matrix of low
    rank, which count in the effective rank. So units that are always 0 are left out first, and if an eigenvalue is
    still below 1e-12 of the largest, the matrix is decomposed as it is.
    """
    matrices = h.reshape(-1, *h.shape[-2:]).double()
    return torch.stack([_singular_values(matrix) for matrix in matrices]).view(*h.shape[:-2], -1)


def _singular_values(matrix: Tensor) -> Tensor:
    samples, units = matrix.shape
    if samples >= 2 * units:
        gram = matrix.T @ matrix
        alive = torch.nonzero(gram.diagonal()).flatten()
        if len(alive) < units:
            gram = gram[alive][:, alive]
        if bool(torch.isfinite(gram).all()):
            squares = torch.linalg.eigvalsh(gram).flip(0)
            if not len(squares) or squares[-1] >= _SMALLEST * squares[0]:
                return torch.cat([squares.sqrt(), matrix.new_zeros(units - len(squares))])
    sigma: Tensor = torch.linalg.svdvals(matrix)
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


RANKS: dict[str, Callable[[Tensor], Tensor]] = {
    "effective_rank": effective_rank,
    "approximate_rank": approximate_rank,
    "srank99": srank99,
    "stable_rank_fro": stable_rank_fro,
    "numerical_rank": numerical_rank,
}


@dataclass(frozen=True)
class Rank(Diagnostic):
    """Ranks of what the hidden layers represent, in several senses of the word."""

    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    values = (
        Value(
            "effective_rank",
            "layer",
            "Effective rank",
            "exp(entropy of the normalised singular values of the activations)",
            "units",
        ),
        Value(
            "approximate_rank",
            "layer",
            "Approximate rank",
            "singular values that hold 99 % of the sum of squares",
            "units",
        ),
        Value("srank99", "layer", "srank, δ = 0.01", "singular values that hold 99 % of their sum", "units"),
        Value(
            "stable_rank_fro",
            "layer",
            "Stable rank ‖Φ‖²_F / ‖Φ‖²₂",
            "squared Frobenius norm over squared spectral norm",
        ),
        Value("numerical_rank", "layer", "Numerical rank", "singular values above 1e-7 of the largest", "units"),
    )

    def measure_pack(self, pack: PackView) -> Sequence[Measured]:
        sigmas = [singular_values(layer.pooled) for layer in pack.layers]
        found = {name: [of(sigma).tolist() for sigma in sigmas] for name, of in RANKS.items()}
        return by_run(found, len(pack.runs))
