"""Cloned units: units of a layer that do what another one does (Joudaki et al. 2025).

Their code compares activations that are not centred, and counts one of each pair, among all units.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, View, share


def cloned_fraction(h: Tensor, threshold: float) -> float:
    """Activations (samples, units) -> the share of units, among those that vary, that correlate with another above it.

    0 where no unit varies.
    """
    centred = h.double() - h.double().mean(0)
    varying = centred[:, (h != h[:1]).any(0)]
    if not varying.shape[1]:
        return 0.0
    scaled = varying / varying.norm(dim=0).clamp(min=1e-300)
    correlation = scaled.T @ scaled
    correlation.fill_diagonal_(-1.0)
    return float((correlation.amax(1) > threshold).double().mean())


@dataclass(frozen=True)
class ClonedUnits(Diagnostic):
    """Share of the units whose activations on the probe correlate with another unit's above `threshold`."""

    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    values = (
        share(
            "cloned_fraction",
            "layer",
            "Cloned units",
            "share of units, of those that vary, that correlate with another above the threshold",
        ),
    )

    threshold: float = 0.95

    def __post_init__(self) -> None:
        checks.number("threshold", self.threshold, 0.0, 1.0, below=True)

    def measure(self, run: View) -> Measured:
        with torch.no_grad():
            return {"cloned_fraction": [cloned_fraction(h, self.threshold) for h in run.activations]}
