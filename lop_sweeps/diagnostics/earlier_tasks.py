"""Accuracy on earlier tasks: what is kept of them, and backward transfer (Lopez-Paz and Ranzato 2017, 1706.08840)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View, share

TASKS, THEN = "tasks", "accuracy_then"


@dataclass(frozen=True)
class EarlierTasks(Diagnostic):
    """The network before a task is tested on tasks that it has learned: every one that it is tested right after.

    With every=10 these are tasks 9, 19, ...: at most `tasks` of them, the first, each followed to the end. examples: of
    each task; online its first ones, in epochs of its test set, or of its training images where it has none. Heads that
    a benchmark sets to zero before each task have forgotten by then.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"copy", "accuracy"})
    values = (
        share("earlier_accuracy", "network", "Accuracy on earlier tasks", "mean over the tasks followed"),
        Value(
            "backward_transfer",
            "network",
            "Backward transfer",
            "mean over the tasks followed, but the last, of the accuracy now minus that right after the task",
            "percentage points",
            100.0,
            positive=False,
        ),
    )

    tasks: int = 20
    examples: int = 1_000

    def __post_init__(self) -> None:
        checks.integer("tasks", self.tasks, 1)
        checks.integer("examples", self.examples, 1)

    def measure(self, run: View) -> Measured:
        if run.task == 0:
            return {}
        followed = [int(task) for task in run.memory.get(TASKS, torch.zeros(0)).tolist()]
        then: list[float] = run.memory.get(THEN, torch.zeros(0, dtype=torch.float64)).tolist()
        network = run.network()
        now = [run.accuracy_on(network, task, int(self.examples)) for task in followed]
        found = {}
        if followed:
            found["backward_transfer"] = sum(a - b for a, b in zip(now, then, strict=True)) / len(followed)
        if len(followed) < self.tasks:
            now.append(run.accuracy_on(network, run.task - 1, int(self.examples)))
            run.memory[TASKS] = torch.tensor([*followed, run.task - 1])
            run.memory[THEN] = torch.tensor([*then, now[-1]], dtype=torch.float64)
        return {"earlier_accuracy": sum(now) / len(now), **found}
