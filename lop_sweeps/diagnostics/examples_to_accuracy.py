"""Examples until an accuracy is reached: how fast a task is learned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Learning, Measured, Value, share

UPDATES, RIGHT, EXAMPLES, REACHED = "window_updates", "window_accuracy", "task_examples", "reached"
ZERO = torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True)
class ExamplesToAccuracy(Diagnostic):
    """Examples of the task until their mean accuracy before each update, in windows of `window`, is `accuracy` or more.

    Where no window is so good, all of the task's examples count: it would take more. A window that the task does not
    fill does not count.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"learning", "accuracy"})
    values = (
        Value("examples_to_accuracy", "network", "Examples to an accuracy", "of a task; all of them if never reached"),
        share("accuracy_reached", "network", "Tasks that reach it", "whether the accuracy was reached: 1 or 0"),
    )

    accuracy: float = 0.8
    window: int = 500

    def __post_init__(self) -> None:
        checks.number("accuracy", self.accuracy, 0.0, 1.0)
        checks.integer("window", self.window, 1)

    def follow(self, learning: Learning, memory: dict[str, Tensor]) -> None:
        memory[EXAMPLES] = learning.examples[-1].double()
        if memory.get(REACHED, ZERO) > 0:
            return
        size = -(-int(self.window) // learning.batch_size)
        filled = int(memory.get(UPDATES, ZERO))
        accuracies = learning.accuracies.double().numpy()
        sums = np.bincount((filled + np.arange(len(accuracies))) // size, weights=accuracies)
        sums[0] += float(memory.get(RIGHT, ZERO))
        windows, left = divmod(filled + len(accuracies), size)
        reached = np.flatnonzero(sums[:windows] / size >= self.accuracy)
        if len(reached):
            memory[REACHED] = learning.examples[(int(reached[0]) + 1) * size - filled - 1].double()
        memory[UPDATES] = torch.tensor(float(left), dtype=torch.float64)
        memory[RIGHT] = torch.tensor(sums[-1] if left else 0.0, dtype=torch.float64)

    def summary(self, memory: Mapping[str, Tensor]) -> Measured:
        reached = float(memory.get(REACHED, ZERO))
        return {"examples_to_accuracy": reached or float(memory[EXAMPLES]), "accuracy_reached": float(reached > 0)}
