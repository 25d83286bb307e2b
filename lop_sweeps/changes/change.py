"""What changes from task to task: each task is a view of one data set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lop_sweeps import streams
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.errors import ConfigError

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Pool:
    """What a change sees of a data set. labels (training images,), test_labels (test images,): classes as stored.

    pixels: numbers in an image.
    """

    labels: Integers
    test_labels: Integers | None
    classes: int
    pixels: int


@dataclass(frozen=True, eq=False)
class View:
    """A task: its training images and their labels, and those to test on, by their rows in the data set.

    pixels (pixels,): input j is pixel pixels[j]; None = as stored. outputs: those of the network that the task uses, in
    the order of its labels; None = all. test: None where nothing is there to test on, as with labels drawn at random.
    """

    train: Split
    test: Split | None
    pixels: Integers | None = None
    outputs: Integers | None = None


class Change(ABC):
    """Base of the changes. Every draw is by seed and index of the task alone, so each task can be rebuilt.

    The task `HELD_OUT` (index -1) is like the others, and not one of the stream.

    version: raise it when a change of behaviour alters results. SAME_IMAGES: whether every task shows the same images.
    MASKS_OUTPUTS: whether tasks use some of the network's outputs only. TESTED: whether there is something to test on,
    if the data set has a test set.
    """

    version: ClassVar[int] = 1
    SAME_IMAGES: ClassVar[bool] = False
    MASKS_OUTPUTS: ClassVar[bool] = False
    TESTED: ClassVar[bool] = True

    def most_tasks(self, classes: int) -> int | None:
        """How many tasks there are at most, of a data set of so many classes; None = no end."""
        return None

    def outputs(self, classes: int) -> int:
        """Outputs that the network has, for a data set of so many classes."""
        return classes

    def check(self, classes: int, images: int | None) -> None:
        """Raise `ConfigError` if a data set of so many classes and training images (None: not known) will not do."""
        return None

    @abstractmethod
    def images(self, index: int, images: int | None) -> int | None:
        """Training images of task `index`, the same for every seed, of a data set of so many; None: not known yet."""

    @abstractmethod
    def view(self, pool: Pool, seed: int, index: int) -> View:
        """Task `index` of a seed."""


def everything(labels: Integers | None) -> Split | None:
    """All images of a set, or None where there is none."""
    return None if labels is None else Split(np.arange(len(labels)), labels)


def of_classes(labels: Integers | None, classes: Integers, each: int | None = None) -> Split | None:
    """The images of some classes, in the classes' order, labelled by their place in it; each: the first so many.

    Raises `ConfigError` where a class has fewer.
    """
    if labels is None:
        return None
    rows = [np.flatnonzero(labels == c)[:each] for c in classes]
    if each is not None and (short := min(len(one) for one in rows)) < each:
        raise ConfigError("per_class", each, f"must be at most {short}: so many images has one of the classes")
    return Split(np.concatenate(rows), np.repeat(np.arange(len(classes)), [len(one) for one in rows]))


def class_order(seed: int, classes: int, shuffle: int) -> Integers:
    """The classes in an order of the seed's; shuffle: which of them."""
    return streams.generator(seed, "class order", shuffle).permutation(classes)
