"""A task's examples as the compiled loop reads them.

Images stay compressed, once per process: of each, the pixels that are not 0. A task's permutation is a table from
pixel to input, so that no image is ever moved or scaled as a whole. The loop trusts what it is given, so everything
is checked here.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.benchmarks.benchmark import Task, examples_of
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.fused.arrays import CROSS_ENTROPY, Net, Stream


class Compressed(NamedTuple):
    """Image i has the values bytes[starts[i] : starts[i + 1]] at the pixels columns[...] and zeros elsewhere."""

    starts: NDArray[np.int64]
    columns: NDArray[np.uint16]
    bytes: NDArray[np.uint8]


_KEPT = 4  # sets of images
_images: list[tuple[NDArray[np.uint8], Compressed]] = []  # the last ones, by identity
_lock = threading.Lock()


def compress(images: NDArray[np.uint8]) -> Compressed:
    """The images (images, pixels), compressed; the same array is compressed once. It must not change afterwards."""
    with _lock:
        for known, compressed in _images:
            if known is images:
                return compressed
        where = images != 0
        starts = np.zeros(len(images) + 1, np.int64)
        np.cumsum(where.sum(1), out=starts[1:])
        compressed = Compressed(starts, np.nonzero(where)[1].astype(np.uint16), images[where])
        _images[:] = [*_images[1 - _KEPT :], (images, compressed)]
        return compressed


def make_stream(task: Task, start: int, stop: int, net: Net) -> Stream:
    """Examples `start` ... `stop - 1` of a task for a network.

    Raises `ValueError` if they are not so many, or do not have the network's inputs, or its outputs or classes.
    """
    dtype, inputs, outputs = net.w.dtype, int(net.layers[0, 2]), int(net.layers[-1, 3])
    nothing = np.zeros(0, np.int64)
    targets = np.zeros((0, 0), dtype)
    # Only the very class: another one may override `examples`. Where a dark pixel is -1, no input is 0.
    if type(task) is PermutedTask and not task.centred and _compressible(task.images):
        compressed = compress(task.images)
        order = task.order[np.arange(start, stop) % len(task.order)]
        _check((len(order), len(task.pixels)), task.labels[order], inputs, outputs, net.loss)
        place = np.empty(len(task.pixels), np.int32)
        place[task.pixels] = np.arange(len(task.pixels))
        grey = (np.arange(256) / task.brightest).astype(dtype)
        return Stream(np.zeros((0, 0), dtype), *compressed, order, place, grey, task.labels[order], targets)
    x, y = examples_of(task, start, stop)
    _check(x.shape, y, inputs, outputs, net.loss)
    labels = nothing
    if net.loss == CROSS_ENTROPY:
        labels = np.ascontiguousarray(y, np.int64)
    else:
        targets = np.ascontiguousarray(y, dtype)
    none: tuple[Any, ...] = (nothing, np.zeros(0, np.uint16), np.zeros(0, np.uint8), nothing)
    place, grey = np.zeros(0, np.int32), np.zeros(0, dtype)
    return Stream(np.ascontiguousarray(x, dtype), *none, place, grey, labels, targets)


def _compressible(images: NDArray[Any]) -> bool:
    return images.dtype == np.uint8 and images.shape[1] <= 2**16


def _check(shape: tuple[int, ...], y: NDArray[Any], inputs: int, outputs: int, loss: int) -> None:
    """Whether inputs of this shape, and their labels or targets, are what a network can learn from."""
    if len(shape) != 2 or shape[1] != inputs:
        raise ValueError(f"the task's examples have the shape {shape}; the network has {inputs} inputs")
    if loss != CROSS_ENTROPY:
        if y.shape != (shape[0], outputs):
            raise ValueError(f"the task's targets have the shape {y.shape}, not {(shape[0], outputs)}")
    elif y.shape != (shape[0],) or not np.issubdtype(y.dtype, np.integer):
        raise ValueError(f"the task's labels must be {shape[0]} integers, not {y.dtype} of the shape {y.shape}")
    elif len(y) and not 0 <= y.min() <= y.max() < outputs:
        raise ValueError(f"the task's labels run from {y.min()} to {y.max()}; the network has {outputs} outputs")
