"""Online learning: each example of each task is seen once, and predicted before it is learned from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import HELD_OUT, OnlineBenchmark
from lop_sweeps.diagnostics.measure import PROBE_SAMPLES, LayerSample, sample
from lop_sweeps.errors import LopError
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.losses import mean_loss, score, slope
from lop_sweeps.training.session import Follow, Position, before_task

INTERVAL = 1_000  # steps


class OnlineStage:
    """One task, in intervals of 1,000 steps, on either engine."""

    def __init__(self, learner: Learner, benchmark: OnlineBenchmark, seeds: Sequence[int], task: int) -> None:
        self.learner, self.benchmark, self.seeds, self.task = learner, benchmark, seeds, task
        self.tasks = [benchmark.task(seed, task) for seed in seeds]
        learner.source = self
        self.follow: Follow | None = None
        self.batch_size = benchmark.batch_size
        self.statistics_of: int | None = None
        self._probed = min(PROBE_SAMPLES, benchmark.examples_per_task)

    def probe(self) -> list[LayerSample]:
        return [sample(h) for h in self.learner.probe(self.tasks, self._probed)]

    def probe_inputs(self, run: int) -> Tensor:
        inputs = torch.from_numpy(self.tasks[run].examples(0, self._probed)[0])
        return inputs.to(self.learner.parameters.device, self.learner.dtype)

    def probe_loss(self, run: int, output: Tensor, rows: slice) -> Tensor:
        targets = torch.from_numpy(self.tasks[run].examples(rows.start, rows.stop)[1])
        return mean_loss(self.benchmark.loss, output, targets.to(output.device))

    def answers(self, run: int, output: Tensor) -> Tensor:
        return output

    def trial(self, learner: Learner, updates: int) -> Tensor:
        tasks = [self.benchmark.task(seed, HELD_OUT) for seed in self.seeds]
        steps = min(updates, self.benchmark.examples_per_task // self.batch_size)
        losses = torch.full((steps, len(tasks)), torch.nan, dtype=torch.float64)
        for at in range(0, steps, INTERVAL):
            count = min(INTERVAL, steps - at)
            found = learner.run(tasks, self.batch_size, at, at, count, INTERVAL)[0]
            losses[at : at + len(found)] = found
        return losses

    def begin(self) -> dict[str, Tensor]:
        runs, matrices = len(self.tasks), len(self.learner.network.weights())
        shapes = {"loss": (runs,), "accuracy": (runs,), "magnitude": (runs, matrices)}
        for run in range(runs):
            before_task(self.learner, run, self.task)
        return {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}

    def learn(self, position: Position, left: int) -> None:
        batch = self.benchmark.batch_size
        first = self.task * (self.benchmark.examples_per_task // batch) + position.step
        steps = min(left, INTERVAL * max(1, self.learner.intervals_at_once // batch))
        losses, accuracies, magnitudes = self.learner.run(self.tasks, batch, first, position.step, steps, INTERVAL)
        for i, magnitude in enumerate(magnitudes):  # one by one, so that sums do not depend on how many there are
            span = slice(i * INTERVAL, (i + 1) * INTERVAL)
            position.sums["loss"] += losses[span].sum(0)
            position.sums["accuracy"] += accuracies[span].sum(0)
            position.sums["magnitude"] += magnitude
            position.samples += 1
            if self.follow:
                made = position.step + torch.arange(len(losses))[span] + 1
                self.follow(losses[span].cpu(), accuracies[span].cpu(), made * batch)
        position.step += len(losses)

    def other_batch(self, step: int) -> tuple[Tensor, Tensor]:
        raise LopError("learning online, there is no other mini-batch of the same data")

    def epochs_over(self, step: int) -> int | None:
        passed, left = divmod(step + 1, self.benchmark.examples_per_task // self.batch_size)
        return None if left else passed

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The task's first examples, by default as many as the diagnostics look at, and so many at a time."""
        examples = min(PROBE_SAMPLES if samples is None else samples, self.benchmark.examples_per_task)
        for start, stop in pairwise([*range(0, examples, PROBE_SAMPLES), examples]):
            x, y = self.tasks[run].examples(start, stop)
            targets = torch.from_numpy(np.ascontiguousarray(y)).to(self.learner.device)
            if self.benchmark.loss != "cross_entropy":
                targets = targets.to(self.learner.dtype)
            yield torch.from_numpy(np.ascontiguousarray(x)).to(self.learner.device, self.learner.dtype), targets

    def slope(self, output: Tensor, y: Tensor, run: int | None = None) -> Tensor:
        return slope(self.benchmark.loss, output, y)

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        return score(self.benchmark.loss, output, y)[0]

    def asked(self, output: Tensor) -> Tensor:
        return output

    def ends_round(self, step: int) -> bool:
        return True

    def end(self, position: Position) -> list[dict[str, Any]]:
        benchmark = self.benchmark
        steps = benchmark.examples_per_task // benchmark.batch_size
        examples = (self.task + 1) * benchmark.examples_per_task
        rows: list[dict[str, Any]] = []
        for loss, accuracy in zip(position.sums["loss"].tolist(), position.sums["accuracy"].tolist(), strict=True):
            row = {"examples": examples, benchmark.loss: loss / steps}
            if benchmark.loss == "cross_entropy":
                row["accuracy"] = accuracy / steps
            rows.append(row)
        return rows
