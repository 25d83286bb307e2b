"""Wasserstein regularisation (Lewandowski et al. 2023, arXiv 2312.00246; also 2406.06811, version 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention


@dataclass(frozen=True)
class Wasserstein(Intervention):
    """Pull the distribution of each layer's weights towards the one that it began with, and let single weights travel.

    The loss gets strength * sum_i (w_(i) - w0_(i))^2 for each weight matrix, w_(i) its i-th smallest weight now and
    w0_(i) at the start of the run: the squared 2-Wasserstein distance of the two, times the number of weights. It is
    L2 Init on sorted weights; the gradient is 2 strength (w_(i) - w0_(i)), so a strength here is half of one there.
    Of equal weights the first in memory is the smaller one.
    biases: each bias vector in the same way (the papers speak of weights).

    No code of the authors and no value of theirs for the strength was found. The output layer is included.
    Normalisations are left out. Strength 0 adds zeros. Sorting costs n log n for each matrix and step.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"strength"})

    strength: float = 1e-3
    biases: bool = False

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0)
        checks.flag("biases", self.biases)

    def pack(self, peers: Sequence[Wasserstein], learner: Learner) -> PackedWasserstein:
        return PackedWasserstein(peers, learner)


class PackedWasserstein(PackedIntervention[Wasserstein]):
    """Wasserstein regularisation on a pack."""

    def __init__(self, runs: Sequence[Wasserstein], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.twice = 2.0 * self.per_run("strength")
        names = list(matrices.weights(learner, output=True))
        self.names = matrices.with_biases(learner, names) if runs[0].biases else names
        initial = (learner.view(learner.parameters, name) for name in self.names)
        self.initial = [values.flatten(1).sort(1).values for values in initial]  # (runs, weights)

    def before_update(self, gradient: Tensor, step: int) -> None:
        for (values, slope), initial in zip(
            matrices.each(self.learner, gradient, self.names), self.initial, strict=True
        ):
            ordered, places = values.flatten(1).sort(dim=1, stable=True)
            away = torch.empty_like(ordered).scatter_(1, places, ordered - initial)
            slope.addcmul_(away.view(slope.shape), matrices.along(self.twice, slope))
