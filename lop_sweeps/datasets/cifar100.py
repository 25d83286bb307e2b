"""CIFAR-100: small photographs (Krizhevsky 2009), with their fine labels."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from lop_sweeps import checks
from lop_sweeps.data import cifar100
from lop_sweeps.data.cifar_batches import load_batches
from lop_sweeps.datasets.dataset import DataSet, LabelledSet
from lop_sweeps.errors import DataError


@lru_cache(maxsize=2)
def _official(root: Path, train: bool) -> LabelledSet:
    return LabelledSet(*load_batches(cifar100.CIFAR100, root, train=train))


@lru_cache(maxsize=1)
def _part(path: Path) -> tuple[LabelledSet, LabelledSet]:
    """Training and test set of a file."""
    data = cifar100.load_arrays(path)
    pairs = ((data.x_train, data.y_train), (data.x_test, data.y_test))
    train, test = (LabelledSet(np.ascontiguousarray(x.transpose(0, 3, 1, 2)), y) for x, y in pairs)
    return train, test


class CIFAR100(DataSet):
    """50,000 training and 10,000 test images (3, 32, 32) of 100 classes. `lop-data fetch cifar100`.

    file: an .npz with x_train, y_train, x_test, y_test to use instead of the official archive, a part of it, say;
    relative to the folder of the data sets. Images are uint8 (n, 32, 32, 3), labels 0 … 99.
    """

    shape = (3, 32, 32)
    classes = cifar100.CLASSES
    MEAN, STD = cifar100.MEAN, cifar100.STD  # over all pixels, as commonly used; also of a part

    def __init__(self, file: str | None = None) -> None:
        self.file = None if file is None else checks.text("file", file)
        self.training_images = 50_000 if file is None else None

    def check_data(self, root: Path) -> None:
        if self.file is None:
            cifar100.check_cifar100(root)
        elif (path := self._path(root, self.file)).is_file():
            cifar100.class_counts(path, path.stat().st_mtime_ns)
        else:
            raise DataError(f"{path} is missing; `file` names it, relative to {root}")

    def training_set(self, root: Path) -> LabelledSet:
        return _official(root, True) if self.file is None else _part(self._path(root, self.file))[0]

    def test_set(self, root: Path) -> LabelledSet:
        return _official(root, False) if self.file is None else _part(self._path(root, self.file))[1]

    @staticmethod
    def _path(root: Path, file: str) -> Path:
        return root / Path(file).expanduser()
