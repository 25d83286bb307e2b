"""CIFAR-10: small photographs (Krizhevsky 2009)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from lop_sweeps.data.cifar10 import CIFAR10 as PUBLISHED
from lop_sweeps.data.cifar_batches import load_batches
from lop_sweeps.data.published import PublishedSet
from lop_sweeps.datasets.dataset import DataSet, LabelledSet


@lru_cache(maxsize=2)
def _read(published: PublishedSet, root: Path, train: bool) -> LabelledSet:
    return LabelledSet(*load_batches(published, root, train=train))


class CIFAR10(DataSet):
    """50,000 training and 10,000 test images (3, 32, 32) of ten classes. `lop-data fetch cifar10`."""

    published: ClassVar[PublishedSet] = PUBLISHED
    shape = (3, 32, 32)
    classes, training_images = 10, 50_000
    # Over all pixels, as commonly used; (0.2023, 0.1994, 0.2010), also met, is a mean of the images' own deviations.
    MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

    def check_data(self, root: Path) -> None:
        self.published.check(root)

    def training_set(self, root: Path) -> LabelledSet:
        return _read(self.published, root, True)

    def test_set(self, root: Path) -> LabelledSet:
        return _read(self.published, root, False)
