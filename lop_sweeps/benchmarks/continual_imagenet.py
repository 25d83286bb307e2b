"""Continual ImageNet: one binary classification of two ImageNet classes after another (Nature 632, Fig. 1).

Images of 32x32 pixels, scaled to [-1, 1] (how the authors' are scaled is not known; single_expr.py uses them as they
are stored). Each task trains for many epochs on 600 images of each of two classes and tests on 100 others; the output
layer is set to zero before it. Their class sequences are not public, and their curves have no period of 500 tasks, so
here each seed's sequence is one shuffle of all classes after another.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks import pixels
from lop_sweeps.benchmarks.benchmark import EpochsTask, Split
from lop_sweeps.data.imagenet32 import check_unchanged, class_images
from lop_sweeps.diagnostics.measure import PROBE_SAMPLES
from lop_sweeps.errors import ConfigError


class ContinualImageNet:
    """num_tasks tasks (published: 2,000 to 5,000) of `epochs` passes (250) in mini-batches of `batch_size` (100).

    classes: of the data set, of which each task takes the next `classes_per_task`. train_per_class, test_per_class:
    the first images of a class's file train, the next ones test. new_heads: whether the outputs are zeroed before each
    task. evaluate_every: epochs between tests; there is always one after a task's last epoch. inputs: what pixels are
    scaled to, minus_one_one or zero_one.
    """

    version: ClassVar[int] = 1
    protocol: ClassVar[Literal["epochs"]] = "epochs"
    BIN_TASKS: ClassVar[int] = 50
    PERFORMANCE: ClassVar[str] = "test_accuracy"
    DRAWS: ClassVar[int] = 0
    PROBE_BATCH: ClassVar[int | None] = None
    augmented: frozenset[str] = frozenset()
    loss = "cross_entropy"
    restore_best = online_accuracy = False
    shape = (3, 32, 32)
    inputs = 3 * 32 * 32

    def __init__(
        self,
        num_tasks: int,
        epochs: int = 250,
        batch_size: int = 100,
        classes: int = 1_000,
        classes_per_task: int = 2,
        train_per_class: int = 600,
        test_per_class: int = 100,
        new_heads: bool = True,
        evaluate_every: int = 250,
        inputs: str = pixels.MINUS_ONE_ONE,
    ) -> None:
        self.num_tasks = checks.integer("num_tasks", num_tasks, 1)
        self.epochs = checks.integer("epochs", epochs, 1)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.classes = checks.integer("classes", classes, 2)
        self.outputs = self.classes_per_task = checks.integer("classes_per_task", classes_per_task, 2)
        self.train_per_class = checks.integer("train_per_class", train_per_class, 1)
        self.test_per_class = checks.integer("test_per_class", test_per_class, 1)
        self.new_heads = checks.flag("new_heads", new_heads)
        self.evaluate_every = checks.integer("evaluate_every", evaluate_every, 1)
        self.centred = checks.choice("inputs", inputs, pixels.INPUTS) == pixels.MINUS_ONE_ONE
        if self.classes % self.classes_per_task:
            raise ConfigError("classes_per_task", classes_per_task, f"must divide classes ({self.classes})")
        images = self.classes_per_task * self.train_per_class
        if images % self.batch_size:
            raise ConfigError("batch_size", batch_size, f"must divide the training images of a task ({images})")
        self._root = Path()

    def check_data(self, root: Path) -> None:
        check_unchanged(root, self.classes, self.train_per_class + self.test_per_class)

    def load(self, root: Path) -> None:
        """Classes are read from disk when a task needs them."""
        self._root = root

    def steps_per_epoch(self, index: int) -> int:
        return self.classes_per_task * self.train_per_class // self.batch_size

    def classes_of(self, seed: int, index: int) -> list[int]:
        """The classes of task `index`, in the order of their labels."""
        shuffle, place = divmod(index * self.classes_per_task, self.classes)
        order = streams.generator(seed, "class order", shuffle).permutation(self.classes)
        return [int(c) for c in order[place : place + self.classes_per_task]]

    def task(self, seed: int, index: int) -> EpochsTask:
        train, each = self.train_per_class, self.train_per_class + self.test_per_class
        images = np.concatenate([class_images(self._root, c)[:each] for c in self.classes_of(seed, index)])
        rows = np.arange(len(images)).reshape(self.classes_per_task, each)
        labels = np.repeat(np.arange(self.classes_per_task), each).reshape(rows.shape)
        probe = streams.generator(seed, "probe", index).permutation(rows[:, :train].flatten())
        return EpochsTask(
            torch.from_numpy(images),
            Split(rows[:, :train].flatten(), labels[:, :train].flatten()),
            Split(rows[:, train:].flatten(), labels[:, train:].flatten()),
            probe[:PROBE_SAMPLES],
        )

    def prepare(self, images: Tensor, uniforms: Tensor | None, dtype: torch.dtype) -> Tensor:
        values = images.to(dtype).div_(255.0)
        return (values.mul_(2.0).sub_(1.0) if self.centred else values).flatten(1)
