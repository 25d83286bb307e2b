"""The labels are permuted: every task names the classes anew (Elsayed and Mahmood 2024, arXiv 2404.00781)."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from lop_sweeps import streams
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.changes.change import Change, Integers, Pool, View


class LabelsPermuted(Change):
    """Class c has the label permutation[c], drawn for each task by itself. The authors permute the current labels once
    more: a permutation after another that is drawn at random is one drawn at random, so the law is the same, and here
    a task can be rebuilt from its index.
    """

    SAME_IMAGES: ClassVar[bool] = True

    def images(self, index: int, images: int | None) -> int | None:
        return images

    def view(self, pool: Pool, seed: int, index: int) -> View:
        label_of = streams.generator(seed, "label permutation", index).permutation(pool.classes)

        def renamed(labels: Integers) -> Split:
            return Split(np.arange(len(labels)), label_of[labels])

        return View(renamed(pool.labels), None if pool.test_labels is None else renamed(pool.test_labels))
