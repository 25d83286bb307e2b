"""Diagnostics of hidden units, from the activations of one layer on a sample of inputs.

`statistics` passes over activations (..., samples, units) once; each diagnostic makes one number per leading index of
what it finds. In the literature one word has many meanings; the names here say which one (docs/metrics.md lists them
with their sources).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, PackView, share

SATURATED = 0.9


class UnitStatistics(NamedTuple):
    """Of each unit, (..., units), float64: share of samples on which it is not 0; mean |h|; share with |h| > 0.9."""

    active: Tensor
    magnitude: Tensor
    saturated: Tensor


def statistics(h: Tensor) -> UnitStatistics:
    """What the diagnostics need to know of activations (..., samples, units)."""
    samples, magnitude = h.shape[-2], h.abs()
    return UnitStatistics(
        active=torch.count_nonzero(h, dim=-2).double() / samples,
        magnitude=magnitude.sum(-2, dtype=torch.float64) / samples,
        saturated=torch.count_nonzero(magnitude > SATURATED, dim=-2).double() / samples,
    )


def is_dead(units: UnitStatistics) -> Tensor:
    """(..., units): whether a unit's activation is exactly 0 on every sample."""
    return units.active == 0


def dead_fraction(units: UnitStatistics) -> Tensor:
    """Share of units whose activation is exactly 0 on every sample (Dohare et al. 2024, Extended Data Fig. 3)."""
    return is_dead(units).double().mean(-1)


def dormant_fraction(units: UnitStatistics, tau: float = 0.025) -> Tensor:
    """Share of units whose mean |h| is at most `tau` times the layer's (Sokar et al. 2023, arXiv 2302.12902, Eq. 1).

    A layer that is silent on all samples is wholly dormant (the authors' score is 0/0 there).
    """
    return (units.magnitude <= tau * units.magnitude.mean(-1, keepdim=True)).double().mean(-1)


def rarely_active_fraction(units: UnitStatistics, share: float = 0.01) -> Tensor:
    """Share of units that are non-zero on less than 1 % of the samples (the CIFAR-100 definition of Dohare et al.)."""
    return (units.active < share).double().mean(-1)


def inactive_fraction(units: UnitStatistics) -> Tensor:
    """Share of activations that are exactly 0, over units and samples: sparsity, not death."""
    return 1.0 - units.active.mean(-1)


def saturated_fraction(units: UnitStatistics) -> Tensor:
    """Share of activations with |h| > 0.9, over units and samples (the authors' measure for tanh)."""
    return units.saturated.mean(-1)


SHARES: dict[str, Callable[[UnitStatistics], Tensor]] = {
    "dead_fraction": dead_fraction,
    "dormant_fraction_tau0.025": dormant_fraction,
    "rarely_active_fraction": rarely_active_fraction,
    "inactive_fraction": inactive_fraction,
    "saturated_fraction": saturated_fraction,
}


@dataclass(frozen=True)
class Units(Diagnostic):
    """Shares of units, and of activations, in several senses of the word."""

    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    values = (
        share("dead_fraction", "layer", "Dead units", "share of units that are exactly 0 on every probe example"),
        share(
            "dormant_fraction_tau0.025",
            "layer",
            "Dormant units, τ = 0.025",
            "share of units with mean |h| at most 0.025 of the layer's mean",
        ),
        share(
            "rarely_active_fraction",
            "layer",
            "Rarely active units",
            "share of units that are non-zero on less than 1 % of the probe",
        ),
        share("inactive_fraction", "layer", "Activations that are 0", "share of activations that are exactly 0"),
        share("saturated_fraction", "layer", "Activations beyond ±0.9", "share of activations with |h| > 0.9"),
    )

    def measure_pack(self, pack: PackView) -> Sequence[Measured]:
        found = {name: [of(layer.statistics).tolist() for layer in pack.layers] for name, of in SHARES.items()}
        return by_run(found, len(pack.runs))


def by_run(found: dict[str, list[list[float]]], runs: int) -> list[dict[str, list[float]]]:
    """Name -> values [layer][run], taken apart: for each run, name -> values of the layers."""
    return [{name: [values[run] for values in layers] for name, layers in found.items()} for run in range(runs)]
