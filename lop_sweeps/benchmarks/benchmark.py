"""What a benchmark is: a sequence of tasks, each of which can be rebuilt from the seed and its index."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError

Array = NDArray[np.generic]


class Task(Protocol):
    """A stationary stretch of the stream."""

    def examples(self, start: int, stop: int) -> tuple[Array, Array]:
        """Examples `start` ... `stop - 1` of the task: inputs (n, inputs); labels (n,) or targets (n, outputs)."""


class Benchmark(Protocol):
    """A stream of `num_tasks` tasks of `examples_per_task` examples, in mini-batches of `batch_size`.

    BIN_TASKS: how many tasks one point of the paper's figures averages over.
    """

    version: ClassVar[int]
    BIN_TASKS: ClassVar[int]
    inputs: int
    outputs: int
    loss: str
    num_tasks: int
    examples_per_task: int
    batch_size: int

    def check_data(self, root: Path) -> None:
        """Raise `DataError` if the data under `root` cannot be used; quick enough for every point of a sweep."""

    def load(self, root: Path) -> None:
        """Read the data into memory, once per process. Never downloads."""

    def task(self, seed: int, index: int) -> Task: ...


def check_lengths(num_tasks: int, examples_per_task: int, batch_size: int) -> None:
    checks.integer("num_tasks", num_tasks, 1)
    checks.integer("examples_per_task", examples_per_task, 1)
    checks.integer("batch_size", batch_size, 1)
    if examples_per_task % batch_size:
        raise ConfigError("batch_size", batch_size, f"must divide examples_per_task ({examples_per_task})")
