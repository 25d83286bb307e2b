"""The data arrive in chunks: all so far are there to learn from, or the newest only (Ash and Adams 2020; FIRE)."""

from __future__ import annotations

import numpy as np

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.benchmark import HELD_OUT, Split
from lop_sweeps.changes.change import Change, Integers, Pool, View, everything
from lop_sweeps.errors import ConfigError


class Chunks(Change):
    """The training images, shuffled once by the seed, in `chunks` parts of one size; what is left over is not used.

    access: full = task k has chunks 0 ... k; newest = chunk k only. count: so many of the images, after the shuffle;
    None = all. Tests are on the whole test set. `HELD_OUT` is the first chunk of another shuffle.
    """

    ACCESS = ("full", "newest")

    def __init__(self, chunks: int = 10, access: str = "full", count: int | None = None) -> None:
        self.chunks = checks.integer("chunks", chunks, 1)
        self.access = checks.choice("access", access, self.ACCESS)
        self.count = None if count is None else checks.integer("count", count, self.chunks)

    def most_tasks(self, classes: int) -> int | None:
        return self.chunks

    def check(self, classes: int, images: int | None) -> None:
        if images is not None and (self.count or self.chunks) > images:
            key, value = ("count", self.count) if self.count else ("chunks", self.chunks)
            raise ConfigError(key, value, f"must be at most {images}: so many training images are there")

    def images(self, index: int, images: int | None) -> int | None:
        total = self.count or images
        if total is None:
            return None
        return total // self.chunks * (index + 1 if self.access == "full" and index != HELD_OUT else 1)

    def rows(self, pool: Pool, seed: int, index: int) -> Integers:
        """Rows of the training images of a task, in the order in which they came."""
        self.check(pool.classes, len(pool.labels))
        held_out = index == HELD_OUT
        order: Integers = streams.generator(seed, "chunks", HELD_OUT if held_out else 0).permutation(len(pool.labels))
        each = (self.count or len(order)) // self.chunks
        first = 0 if self.access == "full" or held_out else each * index
        return np.asarray(order[first : each if held_out else each * (index + 1)])

    def view(self, pool: Pool, seed: int, index: int) -> View:
        rows = self.rows(pool, seed, index)
        return View(Split(rows, pool.labels[rows]), everything(pool.test_labels))
