"""A stream of any data set and change, learned online: each example once, predicted before it is learned from."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks import pixels
from lop_sweeps.benchmarks.benchmark import HELD_OUT, check_lengths
from lop_sweeps.benchmarks.drifting_task import DriftingTask, weights
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.benchmarks.stream import Stream, centred
from lop_sweeps.changes.change import Change
from lop_sweeps.datasets.dataset import DataSet
from lop_sweeps.errors import ConfigError


class OnlineStream(Stream):
    """num_tasks tasks of `examples_per_task` examples, in mini-batches of `batch_size`.

    A task's images come in an order of its own; a task that is longer than its images shows them again, in the same
    order. inputs: what pixels are scaled to, zero_one or minus_one_one. drift: over this last share of a task an
    example comes from the next task with a probability that rises linearly from 0 to 1; 0 = the change is abrupt.
    interpolate: instead, each input goes linearly from what this task makes of an image to what the next one makes of
    it; the last example of a task is then one of the next. relearn: the last task is the first once more, its examples
    in the same order.
    """

    version: ClassVar[int] = 1
    protocol: ClassVar[Literal["online"]] = "online"

    def __init__(
        self,
        num_tasks: int,
        examples_per_task: int,
        data: DataSet,
        change: Change,
        batch_size: int = 1,
        inputs: str = pixels.ZERO_ONE,
        drift: float = 0.0,
        interpolate: bool = False,
        relearn: bool = False,
    ) -> None:
        super().__init__(num_tasks, data, change, relearn=relearn)
        check_lengths(num_tasks, examples_per_task, batch_size)
        self.examples_per_task, self.batch_size = int(examples_per_task), int(batch_size)
        self.centred = centred(inputs)
        self.drift = checks.number("drift", drift, 0.0, 1.0)
        self.interpolate = checks.flag("interpolate", interpolate)
        if self.interpolate and not change.SAME_IMAGES:
            allowed = f"needs a change that shows the same images in every task; {type(change).__name__} does not"
            raise ConfigError("interpolate", interpolate, allowed)
        if self.interpolate and not self.drift:
            raise ConfigError("interpolate", interpolate, "needs a drift: benchmark.drift=0.5, say")
        if change.MASKS_OUTPUTS:
            allowed = f"must be another one: {type(change).__name__} leaves outputs out of the loss, which needs epochs"
            raise ConfigError("change", type(change).__name__, allowed)
        self._flat: NDArray[np.uint8] | None = None

    def load(self, root: Path) -> None:
        super().load(root)
        assert self._train is not None
        self._flat = self._train.flat
        self._as_stored = np.arange(self.inputs)

    def task(self, seed: int, index: int) -> PermutedTask | DriftingTask:
        index = self.shown(index)
        task = self._abrupt(seed, index)
        following, most = self.shown(index + 1), self.most_tasks
        if not self.drift or index == HELD_OUT or (most is not None and following >= most):
            return task
        draws = streams.generator(seed, "drift", index).random(self.examples_per_task)
        weight = weights(self.examples_per_task, self.drift)
        return DriftingTask(task, self._abrupt(seed, following), weight, draws, self.interpolate)

    def _abrupt(self, seed: int, index: int) -> PermutedTask:
        assert self._flat is not None, "load the data first"
        view = self.view(seed, index)
        order = streams.generator(seed, "example order", index).permutation(len(view.train.rows))
        labels = np.zeros(len(self._flat), np.int64)
        labels[view.train.rows] = view.train.labels
        shown = self._as_stored if view.pixels is None else view.pixels
        rows = view.train.rows[order]
        return PermutedTask(self._flat, labels, self.data.BRIGHTEST, shown, rows, self.centred)
