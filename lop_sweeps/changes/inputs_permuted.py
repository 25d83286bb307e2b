"""The inputs are permuted: every task has an order of the pixels of its own (Goodfellow et al. 2013; Nature 632)."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps import streams
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.changes.change import Change, Pool, View, everything


class InputsPermuted(Change):
    """Each task draws its permutation by itself, the first one too. Codes that permute what is permuted already (UPGD's
    does for labels, the Nature paper's for pixels) have tasks of the same law.
    """

    SAME_IMAGES: ClassVar[bool] = True

    def images(self, index: int, images: int | None) -> int | None:
        return images

    def view(self, pool: Pool, seed: int, index: int) -> View:
        pixels = streams.generator(seed, "pixel permutation", index).permutation(pool.pixels)
        train = everything(pool.labels)
        assert isinstance(train, Split)
        return View(train, everything(pool.test_labels), pixels)
