"""Hare and tortoise: learn fast, average slowly, and now and then go back to the average (2024, arXiv 2406.02596)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention

UNITS = ("epochs", "updates")


@dataclass(frozen=True)
class HareAndTortoise(Intervention):
    """A slow average of the weights is kept, the tortoise, and every now and then learning goes on from it.

    After each update, tortoise <- mu tortoise + (1 - mu) theta; every `period` epochs, theta <- tortoise. The network
    that learns is the hare, and online accuracy is the hare's; in training by epochs the tortoise is tested beside it,
    with the hare's running statistics of normalisation (`tortoise_test_accuracy`, `tortoise_test_cross_entropy`). The
    tortoise begins as what the network is before the first update.

    mu: 0: the tortoise is the hare, and nothing is changed.
    period: epochs are counted over the whole run. Online an epoch is a task, since each of its examples is seen once;
        in control it is a pass over a rollout.
    period_in: epochs, or updates.

    The optimiser's state stays. The authors' code is not public any more; what a public copy of their paper says.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"mu"})

    mu: float = 0.999
    period: int = 10
    period_in: str = "epochs"

    def __post_init__(self) -> None:
        checks.number("mu", self.mu, 0.0, 1.0)
        checks.integer("period", self.period, 1)
        checks.choice("period_in", self.period_in, UNITS)

    def pack(self, peers: Sequence[HareAndTortoise], learner: Learner) -> PackedHareAndTortoise:
        return PackedHareAndTortoise(peers, learner)


class PackedHareAndTortoise(PackedIntervention[HareAndTortoise]):
    """Hare and tortoise on a pack; tortoise: (runs, parameters). begun: (runs,), whether it follows already."""

    def __init__(self, runs: Sequence[HareAndTortoise], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.fill = 1 - self.per_run("mu")
        self.tortoise = learner.parameters.clone()
        self.begun = torch.zeros(len(runs), dtype=torch.bool, device=learner.parameters.device)

    def plan(self, step: int, steps: int) -> None:
        torch.where(self.begun.unsqueeze(1), self.tortoise, self.learner.parameters, out=self.tortoise)
        self.begun.fill_(True)

    def after_update(self, step: int) -> None:
        self.tortoise.lerp_(self.learner.parameters, self.fill)
        if self._goes_back(step):
            self.learner.parameters.copy_(self.tortoise)

    def _goes_back(self, step: int) -> bool:
        options = self.options[0]
        passed = step + 1 if options.period_in == "updates" else self.learner.epochs_over(step)
        return passed is not None and passed % int(options.period) == 0

    def tested_beside(self) -> dict[str, Tensor]:
        return {"tortoise": self.tortoise}

    def state(self) -> dict[str, Tensor]:
        return {"tortoise": self.tortoise, "begun": self.begun}
