"""What streams of both protocols share: a data set, seen as a change shows it in each task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lop_sweeps import checks
from lop_sweeps.benchmarks import pixels
from lop_sweeps.changes.change import Change, Pool, View
from lop_sweeps.datasets.dataset import DataSet, LabelledSet
from lop_sweeps.errors import ConfigError


class Stream:
    """data: which images. change: what differs between tasks. Neither knows of the other, nor of how they are learned.

    relearn: whether the last of the tasks is the first once more.
    PARTS: options that are components themselves; nothing is handed on to them. ENDS: options that make the last task
    another one; with one of them, a longer stream is not this one, further on.
    """

    PARTS: ClassVar[Mapping[str, frozenset[str]]] = {"data": frozenset(), "change": frozenset()}
    ENDS: ClassVar[frozenset[str]] = frozenset({"relearn"})
    BIN_TASKS: ClassVar[int] = 1
    loss = "cross_entropy"

    def __init__(self, num_tasks: int, data: DataSet, change: Change, *, relearn: bool) -> None:
        self.num_tasks = checks.integer("num_tasks", num_tasks, 1)
        self.relearn = checks.flag("relearn", relearn)
        for key, part, kind in (("data", data, DataSet), ("change", change, Change)):
            if not isinstance(part, kind):
                raise ConfigError(key, part, f"must be chosen: benchmark/{key}=...")
        self.data, self.change = data, change
        self.shape = data.shape
        self.inputs = int(np.prod(data.shape))
        self.outputs = change.outputs(data.classes)
        try:
            change.check(data.classes, data.training_images)
        except ConfigError as error:
            raise error.under("change") from error
        self.most_tasks = change.most_tasks(data.classes)
        if self.most_tasks is not None and self.num_tasks - self.relearn > self.most_tasks:
            allowed = f"must be at most {self.most_tasks}: so many tasks has {type(change).__name__} of these data"
            raise ConfigError("num_tasks", num_tasks, allowed)
        self._train: LabelledSet | None = None
        self._test: LabelledSet | None = None

    def check_data(self, root: Path) -> None:
        self.data.check_data(root)

    def load(self, root: Path) -> None:
        self._train, self._test = self.data.training_set(root), self.data.test_set(root)
        self._pool = Pool(self._train.labels, self._test.labels if self._test else None, self.data.classes, self.inputs)

    @property
    def train_images(self) -> NDArray[np.uint8]:
        """(n, channels, height, width)"""
        assert self._train is not None, "load the data first"
        return self._train.images

    @property
    def test_images(self) -> NDArray[np.uint8] | None:
        return self._test.images if self._test else None

    def shown(self, index: int) -> int:
        """The task that is learned as number `index`."""
        return 0 if self.relearn and index == self.num_tasks - 1 else index

    def view(self, seed: int, index: int) -> View:
        return self.change.view(self._pool, seed, self.shown(index))


def centred(inputs: str) -> bool:
    """Whether the option `inputs` of an image benchmark asks for pixels from -1 to 1."""
    return checks.choice("inputs", inputs, pixels.INPUTS) == pixels.MINUS_ONE_ONE
