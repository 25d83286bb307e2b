"""My data set, to begin with: the digits that scikit-learn bundles, upside down."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lop_sweeps.datasets.dataset import DataSet, LabelledSet


class MyData(DataSet):
    """1,500 images to learn, 297 to test on. Options would be the arguments of a constructor."""

    BRIGHTEST = 16.0  # the value of a pixel that becomes 1
    shape = (1, 8, 8)  # channels, height, width
    classes, training_images, tested = 10, 1_500, True

    def training_set(self, root: Path) -> LabelledSet:
        """The same images in the same order every time, read once per process. `root` is where data sets lie."""
        return self._part(slice(0, 1_500))

    def test_set(self, root: Path) -> LabelledSet:
        return self._part(slice(1_500, None))

    def _part(self, rows: slice) -> LabelledSet:
        from sklearn.datasets import load_digits  # slow to import: not for those who only look at the class

        digits = load_digits()
        images = np.ascontiguousarray(digits.images[rows, None, ::-1].astype(np.uint8))  # (n, channels, height, width)
        return LabelledSet(images, digits.target[rows].astype(np.int64))
