"""ImageNet at 32×32 pixels (Chrabaszcz, Loshchilov and Hutter 2017), from files of a class each."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from lop_sweeps import checks
from lop_sweeps.data.imagenet32 import SHAPE, build_command, check_unchanged, class_images, class_path
from lop_sweeps.datasets.dataset import DataSet, LabelledSet
from lop_sweeps.errors import DataError


@lru_cache(maxsize=2)
def _read(root: Path, classes: int, first: int, each: int) -> LabelledSet:
    """`each` images of every class after its first `first`, class after class; in memory once, never twice."""
    images = np.empty((classes, each, *SHAPE), np.uint8)
    for c in range(classes):
        found = class_images(root, c)[first : first + each]
        if len(found) < each:
            short = f"{class_path(root, c)} has {first + len(found)} images; {first + each} are needed"
            raise DataError(f"{short}. To mend it: {build_command(root)}")
        images[c] = found
    return LabelledSet(images.reshape(-1, *SHAPE), np.repeat(np.arange(classes), each))


class ImageNet32(DataSet):
    """Images (3, 32, 32) of the first `classes` classes, class after class. `lop-data build imagenet32 SOURCE`.

    train_per_class, test_per_class: the first images of a class's file train, the next ones test; 0: no test set.
    The defaults are the data of Continual ImageNet, whose training images take 1.8 GB.

    MEAN and STD depend on what the files were built from, and are not given.
    """

    shape = SHAPE

    def __init__(self, classes: int = 1_000, train_per_class: int = 600, test_per_class: int = 100) -> None:
        self.classes = checks.integer("classes", classes, 2)
        self.train_per_class = checks.integer("train_per_class", train_per_class, 1)
        self.test_per_class = checks.integer("test_per_class", test_per_class, 0)
        self.training_images, self.tested = self.classes * self.train_per_class, self.test_per_class > 0

    def check_data(self, root: Path) -> None:
        check_unchanged(root, self.classes, self.train_per_class + self.test_per_class)

    def training_set(self, root: Path) -> LabelledSet:
        return _read(root, self.classes, 0, self.train_per_class)

    def test_set(self, root: Path) -> LabelledSet | None:
        if not self.test_per_class:
            return None
        return _read(root, self.classes, self.train_per_class, self.test_per_class)
