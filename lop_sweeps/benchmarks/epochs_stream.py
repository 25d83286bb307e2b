"""A stream of any data set and change, learned in epochs: many passes over a task's training images, then a test."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks import pixels
from lop_sweeps.benchmarks.benchmark import EpochsTask, Split
from lop_sweeps.benchmarks.stream import Stream
from lop_sweeps.changes.change import Change
from lop_sweeps.datasets.dataset import DataSet
from lop_sweeps.diagnostics.measure import PROBE_SAMPLES
from lop_sweeps.errors import ConfigError

STANDARDISED = "standardised"


class EpochsStream(Stream):
    """num_tasks tasks of `epochs` passes in mini-batches of `batch_size`, each in an order of its own.

    last_batch: what becomes of a pass's last images where they fill no mini-batch: drop = they wait for another pass;
    keep = they are a smaller one.
    new_heads: whether the output layer is set to zero before each task. evaluate_every: epochs between tests; there is
    always one after a task's last epoch. inputs: what pixels are scaled to: zero_one, minus_one_one, or standardised,
    by mean and standard deviation of the data set's training pixels in each channel. relearn: the last task is the
    first once more.
    """

    version: ClassVar[int] = 1
    protocol: ClassVar[Literal["epochs"]] = "epochs"
    DRAWS: ClassVar[int] = 0
    PROBE_BATCH: ClassVar[int | None] = None
    augmented: frozenset[str] = frozenset()
    restore_best, online_accuracy = False, True

    def __init__(
        self,
        num_tasks: int,
        epochs: int,
        data: DataSet,
        change: Change,
        batch_size: int = 100,
        new_heads: bool = False,
        evaluate_every: int = 1,
        inputs: str = pixels.ZERO_ONE,
        last_batch: str = "drop",
        relearn: bool = False,
    ) -> None:
        super().__init__(num_tasks, data, change, relearn=relearn)
        self.epochs = checks.integer("epochs", epochs, 1)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.new_heads = checks.flag("new_heads", new_heads)
        self.evaluate_every = checks.integer("evaluate_every", evaluate_every, 1)
        self.keeps_last = checks.choice("last_batch", last_batch, ("drop", "keep")) == "keep"
        self.scale = checks.choice("inputs", inputs, (*pixels.INPUTS, STANDARDISED))
        if self.scale == STANDARDISED and (data.MEAN is None or data.STD is None):
            raise ConfigError("inputs", inputs, f"needs a data set whose mean is known; {type(data).__name__}'s is not")
        if change.images(0, data.training_images) is None:
            allowed = "needs the number of training images; set benchmark.change.count"
            raise ConfigError("change", type(change).__name__, allowed)
        fewest = min(self.images(index) for index in range(num_tasks))
        if self.batch_size > fewest and not self.keeps_last:
            raise ConfigError("batch_size", batch_size, f"must be at most {fewest}: so many images has a task")

    @property
    def PERFORMANCE(self) -> str:
        """Figures show the accuracy on the test set, or where there is none, that before each update."""
        return "test_accuracy" if self.change.TESTED and self.data.tested else "online_accuracy"

    def images(self, index: int) -> int:
        """Training images of task `index`."""
        return int(self.change.images(self.shown(index), self.data.training_images) or 0)

    def load(self, root: Path) -> None:
        super().load(root)
        both = [self.train_images, *([] if self.test_images is None else [self.test_images])]
        self._images = torch.from_numpy(np.concatenate(both) if len(both) > 1 else both[0])

    def steps_per_epoch(self, index: int) -> int:
        full, left = divmod(self.images(index), self.batch_size)
        return full + (self.keeps_last and left > 0)

    def task(self, seed: int, index: int) -> EpochsTask:
        view = self.view(seed, index)
        test = view.test and Split(view.test.rows + len(self.train_images), view.test.labels)
        probe = streams.generator(seed, "probe", index).permutation(view.train.rows)[:PROBE_SAMPLES]
        return EpochsTask(self._images, view.train, test, probe, outputs=view.outputs, pixels=view.pixels)

    def prepare(self, images: Tensor, uniforms: Tensor | None, dtype: torch.dtype) -> Tensor:
        values = images.to(dtype).div_(self.data.BRIGHTEST)
        if self.scale == pixels.MINUS_ONE_ONE:
            values.mul_(2.0).sub_(1.0)
        elif self.scale == STANDARDISED:
            mean, std = (values.new_tensor(one).view(-1, 1, 1) for one in (self.data.MEAN, self.data.STD))
            values.sub_(mean).div_(std)
        return values.flatten(1)
