"""My benchmark, to begin with online label-permuted digits: each task gives the ten digits other names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lop_sweeps import streams
from lop_sweeps.benchmarks.benchmark import OnlineBenchmark, check_lengths


@dataclass(frozen=True)
class MyTask:
    """A stretch of the stream in which nothing changes. images (examples, pixels); labels (examples,)."""

    images: NDArray[np.float64]
    labels: NDArray[np.int64]

    def examples(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return self.images[start:stop], self.labels[start:stop]


class MyBenchmark(OnlineBenchmark):
    """`num_tasks` tasks, each of `examples_per_task` of scikit-learn's 1,797 digits. Options are the arguments."""

    inputs, outputs, loss = 64, 10, "cross_entropy"  # or squared_error, and targets (examples, outputs)

    def __init__(self, num_tasks: int, examples_per_task: int, batch_size: int = 1) -> None:
        check_lengths(num_tasks, examples_per_task, batch_size)
        self.num_tasks, self.examples_per_task, self.batch_size = num_tasks, examples_per_task, batch_size

    def load(self, root: Path) -> None:
        """Read the data, once per process. `root` is where data sets lie (paths.data); these digits are bundled."""
        from sklearn.datasets import load_digits  # slow to import: not for those who only look at the class

        images, labels = load_digits(return_X_y=True)
        self.images, self.labels = images / 16, labels.astype(np.int64)

    def task(self, seed: int, index: int) -> MyTask:
        """Task `index`, by its seed and index alone: a run that goes on after a kill asks for it again."""
        names = streams.generator(seed, "label permutation", index).permutation(self.outputs)
        order = streams.generator(seed, "example order", index).permutation(len(self.labels))
        order = np.resize(order, self.examples_per_task)  # longer tasks begin again
        return MyTask(self.images[order], names[self.labels[order]])
