"""My change, to begin with: each task shows one half of the classes."""

from __future__ import annotations

import numpy as np

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.changes.change import Change, Pool, View


class MyChange(Change):
    """Each task has `each` training images, of one half of the classes, drawn anew. Options are the arguments."""

    def __init__(self, each: int = 500) -> None:
        self.each = checks.integer("each", each, 1)

    def images(self, index: int, images: int | None) -> int | None:
        """Training images of task `index`, the same for every seed."""
        return self.each

    def view(self, pool: Pool, seed: int, index: int) -> View:
        """Task `index`, by its seed and index alone: a run that goes on after a kill asks for it again."""
        draw = streams.generator(seed, "half of the classes", index)
        half = draw.permutation(pool.classes)[: pool.classes // 2]
        rows = draw.permutation(np.flatnonzero(np.isin(pool.labels, half)))[: self.each]
        train = Split(rows, pool.labels[rows])
        if pool.test_labels is None:
            return View(train, test=None)
        there = np.flatnonzero(np.isin(pool.test_labels, half))
        return View(train, Split(there, pool.test_labels[there]))
