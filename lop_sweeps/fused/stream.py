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
from lop_sweeps.benchmarks.drifting_task import DriftingTask
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
    used: NDArray[np.int64] | None = getattr(task, "outputs", None)
    asked = np.arange(outputs) if used is None else np.ascontiguousarray(used, np.int64)
    if len(asked) and not 0 <= asked.min() <= asked.max() < outputs:
        raise ValueError(f"the task asks for outputs {asked.min()} to {asked.max()}; the network has {outputs}")
    if shown := _compressed(task):
        compressed = compress(shown[0].images)
        rows, following = shown[0].rows(start, stop), np.zeros(stop - start, np.bool_)
        if isinstance(task, DriftingTask):
            following = task.is_next(start, stop)
            rows = np.where(following, task.after.rows(start, stop), rows)
        labels = np.choose(following, [one.labels[rows] for one in shown])
        pixels = len(shown[0].pixels)
        _check((len(rows), pixels), labels, inputs, len(asked), net.loss)
        places = np.empty((len(shown), pixels), np.int32)
        for one, to in zip(shown, places, strict=True):
            to[one.pixels] = np.arange(pixels)
        grey = (np.arange(256) / shown[0].brightest).astype(dtype)
        dense = np.zeros((0, 0), dtype)
        return Stream(dense, *compressed, rows, following * pixels, places.ravel(), grey, labels, targets, asked)
    x, y = examples_of(task, start, stop)
    _check(x.shape, y, inputs, len(asked), net.loss)
    labels = nothing
    if net.loss == CROSS_ENTROPY:
        labels = np.ascontiguousarray(y, np.int64)
    else:
        targets = np.ascontiguousarray(y, dtype)
    none: tuple[Any, ...] = (nothing, np.zeros(0, np.uint16), np.zeros(0, np.uint8), nothing, nothing)
    place, grey = np.zeros(0, np.int32), np.zeros(0, dtype)
    return Stream(np.ascontiguousarray(x, dtype), *none, place, grey, labels, targets, asked)


def _compressed(task: Task) -> list[PermutedTask]:
    """The task, or the two that it is a mixture of, if the loop can read them from compressed images; else none.

    Only the very classes: another one may override `examples`. Where a dark pixel is -1, no input is 0, and where
    inputs are interpolated, they are of both tasks.
    """
    shown: list[Any] = [task.before, task.after] if type(task) is DriftingTask and not task.interpolate else [task]
    for one in shown:
        if type(one) is not PermutedTask or one.centred or one.images is not shown[0].images:
            return []
    images: NDArray[Any] = shown[0].images
    return shown if images.dtype == np.uint8 and images.shape[1] <= 2**16 else []


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
