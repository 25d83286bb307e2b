"""My idea, to begin with L2 Init: weights are pulled to where they began (Kumar et al. 2023, arXiv 2308.11958)."""

from __future__ import annotations

from dataclasses import dataclass

from lop_sweeps import checks
from lop_sweeps.algorithms.one_run import OneRun, Run


@dataclass(frozen=True)
class MyAlgorithm(OneRun):
    """g <- g + strength (theta - theta_0), for every parameter."""

    PER_RUN = frozenset({"strength"})  # options in which runs that are trained side by side may differ

    strength: float = 1e-2  # an option; on the command line: algorithm.my_algorithm.strength=0.1

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0)

    def before_update(self, run: Run) -> None:
        for name, gradient in run.gradient.items():
            gradient += self.strength * (run.parameters[name] - run.initial[name])

    # What else a method may define; docs/extending.md has the order of calls, and what a run offers:
    #   next_step(step)           when it acts: `return every(500, step)`, say; every step if it does not say
    #   start(run)                {name: tensor} to keep from step to step, as `run.state`; it is in checkpoints
    #   after_optimizer(run)      directly after the optimiser; `run.before` are the parameters that it was given
    #   after_update(run)         after the step number `run.step`
    #   before_task(run, task)    between tasks
    #   report(run)               {name: [numbers]} for the log's next row; clear_report(run) begins anew
