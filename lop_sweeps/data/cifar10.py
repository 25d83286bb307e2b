"""CIFAR-10 (Krizhevsky 2009): 50,000 training and 10,000 test images of 32×32 RGB pixels, 10 classes."""

from __future__ import annotations

from lop_sweeps.data.archive import Archive
from lop_sweeps.data.published import PublishedFile, PublishedSet

# The MD5 sums are those that torchvision pins.
FILES = (
    PublishedFile("data_batch_1", 31035704, "md5", "c99cafc152244af753f735de768cd75f"),
    PublishedFile("data_batch_2", 31035320, "md5", "d4bba439e000b95fd0a9bffe97cbabec"),
    PublishedFile("data_batch_3", 31035999, "md5", "54ebc095f3ab1f0389bbae665268c751"),
    PublishedFile("data_batch_4", 31035696, "md5", "634d18415352ddfa80567beed471001a"),
    PublishedFile("data_batch_5", 31035623, "md5", "482c414d41f54cd18b22e5b47cb7c3cb"),
    PublishedFile("test_batch", 31035526, "md5", "40351d587109b95175f43aff81a1287e"),
    PublishedFile("batches.meta", 158, "md5", "5ff9c542aee3614f3951f8cda6e48888"),
)

CIFAR10 = PublishedSet(
    "cifar10",
    "CIFAR10",
    "cifar-10-batches-py",
    FILES,
    (
        Archive(
            "cifar-10-python.tar.gz",
            "c58f30108f718f92721af3b95e74349a",
            ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
            tuple(file.name for file in FILES),
            inside="cifar-10-batches-py/",
        ),
    ),
)
