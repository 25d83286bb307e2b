"""How far the weights are from where they began; L2 Init keeps them near (Kumar et al. 2023, arXiv 2308.11958)."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View


@dataclass(frozen=True)
class InitialDistance(Diagnostic):
    """||W - W0||_F / sqrt(n) and ||W - W0||_F / ||W0||_F of each weight matrix of n weights."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights", "initial weights"})
    values = (
        Value(
            "initial_distance",
            "matrix",
            "Distance from initialisation",
            "root mean square of W - W0, the weights that the run began with",
        ),
        Value(
            "initial_distance_relative",
            "matrix",
            "Relative distance from initialisation",
            "Frobenius norm of W - W0 over that of W0",
        ),
    )

    def measure(self, run: View) -> Measured:
        pairs = list(zip(run.weights, run.initial_weights, strict=True))
        moved = [float((weight.double() - first.double()).norm()) for weight, first in pairs]
        began = [float(first.double().norm()) for _, first in pairs]
        return {
            "initial_distance": [d / sqrt(weight.numel()) for d, (weight, _) in zip(moved, pairs, strict=True)],
            "initial_distance_relative": [d / n if n else float("nan") for d, n in zip(moved, began, strict=True)],
        }
