"""The retrained network: from scratch for every task, so that nothing is lost and nothing is kept.

The baseline of Dohare et al. 2024 (Nature 632, Fig. 2) to which incremental training is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import BetweenTasks, Learner
from lop_sweeps.networks.network import Network


@dataclass(frozen=True)
class RetrainedNetwork:
    """Before each task but the first, draw all parameters anew from the network's initial law.

    reset_statistics: also the running statistics of normalisation. reset_optimizer: also the optimiser's state. The
    authors' code keeps both from the task before, so both are false by default.
    """

    version: ClassVar[int] = 1
    PER_RUN: ClassVar[frozenset[str]] = frozenset()
    resets_units: ClassVar[bool] = False

    reset_statistics: bool = False
    reset_optimizer: bool = False

    def __post_init__(self) -> None:
        checks.flag("reset_statistics", self.reset_statistics)
        checks.flag("reset_optimizer", self.reset_optimizer)

    def check(self, network: Network) -> None:
        """Acts on every network."""

    def pack(self, peers: Sequence[RetrainedNetwork], learner: Learner) -> PackedRetrainedNetwork:
        return PackedRetrainedNetwork(self, learner)


class PackedRetrainedNetwork(BetweenTasks):
    """Retraining on a pack."""

    def __init__(self, options: RetrainedNetwork, learner: Learner) -> None:
        self.options, self.learner = options, learner

    def before_task(self, run: int, task: int) -> None:
        if task == 0:
            return
        learner = self.learner
        parameters, buffers = learner.redraw(run, "retrained network", task)
        for name, value in parameters.items():
            learner.view(learner.parameters, name)[run] = value
        if self.options.reset_statistics:
            for name, value in buffers.items():
                learner.buffers[name][run] = value
        if self.options.reset_optimizer:
            learner.optimizer.restart(run)
