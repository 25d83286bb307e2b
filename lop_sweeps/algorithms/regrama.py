"""ReGraMa: reset the units that gradients do not reach (Liu et al. 2025, arXiv 2505.24061).

A third party's copy of the authors' code (rippl-svg/grad-based-plasticity-metrics) and an independent one
(LucMc/continual-learning, JAX) were read. Both score by the gradient of a unit's incoming weights, the paper by that of
its activation. The authors' own reset makes incoming weights and layer normalisation new, also of the output layer, and
leaves outgoing weights; the paper's, which is here, is ReDo's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, every
from lop_sweeps.algorithms.unit_resets import (
    PackedUnitResets,
    UnitResets,
    check_hidden_units,
    check_optimizer_state,
)
from lop_sweeps.networks.network import Network

EPS = 1e-8  # as in LucMc's code; 1e-9 in the other


@dataclass(frozen=True)
class ReGraMa(Intervention):
    """Every `period` updates, reset each unit whose gradient magnitude is at most `threshold` of its layer's mean.

    Source: Liu et al. 2025, arXiv 2505.24061; the code read is named in this file.

    signal: activation_gradient = mean |dL/dh| over the mini-batch (positions, and features of a unit); or
        weight_gradient = mean over a unit's incoming weights of the absolute gradient of the mini-batch. Either is
        divided by its mean over the layer + 1e-8. In a layer that no gradient reaches, as behind an output layer of
        zeros, nothing is reset (the codes reset it as a whole, which would be the network). The gradient is
        that of the loss, before it is cut, with what methods further up in the configuration have added.
    max_reset_fraction: at most this share of a layer is reset at once, but one unit at least: those of the lowest
        scores (of equal ones, the first). null: no limit.
    reset_optimizer: moments = the step counts of a new unit's weights go on, as in the codes; all, or none. (With
        clipping before Adam, LucMc's reset does not find the moments, which is none.)

    The first reset is after update number period + 1, as in LucMc's code. A new unit has incoming weights from the
    network's initial law (theirs: He's), bias 0, outgoing weights 0, and a fresh normalisation where it has one. No
    gradient reaches a unit that nothing reads yet, such as one that another method has replaced in the step before.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"threshold", "max_reset_fraction"})

    threshold: float = 0.01
    period: int = 1000
    signal: str = "activation_gradient"
    max_reset_fraction: float | None = None
    reset_optimizer: str = "moments"

    def __post_init__(self) -> None:
        checks.number("threshold", self.threshold, 0.0)
        checks.integer("period", self.period, 1)
        checks.choice("signal", self.signal, ("activation_gradient", "weight_gradient"))
        if self.max_reset_fraction is not None:
            checks.number("max_reset_fraction", self.max_reset_fraction, 0.0, 1.0, above=True)
        check_optimizer_state("reset_optimizer", self.reset_optimizer)

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset({"activation_gradients"} if self.signal == "activation_gradient" else ())

    @property
    def resets_units(self) -> bool:
        return self.reset_optimizer != "none"

    def check(self, network: Network) -> None:
        check_hidden_units(network)

    def next_step(self, step: int) -> int:
        return every(int(self.period), step, first=int(self.period))

    def pack(self, peers: Sequence[ReGraMa], learner: Learner) -> PackedReGraMa:
        return PackedReGraMa(peers, learner)


class PackedReGraMa(PackedUnitResets[ReGraMa]):
    """ReGraMa on a pack."""

    def __init__(self, runs: Sequence[ReGraMa], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.signal = runs[0].signal
        self.resets = UnitResets(learner, "units without gradient", runs[0].reset_optimizer)
        device = learner.parameters.device
        self.thresholds = torch.tensor([run.threshold for run in runs], dtype=torch.float64, device=device).unsqueeze(1)
        self.most: list[Tensor] | None = None  # of each layer (runs, 1): how many units may be reset at once
        if any(run.max_reset_fraction is not None for run in runs):
            shares = [1.0 if run.max_reset_fraction is None else run.max_reset_fraction for run in runs]
            self.most = [
                torch.tensor([max(1, floor(layer.units * share)) for share in shares], device=device).unsqueeze(1)
                for layer in learner.graph
            ]
        self.chosen: list[Tensor] = []  # (runs, units) of each layer, between the two methods of a step

    def before_update(self, gradient: Tensor, step: int) -> None:
        self.chosen = [self.inactive(i, score) for i, score in enumerate(self.scores(gradient))]

    def after_update(self, step: int) -> None:
        self.resets.reset(step, self.chosen)

    def scores(self, gradient: Tensor) -> list[Tensor]:
        """Of each hidden layer (runs, units), float64: gradient magnitudes divided by their mean over the layer."""
        found = []
        for i, hidden in enumerate(self.resets.units):
            if self.signal == "weight_gradient":
                magnitude = hidden.incoming_magnitude(gradient).double()
            else:
                slopes = self.learner.activation_gradients[i]
                magnitude = hidden.of_units(slopes.abs().double().movedim(2, 1).flatten(2).mean(2))
            found.append(magnitude / (magnitude.mean(1, keepdim=True) + EPS))
        return found

    def inactive(self, i: int, score: Tensor) -> Tensor:
        """(runs, units): which units of hidden layer i are to be reset."""
        mask = (score <= self.thresholds) & (score.amax(1, keepdim=True) > 0)
        if self.most is None:
            return mask
        rank = score.argsort(dim=1, stable=True).argsort(dim=1)
        return mask & (rank < self.most[i])
