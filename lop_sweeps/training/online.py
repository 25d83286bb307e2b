"""Online learning: each example of each task is seen once, and predicted before it is learned from.

`train` is the whole protocol. The stream of a task is cut into intervals of 1,000 steps; checkpoints, stops, samples
of the weight magnitude and checks for divergence happen at their ends and nowhere else, so that they never depend on
the clock.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import Benchmark, Task
from lop_sweeps.diagnostics.measure import PROBE_SAMPLES, measure_units
from lop_sweeps.errors import Interrupted
from lop_sweeps.training import checkpoint
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.metrics_log import MetricsLog

INTERVAL = 1_000


@dataclass
class Member:
    """A run's place in a pack. Inactive members keep their slot, masked, and write nothing."""

    directory: Path
    seed: int
    log: MetricsLog | None = None
    active: bool = True
    diverged: tuple[int, int] | None = None  # (task, step) at which its loss was no longer finite


@dataclass
class Position:
    """Where a pack is, and what the current task has added up so far; each tensor has a leading run dimension."""

    task: int = 0
    step: int = 0  # within the task
    before: list[dict[str, list[float]]] = field(default_factory=list)  # diagnostics before the task, per run
    loss: Tensor = field(default_factory=lambda: torch.zeros(0))
    accuracy: Tensor = field(default_factory=lambda: torch.zeros(0))
    magnitude: Tensor = field(default_factory=lambda: torch.zeros(0))  # (runs, weight matrices)
    samples: int = 0  # of the weight magnitude

    def begin(self, before: list[dict[str, list[float]]], runs: int, matrices: int) -> None:
        self.before, self.samples = before, 0
        self.loss = torch.zeros(runs, dtype=torch.float64)
        self.accuracy = torch.zeros(runs, dtype=torch.float64)
        self.magnitude = torch.zeros(runs, matrices, dtype=torch.float64)

    def payload(self, run: int) -> dict[str, Any]:
        """One run's share, for its checkpoint."""
        sums = {"loss": self.loss, "accuracy": self.accuracy, "magnitude": self.magnitude}
        return {
            "task": self.task,
            "step": self.step,
            "before": json.dumps(self.before[run]) if self.step else "{}",
            "sums": {name: value[run].clone() for name, value in sums.items()} if self.step else {},
            "samples": self.samples if self.step else 0,
        }

    @staticmethod
    def restore(payloads: Sequence[dict[str, Any] | None]) -> Position:
        """The position that the checkpoints of a pack's active runs (None for the others) have in common."""
        first = next(payload for payload in payloads if payload is not None)
        position = Position(first["task"], first["step"], samples=first["samples"])
        if position.step:
            position.before = [json.loads(payload["before"]) if payload else {} for payload in payloads]
            for name in ("loss", "accuracy", "magnitude"):
                like = torch.zeros_like(first["sums"][name])
                values = [payload["sums"][name] if payload else like for payload in payloads]
                setattr(position, name, torch.stack(values))
        return position


@dataclass
class Clock:
    """When checkpoints are due: the first after `first` seconds, then every `every` seconds."""

    first: float
    every: float
    start: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.due = self.start + self.first

    def rings(self) -> bool:
        if (now := time.monotonic()) < self.due:
            return False
        self.due = now + self.every
        return True


def train(
    learner: Learner,
    benchmark: Benchmark,
    members: Sequence[Member],
    position: Position,
    clock: Clock,
    on_interval: Callable[[int, int], None],
    should_stop: Callable[[], bool],
    before_writing: Callable[[], None] = lambda: None,
) -> None:
    """Learn the tasks from `position` to the last, appending one row per task to each active member's log.

    on_interval(task, step): told after every interval, at the end before the last checkpoint. should_stop: asked
    after every interval; if true, a checkpoint is written and `Interrupted` raised. before_writing: called before
    rows or checkpoints are written; it raises if the runs are no longer this process's.
    """
    steps_per_task = benchmark.examples_per_task // benchmark.batch_size
    for run, member in enumerate(members):
        if not member.active:
            learner.mask(run)
    while position.task < benchmark.num_tasks and any(member.active for member in members):
        tasks = [benchmark.task(member.seed, position.task) for member in members]
        if position.step == 0:
            _begin_task(learner, benchmark, tasks, members, position)
        while position.step < steps_per_task:
            _learn(learner, benchmark, tasks, position, steps_per_task - position.step)
            finite = torch.isfinite(position.loss) & torch.isfinite(position.magnitude).all(1)
            _mask_diverged(learner, members, position, finite)
            if not any(member.active for member in members):
                break
            if position.step < steps_per_task:
                before_writing()
                on_interval(position.task, position.step)
                _save_if(learner, members, position, clock.rings(), should_stop())
        before_writing()
        _end_task(learner, benchmark, members, position)
        on_interval(position.task, 0)
        last = position.task == benchmark.num_tasks
        _save_if(learner, members, position, clock.rings() or last, should_stop() and not last)


def _begin_task(
    learner: Learner,
    benchmark: Benchmark,
    tasks: Sequence[Task],
    members: Sequence[Member],
    position: Position,
) -> None:
    activations = learner.probe(tasks, min(PROBE_SAMPLES, benchmark.examples_per_task))
    if activations:
        extremes = torch.stack([torch.stack(torch.aminmax(h.flatten(1), dim=1)) for h in activations])
        finite = torch.isfinite(extremes).flatten(0, 1).all(0)
        _mask_diverged(learner, members, position, finite)
        if not bool(finite.all()):
            activations = [torch.where(finite[:, None, None], h, 0) for h in activations]
    before = measure_units(activations, len(members))
    magnitudes = learner.magnitudes()
    for run, measures in enumerate(before):
        measures["weight_magnitude"] = magnitudes[run].tolist()
    position.begin(before, len(members), magnitudes.shape[1])


def _learn(learner: Learner, benchmark: Benchmark, tasks: Sequence[Task], position: Position, left: int) -> None:
    """Some intervals of updates from `position`, which moves; there are `left` updates to the end of the task."""
    batch = benchmark.batch_size
    first = position.task * (benchmark.examples_per_task // batch) + position.step
    steps = min(left, INTERVAL * max(1, learner.intervals_at_once // batch))
    losses, accuracies, magnitudes = learner.run(tasks, batch, first, position.step, steps, INTERVAL)
    for i, magnitude in enumerate(magnitudes):  # interval by interval, so that sums do not depend on how many there are
        span = slice(i * INTERVAL, (i + 1) * INTERVAL)
        position.loss += losses[span].sum(0)
        position.accuracy += accuracies[span].sum(0)
        position.magnitude += magnitude
        position.samples += 1
    position.step += len(losses)


def _end_task(learner: Learner, benchmark: Benchmark, members: Sequence[Member], position: Position) -> None:
    """Write each active run's row of the finished task, and move to the next."""
    steps = benchmark.examples_per_task // benchmark.batch_size
    for run, member in enumerate(members):
        if not member.active or member.log is None:
            continue
        row: dict[str, Any] = {
            "task": position.task,
            "examples": (position.task + 1) * benchmark.examples_per_task,
            benchmark.loss: float(position.loss[run]) / steps,
        }
        if benchmark.loss == "cross_entropy":
            row["accuracy"] = float(position.accuracy[run]) / steps
        row |= position.before[run]
        row["weight_magnitude_task"] = (position.magnitude[run] / position.samples).tolist()
        for intervention in learner.interventions:
            row |= intervention.report(run)
        member.log.append(row)
    for intervention in learner.interventions:
        intervention.clear_report()
    position.task, position.step = position.task + 1, 0


def _mask_diverged(learner: Learner, members: Sequence[Member], position: Position, finite: Tensor) -> None:
    """Take runs that are no longer finite out of the pack; each is final."""
    for run, member in enumerate(members):
        if member.active and not bool(finite[run]):
            member.active, member.diverged = False, (position.task, position.step)
            learner.mask(run)


def _save_if(learner: Learner, members: Sequence[Member], position: Position, due: bool, stop: bool) -> None:
    if due or stop:
        save(learner, members, position)
    if stop:
        raise Interrupted("stopped; the same command continues")


def save(learner: Learner, members: Sequence[Member], position: Position) -> None:
    """Write a checkpoint of every active run."""
    state = learner.state()
    together = [member.directory.name for member in members if member.active]
    for run, member in enumerate(members):
        if member.active and member.log is not None:
            member.log.sync()
            payload = {
                **position.payload(run),
                "metrics": list(member.log.position),
                "together": together,
                "learner": {name: value[run].clone() for name, value in state.items()},
            }
            checkpoint.save(member.directory, payload)


def restore(learner: Learner, payloads: Sequence[dict[str, Any] | None]) -> None:
    """Put the learning state of checkpoints (None for inactive runs) into a pack."""
    for run, payload in enumerate(payloads):
        if payload is not None:
            learner.load(run, payload["learner"])
