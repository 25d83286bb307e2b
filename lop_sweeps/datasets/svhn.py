"""SVHN: digits of house numbers, cropped from photographs (Netzer et al. 2011)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np

from lop_sweeps.data.published import PublishedSet
from lop_sweeps.data.svhn import SVHN as PUBLISHED
from lop_sweeps.datasets.dataset import DataSet, LabelledSet


@lru_cache(maxsize=2)
def _read(published: PublishedSet, root: Path, split: str) -> LabelledSet:
    """torchvision gives the digit 0, which is 10 in the files, the label 0, and a transposed view of the images."""
    published.check(root)
    import torchvision.datasets  # seconds to import

    try:
        data = torchvision.datasets.SVHN(str(published.path(root)), split=split, download=False)
    except (RuntimeError, OSError) as error:
        raise published.not_as_published(root, error) from error
    return LabelledSet(np.ascontiguousarray(data.data), data.labels)


class SVHN(DataSet):
    """73,257 training and 26,032 test images (3, 32, 32) of ten digits. `lop-data fetch svhn`."""

    published: ClassVar[PublishedSet] = PUBLISHED
    shape = (3, 32, 32)
    classes, training_images = 10, 73_257
    MEAN, STD = (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)  # as commonly used

    def check_data(self, root: Path) -> None:
        self.published.check(root)

    def training_set(self, root: Path) -> LabelledSet:
        return _read(self.published, root, "train")

    def test_set(self, root: Path) -> LabelledSet:
        return _read(self.published, root, "test")
