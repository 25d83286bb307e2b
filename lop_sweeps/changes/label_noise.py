"""Label noise falls: chunks of data of which fewer and fewer labels are wrong (Lee et al. 2024, Hare and Tortoise)."""

from __future__ import annotations

import numpy as np

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.benchmark import HELD_OUT, Split
from lop_sweeps.changes.change import Pool, View, everything
from lop_sweeps.changes.chunks import Chunks
from lop_sweeps.errors import ConfigError


class LabelNoise(Chunks):
    """Chunks as in `chunks`; of the images of chunk k, the share `first` (1 - k / (chunks - 1)) has a wrong label,
    drawn uniformly among the others, once for each image and stream: it stays wrong in later tasks. Tests have the
    right ones.
    """

    def __init__(self, chunks: int = 10, access: str = "full", count: int | None = None, first: float = 0.5) -> None:
        super().__init__(checks.integer("chunks", chunks, 2), access, count)
        self.first = checks.number("first", first, 0.0, 1.0)

    def check(self, classes: int, images: int | None) -> None:
        super().check(classes, images)
        if classes < 2:
            raise ConfigError("first", self.first, "needs a data set of at least two classes")

    def view(self, pool: Pool, seed: int, index: int) -> View:
        rows = self.rows(pool, seed, index)
        each = (self.count or len(pool.labels)) // self.chunks
        before = index if self.access == "newest" and index != HELD_OUT else 0  # chunks that are not there
        chunk = before + np.arange(len(rows)) // each
        generator = streams.generator(seed, "label noise", HELD_OUT if index == HELD_OUT else 0)
        threshold, shift = generator.random(len(pool.labels)), generator.integers(1, pool.classes, len(pool.labels))
        wrong = threshold[rows] < self.first * (1.0 - chunk / (self.chunks - 1))
        labels = np.where(wrong, (pool.labels[rows] + shift[rows]) % pool.classes, pool.labels[rows])
        return View(Split(rows, labels), everything(pool.test_labels))
