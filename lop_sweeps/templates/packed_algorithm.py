"""My idea, to begin with L2 Init: weights are pulled to where they began (Kumar et al. 2023, arXiv 2308.11958)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention


@dataclass(frozen=True)
class MyAlgorithm(Intervention):
    """g <- g + strength (theta - theta_0), for every parameter."""

    PER_RUN = frozenset({"strength"})  # options in which runs that are trained side by side may differ

    strength: float = 1e-2  # an option; on the command line: algorithm.my_algorithm.strength=0.1

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0)

    def pack(self, peers: Sequence[MyAlgorithm], learner: Learner) -> PackedMyAlgorithm:
        return PackedMyAlgorithm(peers, learner)


class PackedMyAlgorithm(PackedIntervention[MyAlgorithm]):
    """The same for all runs of a pack at once: parameters and gradient are (runs, parameters)."""

    def __init__(self, runs: Sequence[MyAlgorithm], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.strength, self.initial = self.per_run("strength"), learner.parameters.clone()

    def before_update(self, gradient: Tensor, step: int) -> None:
        gradient += self.strength * (self.learner.parameters - self.initial)

    # What else a method may define; docs/extending.md has the order of calls, and what a learner offers:
    #   after_optimizer(before, step)    directly after the optimiser; before: the parameters that it was given
    #   after_update(step)               after that step
    #   before_task(run, task)           between tasks, for each run
    #   state()                          {name: tensor with a leading run dimension}, which is in checkpoints
    #   report(run)                      {name: [numbers]} for the log's next row; clear_report() begins anew
    # And, of the options: next_step(step), when it acts: `return every(500, step)`; every step if it does not say.
