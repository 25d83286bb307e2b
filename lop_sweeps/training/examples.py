"""What a pack learns online, on its way from the tasks to the learner's device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import Task, examples_of
from lop_sweeps.benchmarks.permuted_images import PermutedTask

# Inputs gathered at a time, over all runs and steps.
BLOCK_VALUES = {"cpu": 4_000_000, "cuda": 64_000_000}


class Examples:
    """Blocks of mini-batches of the runs' tasks. targets: whether labels are numbers to come close to."""

    def __init__(self, device: torch.device, dtype: torch.dtype, *, targets: bool) -> None:
        self.device, self.dtype, self.targets = device, dtype, targets
        self._images: tuple[NDArray[np.uint8], Tensor] | None = None

    def block(self, tasks: Sequence[Task], batch: int, start: int, steps: int) -> tuple[Tensor, Tensor]:
        """Inputs (steps, runs, batch, inputs) and labels of the mini-batches from example `start` of the tasks on."""
        stop = start + steps * batch
        if self.device.type != "cpu" and _permute_the_same(tasks):
            xs, ys = self._gathered(cast(Sequence[PermutedTask], tasks), start, stop)
        else:
            parts = [examples_of(task, start, stop) for task in tasks]
            xs = torch.from_numpy(np.stack([x for x, _ in parts])).to(self.device, self.dtype)
            ys = torch.from_numpy(np.stack([y for _, y in parts])).to(self.device)
        if self.targets:
            ys = ys.to(self.dtype)
        runs = len(tasks)
        xs = xs.view(runs, steps, batch, -1).transpose(0, 1).contiguous()
        ys = ys.view(runs, steps, batch, *ys.shape[2:]).transpose(0, 1).contiguous()
        return xs, ys

    def steps_at_once(self, tasks: Sequence[Task], batch: int) -> int:
        inputs = int(tasks[0].examples(0, 1)[0].shape[1])
        return max(1, BLOCK_VALUES[self.device.type] // (len(tasks) * batch * inputs))

    def _gathered(self, tasks: Sequence[PermutedTask], start: int, stop: int) -> tuple[Tensor, Tensor]:
        """The tasks' `examples`, gathered on the device from images that are there already."""
        first = tasks[0]
        if self._images is None or self._images[0] is not first.images:
            values = first.scaled(first.images)  # on the host, where the numbers are the same for every engine
            self._images = first.images, torch.from_numpy(values).to(self.device, self.dtype)
        at = np.arange(start, stop) % len(first.order)
        rows = np.stack([task.order[at] for task in tasks])
        labels = torch.from_numpy(first.labels[rows])
        pixels = torch.from_numpy(np.stack([task.pixels for task in tasks]))
        there, pixels = torch.from_numpy(rows).to(self.device), pixels.to(self.device)
        return self._images[1][there.unsqueeze(2), pixels.unsqueeze(1)], labels.to(self.device)


def _permute_the_same(tasks: Sequence[Task]) -> bool:
    """Whether the tasks are permutations of one set of images."""
    first = tasks[0]
    return isinstance(first, PermutedTask) and all(
        isinstance(task, PermutedTask) and task.images is first.images for task in tasks
    )
