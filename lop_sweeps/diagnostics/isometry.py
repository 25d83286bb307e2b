"""Deviation of the weight matrices from isometry: what FIRE makes small (isaac7778/FIRE; ICLR 2026).

Its theorems tie it to curvature, to the rank of features and to dormancy.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View


def isometry_deviation(weight: Tensor) -> float:
    """||X^T X - I||_F^2 of X = W / sqrt(outputs / inputs), or of its transpose if it is wide; 0 where FIRE ends.

    weight: (outputs, inputs, *kernel). A kernel's matrix at each of its k positions is compared with an isometry by
    itself, FIRE's being divided by k; their deviations are averaged.
    """
    outputs, inputs = weight.shape[:2]
    positions = prod(weight.shape[2:])
    x = weight.double().reshape(outputs, inputs, positions).movedim(2, 0) * (positions / (outputs / inputs) ** 0.5)
    if outputs < inputs:
        x = x.mT
    gram = x.mT @ x
    return float((gram - torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)).square().sum((1, 2)).mean())


@dataclass(frozen=True)
class Isometry(Diagnostic):
    """Deviation from isometry of each weight matrix."""

    needs: ClassVar[frozenset[str]] = frozenset({"weights"})
    values = (
        Value(
            "isometry_deviation",
            "matrix",
            "Deviation from isometry",
            "‖XᵀX - I‖²_F (XXᵀ if W is wide), X = W / √(outputs / inputs); of a kernel, mean over its positions",
        ),
    )

    def measure(self, run: View) -> Measured:
        return {"isometry_deviation": [isometry_deviation(weight) for weight in run.weights]}
