"""Fashion-MNIST: photographs of clothes in MNIST's format (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747)."""

from __future__ import annotations

from lop_sweeps.data.fashion_mnist import FASHION_MNIST
from lop_sweeps.datasets.idx_images import IDXImages


class FashionMNIST(IDXImages):
    """60,000 training and 10,000 test images (1, 28, 28) of ten kinds of clothes. `lop-data fetch fashion_mnist`."""

    published = FASHION_MNIST
    classes, training_images = 10, 60_000
    MEAN, STD = (0.2860,), (0.3530,)  # computed from the training images
