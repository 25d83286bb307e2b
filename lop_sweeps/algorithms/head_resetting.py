"""Head resetting: a new output layer for every task, the class-incremental baseline of Dohare et al. 2024 (Fig. 2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lop_sweeps.algorithms.intervention import BetweenTasks, Learner
from lop_sweeps.networks.network import Network, output_parameters


@dataclass(frozen=True)
class HeadResetting:
    """Before each task but the first, draw the output layer anew from the network's initial law.

    The optimiser's state stays, as in the authors' code.
    """

    version: ClassVar[int] = 1
    PER_RUN: ClassVar[frozenset[str]] = frozenset()
    resets_units: ClassVar[bool] = False

    def check(self, network: Network) -> None:
        """Acts on every network."""

    def pack(self, peers: Sequence[HeadResetting], learner: Learner) -> PackedHeadResetting:
        return PackedHeadResetting(learner)


class PackedHeadResetting(BetweenTasks):
    """Head resetting on a pack."""

    def __init__(self, learner: Learner) -> None:
        self.learner = learner

    def before_task(self, run: int, task: int) -> None:
        if task == 0:
            return
        learner = self.learner
        parameters, _ = learner.redraw(run, "head reset", task)
        for name in output_parameters(learner.network):
            learner.view(learner.parameters, name)[run] = parameters[name]
