"""What a data set gives: labelled images as bytes, and what one must know to scale them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.errors import DataError


@dataclass(frozen=True, eq=False)  # arrays have no equality of their own
class LabelledSet:
    """Images with their labels; raises `DataError` if they are not what is said here."""

    images: NDArray[np.uint8]  # (n, channels, height, width), contiguous, n ≥ 1
    labels: NDArray[np.int64]  # (n,), each 0 … classes − 1

    @cached_property
    def flat(self) -> NDArray[np.uint8]:
        """The images as (n, pixels): the same array every time, since the fused engine compresses each array once."""
        flat: NDArray[np.uint8] = self.images.reshape(len(self.images), -1)
        return flat

    def __post_init__(self) -> None:
        images, labels = self.images, self.labels
        if images.dtype != np.uint8 or images.ndim != 4 or not len(images) or not images.flags.c_contiguous:
            layout = "" if images.flags.c_contiguous else ", not contiguous"
            allowed = "should be uint8 (n, channels, height, width), n ≥ 1, contiguous"
            raise DataError(f"the images of a data set are {images.dtype} {images.shape}{layout}; {allowed}")
        if labels.dtype != np.int64 or labels.shape != images.shape[:1]:
            allowed = f"should be int64 ({len(images)},)"
            raise DataError(f"the labels of a data set are {labels.dtype} {labels.shape}; {allowed}")


class DataSet(ABC):
    """Base of the data sets.

    `shape` is (channels, height, width). A component's `version` is raised when the images or their order change.
    """

    version: ClassVar[int] = 1
    BRIGHTEST: ClassVar[float] = 255.0  # the value of a pixel that stands for 1
    # Per channel, of the training set's pixels scaled to [0, 1]; None where no such constants are known.
    MEAN: ClassVar[tuple[float, ...] | None] = None
    STD: ClassVar[tuple[float, ...] | None] = None

    shape: tuple[int, int, int]
    classes: int
    training_images: int | None = None  # known before the files are read; None where only they tell
    tested: bool = True  # whether there is a test set

    def check_data(self, root: Path) -> None:  # noqa: B027  (a data set may come with a library)
        """Raise `DataError`, with the command that mends it, unless the files are there, below `root`.

        Quick: it is called for every point of a sweep, and reads no images.
        """

    @abstractmethod
    def training_set(self, root: Path) -> LabelledSet:
        """The same images in the same order every time; read once per process, so nobody may write to them."""

    def test_set(self, root: Path) -> LabelledSet | None:
        """Images to test on, or None where the data set has no part for that."""
        return None


def check_labels(labels: NDArray[np.int64], classes: int, where: Path, mend: str) -> None:
    """Raise `DataError` unless all labels of the file `where` are 0 … `classes` − 1. mend: what to do then."""
    if labels.min() < 0 or labels.max() >= classes:
        found = f"has labels {labels.min()} … {labels.max()}, should have 0 … {classes - 1}"
        raise DataError(f"{where} {found}. To mend it: {mend}")
