"""Norms and extreme singular values of the weight matrices (Lyle et al. 2024; Lewandowski et al. 2024, 2406.06811)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View


@dataclass(frozen=True)
class WeightNorms(Diagnostic):
    """Frobenius norm, largest and smallest singular value and their ratio; a kernel is a matrix (outputs, the rest)."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    values = (
        Value("weight_norm", "matrix", "Weight norm ‖W‖_F", "Frobenius norm"),
        Value("weight_sigma_max", "matrix", "Spectral norm of weights", "largest singular value"),
        Value("weight_sigma_min", "matrix", "Smallest singular value of weights", "smallest singular value"),
        Value(
            "weight_condition",
            "matrix",
            "Condition number of weights",
            "largest singular value over the smallest; null where that is 0",
        ),
    )

    def measure(self, run: View) -> Measured:
        ends = [(float(sigma[0]), float(sigma[-1])) for sigma in run.singular_values]
        return {
            "weight_norm": [float(weight.double().norm()) for weight in run.weights],
            "weight_sigma_max": [largest for largest, _ in ends],
            "weight_sigma_min": [smallest for _, smallest in ends],
            "weight_condition": [largest / smallest if smallest else float("inf") for largest, smallest in ends],
        }
