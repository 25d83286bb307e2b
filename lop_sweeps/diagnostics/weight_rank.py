"""Ranks of the weight matrices, in the senses of `rank`; a kernel is a matrix (outputs, the rest)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View
from lop_sweeps.diagnostics.rank import effective_rank, numerical_rank, stable_rank_fro

RANKS = {
    "weight_effective_rank": effective_rank,
    "weight_stable_rank_fro": stable_rank_fro,
    "weight_numerical_rank": numerical_rank,
}


@dataclass(frozen=True)
class WeightRank(Diagnostic):
    """Effective, stable and numerical rank of each weight matrix."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    values = (
        Value(
            "weight_effective_rank",
            "matrix",
            "Effective rank of weights",
            "exp(entropy of the normalised singular values of W)",
        ),
        Value(
            "weight_stable_rank_fro",
            "matrix",
            "Stable rank of weights",
            "squared Frobenius norm over squared spectral norm of W",
        ),
        Value(
            "weight_numerical_rank",
            "matrix",
            "Numerical rank of weights",
            "singular values of W above 1e-7 of the largest",
        ),
    )

    def measure(self, run: View) -> Measured:
        return {name: [float(of(sigma)) for sigma in run.singular_values] for name, of in RANKS.items()}
