"""CIFAR-100 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32×32 RGB pixels, 100 classes.

Either the official archive in torchvision's layout, or an `.npz` file with the same arrays, for a part of it.
"""

from __future__ import annotations

import zipfile
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.data.archive import Archive
from lop_sweeps.data.cifar_batches import load_batches
from lop_sweeps.data.published import PublishedFile, PublishedSet
from lop_sweeps.errors import DataError
from lop_sweeps.regular_file import open_regular

CLASSES = 100
MAX_BYTES = 1 << 30  # of a file of arrays; all of CIFAR-100 takes 184 MB

MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)  # per channel, of the training images
KINDS = ("train", "test")

# The MD5 sums are those that torchvision pins.
FILES = (
    PublishedFile("train", 155249918, "md5", "16019d7e3df5f24257cddd939b257f8d"),
    # At least the bytes of its 10,000 images of 3,072 bytes each.
    PublishedFile("test", 30720000, "md5", "f0ef6b0ae62326f3e7ffdfab6717acfc", exact=False),
    PublishedFile("meta", 1473, "md5", "7973b15100ade9c7d40fb424638fde48"),
)

CIFAR100 = PublishedSet(
    "cifar100",
    "CIFAR100",
    "cifar-100-python",
    FILES,
    (
        Archive(
            "cifar-100-python.tar.gz",
            "eb9058c3a382ffc7106e4002c42a8d85",
            ("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",),
            tuple(file.name for file in FILES),
            inside="cifar-100-python/",
        ),
    ),
)


class LabelledImages(NamedTuple):
    """Training and test images with their labels 0 … 99."""

    x_train: NDArray[np.uint8]  # (n, 32, 32, 3)
    y_train: NDArray[np.int64]  # (n,)
    x_test: NDArray[np.uint8]  # (m, 32, 32, 3)
    y_test: NDArray[np.int64]  # (m,)


def check_cifar100(root: Path) -> None:
    """Raise `DataError` unless `train`, `test` and `meta` are in `<root>/cifar-100-python`, with their sizes right.

    Quick, for every job to call; `load_cifar100` and `lop-data verify cifar100` compare checksums too.
    """
    CIFAR100.check(root)


def load_cifar100(root: Path) -> LabelledImages:
    """The official data set with its fine labels, in the order of its files: 50,000 and 10,000 images.

    Raises `DataError` if a file is missing or not as published.
    """
    arrays: list[NDArray[Any]] = []
    for train in (True, False):
        images, labels = load_batches(CIFAR100, root, train=train)
        arrays += [np.ascontiguousarray(images.transpose(0, 2, 3, 1)), labels]
    return LabelledImages(*arrays)


def load_arrays(path: Path) -> LabelledImages:
    """The arrays x_train, y_train, x_test and y_test of an `.npz` file; a part of CIFAR-100, say.

    Images are uint8 (n, 32, 32, 3) with n ≥ 1, labels integers 0 … 99 (n,). Raises `DataError` otherwise. Nothing
    is unpickled, so a file from anybody may be read.
    """
    arrays = {}
    try:
        with open_regular(path, MAX_BYTES) as stream:
            if zipfile.is_zipfile(stream):
                with zipfile.ZipFile(stream) as packed:
                    size = sum(member.file_size for member in packed.infolist())
                if size > MAX_BYTES:
                    raise DataError(f"{path} unpacks to {size:,} bytes; at most {MAX_BYTES:,} are read")
            stream.seek(0)
            file = np.load(stream, allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is a single array; it should be an .npz file of four: {_NAMES}")
            for name in LabelledImages._fields:
                if name not in file:
                    raise DataError(f"{path} has no array {name}; it should have {_NAMES}")
                arrays[name] = file[name]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} cannot be read as an .npz file of {_NAMES}: {error}") from error
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != (32, 32, 3) or not len(images):
            raise DataError(f"{path}: x_{part} is {_described(images)}; it should be uint8 (n, 32, 32, 3), n ≥ 1")
        if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
            raise DataError(f"{path}: y_{part} is {_described(labels)}; it should be integers ({len(images)},)")
        if labels.min() < 0 or labels.max() >= CLASSES:
            raise DataError(f"{path}: y_{part} has labels {labels.min()} … {labels.max()}; allowed: 0 … {CLASSES - 1}")
        arrays[f"y_{part}"] = labels.astype(np.int64)
    return LabelledImages(**arrays)


@lru_cache(maxsize=8)
def class_counts(path: Path, modified: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Training and test images of each class in such a file as it was at its time of modification.

    Reads its labels only. Raises `DataError` where there are none.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            labels = [np.asarray(arrays[f"y_{kind}"]) for kind in KINDS]
        train, test = (tuple(np.bincount(each, minlength=CLASSES)[:CLASSES].tolist()) for each in labels)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} does not hold x_train, y_train, x_test, y_test: {error}") from error
    return train, test


_NAMES = ", ".join(LabelledImages._fields)


def _described(array: NDArray[np.generic]) -> str:
    return f"{array.dtype} {array.shape}"
