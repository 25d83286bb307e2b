"""MNIST (LeCun, Cortes and Burges): four IDX files, 60,000 training and 10,000 test images of 28×28 grey pixels."""

from __future__ import annotations

from pathlib import Path

from lop_sweeps.data.archive import compressed
from lop_sweeps.data.idx import idx_file
from lop_sweeps.data.published import PublishedSet

MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "http://yann.lecun.com/exdb/mnist/")

# Checksums of the files inside the archives whose MD5 sums torchvision pins.
MNIST_FILES = (
    idx_file(
        "train-images-idx3-ubyte",
        (60000, 28, 28),
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    ),
    idx_file(
        "train-labels-idx1-ubyte",
        (60000,),
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    ),
    idx_file(
        "t10k-images-idx3-ubyte",
        (10000, 28, 28),
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    ),
    idx_file(
        "t10k-labels-idx1-ubyte",
        (10000,),
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

MNIST = PublishedSet(
    "mnist",
    "MNIST",
    "MNIST/raw",
    MNIST_FILES,
    (
        compressed("train-images-idx3-ubyte", "f68b3c2dcbeaaa9fbdd348bbdeb94873", MIRRORS),
        compressed("train-labels-idx1-ubyte", "d53e105ee54ea40749a09fcbcd1e9432", MIRRORS),
        compressed("t10k-images-idx3-ubyte", "9fb629c4189551a2d022fa330f9573f3", MIRRORS),
        compressed("t10k-labels-idx1-ubyte", "ec29112dd5afa0611ce80d1b7f02629c", MIRRORS),
    ),
)


def mnist_folder(root: Path) -> Path:
    """torchvision's place for the IDX files: `torchvision.datasets.MNIST(root)` reads the same ones."""
    return MNIST.path(root)


def check_mnist(root: Path) -> None:
    """Raise `DataError` unless the four IDX files are there, complete and of the right kind (see `check`)."""
    MNIST.check(root)
