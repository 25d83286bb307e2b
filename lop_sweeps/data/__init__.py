"""The data sets on disk: `lop-data` fetches, builds and verifies them; jobs only check, and never download."""

from lop_sweeps.data.cifar100 import LabelledImages, check_cifar100, load_arrays, load_cifar100
from lop_sweeps.data.command import main
from lop_sweeps.data.imagenet32 import check_imagenet32, class_images
from lop_sweeps.data.mnist import MNIST_FILES, check_mnist, mnist_folder
from lop_sweeps.data.root import data_root

__all__ = [
    "MNIST_FILES",
    "LabelledImages",
    "check_cifar100",
    "check_imagenet32",
    "check_mnist",
    "class_images",
    "data_root",
    "load_arrays",
    "load_cifar100",
    "main",
    "mnist_folder",
]
