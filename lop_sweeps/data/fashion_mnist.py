"""Fashion-MNIST (Xiao, Rasul and Vollgraf 2017): MNIST's format and sizes, with photographs of clothes."""

from __future__ import annotations

from lop_sweeps.data.archive import compressed
from lop_sweeps.data.idx import idx_file
from lop_sweeps.data.published import PublishedSet

MIRRORS = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)

# The SHA-256 sums are those of the decompressed files in Debian's package dataset-fashion-mnist.
FASHION_MNIST = PublishedSet(
    "fashion_mnist",
    "FashionMNIST",
    "FashionMNIST/raw",
    (
        idx_file(
            "train-images-idx3-ubyte",
            (60000, 28, 28),
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        idx_file(
            "train-labels-idx1-ubyte",
            (60000,),
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        idx_file(
            "t10k-images-idx3-ubyte",
            (10000, 28, 28),
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        idx_file(
            "t10k-labels-idx1-ubyte",
            (10000,),
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    (
        compressed("train-images-idx3-ubyte", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", MIRRORS),
        compressed("train-labels-idx1-ubyte", "25c81989df183df01b3e8a0aad5dffbe", MIRRORS),
        compressed("t10k-images-idx3-ubyte", "bef4ecab320f06d8554ea6380940ec79", MIRRORS),
        compressed("t10k-labels-idx1-ubyte", "bb300cfdad3c16e7a12a480ee83cd310", MIRRORS),
    ),
)
