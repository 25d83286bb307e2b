"""Weight magnitude. Biases and normalisation parameters are excluded, as in the paper's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, PackView, Value


def weight_magnitude(weight: Tensor) -> Tensor:
    """Mean |w| of one weight matrix: weight (runs, ...) -> (runs,).

    The average over several matrices weighted by their sizes is the paper's "average weight magnitude" (Dohare et
    al. 2024: the sum of |w| divided by the number of weights).
    """
    return weight.flatten(1).abs().double().mean(1)


@dataclass(frozen=True)
class WeightMagnitude(Diagnostic):
    """Mean |w| of each weight matrix."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    values = (
        Value(
            "weight_magnitude",
            "matrix",
            "Weight magnitude",
            "mean |w|; biases and normalisation excluded",
            weighted=True,
        ),
    )

    def measure_pack(self, pack: PackView) -> Sequence[Measured]:
        return [{"weight_magnitude": magnitudes} for magnitudes in pack.magnitudes.tolist()]
