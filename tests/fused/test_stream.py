"""What the compiled loop reads of a task is what the task says, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lop_sweeps.benchmarks.benchmark import Task
from lop_sweeps.benchmarks.permuted_digits import PermutedDigits
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.benchmarks.slowly_changing_regression import SlowlyChangingRegression
from lop_sweeps.fused.arrays import CROSS_ENTROPY, SQUARED_ERROR, Net
from lop_sweeps.fused.stream import compress, make_stream
from lop_sweeps.fused.train import read_example
from tests.fused.engines import DenseTask, image_task

both = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def net(inputs: int, outputs: int, loss: int, dtype: type[np.floating[Any]] = np.float64) -> Net:
    """As much of a linear network as a stream is made for."""
    layers = np.array([[0, 16, inputs, outputs]])
    return Net(
        np.zeros(0, dtype),
        layers,
        np.zeros(1, np.int64),
        0,
        np.zeros(4),
        1,
        False,
        np.zeros(0, dtype),
        0.0,
        np.uint64(0),
        loss,
    )


def net_for(task: Task, dtype: type[np.floating[Any]]) -> Net:
    x, y = task.examples(0, 1)
    return net(x.shape[1], 20, CROSS_ENTROPY, dtype) if y.ndim == 1 else net(x.shape[1], 1, SQUARED_ERROR, dtype)


def read(task: Task, start: int, stop: int, dtype: type[np.floating[Any]]) -> NDArray[Any]:
    """The inputs of a stretch, example by example; none is listed that is 0."""
    stream, inputs = make_stream(task, start, stop, net_for(task, dtype)), task.examples(0, 1)[0].shape[1]
    x = np.zeros((stop - start, inputs), dtype)
    rows, values = np.empty(inputs, np.int32), np.empty(inputs, dtype)
    for example, out in enumerate(x):
        n = read_example(stream, example, rows, values)
        assert len(set(rows[:n].tolist())) == n
        assert values[:n].all()
        out[rows[:n]] = values[:n]
    return x


def digits(seed: int, index: int) -> PermutedTask:
    benchmark = PermutedDigits(2, 1797)
    benchmark.load(None)  # type: ignore[arg-type]
    return benchmark.task(seed, index)


def blank_images() -> PermutedTask:
    """Images without a pixel that is on, and ones without a pixel that is off."""
    images = np.repeat(np.array([0, 255, 0, 1], np.uint8)[:, None], 7, axis=1)
    return PermutedTask(images, np.arange(4), 255.0, np.random.default_rng(0).permutation(7), np.array([3, 0, 1, 2]))


def wide_images() -> PermutedTask:
    return image_task(3, images=5, pixels=40_000)


TASKS: dict[str, tuple[Task, int, int]] = {
    "images": (image_task(1), 0, 300),
    "from the middle": (image_task(1), 123, 200),
    "around the end": (image_task(2, images=50), 40, 60),
    "many times around": (image_task(2, images=50), 1_234, 1_400),
    "digits": (digits(0, 1), 1_700, 1_900),
    "blank": (blank_images(), 0, 9),
    "wide": (wide_images(), 0, 5),
    "empty": (image_task(1), 7, 7),
    "bits": (SlowlyChangingRegression(3, 500).task(4, 2), 100, 400),
    "numbers": (DenseTask(np.random.default_rng(0).normal(size=(20, 6)), np.arange(20)), 3, 17),
}


@both
@pytest.mark.parametrize("name", TASKS)
def test_inputs_and_targets(name: str, dtype: type[np.floating[Any]]) -> None:
    task, start, stop = TASKS[name]
    x, y = task.examples(start, stop)
    np.testing.assert_array_equal(read(task, start, stop, dtype), x.astype(dtype), strict=True)
    stream = make_stream(task, start, stop, net_for(task, dtype))
    if y.ndim == 1:
        np.testing.assert_array_equal(stream.labels, y)
        assert stream.labels.dtype == np.int64
    else:
        np.testing.assert_array_equal(stream.targets, y.astype(dtype), strict=True)


def test_images_are_compressed_once() -> None:
    """Tasks that share their images share what is made of them; other images do not get it."""
    first, second = digits(0, 0), digits(5, 1)
    one = make_stream(first, 0, 9, net_for(first, np.float64))
    other = make_stream(second, 0, 9, net_for(second, np.float32))
    assert one.bytes is other.bytes
    assert one.columns is other.columns
    copy = first.images.copy()
    assert compress(copy)[2] is not one.bytes
    np.testing.assert_array_equal(compress(copy)[2], one.bytes)
    changed = first.images.copy()
    changed[0, 0] += 1
    assert not np.array_equal(compress(changed)[2], one.bytes)


class Inverted(PermutedTask):
    """Somebody's own task, which shows other inputs than its images."""

    def examples(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        x, y = super().examples(start, stop)
        return 1.0 - x, y


def test_what_a_subclass_shows_is_what_is_learned_from() -> None:
    task = image_task(1, images=20)
    inverted = Inverted(task.images, task.labels, task.brightest, task.pixels, task.order)
    np.testing.assert_array_equal(read(inverted, 0, 9, np.float64), inverted.examples(0, 9)[0])


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_images_of_other_types_are_not_compressed(dtype: type[np.generic]) -> None:
    images: Any = (np.arange(40).reshape(4, 10) % 7 * 60).astype(dtype)
    task = PermutedTask(images, np.arange(4), 360.0, np.random.default_rng(0).permutation(10), np.arange(4))
    np.testing.assert_array_equal(read(task, 0, 4, np.float64), task.examples(0, 4)[0])


X = np.ones((6, 3))
WRONG: dict[str, tuple[NDArray[Any], NDArray[Any], int, str]] = {
    "too few inputs": (np.ones((6, 2)), np.zeros(6, np.int64), CROSS_ENTROPY, "has 3 inputs"),
    "too many inputs": (np.ones((6, 4)), np.zeros(6, np.int64), CROSS_ENTROPY, "has 3 inputs"),
    "a label too high": (X, np.array([0, 1, 2, 0, 1, 2]), CROSS_ENTROPY, "run from 0 to 2; the network has 2 outputs"),
    "a negative label": (X, np.array([0, 1, -1, 0, 1, 1]), CROSS_ENTROPY, "run from -1 to 1"),
    "float labels": (X, np.zeros(6), CROSS_ENTROPY, "must be 6 integers, not float64"),
    "labels in columns": (X, np.zeros((6, 1), np.int64), CROSS_ENTROPY, "must be 6 integers"),
    "flat targets": (X, np.zeros(6), SQUARED_ERROR, r"have the shape \(6,\), not \(6, 2\)"),
    "too few examples": (X[:5], np.zeros(5, np.int64), CROSS_ENTROPY, "gave 5 examples and 5 labels or targets"),
    "too few labels": (X, np.zeros(5, np.int64), CROSS_ENTROPY, "gave 6 examples and 5 labels"),
    "too many examples": (np.ones((7, 3)), np.zeros(7, np.int64), CROSS_ENTROPY, "examples 0 to 5, which are 6"),
    "too few targets": (X, np.zeros((6, 1)), SQUARED_ERROR, r"not \(6, 2\)"),
}


class Given(DenseTask):
    """All that it has, whatever it is asked for."""

    def examples(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[Any]]:
        return self.x, self.y


@pytest.mark.parametrize("name", WRONG)
def test_examples_that_do_not_fit_the_network_are_refused(name: str) -> None:
    """The compiled loop checks nothing, and would read and write beyond its arrays."""
    x, y, loss, words = WRONG[name]
    with pytest.raises(ValueError, match=words):
        make_stream(Given(x, y), 0, 6, net(3, 2, loss))


def test_labels_of_images_are_checked() -> None:
    with pytest.raises(ValueError, match="run from 0 to 9; the network has 9 outputs"):
        make_stream(image_task(1), 0, 200, net(image_task(1).images.shape[1], 9, CROSS_ENTROPY))
