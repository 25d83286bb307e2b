"""A user's method that notes when it is called, and has all methods that there are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every
from lop_sweeps.algorithms.one_run import OneRun, Run

CALLS: set[tuple[str, int]] = set()  # method, task
NAMES = ("plan", "before_update", "after_optimizer", "after_update", "before_task", "report", "clear_report")
TESTED = ("evaluated_parameters", "tested_beside")


@dataclass(frozen=True)
class Witness(Intervention):
    period: int = 1

    def next_step(self, step: int) -> int:
        return every(self.period, step)

    def pack(self, peers: Sequence[Witness], learner: Learner) -> PackedWitness:
        return PackedWitness(peers, learner)


class PackedWitness(PackedIntervention[Witness]):
    def note(self, name: str) -> None:
        source: Any = self.learner.source  # type: ignore[attr-defined]
        CALLS.add((name, source.task))

    def plan(self, step: int, steps: int) -> None:
        self.note("plan")

    def before_update(self, gradient: Tensor, step: int) -> None:
        self.note("before_update")

    def after_optimizer(self, before: Tensor, step: int) -> None:
        self.note("after_optimizer")

    def after_update(self, step: int) -> None:
        self.note("after_update")

    def before_task(self, run: int, task: int) -> None:
        self.note("before_task")

    def evaluated_parameters(self, run: int) -> Tensor | None:
        self.note("evaluated_parameters")
        return None

    def tested_beside(self) -> dict[str, Tensor]:
        self.note("tested_beside")
        return {}

    def report(self, run: int) -> dict[str, list[float]]:
        self.note("report")
        return {}

    def clear_report(self) -> None:
        self.note("clear_report")


@dataclass(frozen=True)
class WithOwn(Intervention):
    """A class that has an option of this name itself."""

    from_task: int = 7

    def pack(self, peers: Sequence[WithOwn], learner: Learner) -> PackedIntervention[WithOwn]:
        return PackedIntervention(peers, learner)


@dataclass(frozen=True)
class Returning(OneRun):
    """After every update back to what the parameters were when it began."""

    def start(self, run: Run) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in run.parameters.items()}

    def after_update(self, run: Run) -> None:
        for name, value in run.state.items():
            run.parameters[name] = value
