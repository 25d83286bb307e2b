"""Online Permuted MNIST: 60,000 training images a task, pixels scaled to [0, 1] (Nature 632, Extended Data Fig. 3)."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.benchmarks.permuted_images import PermutedImages
from lop_sweeps.data import check_mnist


@lru_cache(maxsize=1)
def _training_set(root: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    from torchvision.datasets import MNIST  # slow to import, and not needed elsewhere

    data = MNIST(str(root), train=True, download=False)
    return data.data.numpy().reshape(60_000, 784), data.targets.numpy()


class PermutedMNIST(PermutedImages):
    """num_tasks tasks of `examples_per_task` images (published: 800 of 60,000), batch size 1."""

    version: ClassVar[int] = 1
    shape, inputs = (1, 28, 28), 784

    def check_data(self, root: Path) -> None:
        check_mnist(root)

    def load(self, root: Path) -> None:
        self.images, self.labels = _training_set(root)
