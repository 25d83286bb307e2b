"""A task whose end is on its way to the next one: gradual drift, the control for abrupt changes (arXiv 2602.09234)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.benchmarks.permuted_images import PermutedTask

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DriftingTask:
    """Two tasks, mixed. weight (examples,): how far each example is on the way to `after`, from 0 to 1.

    draws (examples,): uniform on [0, 1); an example whose draw is below its weight comes from `after`. interpolate: all
    images are those of `before`, their inputs a mixture of what both tasks make of them; labels are drawn as above.
    """

    before: PermutedTask
    after: PermutedTask
    weight: Floats
    draws: Floats
    interpolate: bool

    def examples(self, start: int, stop: int) -> tuple[Floats, NDArray[np.int64]]:
        weight, is_next = self.weight[start:stop], self.is_next(start, stop)
        x, y = self.before.examples(start, stop)
        if not self.interpolate:
            if is_next.any():
                next_x, next_y = self.after.examples(start, stop)
                x[is_next], y[is_next] = next_x[is_next], next_y[is_next]
            return x, y
        if weight.any():
            rows = self.before.rows(start, stop)
            x = (1.0 - weight)[:, None] * x + weight[:, None] * self.after.inputs_of(rows)
            y = np.where(is_next, self.after.labels[rows], y)
        return x, y

    def is_next(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Whether the examples `start` ... `stop - 1` come from the next task; interpolated, their labels do."""
        found: NDArray[np.bool_] = self.draws[start:stop] < self.weight[start:stop]
        return found


def weights(examples: int, share: float) -> Floats:
    """(examples,): 0 until the last `share` of them, then rising linearly, to 1 for the last one."""
    rising = round(share * examples)
    weight = np.zeros(examples)
    weight[examples - rising :] = np.arange(1, rising + 1) / max(rising, 1)
    return weight
