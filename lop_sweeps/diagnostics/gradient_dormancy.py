"""Dormancy by gradient magnitude, GraMa (Liu et al., NeurIPS 2025), by the weights' gradient as in the authors' code.

The paper's formula has the gradient with respect to the activations instead. Layer norms and the output layer, which
the code scores as well, are no hidden layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View, share
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.unit_graph import UnitLayer


def gradient_scores(gradient: Tensor) -> Tensor:
    """Gradient (units, ...) of a layer's incoming weights -> (units,): mean magnitude over that of the whole layer."""
    magnitude = gradient.double().abs().reshape(len(gradient), -1).mean(1)
    return magnitude / (magnitude.mean() + 1e-9)


def incoming_gradient(layer: UnitLayer, gradients: Mapping[str, Tensor]) -> Tensor:
    """(units, incoming weights of a unit): the gradient of all rows that feed a unit."""
    parts = []
    for rows in layer.incoming:
        own = torch.tensor(layer.rows_of_units(rows), device=gradients[rows.weight].device)  # (units, rows of each)
        parts.append(gradients[rows.weight].flatten(1)[own].flatten(1))
    return torch.cat(parts, 1)


@dataclass(frozen=True)
class GradientDormancy(Diagnostic):
    """Share of the units of a hidden layer whose score on the probe is at most tau.

    thresholds: the values of tau; 0 counts units that get no gradient at all.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    thresholds: Sequence[float] = (0.01, 0.0)

    def __post_init__(self) -> None:
        if isinstance(self.thresholds, str) or not isinstance(self.thresholds, Sequence) or not self.thresholds:
            raise ConfigError("thresholds", self.thresholds, "must be a list of numbers, such as [0.01,0]")
        for i, tau in enumerate(self.thresholds):
            checks.number(f"thresholds[{i}]", tau, 0.0)

    @property
    def values(self) -> Sequence[Value]:
        meaning = "share of units whose mean |gradient| over incoming weights is at most {:g} of the layer's mean"
        return [
            share(_name(tau), "layer", f"Dormant by gradient, τ = {tau:g}", meaning.format(tau))
            for tau in self.thresholds
        ]

    def measure(self, run: View) -> Measured:
        scores = [gradient_scores(incoming_gradient(layer, run.gradients)) for layer in run.graph]
        return {_name(tau): [float((s <= tau).double().mean()) for s in scores] for tau in self.thresholds}


def _name(tau: float) -> str:
    number = f"{tau:.10f}".rstrip("0").rstrip(".")  # as it is written, never 1e-05
    return f"gradient_dormant_fraction_tau{number}"
