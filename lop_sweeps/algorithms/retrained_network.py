"""The retrained network: from scratch for every task, so that nothing is lost and nothing is kept.

The baseline of Dohare et al. 2024 (Nature 632, Fig. 2) to which incremental training is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention


@dataclass(frozen=True)
class RetrainedNetwork(Intervention):
    """Before each task but the first, draw all parameters anew from the network's initial law.

    reset_statistics: also the running statistics of normalisation. reset_optimizer: also the optimiser's state. The
    authors' code keeps both from the task before, so both are false by default.
    """

    reset_statistics: bool = False
    reset_optimizer: bool = False

    def __post_init__(self) -> None:
        checks.flag("reset_statistics", self.reset_statistics)
        checks.flag("reset_optimizer", self.reset_optimizer)

    def next_step(self, step: int) -> None:
        return None

    def pack(self, peers: Sequence[RetrainedNetwork], learner: Learner) -> PackedRetrainedNetwork:
        return PackedRetrainedNetwork(peers, learner)


class PackedRetrainedNetwork(PackedIntervention[RetrainedNetwork]):
    """Retraining on a pack."""

    def before_task(self, run: int, task: int) -> None:
        if task == 0:
            return
        learner, options = self.learner, self.options[run]
        parameters, buffers = learner.redraw(run, "retrained network", task)
        for name, value in parameters.items():
            learner.view(learner.parameters, name)[run] = value
        if options.reset_statistics:
            for name, value in buffers.items():
                learner.buffers[name][run] = value
        if options.reset_optimizer:
            learner.optimizer.restart(run)
