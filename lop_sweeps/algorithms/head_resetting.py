"""Head resetting: a new output layer for every task, the class-incremental baseline of Dohare et al. 2024 (Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.networks.network import output_parameters


@dataclass(frozen=True)
class HeadResetting(Intervention):
    """Before each task but the first, draw the output layer anew from the network's initial law.

    The optimiser's state stays, as in the authors' code.
    """

    def next_step(self, step: int) -> None:
        return None

    def pack(self, peers: Sequence[HeadResetting], learner: Learner) -> PackedHeadResetting:
        return PackedHeadResetting(peers, learner)


class PackedHeadResetting(PackedIntervention[HeadResetting]):
    """Head resetting on a pack."""

    def before_task(self, run: int, task: int) -> None:
        if task == 0:
            return
        learner = self.learner
        parameters, _ = learner.redraw(run, "head reset", task)
        for name in output_parameters(learner.network):
            learner.view(learner.parameters, name)[run] = parameters[name]
