"""Online permuted digits: as Online Permuted MNIST, on the 1,797 8x8 digits that scikit-learn bundles.

Small enough for a laptop's coffee break and needs no download; not a benchmark of the paper.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.benchmarks.permuted_images import PermutedImages


@lru_cache(maxsize=1)
def _digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from sklearn.datasets import load_digits  # slow to import, and not needed elsewhere

    data = load_digits()
    return data.data.astype(np.uint8), data.target.astype(np.int64)


class PermutedDigits(PermutedImages):
    """num_tasks tasks of `examples_per_task` digits (1,797 = each once), grey levels 0-16 scaled to [0, 1]."""

    version: ClassVar[int] = 1
    BRIGHTEST: ClassVar[float] = 16.0
    shape, inputs = (1, 8, 8), 64

    def check_data(self, root: Path) -> None:
        """The digits come with scikit-learn."""

    def load(self, root: Path) -> None:
        self.images, self.labels = _digits()
