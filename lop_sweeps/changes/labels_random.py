"""The labels are drawn at random: each task is to be memorised (Lyle et al. 2023; Kumar et al. 2023, L2 Init)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.changes.change import Change, Pool, View
from lop_sweeps.errors import ConfigError


class LabelsRandom(Change):
    """`count` images, the same in all tasks, drawn once by the seed; each task gives them labels anew.

    law: permuted = the images' labels are shuffled among them, so that the classes keep their counts (L2 Init, 1,200
    images; AID, 1,600); drawn = each label is drawn uniformly. There is nothing to test on.
    """

    SAME_IMAGES: ClassVar[bool] = True
    TESTED: ClassVar[bool] = False
    LAWS: ClassVar[tuple[str, ...]] = ("permuted", "drawn")

    def __init__(self, count: int = 1_200, law: str = "permuted") -> None:
        self.count = checks.integer("count", count, 1)
        self.law = checks.choice("law", law, self.LAWS)

    def check(self, classes: int, images: int | None) -> None:
        if images is not None and self.count > images:
            raise ConfigError("count", self.count, f"must be at most {images}: so many training images are there")

    def images(self, index: int, images: int | None) -> int | None:
        return self.count

    def view(self, pool: Pool, seed: int, index: int) -> View:
        self.check(pool.classes, len(pool.labels))
        rows = streams.generator(seed, "images to memorise").permutation(len(pool.labels))[: self.count]
        generator = streams.generator(seed, "random labels", index)
        if self.law == "drawn":
            return View(Split(rows, generator.integers(0, pool.classes, self.count, dtype=np.int64)), None)
        return View(Split(rows, generator.permutation(pool.labels[rows])), None)
