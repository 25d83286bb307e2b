"""The pickled batches of CIFAR-10 and CIFAR-100, read by torchvision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.data.published import PublishedSet


def load_batches(published: PublishedSet, root: Path, *, train: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 3, 32, 32) and labels (n,) in the order of the files; CIFAR-100's labels are the fine ones.

    The files are pickles, which could run any code: torchvision unpickles one only after its MD5 sum was right.
    Raises `DataError` if a file is missing or not as published.
    """
    published.check(root)  # names what is wrong; torchvision says only that something is
    import torchvision.datasets  # seconds to import

    try:
        part = getattr(torchvision.datasets, published.title)(str(root), train=train, download=False)
    except (RuntimeError, OSError) as error:
        raise published.not_as_published(root, error) from error
    # Stored channel-first; torchvision gives a transposed view.
    return np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.array(part.targets, np.int64)
