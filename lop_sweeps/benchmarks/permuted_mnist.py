"""Online Permuted MNIST: 60,000 training images a task, pixels scaled to [0, 1] (Nature 632, Extended Data Fig. 3)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from lop_sweeps.benchmarks.permuted_images import PermutedImages
from lop_sweeps.datasets.mnist import MNIST


class PermutedMNIST(PermutedImages):
    """num_tasks tasks of `examples_per_task` images (published: 800 of 60,000), batch size 1."""

    version: ClassVar[int] = 1
    shape, inputs = (1, 28, 28), 784

    def check_data(self, root: Path) -> None:
        MNIST().check_data(root)

    def load(self, root: Path) -> None:
        data = MNIST().training_set(root)
        self.images, self.labels = data.flat, data.labels
