"""The digits that scikit-learn bundles: for trying things out, with nothing to download."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from lop_sweeps.datasets.dataset import DataSet, LabelledSet


@lru_cache(maxsize=1)
def _read() -> LabelledSet:
    from sklearn.datasets import load_digits  # slow to import, and not needed elsewhere

    data = load_digits()
    return LabelledSet(data.images.astype(np.uint8)[:, None], data.target.astype(np.int64))


class Digits(DataSet):
    """1,797 training images (1, 8, 8) of ten digits, grey levels 0 … 16; scikit-learn has no test set of them."""

    BRIGHTEST: ClassVar[float] = 16.0
    shape = (1, 8, 8)
    classes, training_images, tested = 10, 1_797, False
    MEAN, STD = (0.3053,), (0.3760,)  # computed from all images

    def training_set(self, root: Path) -> LabelledSet:
        return _read()
