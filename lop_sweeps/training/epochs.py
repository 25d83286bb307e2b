"""Learning in epochs: many passes over a task's training images in mini-batches, then a test.

Images stay bytes on the learner's device; a step gathers its mini-batch there, and augments it there. An epoch's order
and an augmentation's draws are addressed by seed, task and epoch or step, so a run can go on anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.benchmarks.benchmark import HELD_OUT, EpochsBenchmark, EpochsTask, Split, steps_before
from lop_sweeps.diagnostics.measure import LayerSample, join, sample
from lop_sweeps.errors import ConfigError
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.losses import mean_loss, score, slope
from lop_sweeps.training.session import Follow, Position, before_task

INTERVAL = 25  # steps; an epoch's last interval may be shorter
EVALUATED = 250  # images of a run that are looked at together, without learning


class EpochsStage:
    """One task, on the torch engine.

    Names of sums: `epoch_*` of the epoch so far; `curve/*` (runs, evaluations), one value for each evaluation so far;
    `best/*` the learning state with the highest validation accuracy of the task.
    """

    def __init__(self, learner: TorchLearner, benchmark: EpochsBenchmark, seeds: Sequence[int], task: int) -> None:
        self.learner, self.benchmark, self.seeds, self.task = learner, benchmark, seeds, task
        self.tasks = [benchmark.task(seed, task) for seed in seeds]
        self.steps_per_epoch = benchmark.steps_per_epoch(task)
        self.first_step = steps_before(benchmark, task)
        self.batch_size, self.statistics_of = benchmark.batch_size, benchmark.PROBE_BATCH
        first = self.tasks[0]
        if benchmark.restore_best and first.validation is None:
            raise ConfigError("benchmark.restore_best", True, "needs a benchmark whose tasks have a validation split")
        shared = all(one.images is first.images for one in self.tasks)
        images = first.images if shared else torch.cat([one.images for one in self.tasks])
        self._pool = images.to(learner.device)
        self._offsets = [0 if shared else run * len(first.images) for run in range(len(seeds))]
        self._pixels: Tensor | None = None  # (runs, inputs)
        if first.pixels is not None:
            self._pixels = self._on_device([one.pixels for one in self.tasks if one.pixels is not None])
        self._outputs: Tensor | None = None
        if first.outputs is not None:
            self._outputs = self._on_device([one.outputs for one in self.tasks if one.outputs is not None])
        self._draw_keys = {
            split: counter_random.Keys(
                [streams.counter_key(seed, f"augmentation {split}", task) for seed in seeds], learner.device
            )
            for split in benchmark.augmented
        }
        self._order: tuple[int, Tensor, Tensor] | None = None  # epoch; rows and labels (runs, images)
        keys = [streams.counter_key(seed, "other batch") for seed in seeds]
        self._other_keys = counter_random.Keys(keys, learner.device)
        self.follow: Follow | None = None
        learner.source = self

    def _on_device(self, arrays: Sequence[NDArray[np.int64]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.learner.device, non_blocking=True)

    def _rows(self, splits: Sequence[Split]) -> tuple[Tensor, Tensor]:
        """Rows of the pool and labels, (runs, images) each."""
        rows = [split.rows + offset for split, offset in zip(splits, self._offsets, strict=True)]
        return self._on_device(rows), self._on_device([split.labels for split in splits])

    def _inputs(self, rows: Tensor, uniforms: Tensor | None, run: int | None = None) -> Tensor:
        """Network inputs (runs, images, inputs) of pool rows (runs, images); uniforms (runs, images, DRAWS).

        run: the one that they are of; None = all.
        """
        draws = None if uniforms is None else uniforms.flatten(0, 1)
        x = self.benchmark.prepare(self._pool[rows.flatten()], draws, self.learner.dtype)
        x = x.view(*rows.shape, -1)
        if self._pixels is None:
            return x
        pixels = self._pixels if run is None else self._pixels[run : run + 1]
        return x.gather(2, pixels.unsqueeze(1).expand_as(x))

    def _uniforms(self, split: str, step: int, images: int) -> Tensor | None:
        """Draws (runs, images, DRAWS) for augmentation; step: of the task in training, else the epoch."""
        if split not in self.benchmark.augmented:
            return None
        draws = self._draw_keys[split].uniforms(step, images * self.benchmark.DRAWS)
        return draws.view(len(self.seeds), images, -1)

    @torch.no_grad()
    def probe(self) -> list[LayerSample]:
        rows = self._on_device([one.probe + offset for one, offset in zip(self.tasks, self._offsets, strict=True)])
        batch = self.benchmark.PROBE_BATCH
        with self.learner.looking(batch_statistics=batch is not None):
            # Of even sizes: a rest of one image would have no batch statistics.
            chunks = rows.tensor_split(-(-rows.shape[1] // (batch or EVALUATED)), dim=1)
            parts = [[sample(h) for h in self.learner.forward(self._inputs(chunk, None))[1]] for chunk in chunks]
        return join(parts)

    @torch.no_grad()
    def probe_inputs(self, run: int) -> Tensor:
        rows = torch.from_numpy(self.tasks[run].probe + self._offsets[run])
        return self._inputs(rows[None].to(self.learner.device), None, run)[0]

    def probe_loss(self, run: int, output: Tensor, rows: slice) -> Tensor:
        labels = _labels_of(self.tasks[run], self.tasks[run].probe[rows])
        return mean_loss("cross_entropy", self.answers(run, output), torch.from_numpy(labels).to(output.device))

    def answers(self, run: int, output: Tensor) -> Tensor:
        return output if self._outputs is None else output[:, self._outputs[run]]

    def trial(self, learner: TorchLearner, updates: int) -> Tensor:
        stage = EpochsStage(learner, self.benchmark, self.seeds, HELD_OUT)
        if self.benchmark.new_heads:
            with torch.no_grad():
                learner.zero_outputs()
        losses: list[Tensor] = []
        for epoch in range(self.benchmark.epochs):
            for at in range(0, stage.steps_per_epoch, INTERVAL):
                count = min(INTERVAL, stage.steps_per_epoch - at, updates - len(losses))
                if count <= 0:
                    break
                stage._progress(epoch, at, count)
                learner.plan(len(losses), count)
                losses += [stage._learn(epoch, step)[0] for step in range(at, at + count)]
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
        """Updates up to the end of the interval or of the epoch; what an epoch ends with."""
        position.sums = {name: value.to(self.learner.device) for name, value in position.sums.items()}
        epoch, at = divmod(position.step, self.steps_per_epoch)
        count = min(INTERVAL, self.steps_per_epoch - at)
        if at == 0:
            position.sums["epoch_loss"].zero_()
            position.sums["epoch_accuracy"].zero_()
        self._progress(epoch, at, count)
        self.learner.plan(self.first_step + position.step, count)
        updates = []
        for step in range(at, at + count):
            loss, accuracy = self._learn(epoch, step)
            assert accuracy is not None
            position.sums["epoch_loss"] += loss
            position.sums["epoch_accuracy"] += accuracy
            updates.append((loss, accuracy))
        if self.follow:
            losses, accuracies = (torch.stack(each).cpu() for each in zip(*updates, strict=True))
            images = len(self.tasks[0].train.rows)
            within = (torch.arange(at, at + count) + 1) * self.batch_size
            passed = min(self.steps_per_epoch * self.batch_size, images)
            self.follow(losses, accuracies, epoch * passed + within.clamp(max=images))
        position.sums["magnitude"] += self.learner.magnitudes()
        position.samples += 1
        position.step += count
        if at + count == self.steps_per_epoch:
            position.sums["loss"] += position.sums["epoch_loss"]
            if self.benchmark.online_accuracy:
                position.sums["accuracy"] += position.sums["epoch_accuracy"]
            self._end_epoch(position, epoch)

    def _progress(self, epoch: int, at: int, count: int) -> None:
        """Before updates number `at` ... `at + count - 1` of an epoch."""
        epochs, each = self.benchmark.epochs, self.steps_per_epoch
        schedule, optimizer, begin = self.learner.schedule, self.learner.optimizer, epoch * each + at
        if schedule.moves:
            optimizer.pace = schedule.factor(begin / (epochs * each), (begin + count) / (epochs * each))
        optimizer.progress(epoch / epochs)

    def _learn(self, epoch: int, step: int) -> tuple[Tensor, Tensor | None]:
        """The update number `step` of an epoch: loss and accuracy (runs,) before it."""
        rows, labels = self._of_epoch(epoch)
        span = slice(step * self.batch_size, min((step + 1) * self.batch_size, rows.shape[1]))
        uniforms = self._uniforms("train", epoch * self.steps_per_epoch + step, span.stop - span.start)
        x = self._inputs(rows[:, span], uniforms)
        number = self.first_step + epoch * self.steps_per_epoch + step
        return self.learner.learn(x, labels[:, span], number, self._outputs)

    def _of_epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
        """The training images in this epoch's order: rows of the pool and labels, (runs, images) each."""
        if self._order is None or self._order[0] != epoch:
            orders = [
                streams.generator(seed, "example order", self.task, epoch).permutation(len(one.train.rows))
                for seed, one in zip(self.seeds, self.tasks, strict=True)
            ]
            rows, labels = self._rows(
                [
                    Split(one.train.rows[order], one.train.labels[order])
                    for one, order in zip(self.tasks, orders, strict=True)
                ]
            )
            self._order = epoch, rows, labels
        return self._order[1:]

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
        rows, labels = self._rows([getattr(one, split) for one in self.tasks])
        uniforms = self._uniforms(split, epoch, rows.shape[1])
        loss = torch.zeros(len(self.seeds), dtype=torch.float64, device=rows.device)
        accuracy = torch.zeros_like(loss)
        with self.learner.evaluating(parameters):
            for start in range(0, rows.shape[1], EVALUATED):
                span = slice(start, start + EVALUATED)
                x = self._inputs(rows[:, span], None if uniforms is None else uniforms[:, span])
                output, _ = self.learner.forward(x)
                losses, right = self.learner.score(output, labels[:, span], self._outputs)
                assert right is not None
                loss += losses * x.shape[1]
                accuracy += right * x.shape[1]
        return loss / rows.shape[1], accuracy / rows.shape[1]

    def other_batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Training images of the task, drawn with replacement, without augmentation."""
        rows, labels = self._of_epoch((step - self.first_step) // self.steps_per_epoch)
        draws = self._other_keys.uniforms(step, self.benchmark.batch_size)
        at = (draws * rows.shape[1]).long()
        return self._inputs(rows.gather(1, at), None), labels.gather(1, at)

    def epochs_over(self, step: int) -> int | None:
        passed, left = divmod(step + 1 - self.first_step, self.steps_per_epoch)
        return None if left else self.task * self.benchmark.epochs + passed

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The training set of the task in its own order, without augmentation, `EVALUATED` images at a time."""
        split = self.tasks[run].train
        rows = self._on_device([split.rows[:samples] + self._offsets[run]])
        labels = self._on_device([split.labels[:samples]])
        for start in range(0, rows.shape[1], EVALUATED):
            span = slice(start, start + EVALUATED)
            yield self._inputs(rows[:, span], None, run)[0], labels[0, span]

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


def _labels_of(task: EpochsTask, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of images of the training or the validation split."""
    labels = np.full(len(task.images), -1)
    for split in (task.train, *([task.validation] if task.validation is not None else [])):
        labels[split.rows] = split.labels
    return labels[rows]
