"""Data sets in MNIST's format: four IDX files, images and labels for training, then for test."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from lop_sweeps.data.published import PublishedSet
from lop_sweeps.datasets.dataset import DataSet, LabelledSet, check_labels


class IDXImages(DataSet):
    """Base of data sets of 28×28 grey pixels; `published` names the files, in the order above."""

    published: ClassVar[PublishedSet]
    shape = (1, 28, 28)

    def check_data(self, root: Path) -> None:
        self.published.check(root)

    def training_set(self, root: Path) -> LabelledSet:
        return _read(self.published, root, 0, self.classes)

    def test_set(self, root: Path) -> LabelledSet:
        return _read(self.published, root, 2, self.classes)


@lru_cache(maxsize=2)
def _read(published: PublishedSet, root: Path, first: int, classes: int) -> LabelledSet:
    """Images and labels from the files number `first` and `first` + 1.

    torchvision's readers, but of these files: its data sets prefer what an old version of it may have left beside them.
    """
    published.check(root)
    from torchvision.datasets.mnist import read_image_file, read_label_file  # seconds to import

    images_path, labels_path = (published.path(root) / file.name for file in published.files[first : first + 2])
    try:
        images, labels = read_image_file(str(images_path)).numpy(), read_label_file(str(labels_path)).numpy()
    except (OSError, RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise published.not_as_published(root, error) from error
    check_labels(labels, classes, labels_path, published.fetch_command(root))
    return LabelledSet(images[:, None], labels)
