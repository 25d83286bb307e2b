"""Both engines side by side: tasks to learn, and comparisons of what they did."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import Task
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.training.learner import TorchLearner

Floats = NDArray[np.float64]
LOSSES = ("cross_entropy", "squared_error")
SIZES = {"cross_entropy": (30, 10), "squared_error": (20, 2)}  # inputs, outputs of the tasks below


@dataclass(frozen=True)
class DenseTask:
    """Examples that lie in memory as they are."""

    x: Floats
    y: NDArray[Any]

    def examples(self, start: int, stop: int) -> tuple[Floats, NDArray[Any]]:
        return self.x[start:stop], self.y[start:stop]


def image_task(seed: int, images: int = 300, pixels: int = 30) -> PermutedTask:
    """Sparse grey images, fewer than a test's steps, with labels that have nothing to do with them."""
    generator = np.random.default_rng([seed, 0])
    grey = generator.integers(0, 256, (images, pixels)) * (generator.random((images, pixels)) < 0.4)
    labels = generator.integers(0, 10, images)
    return PermutedTask(
        grey.astype(np.uint8), labels, 255.0, generator.permutation(pixels), generator.permutation(images)
    )


def bit_task(seed: int, examples: int) -> DenseTask:
    """Dense bits, and two targets that are a rough function of them."""
    generator = np.random.default_rng([seed, 1])
    x = generator.integers(0, 2, (examples, 20)).astype(np.float64)
    return DenseTask(x, np.sin(x @ generator.normal(size=(20, 2))) + 0.1 * generator.normal(size=(examples, 2)))


def task_for(loss: str, seed: int, examples: int) -> Task:
    return image_task(seed) if loss == "cross_entropy" else bit_task(seed, examples)


def make_network(loss: str, **options: Any) -> Callable[[], MLP]:
    inputs, outputs = SIZES[loss]
    return lambda: MLP(inputs, outputs, **{"hidden": (17, 20), **options})


def fused(
    loss: str,
    optimizer: Any,
    interventions: Sequence[Any] = (),
    seed: int = 3,
    dtype: torch.dtype = torch.float64,
    **network: Any,
) -> FusedLearner:
    return FusedLearner(make_network(loss, **network), optimizer, interventions, seed, loss, dtype)


def unfused(
    loss: str,
    optimizer: Any,
    interventions: Sequence[Any] = (),
    seed: int = 3,
    dtype: torch.dtype = torch.float64,
    **network: Any,
) -> TorchLearner:
    make = make_network(loss, **network)
    return TorchLearner(make, [optimizer], [[one] for one in interventions], [seed], loss, dtype)


def assert_same_state(one: Mapping[str, Tensor], other: Mapping[str, Tensor], tolerance: float = 0.0) -> None:
    """The same names, shapes and types, and values within a relative and absolute tolerance; 0 means bytes."""
    assert list(one) == list(other)
    for name, value in one.items():
        twin = other[name]
        assert (value.dtype, value.shape) == (twin.dtype, twin.shape), name
        if tolerance:
            torch.testing.assert_close(value, twin, rtol=tolerance, atol=tolerance, msg=_naming(name))
        else:
            assert value.numpy().tobytes() == twin.numpy().tobytes(), name


def _naming(name: str) -> Callable[[str], str]:
    return lambda message: f"{name}: {message}"


def replaced(state: Mapping[str, Tensor]) -> list[int]:
    """Units that continual backprop has replaced, by hidden layer."""
    return [int(value.sum()) for name, value in state.items() if name.endswith(".replaced")]
