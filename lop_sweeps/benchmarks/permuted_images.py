"""Online permuted images: every task applies a new random permutation to the pixels of a fixed set of images.

The learner sees each image once per task, is told nothing about task boundaries and keeps its ten outputs; what is
measured is accuracy before each update (Nature 632, Methods; spec: online_expr.py). The authors permute images that
are permuted already; here each task's permutation is drawn by itself, which is the same distribution and can be
rebuilt from the task's index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks import pixels
from lop_sweeps.benchmarks.benchmark import check_lengths


@dataclass(frozen=True)
class PermutedTask:
    """Images under one permutation of pixels and one order; longer tasks repeat the same order."""

    images: NDArray[np.uint8]  # (images, pixels)
    labels: NDArray[np.int64]  # (images,)
    brightest: float  # the value that stands for 1
    pixels: NDArray[np.int64]  # input j is pixel `pixels[j]`
    order: NDArray[np.int64]
    centred: bool = False  # inputs from -1 to 1 instead of from 0 to 1

    def examples(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        chosen = self.rows(start, stop)
        return self.inputs_of(chosen), self.labels[chosen]

    def rows(self, start: int, stop: int) -> NDArray[np.int64]:
        """Which images the examples `start` ... `stop - 1` are."""
        return self.order[np.arange(start, stop) % len(self.order)]

    def inputs_of(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """What the network gets of these images."""
        return self.scaled(self.images[np.ix_(rows, self.pixels)])

    def scaled(self, pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
        """What the network gets of some pixels."""
        values: NDArray[np.float64] = pixels / self.brightest
        return 2.0 * values - 1.0 if self.centred else values


class PermutedImages:
    """Base of the online permuted benchmarks; subclasses say which images, in `load`.

    inputs: what pixels are scaled to, zero_one or minus_one_one.
    """

    protocol: ClassVar[Literal["online"]] = "online"
    BIN_TASKS: ClassVar[int] = 1
    BRIGHTEST: ClassVar[float] = 255.0
    loss = "cross_entropy"
    outputs = 10

    shape: tuple[int, int, int]
    inputs: int
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __init__(
        self, num_tasks: int, examples_per_task: int, batch_size: int = 1, inputs: str = pixels.ZERO_ONE
    ) -> None:
        check_lengths(num_tasks, examples_per_task, batch_size)
        self.centred = checks.choice("inputs", inputs, pixels.INPUTS) == pixels.MINUS_ONE_ONE
        self.num_tasks, self.examples_per_task, self.batch_size = (
            int(num_tasks),
            int(examples_per_task),
            int(batch_size),
        )

    def task(self, seed: int, index: int) -> PermutedTask:
        permutation = streams.generator(seed, "pixel permutation", index).permutation(self.inputs)
        order = streams.generator(seed, "example order", index).permutation(len(self.labels))
        return PermutedTask(self.images, self.labels, self.BRIGHTEST, permutation, order, self.centred)
