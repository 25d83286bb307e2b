"""The inputs are permuted: every task has an order of the pixels of its own (Goodfellow et al. 2013; Nature 632)."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.changes.change import Change, Pool, View, everything
from lop_sweeps.errors import ConfigError


class InputsPermuted(Change):
    """Each task draws its permutation by itself, the first one too. Codes that permute what is permuted already (UPGD's
    does for labels, the Nature paper's for pixels) have tasks of the same law.

    count: so many of the training images, drawn once by the seed, in all tasks; None = all.
    """

    SAME_IMAGES: ClassVar[bool] = True

    def __init__(self, count: int | None = None) -> None:
        self.count = None if count is None else checks.integer("count", count, 1)

    def check(self, classes: int, images: int | None) -> None:
        if images is not None and self.count is not None and self.count > images:
            raise ConfigError("count", self.count, f"must be at most {images}: so many training images are there")

    def images(self, index: int, images: int | None) -> int | None:
        return images if self.count is None else self.count

    def view(self, pool: Pool, seed: int, index: int) -> View:
        self.check(pool.classes, len(pool.labels))
        pixels = streams.generator(seed, "pixel permutation", index).permutation(pool.pixels)
        train = everything(pool.labels)
        assert isinstance(train, Split)
        if self.count is not None:
            rows = streams.generator(seed, "images to permute").permutation(train.rows)[: self.count]
            train = Split(rows, pool.labels[rows])
        return View(train, everything(pool.test_labels), pixels)
