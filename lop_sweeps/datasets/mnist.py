"""MNIST: handwritten digits (LeCun, Cortes and Burges)."""

from __future__ import annotations

from lop_sweeps.data.mnist import MNIST as PUBLISHED
from lop_sweeps.datasets.idx_images import IDXImages


class MNIST(IDXImages):
    """60,000 training and 10,000 test images (1, 28, 28) of ten digits. `lop-data fetch mnist`."""

    published = PUBLISHED
    classes, training_images = 10, 60_000
    MEAN, STD = (0.1307,), (0.3081,)  # computed from the training images, as torchvision's examples have them
