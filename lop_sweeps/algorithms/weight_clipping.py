"""Weight clipping (Elsayed et al. 2024, arXiv 2407.01704).

Their code: github.com/mohmdelsayed/weight-clipping, `core/optim/weight_clipping.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.networks.network import Network


@dataclass(frozen=True)
class WeightClipping(Intervention):
    """After each update, cut every weight to [-kappa s, kappa s], s = 1 / sqrt(fan_in) of its matrix.

    A bias has the bound of the weights beside it. The fan-in of a convolution is inputs x height x width.
    kappa: the authors' initial weights (`network.init=default`) are uniform within kappa = 1, kaiming's for rectifiers
        within 2.45, so that a smaller one cuts them at the first update. A large one (1e30) never clips.
    output: also the output layers.

    The optimiser's state stays as it is. Parameters of normalisations and activations are not clipped. The log has
    `clipped_fraction`, of each weight matrix with its bias: the share of entries outside their bound before they are
    cut, mean over the updates of the task.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"kappa"})
    compiled_part: ClassVar[str | None] = "lop_sweeps.fused.parts.weight_clipping"

    kappa: float = 1.0
    output: bool = True

    def __post_init__(self) -> None:
        checks.number("kappa", self.kappa, 0.0, above=True)
        checks.flag("output", self.output)

    def check(self, network: Network) -> None:
        matrices.check_weights(network, output=self.output)

    def pack(self, peers: Sequence[WeightClipping], learner: Learner) -> PackedWeightClipping:
        return PackedWeightClipping(peers, learner)


class PackedWeightClipping(PackedIntervention[WeightClipping]):
    """Weight clipping on a pack.

    clipped: (runs, matrices), entries cut since the last report. updates: (runs,), in which.
    """

    def __init__(self, runs: Sequence[WeightClipping], learner: Learner) -> None:
        super().__init__(runs, learner)
        parameters = learner.parameters
        kappa = self.per_run("kappa")
        self.bounds = torch.full_like(parameters, torch.inf)
        self.groups: list[list[str]] = []
        self.entries: list[int] = []
        for weight in matrices.weights(learner, output=runs[0].output):
            shape = learner.view(parameters, weight).shape[1:]
            group = matrices.with_biases(learner, [weight])
            for name in group:
                place = learner.view(self.bounds, name)
                place.copy_(matrices.along(kappa / sqrt(prod(shape[1:])), place).expand_as(place))
            self.groups.append(group)
            self.entries.append(sum(learner.view(parameters, name)[0].numel() for name in group))
        self.negative = -self.bounds
        self.clipped = torch.zeros(len(runs), len(self.groups), dtype=torch.int64, device=parameters.device)
        self.updates = torch.zeros(len(runs), dtype=torch.int64, device=parameters.device)

    def after_update(self, step: int) -> None:
        parameters, view = self.learner.parameters, self.learner.view
        outside = parameters.abs() > self.bounds
        for i, group in enumerate(self.groups):
            for name in group:
                self.clipped[:, i] += view(outside, name).flatten(1).sum(1)
        self.updates += 1
        torch.clamp(parameters, self.negative, self.bounds, out=parameters)

    def state(self) -> dict[str, Tensor]:
        return {"clipped": self.clipped, "updates": self.updates}

    def report(self, run: int) -> dict[str, list[float]]:
        updates = max(int(self.updates[run]), 1)
        shares = zip(self.clipped[run].tolist(), self.entries, strict=True)
        return {"clipped_fraction": [count / (updates * entries) for count, entries in shares]}

    def clear_report(self) -> None:
        self.clipped.zero_()
        self.updates.zero_()
