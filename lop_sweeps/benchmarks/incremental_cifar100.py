"""Class-incremental CIFAR-100: five more classes every 200 epochs, all earlier ones stay (Nature 632, Fig. 2).

The network has an output for each of the 100 classes from the start; loss and predictions use those of the classes
seen so far. As in the authors' code (incremental_cifar_experiment.py), of each class's training images the first 50
validate, each task ends with the parameters of its best validation accuracy, and test images are augmented as training
images are; the paper's figure shows the best test accuracy of a task's epochs (`best_test_accuracy`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks import augmentation, pixels
from lop_sweeps.benchmarks.benchmark import HELD_OUT, EpochsTask, Split
from lop_sweeps.data import LabelledImages, check_cifar100, load_arrays, load_cifar100
from lop_sweeps.data.cifar100 import CLASSES, KINDS, MEAN, STD, class_counts
from lop_sweeps.errors import ConfigError, DataError

Channels = tuple[float, float, float]
# Of pixels from 0 to 1, what is subtracted and what divides then.
SCALES: dict[str, tuple[Channels, Channels]] = {
    "standardised": (MEAN, STD),
    pixels.ZERO_ONE: ((0.0,) * 3, (1.0,) * 3),
    pixels.MINUS_ONE_ONE: ((0.5,) * 3, (0.5,) * 3),
}
PROBE_IMAGES = 1_000
Counts = tuple[tuple[int, ...], tuple[int, ...]]  # images of each class, for each kind
OFFICIAL: Counts = ((500,) * CLASSES, (100,) * CLASSES)


class _Pool(NamedTuple):
    """images (n, 3, 32, 32) uint8, training images first; rows of each class, in the order of the data set."""

    images: Tensor
    train: NDArray[np.int64]  # (classes, train_per_class)
    test: NDArray[np.int64]  # (classes, test_per_class)


@lru_cache(maxsize=2)
def _read(path: Path, official: bool) -> LabelledImages:
    return load_cifar100(path) if official else load_arrays(path)


@lru_cache(maxsize=2)
def _pool(path: Path, official: bool, train_per_class: int, test_per_class: int) -> _Pool:
    data = _read(path, official)
    images = np.concatenate([data.x_train, data.x_test]).transpose(0, 3, 1, 2)
    rows = []
    for labels, each in ((data.y_train, train_per_class), (data.y_test, test_per_class)):
        rows.append(np.stack([np.flatnonzero(labels == c)[:each] for c in range(CLASSES)]))
    return _Pool(torch.from_numpy(np.ascontiguousarray(images)), rows[0], rows[1] + len(data.x_train))


def _check_counts(path: Path, counts: Counts, train_per_class: int, test_per_class: int) -> None:
    for kind, found, each in zip(KINDS, counts, (train_per_class, test_per_class), strict=True):
        if min(found) < each:
            known = f"class {found.index(min(found))} has {min(found)} {kind} images, and {each} are wanted"
            raise DataError(f"{path}: {known}; set benchmark.{kind}_per_class")


class IncrementalCIFAR100:
    """Task k has the first `classes_per_task` * (k + 1) classes of the seed's order, for `epochs` passes.

    train_per_class: images of each class in the data set, of which the first `validation_per_class` validate.
    restore_best: whether a task ends with the parameters of its best validation accuracy. augment_test: whether test
    images are augmented. evaluate_every: epochs between evaluations. file: an .npz with x_train, y_train, x_test,
    y_test to use instead of the official archive, a part of it, say; relative to the folder of the data sets.
    inputs: what pixels are scaled to, one of `SCALES`; what augmentation moves in from outside is 0 in all of them.
    """

    version: ClassVar[int] = 1
    protocol: ClassVar[Literal["epochs"]] = "epochs"
    BIN_TASKS: ClassVar[int] = 1
    PERFORMANCE: ClassVar[str] = "best_test_accuracy"
    DRAWS: ClassVar[int] = augmentation.DRAWS
    PROBE_BATCH: ClassVar[int | None] = 100
    loss = "cross_entropy"
    new_heads = online_accuracy = False
    shape = (3, 32, 32)
    inputs, outputs = 3 * 32 * 32, CLASSES

    def __init__(
        self,
        num_tasks: int,
        epochs: int = 200,
        batch_size: int = 90,
        classes_per_task: int = 5,
        train_per_class: int = 500,
        validation_per_class: int = 50,
        test_per_class: int = 100,
        restore_best: bool = True,
        augment_test: bool = True,
        evaluate_every: int = 1,
        file: str | None = None,
        inputs: str = "standardised",
    ) -> None:
        self.classes_per_task = checks.integer("classes_per_task", classes_per_task, 1, CLASSES)
        self.num_tasks = checks.integer("num_tasks", num_tasks, 1, CLASSES // self.classes_per_task)
        self.epochs = checks.integer("epochs", epochs, 1)
        self.batch_size = checks.integer("batch_size", batch_size, 1)
        self.train_per_class = checks.integer("train_per_class", train_per_class, 2)
        most = self.train_per_class - 1
        self.validation_per_class = checks.integer("validation_per_class", validation_per_class, 1, most)
        self.test_per_class = checks.integer("test_per_class", test_per_class, 1)
        self.restore_best = checks.flag("restore_best", restore_best)
        self.augmented = frozenset({"train", "test"} if checks.flag("augment_test", augment_test) else {"train"})
        self.evaluate_every = checks.integer("evaluate_every", evaluate_every, 1)
        self.file = None if file is None else checks.text("file", file)
        self._scale = SCALES[checks.choice("inputs", inputs, SCALES)]
        images = self.classes_per_task * (self.train_per_class - self.validation_per_class)
        if images % self.batch_size:
            allowed = f"must divide the training images that a task adds ({images})"
            raise ConfigError("batch_size", batch_size, allowed)
        self._data: _Pool | None = None

    def _path(self, root: Path) -> Path:
        return root if self.file is None else root / Path(self.file).expanduser()

    def check_data(self, root: Path) -> None:
        path = self._path(root)
        if self.file is None:
            check_cifar100(root)
            _check_counts(path, OFFICIAL, self.train_per_class, self.test_per_class)
        elif path.is_file():
            counts = class_counts(path, path.stat().st_mtime_ns)
            _check_counts(path, counts, self.train_per_class, self.test_per_class)
        else:
            raise DataError(f"{path} is missing; benchmark.file names it, relative to {root}")

    def load(self, root: Path) -> None:
        self._data = _pool(self._path(root), self.file is None, self.train_per_class, self.test_per_class)

    def steps_per_epoch(self, index: int) -> int:
        added = self.classes_per_task * (self.train_per_class - self.validation_per_class)
        return (1 if index == HELD_OUT else index + 1) * added // self.batch_size

    def class_order(self, seed: int) -> NDArray[np.int64]:
        return streams.generator(seed, "class order").permutation(CLASSES)

    def task(self, seed: int, index: int) -> EpochsTask:
        """All classes may be in the stream, so the task that is not has the first of another order, each at the output
        of the one before it there.
        """
        assert self._data is not None, "load the data first"
        order, new = self.class_order(seed), self.classes_per_task
        seen = outputs = order[: new * (index + 1)]
        if index == HELD_OUT:
            order = streams.generator(seed, "class order", HELD_OUT).permutation(CLASSES)
            seen, outputs = order[:new], np.roll(order, 1)[:new]
        train, test, held_out = self._data.train[seen], self._data.test[seen], self.validation_per_class
        probe = streams.generator(seed, "probe", index).permutation(train[-new:].flatten())

        def split(rows: NDArray[np.int64]) -> Split:
            return Split(rows.flatten(), np.repeat(np.arange(len(rows)), rows.shape[1]))

        return EpochsTask(
            self._data.images,
            split(train[:, held_out:]),
            split(test),
            probe=probe[:PROBE_IMAGES],
            validation=split(train[:, :held_out]),
            outputs=outputs,
        )

    def prepare(self, images: Tensor, uniforms: Tensor | None, dtype: torch.dtype) -> Tensor:
        mean, std = _constants(*self._scale, images.device, dtype)
        if uniforms is None:
            return augmentation.standardise(images, mean, std, dtype=dtype).flatten(1)
        moved, inside = augmentation.augment(images, uniforms)
        return augmentation.standardise(moved, mean, std, inside, dtype).flatten(1)


@lru_cache(maxsize=8)
def _constants(mean: Channels, std: Channels, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.tensor(mean, dtype=dtype, device=device), torch.tensor(std, dtype=dtype, device=device)
