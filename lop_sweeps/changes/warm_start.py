"""Warm start: first a part of the training images, then all of them (Ash and Adams 2020, arXiv 1910.08475)."""

from __future__ import annotations

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.benchmark import HELD_OUT, Split
from lop_sweeps.changes.change import Change, Pool, View, everything
from lop_sweeps.errors import ConfigError


class WarmStart(Change):
    """Task 0 has the share `first` of the training images, drawn by the seed (Ash and Adams: 0.5; FIRE: 0.1), task 1
    all. Tests are on the whole test set. `HELD_OUT` is like task 0, drawn again.

    count: so many of the training images, after the draw; None = all.
    """

    def __init__(self, first: float = 0.5, count: int | None = None) -> None:
        self.first = checks.number("first", first, 0.0, 1.0, above=True, below=True)
        self.count = None if count is None else checks.integer("count", count, 2)

    def most_tasks(self, classes: int) -> int | None:
        return 2

    def check(self, classes: int, images: int | None) -> None:
        if images is not None and self.count is not None and self.count > images:
            raise ConfigError("count", self.count, f"must be at most {images}: so many training images are there")

    def images(self, index: int, images: int | None) -> int | None:
        total = self.count or images
        if total is None:
            return None
        return total if index == 1 else max(1, round(self.first * total))

    def view(self, pool: Pool, seed: int, index: int) -> View:
        self.check(pool.classes, len(pool.labels))
        shuffle = HELD_OUT if index == HELD_OUT else 0
        order = streams.generator(seed, "warm start", shuffle).permutation(len(pool.labels))
        rows = order[: self.images(index, len(order))]
        return View(Split(rows, pool.labels[rows]), everything(pool.test_labels))
