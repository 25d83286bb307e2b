"""Learning in epochs: many passes over a task's training images in mini-batches, then a test."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import HELD_OUT, EpochsBenchmark, steps_before
from lop_sweeps.diagnostics.measure import LayerSample, join, sample
from lop_sweeps.errors import ConfigError
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.losses import mean_loss, score, slope
from lop_sweeps.training.online import INTERVAL as ONLINE
from lop_sweeps.training.session import Follow, Position, before_task
from lop_sweeps.training.task_images import EVALUATED, Epoch, TaskImages

INTERVAL = 25  # steps; an epoch's last interval may be shorter


class Stretch(NamedTuple):
    """What updates measured before each: losses and accuracies, (runs,); magnitudes (runs, weight matrices), after each
    interval.
    """

    losses: Sequence[Tensor] | Tensor
    accuracies: Sequence[Tensor] | Tensor
    magnitudes: Sequence[Tensor] | Tensor


class EpochsStage:
    """One task, on either engine.

    Names of sums: `epoch_*` of the epoch so far; `curve/*` (runs, evaluations), one value for each evaluation so far;
    `best/*` the learning state with the highest validation accuracy of the task.
    """

    def __init__(self, learner: Learner, benchmark: EpochsBenchmark, seeds: Sequence[int], task: int) -> None:
        self.learner, self.benchmark, self.seeds, self.task = learner, benchmark, seeds, task
        self.images = TaskImages(benchmark, seeds, task, learner.device, learner.dtype)
        self.tasks, self._outputs = self.images.tasks, self.images.outputs
        self.steps_per_epoch = benchmark.steps_per_epoch(task)
        self.first_step = steps_before(benchmark, task)
        self.batch_size, self.statistics_of = benchmark.batch_size, benchmark.PROBE_BATCH
        if benchmark.restore_best and self.tasks[0].validation is None:
            raise ConfigError("benchmark.restore_best", True, "needs a benchmark whose tasks have a validation split")
        self.follow: Follow | None = None
        learner.source = self

    @torch.no_grad()
    def probe(self) -> list[LayerSample]:
        rows = self.images.probe_rows()
        batch = self.benchmark.PROBE_BATCH
        with self.learner.looking(batch_statistics=batch is not None):
            # Of even sizes: a rest of one image would have no batch statistics.
            chunks = rows.tensor_split(-(-rows.shape[1] // (batch or EVALUATED)), dim=1)
            parts = [[sample(h) for h in self.learner.forward(self.images.inputs(chunk, None))[1]] for chunk in chunks]
        return join(parts)

    @torch.no_grad()
    def probe_inputs(self, run: int) -> Tensor:
        return self.images.probe_inputs(run)

    def probe_loss(self, run: int, output: Tensor, rows: slice) -> Tensor:
        labels = self.images.probe_labels(run, rows).to(output.device)
        return mean_loss("cross_entropy", self.answers(run, output), labels)

    def answers(self, run: int, output: Tensor) -> Tensor:
        return output if self._outputs is None else output[:, self._outputs[run]]

    def trial(self, learner: Learner, updates: int) -> Tensor:
        stage = EpochsStage(learner, self.benchmark, self.seeds, HELD_OUT)
        if self.benchmark.new_heads:
            with torch.no_grad():
                learner.zero_outputs()
        losses: list[Tensor] = []
        for epoch in range(self.benchmark.epochs):
            at = 0
            while at < stage.steps_per_epoch and (count := updates - len(losses)) > 0:
                stretch = stage._learn(epoch, at, len(losses), count)
                losses += stretch.losses
                at += len(stretch.losses)
        return torch.stack(losses)

    @torch.no_grad()
    def begin(self) -> dict[str, Tensor]:
        if self.benchmark.new_heads:
            self.learner.zero_outputs(*self.learner.tested_beside().values())
        runs, matrices = len(self.tasks), len(self.learner.weight_names)
        evaluations = -(-self.benchmark.epochs // self.benchmark.evaluate_every)
        shapes: dict[str, tuple[int, ...]] = {"loss": (runs,), "magnitude": (runs, matrices)}
        shapes |= {"epoch_loss": (runs,), "epoch_accuracy": (runs,)}
        if self.benchmark.online_accuracy:
            shapes["accuracy"] = (runs,)
        sums = {name: torch.zeros(shape, dtype=torch.float64) for name, shape in shapes.items()}
        tested = ["train", *self._evaluated(), *(f"{name}_test" for name, _ in self._tested_beside())]
        names = [f"{what_of}_{what}" for what_of in tested for what in ("cross_entropy", "accuracy")]
        sums |= {f"curve/{name}": torch.zeros(runs, evaluations, dtype=torch.float64) for name in names}
        if self.benchmark.restore_best:
            sums["best_accuracy"] = torch.full((runs,), -1.0, dtype=torch.float64)  # so that the first is kept
            sums |= {f"best/{name}": value.clone() for name, value in self._restorable().items()}
        for run in range(runs):
            before_task(self.learner, run, self.task)
        return {name: value.to(self.learner.device) for name, value in sums.items()}

    def _tested_beside(self) -> list[tuple[str, Tensor]]:
        """Networks of methods that are tested, too, where there is a test set."""
        return list(self.learner.tested_beside().items()) if self.tasks[0].test is not None else []

    def _evaluated(self) -> Iterator[str]:
        if self.tasks[0].test is not None:
            yield "test"
        if self.tasks[0].validation is not None:
            yield "validation"

    def _restorable(self) -> dict[str, Tensor]:
        return {"parameters": self.learner.parameters, **self.learner.buffers}

    def learn(self, position: Position, left: int) -> None:
        """Updates up to the end of some intervals, at most those of the epoch; what an epoch ends with."""
        position.sums = {name: value.to(self.learner.device) for name, value in position.sums.items()}
        epoch, at = divmod(position.step, self.steps_per_epoch)
        if at == 0:
            position.sums["epoch_loss"].zero_()
            position.sums["epoch_accuracy"].zero_()
        made = self._learn(epoch, at, self.first_step + position.step, self.steps_per_epoch - at)
        for name, values in (("epoch_loss", made.losses), ("epoch_accuracy", made.accuracies)):
            if isinstance(values, Tensor):  # one interval after another, however many there are
                values = [of_interval.sum(0) for of_interval in values.split(INTERVAL)]
            for value in values:
                position.sums[name] += value
        if self.follow:
            self._tell(self.follow, made, epoch, at)
        for magnitude in made.magnitudes:
            position.sums["magnitude"] += magnitude
            position.samples += 1
        position.step += len(made.losses)
        if at + len(made.losses) == self.steps_per_epoch:
            position.sums["loss"] += position.sums["epoch_loss"]
            if self.benchmark.online_accuracy:
                position.sums["accuracy"] += position.sums["epoch_accuracy"]
            self._end_epoch(position, epoch)

    def _tell(self, follow: Follow, made: Stretch, epoch: int, at: int) -> None:
        images, count = len(self.tasks[0].train.rows), len(made.losses)
        within = (torch.arange(at, at + count) + 1) * self.batch_size
        passed = min(self.steps_per_epoch * self.batch_size, images)
        losses, accuracies = torch.stack([*made.losses]), torch.stack([*made.accuracies])
        follow(losses.cpu(), accuracies.cpu(), epoch * passed + within.clamp(max=images))

    def _progress(self, epoch: int, at: int, count: int) -> None:
        """Before updates number `at` ... `at + count - 1` of an epoch."""
        epochs, each = self.benchmark.epochs, self.steps_per_epoch
        schedule, optimizer, begin = self.learner.schedule, self.learner.optimizer, epoch * each + at
        if schedule.moves:
            optimizer.pace = schedule.factor(begin / (epochs * each), (begin + count) / (epochs * each))
        optimizer.progress(epoch / epochs)

    def _learn(self, epoch: int, at: int, number: int, most: int) -> Stretch:
        """At most so many updates, the first of them number `at` of an epoch and `number` of the run."""
        if isinstance(self.learner, TorchLearner):
            count = min(INTERVAL, self.steps_per_epoch - at, most)
            self._progress(epoch, at, count)
            return self._interval(self.learner, epoch, at, number, count)
        at_once = 1 if self.learner.schedule.moves else self._intervals_at_once()
        count = min(INTERVAL * at_once, self.steps_per_epoch - at, most)
        self._progress(epoch, at, count)
        return self._compiled(epoch, at, number, count)

    def _interval(self, learner: TorchLearner, epoch: int, at: int, number: int, count: int) -> Stretch:
        learner.plan(number, count)
        losses, accuracies = [], []
        for step in range(at, at + count):
            x, labels = self.images.batch(epoch, step, self.batch_size)
            loss, accuracy = learner.learn(x, labels, number + step - at, self._outputs)
            assert accuracy is not None
            losses.append(loss)
            accuracies.append(accuracy)
        return Stretch(losses, accuracies, [learner.magnitudes()])

    def _compiled(self, epoch: int, at: int, number: int, count: int) -> Stretch:
        """The same by the compiled loop, which takes intervals of whole mini-batches; a smaller one goes after them."""
        size, learner = self.batch_size, self.learner
        left = len(self.tasks[0].train.rows) - (at + count - 1) * size  # images of the last mini-batch
        whole = count - (left < size)
        parts = []
        if whole:
            parts.append(learner.run([Epoch(self.images, epoch, size)], size, number, at, whole, INTERVAL))
        if whole < count and (not parts or len(parts[0][0]) == whole):
            rest = Epoch(self.images, epoch, size, first=(at + whole) * size)
            parts.append(learner.run([rest], left, number + whole, 0, 1, INTERVAL))
            if whole % INTERVAL:  # they are one interval
                parts[0] = *parts[0][:2], parts[0][2][:-1]
        return Stretch(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def _intervals_at_once(self) -> int:
        return max(1, self.learner.intervals_at_once * ONLINE // (INTERVAL * self.batch_size))

    def _end_epoch(self, position: Position, epoch: int) -> None:
        every, last = self.benchmark.evaluate_every, epoch + 1 == self.benchmark.epochs
        if (epoch + 1) % every and not last:
            return
        sums, at = position.sums, epoch // every
        sums["curve/train_cross_entropy"][:, at] = sums["epoch_loss"] / self.steps_per_epoch
        sums["curve/train_accuracy"][:, at] = sums["epoch_accuracy"] / self.steps_per_epoch
        for split in self._evaluated():
            loss, accuracy = self._evaluate(split, epoch)
            sums[f"curve/{split}_cross_entropy"][:, at] = loss
            sums[f"curve/{split}_accuracy"][:, at] = accuracy
        for name, parameters in self._tested_beside():
            loss, accuracy = self._evaluate("test", epoch, parameters)
            sums[f"curve/{name}_test_cross_entropy"][:, at] = loss
            sums[f"curve/{name}_test_accuracy"][:, at] = accuracy
        if self.benchmark.restore_best:
            self._keep_best(sums, sums["curve/validation_accuracy"][:, at])

    @torch.no_grad()
    def _keep_best(self, sums: dict[str, Tensor], accuracy: Tensor) -> None:
        """Note the state of the runs whose validation accuracy (runs,) is higher than before; ties keep the older."""
        better = accuracy > sums["best_accuracy"]
        sums["best_accuracy"] = torch.where(better, accuracy, sums["best_accuracy"])
        for name, value in self._restorable().items():
            best = sums[f"best/{name}"]
            best.copy_(torch.where(better.view(-1, *[1] * (value.dim() - 1)), value, best))

    @torch.no_grad()
    def _evaluate(self, split: str, epoch: int, parameters: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean loss and accuracy (runs,) over a split, in evaluation mode, of these parameters or of the network's."""
        rows, labels = self.images.of_split(split)
        uniforms = self.images.uniforms(split, epoch, rows.shape[1])
        loss = torch.zeros(len(self.seeds), dtype=torch.float64, device=rows.device)
        accuracy = torch.zeros_like(loss)
        with self.learner.evaluating(parameters):
            for start in range(0, rows.shape[1], EVALUATED):
                span = slice(start, start + EVALUATED)
                x = self.images.inputs(rows[:, span], None if uniforms is None else uniforms[:, span])
                output, _ = self.learner.forward(x)
                losses, right = self.learner.score(output, labels[:, span], self._outputs)
                assert right is not None
                loss += losses * x.shape[1]
                accuracy += right * x.shape[1]
        return loss / rows.shape[1], accuracy / rows.shape[1]

    def other_batch(self, step: int) -> tuple[Tensor, Tensor]:
        return self.images.other_batch(step, (step - self.first_step) // self.steps_per_epoch)

    def epochs_over(self, step: int) -> int | None:
        passed, left = divmod(step + 1 - self.first_step, self.steps_per_epoch)
        return None if left else self.task * self.benchmark.epochs + passed

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        return self.images.training_set(run, samples)

    def slope(self, output: Tensor, y: Tensor, run: int | None = None) -> Tensor:
        outputs = self._outputs if self._outputs is None or run is None else self._outputs[run : run + 1]
        return slope(self.learner.loss, output, y, outputs)

    def losses(self, output: Tensor, y: Tensor) -> Tensor:
        return score(self.learner.loss, output, y, self._outputs)[0]

    def asked(self, output: Tensor) -> Tensor:
        if self._outputs is None:
            return output
        return output.gather(2, self._outputs.unsqueeze(1).expand(-1, output.shape[1], -1))

    def ends_round(self, step: int) -> bool:
        return (step - self.first_step + 1) % self.steps_per_epoch == 0

    @torch.no_grad()
    def end(self, position: Position) -> list[dict[str, Any]]:
        """After the last evaluation, the parameters with the best validation accuracy are put back, if asked for."""
        if self.benchmark.restore_best:
            for name, value in self._restorable().items():
                value.copy_(position.sums[f"best/{name}"])
        examples = self.benchmark.batch_size * (self.first_step + self.benchmark.epochs * self.steps_per_epoch)
        curves = {name.removeprefix("curve/"): value for name, value in position.sums.items() if "curve/" in name}
        rows = []
        updates = self.benchmark.epochs * self.steps_per_epoch
        for run in range(len(self.seeds)):
            of_run = {name: value[run].tolist() for name, value in curves.items()}
            row: dict[str, Any] = {"examples": examples}
            if (outputs := self.tasks[run].outputs) is not None:
                row["classes"] = len(outputs)
            if self.benchmark.online_accuracy:
                row["online_accuracy"] = position.sums["accuracy"][run].item() / updates
            row |= {name: values[-1] for name, values in of_run.items()}
            several = len(of_run["train_accuracy"]) > 1
            if several and "test_accuracy" in of_run:
                row["best_test_accuracy"] = max(of_run["test_accuracy"])
            if self.benchmark.restore_best:
                found = int(np.argmax(of_run["validation_accuracy"]))  # the first of equals, as `best` is
                row["selected_test_accuracy"] = of_run["test_accuracy"][found]
            if several:
                row["epochs"] = of_run
            rows.append(row)
        return rows
