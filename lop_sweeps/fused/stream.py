"""A task's examples as the compiled loop reads them.

Images stay compressed, once per process: of each, the pixels that are not 0. A task's permutation is a table from
pixel to input, so that no image is ever moved or scaled as a whole.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.benchmarks.benchmark import Task
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.fused.arrays import Stream

_images: list[tuple[NDArray[np.uint8], tuple[Any, Any, Any]]] = []  # the last ones, with their compressed rows


def compress(images: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint16], NDArray[np.uint8]]:
    """(starts, columns, bytes) of images (n, pixels): image i has bytes[starts[i]:starts[i + 1]] at those columns."""
    for known, compressed in _images:
        if known is images:
            starts, columns, values = compressed
            return starts, columns, values
    where = images != 0
    starts = np.zeros(len(images) + 1, np.int64)
    np.cumsum(where.sum(1), out=starts[1:])
    columns = np.nonzero(where)[1].astype(np.uint16)
    _images[:] = [(images, (starts, columns, images[where]))]
    return _images[0][1]


def make_stream(task: Task, start: int, stop: int, dtype: type[np.floating[Any]]) -> Stream:
    """Examples `start` ... `stop - 1` of a task, inputs in precision `dtype`."""
    nothing = np.zeros(0, np.int64)
    if isinstance(task, PermutedTask):
        starts, columns, values = compress(task.images)
        order = task.order[np.arange(start, stop) % len(task.order)]
        place = np.empty(len(task.pixels), np.int32)
        place[task.pixels] = np.arange(len(task.pixels))
        grey = (np.arange(256) / task.brightest).astype(dtype)
        dense, targets = np.zeros((0, 0), dtype), np.zeros((0, 0), dtype)
        return Stream(dense, starts, columns, values, order, place, grey, task.labels[order], targets)
    x, y = task.examples(start, stop)
    classes = y.ndim == 1
    return Stream(
        np.ascontiguousarray(x, dtype),
        nothing,
        np.zeros(0, np.uint16),
        np.zeros(0, np.uint8),
        nothing,
        np.zeros(0, np.int32),
        np.zeros(0, dtype),
        np.ascontiguousarray(y, np.int64) if classes else nothing,
        np.zeros((0, 0), dtype) if classes else np.ascontiguousarray(y, dtype),
    )
