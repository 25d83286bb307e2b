"""A task's images on their way to the learner, in the epochs protocol.

Images stay bytes on the learner's device; a mini-batch is gathered there, and augmented there. An epoch's order and an
augmentation's draws are addressed by seed, task and epoch or step, so a run can go on anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.benchmarks.benchmark import EpochsBenchmark, EpochsTask, Split

EVALUATED = 250  # images of a run that are looked at together, without learning


class TaskImages:
    """The images of one task of each run of a pack, on one device.

    tasks: of each run. outputs: those of the network that the task uses, (runs, classes); None = all.
    """

    def __init__(
        self, benchmark: EpochsBenchmark, seeds: Sequence[int], task: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.benchmark, self.seeds, self.task, self.device, self.dtype = benchmark, seeds, task, device, dtype
        self.tasks: list[EpochsTask] = [benchmark.task(seed, task) for seed in seeds]
        first = self.tasks[0]
        shared = all(one.images is first.images for one in self.tasks)
        images = first.images if shared else torch.cat([one.images for one in self.tasks])
        self._pool = images.to(device)
        self._offsets = [0 if shared else run * len(first.images) for run in range(len(seeds))]
        self._pixels: Tensor | None = None  # (runs, inputs)
        if first.pixels is not None:
            self._pixels = self._on_device([one.pixels for one in self.tasks if one.pixels is not None])
        self.outputs: Tensor | None = None
        if first.outputs is not None:
            self.outputs = self._on_device([one.outputs for one in self.tasks if one.outputs is not None])
        self._draw_keys = {
            split: counter_random.Keys(
                [streams.counter_key(seed, f"augmentation {split}", task) for seed in seeds], device
            )
            for split in benchmark.augmented
        }
        self._order: tuple[int, Tensor, Tensor] | None = None  # epoch; rows and labels (runs, images)
        keys = [streams.counter_key(seed, "other batch") for seed in seeds]
        self._other_keys = counter_random.Keys(keys, device)

    def _on_device(self, arrays: Sequence[NDArray[np.int64]]) -> Tensor:
        return torch.from_numpy(np.stack(arrays)).to(self.device, non_blocking=True)

    def of_split(self, name: str) -> tuple[Tensor, Tensor]:
        """Rows of the pool and labels, (runs, images) each, of a split."""
        return self._rows([getattr(one, name) for one in self.tasks])

    def _rows(self, splits: Sequence[Split]) -> tuple[Tensor, Tensor]:
        rows = [split.rows + offset for split, offset in zip(splits, self._offsets, strict=True)]
        return self._on_device(rows), self._on_device([split.labels for split in splits])

    def inputs(self, rows: Tensor, uniforms: Tensor | None, run: int | None = None) -> Tensor:
        """Network inputs (runs, images, inputs) of pool rows (runs, images); uniforms (runs, images, DRAWS).

        run: the one that they are of; None = all.
        """
        draws = None if uniforms is None else uniforms.flatten(0, 1)
        x = self.benchmark.prepare(self._pool[rows.flatten()], draws, self.dtype)
        x = x.view(*rows.shape, -1)
        if self._pixels is None:
            return x
        pixels = self._pixels if run is None else self._pixels[run : run + 1]
        return x.gather(2, pixels.unsqueeze(1).expand_as(x))

    def uniforms(self, split: str, step: int, images: int) -> Tensor | None:
        """Draws (runs, images, DRAWS) for augmentation; step: of the task in training, else the epoch."""
        if split not in self.benchmark.augmented:
            return None
        draws = self._draw_keys[split].uniforms(step, images * self.benchmark.DRAWS)
        return draws.view(len(self.seeds), images, -1)

    def of_epoch(self, epoch: int) -> tuple[Tensor, Tensor]:
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

    def batch(self, epoch: int, step: int, size: int) -> tuple[Tensor, Tensor]:
        """Inputs (runs, images, inputs) and labels (runs, images) of mini-batch `step` of an epoch: `size` images, or
        what is left of them.
        """
        rows, labels = self.of_epoch(epoch)
        span = slice(step * size, min((step + 1) * size, rows.shape[1]))
        number = epoch * self.benchmark.steps_per_epoch(self.task) + step
        return self.inputs(rows[:, span], self.uniforms("train", number, span.stop - span.start)), labels[:, span]

    def probe_rows(self) -> Tensor:
        """(runs, images): rows of the pool that diagnostics look at."""
        return self._on_device([one.probe + offset for one, offset in zip(self.tasks, self._offsets, strict=True)])

    def probe_inputs(self, run: int) -> Tensor:
        rows = torch.from_numpy(self.tasks[run].probe + self._offsets[run])
        return self.inputs(rows[None].to(self.device), None, run)[0]

    def probe_labels(self, run: int, rows: slice) -> Tensor:
        return torch.from_numpy(_labels_of(self.tasks[run], self.tasks[run].probe[rows]))

    def other_batch(self, step: int, epoch: int) -> tuple[Tensor, Tensor]:
        """Training images of the task, drawn with replacement, without augmentation."""
        rows, labels = self.of_epoch(epoch)
        draws = self._other_keys.uniforms(step, self.benchmark.batch_size)
        at = (draws * rows.shape[1]).long()
        return self.inputs(rows.gather(1, at), None), labels.gather(1, at)

    def training_set(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The training set of the task in its own order, without augmentation, `EVALUATED` images at a time."""
        split = self.tasks[run].train
        rows = self._on_device([split.rows[:samples] + self._offsets[run]])
        labels = self._on_device([split.labels[:samples]])
        for start in range(0, rows.shape[1], EVALUATED):
            span = slice(start, start + EVALUATED)
            yield self.inputs(rows[:, span], None, run)[0], labels[0, span]


class Epoch:
    """One run's epoch from image number `first` on, as a stretch of a stream (`Task`) in mini-batches of `size`.

    outputs: those of the network that count, in the order of the labels; None = all.
    """

    def __init__(self, images: TaskImages, epoch: int, size: int, first: int = 0) -> None:
        self._images, self._epoch, self._size, self._first = images, epoch, size, first
        self.outputs = images.tasks[0].outputs

    def examples(self, start: int, stop: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
        """Inputs (n, inputs) and labels (n,), from the beginning of a mini-batch on."""
        start, stop = start + self._first, stop + self._first
        rows, labels = self._images.of_epoch(self._epoch)
        if not self._images.benchmark.augmented:
            return self._images.inputs(rows[:, start:stop], None)[0].numpy(), labels[0, start:stop].numpy()
        steps = range(start // self._size, -(-stop // self._size))
        x = [self._images.batch(self._epoch, step, self._size)[0] for step in steps]
        return torch.cat(x, dim=1)[0].numpy()[: stop - start], labels[0, start:stop].numpy()


def _labels_of(task: EpochsTask, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels of images of the training or the validation split."""
    labels = np.full(len(task.images), -1)
    for split in (task.train, *([task.validation] if task.validation is not None else [])):
        labels[split.rows] = split.labels
    return labels[rows]
