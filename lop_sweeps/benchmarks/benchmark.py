"""What a benchmark is: a sequence of tasks, each of which can be rebuilt from the seed and its index.

A benchmark's class says by `protocol` how its data reach the learner: `online`, each example once, or `epochs` over a
training set, then a test; or `control`, steps in an environment that an agent acts in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError

Array = NDArray[np.generic]

HELD_OUT = -1  # the index of the task that the stream never shows; what is measured on it is a diagnostic's business


class Task(Protocol):
    """A stationary stretch of an online stream."""

    def examples(self, start: int, stop: int) -> tuple[Array, Array]:
        """Examples `start` ... `stop - 1` of the task: inputs (n, inputs); labels (n,) or targets (n, outputs).

        Exactly stop - start of them; a task has `examples_per_task`. Labels are integers 0, ..., outputs - 1.
        """


def examples_of(task: Task, start: int, stop: int) -> tuple[Array, Array]:
    """What `task.examples` gives; raises `ValueError` if it is not what was asked for: the engines read so many."""
    x, y = task.examples(start, stop)
    if not len(x) == len(y) == stop - start:
        raise ValueError(
            f"the task gave {len(x)} examples and {len(y)} labels or targets when asked for examples {start} to "
            f"{stop - 1}, which are {stop - start}"
        )
    return x, y


class Data(Protocol):
    """What benchmarks of every protocol have. One that derives from it has data that need no check, unless it says so.

    version: raise it when a change alters results; it is part of a run's identity. BIN_TASKS: how many tasks one point
    of the paper's figures averages over. loss: cross_entropy or squared_error.
    A benchmark of images also has `shape`, (channels, height, width): its inputs are their pixels in that order. One
    whose performance is not online accuracy or error names the logged metric that figures show as `PERFORMANCE`.
    """

    version: ClassVar[int] = 1
    BIN_TASKS: ClassVar[int] = 1
    inputs: int
    outputs: int
    loss: str
    num_tasks: int

    def check_data(self, root: Path) -> None:
        """Raise `DataError` if the data under `root` cannot be used; quick enough for every point of a sweep."""
        return None

    def load(self, root: Path) -> None:
        """Read the data into memory, once per process. Never downloads."""
        return None


class OnlineBenchmark(Data, Protocol):
    """A stream of `num_tasks` tasks of `examples_per_task` examples, in mini-batches of `batch_size`.

    There is one task more, `HELD_OUT`, of the same kind: draws whose position is its index (`lop_sweeps.streams`) are
    those of no other.
    """

    protocol: ClassVar[Literal["online"]] = "online"
    examples_per_task: int
    batch_size: int

    def task(self, seed: int, index: int) -> Task: ...


@dataclass(frozen=True)
class Split:
    """rows (n,): images of the task's pool; labels (n,): their classes, as numbers of the task's outputs."""

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class EpochsTask:
    """images: a pool, (images, channels, height, width) uint8. probe (m,): rows that diagnostics look at before the
    task, of its training or validation split.
    outputs: the network's outputs that the task uses, in the order of its labels; None = all. pixels: input j is number
    pixels[j] of what `prepare` gives; None = as it gives it. test: None where there is nothing to test on.
    """

    images: Tensor
    train: Split
    test: Split | None
    probe: NDArray[np.int64]
    validation: Split | None = None
    outputs: NDArray[np.int64] | None = None
    pixels: NDArray[np.int64] | None = None


class EpochsBenchmark(Data, Protocol):
    """Tasks with a training and a test set of images; a task is `epochs` passes over its training set.

    evaluate_every: epochs between two evaluations; there always is one after the last epoch.
    augmented: the splits (train, test, validation) whose images are augmented. DRAWS: uniform numbers that takes.
    PROBE_BATCH: diagnostics look at the network in evaluation mode (None), or in training mode, with normalisation by
        the statistics of batches of at most this many images, of even sizes.
    new_heads: whether the output layer is set to zero before each task.
    restore_best: whether a task ends with the parameters (and running statistics) of its best validation accuracy.
    online_accuracy: whether the accuracy before each update, over all of a task's updates, is logged, too.
    As online, there is a task `HELD_OUT`.
    """

    protocol: ClassVar[Literal["epochs"]] = "epochs"
    DRAWS: ClassVar[int]
    PROBE_BATCH: ClassVar[int | None]
    augmented: frozenset[str]
    batch_size: int
    epochs: int
    evaluate_every: int
    new_heads: bool
    restore_best: bool
    online_accuracy: bool

    def steps_per_epoch(self, index: int) -> int: ...

    def task(self, seed: int, index: int) -> EpochsTask: ...

    def prepare(self, images: Tensor, uniforms: Tensor | None, dtype: torch.dtype) -> Tensor:
        """images (n, channels, height, width) uint8, augmented if uniforms (n, DRAWS) are given -> (n, inputs)."""


class ControlEnvironment(Protocol):
    """What an agent acts in; it knows no time limit and never resets itself.

    gym: gymnasium's own, without wrappers.
    """

    gym: Any

    def reset(self, seed: int | None = None) -> NDArray[np.float64]:
        """Begin an episode; the first observation (inputs,). seed: of the generator, from now on."""

    def step(self, action: NDArray[Any]) -> tuple[NDArray[np.float64], float, bool]:
        """Take an action (actions,), or (1,), its number: observation, reward, whether the episode has ended."""

    def set_friction(self, friction: float) -> None:
        """Where the benchmark has a `friction`."""

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on, as a checkpoint can keep it."""

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""


class ControlBenchmark(Data, Protocol):
    """An environment to act in for `num_tasks` rows of the log, of `log_every` steps each.

    inputs, outputs: numbers in an observation, and in an action. An episode is cut off after `max_episode_steps`.
    discrete: whether actions are numbered, and `outputs` is how many there are.
    new_episode_each_rollout: whether an agent's rollouts begin with new episodes, and cut off those that go on at their
    end; changes then come between them, where they are due.
    """

    protocol: ClassVar[Literal["control"]] = "control"
    discrete: ClassVar[bool] = False
    new_episode_each_rollout: bool = False
    log_every: int
    max_episode_steps: int

    def make_environment(self, render: str | None = None) -> ControlEnvironment: ...

    def friction(self, seed: int, change: int) -> float | None: ...

    def change_due(self, steps: int) -> bool: ...

    def offset(self, seed: int, change: int) -> NDArray[np.float64] | None:
        """What is added to observations after `change` changes, (inputs,); None: nothing, ever."""
        return None

    def level(self, change: int) -> int | None:
        """What the log calls `level` after `change` changes; None: it has no such column."""
        return None


Benchmark = OnlineBenchmark | EpochsBenchmark | ControlBenchmark


def steps_of(benchmark: Benchmark, index: int) -> int:
    """Updates in task `index`; in control, environment steps in row `index` of the log."""
    if benchmark.protocol == "online":
        return benchmark.examples_per_task // benchmark.batch_size
    if benchmark.protocol == "control":
        return benchmark.log_every
    return benchmark.epochs * benchmark.steps_per_epoch(index)


def steps_before(benchmark: Benchmark, index: int) -> int:
    """Updates in all tasks before task `index`."""
    if benchmark.protocol != "epochs":
        return index * steps_of(benchmark, 0)
    return sum(steps_of(benchmark, earlier) for earlier in range(index))


def check_lengths(num_tasks: int, examples_per_task: int, batch_size: int) -> None:
    checks.integer("num_tasks", num_tasks, 1)
    checks.integer("examples_per_task", examples_per_task, 1)
    checks.integer("batch_size", batch_size, 1)
    if examples_per_task % batch_size:
        raise ConfigError("batch_size", batch_size, f"must divide examples_per_task ({examples_per_task})")
