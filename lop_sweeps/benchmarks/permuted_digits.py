"""Online permuted digits: as Online Permuted MNIST, on the 1,797 8x8 digits that scikit-learn bundles.

Small enough for a laptop's coffee break and needs no download; not a benchmark of the paper.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lop_sweeps.benchmarks.permuted_images import PermutedImages
from lop_sweeps.datasets.digits import Digits


class PermutedDigits(PermutedImages):
    """num_tasks tasks of `examples_per_task` digits (1,797 = each once), grey levels 0-16 scaled to [0, 1]."""

    version: ClassVar[int] = 1
    BRIGHTEST: ClassVar[float] = Digits.BRIGHTEST
    shape, inputs = (1, 8, 8), 64

    def check_data(self, root: Path) -> None:
        """The digits come with scikit-learn."""

    def load(self, root: Path) -> None:
        data = Digits().training_set(root)
        self.images, self.labels = data.flat, data.labels
