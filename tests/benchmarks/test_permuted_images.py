"""Permuted images: each image once a task under one permutation of its pixels, which differs from task to task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lop_sweeps.benchmarks.benchmark import Task
from lop_sweeps.benchmarks.permuted_digits import PermutedDigits
from lop_sweeps.benchmarks.permuted_images import PermutedImages, PermutedTask
from lop_sweeps.benchmarks.permuted_mnist import PermutedMNIST
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training import examples, online
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Clock, Member, Position
from lop_sweeps.training.train import train
from tests.shared import SHARED, needs_mnist


class Numbered(PermutedImages):
    """40 images of 9 pixels: pixel j of image i is 6 i + j / 3 (as a byte), so that both can be read off."""

    BRIGHTEST: ClassVar[float] = 255.0
    version: ClassVar[int] = 1
    inputs = 9

    def check_data(self, root: Path) -> None:
        """Made up."""

    def load(self, root: Path) -> None:
        self.images = (np.arange(40)[:, None] * 6 + np.arange(9)[None] // 2).astype(np.uint8)
        self.images[:, 1::2] = 250 - self.images[:, 1::2]  # all nine pixels of an image differ
        self.labels = np.arange(40, dtype=np.int64) % 10


@pytest.fixture
def numbered() -> Numbered:
    benchmark = Numbered(num_tasks=5, examples_per_task=40)
    benchmark.load(Path())
    return benchmark


def image_of(row: NDArray[np.floating[Any]], task: PermutedTask) -> int:
    """Which image a row shows, after undoing the task's permutation of pixels."""
    original = np.empty(len(row))
    original[task.pixels] = row * 255
    found = np.flatnonzero((task.images == np.rint(original)).all(1))
    assert len(found) == 1
    return int(found[0])


def test_each_image_once_a_task_with_its_label(numbered: Numbered) -> None:
    for index in range(3):
        task = numbered.task(0, index)
        x, y = task.examples(0, 40)
        shown = [image_of(row, task) for row in x]
        assert sorted(shown) == list(range(40))
        assert y.tolist() == [image % 10 for image in shown]
        assert x.shape == (40, 9)
        assert (x.min(), x.max()) == (numbered.images.min() / 255, numbered.images.max() / 255)


def test_pixels_are_permuted_the_same_for_all_images_of_a_task(numbered: Numbered) -> None:
    task = numbered.task(0, 0)
    x, _ = task.examples(0, 40)
    assert sorted(task.pixels.tolist()) == list(range(9))
    np.testing.assert_array_equal(x, numbered.images[task.order][:, task.pixels] / 255.0)


def test_permutations_and_orders_differ_by_task_and_seed(numbered: Numbered) -> None:
    tasks = [numbered.task(seed, index) for seed in range(10) for index in range(10)]
    assert len({tuple(task.pixels) for task in tasks}) == 100
    assert len({tuple(task.order) for task in tasks}) == 100


def test_permutations_are_uniform(numbered: Numbered) -> None:
    """Pixel j goes to each of the 9 places equally often, over tasks; so does the first image shown."""
    places = np.array([numbered.task(1, index).pixels for index in range(1_800)])
    first = np.array([numbered.task(1, index).order[0] for index in range(1_800)])
    for j in range(9):
        counts = np.bincount(places[:, j], minlength=9)
        assert ((counts - 200) ** 2 / 200).sum() < 35  # chi-square with 8 degrees of freedom, p = 3e-5
    assert ((np.bincount(first, minlength=40) - 45) ** 2 / 45).sum() < 85


def test_same_seed_same_tasks_in_any_order_of_asking(numbered: Numbered) -> None:
    forward = [numbered.task(3, index).examples(0, 40) for index in range(5)]
    again = Numbered(num_tasks=9, examples_per_task=40)
    again.load(Path())
    for index in (4, 2, 0, 3, 1):
        for ours, theirs in zip(again.task(3, index).examples(0, 40), forward[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_task_depends_on_nothing_but_seed_and_index(numbered: Numbered) -> None:
    """Not on its length or the mini-batch size: runs of different lengths are still paired."""
    shorter = Numbered(num_tasks=1, examples_per_task=10, batch_size=5)
    shorter.load(Path())
    np.testing.assert_array_equal(shorter.task(2, 0).examples(0, 10)[0], numbered.task(2, 0).examples(0, 10)[0])


def test_shorter_task_is_a_prefix_and_a_longer_one_repeats_the_same_order(numbered: Numbered) -> None:
    """Spec/benchmarks.md 2.2: no new shuffle inside a task."""
    task = numbered.task(0, 1)
    x, y = task.examples(0, 40)
    longer, labels = task.examples(0, 100)
    np.testing.assert_array_equal(longer, np.concatenate([x, x, x[:20]]))
    np.testing.assert_array_equal(labels, np.concatenate([y, y, y[:20]]))
    for start, stop in ((0, 7), (33, 52), (79, 81), (40, 80)):
        part, part_labels = task.examples(start, stop)
        np.testing.assert_array_equal(part, longer[start:stop])
        np.testing.assert_array_equal(part_labels, labels[start:stop])


def test_bytes_become_the_same_floats_as_in_the_authors_code() -> None:
    """torch: uint8 -> float32 / 255; here float64 / 255, rounded to float32 by the learner."""
    grey = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(grey).to(torch.float32).div(255)
    assert torch.equal(torch.from_numpy(grey / PermutedMNIST.BRIGHTEST).to(torch.float32), expected)


class Recorder(TorchLearner):
    """Keeps what it is shown."""

    def __init__(self, seeds: list[int], inputs: int) -> None:
        super().__init__(lambda: MLP(inputs, 10, [4]), [SGD()] * len(seeds), [], seeds, "cross_entropy", torch.float64)
        self.shown: list[torch.Tensor] = []
        self.labels: list[torch.Tensor] = []
        self.probes: list[torch.Tensor] = []
        forward = self._forward

        def watched(x: torch.Tensor, uniforms: Sequence[torch.Tensor] | None) -> Any:
            self.last = x
            return forward(x, uniforms)

        self._forward = watched

    def learn(self, x: torch.Tensor, y: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        self.shown.append(x)
        self.labels.append(y)
        return super().learn(x, y, step)

    def probe(self, tasks: Sequence[Task], samples: int) -> list[torch.Tensor]:
        activations = super().probe(tasks, samples)
        self.probes.append(self.last)
        return activations


@pytest.fixture
def short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "INTERVAL", 7)
    monkeypatch.setitem(examples.BLOCK_VALUES, "cpu", 100)


@pytest.mark.usefixtures("short_intervals")
@pytest.mark.parametrize("batch_size", [1, 5])
def test_protocol_shows_the_tasks_examples_in_order_and_probes_on_the_first_rows(batch_size: int) -> None:
    """Also across the ends of intervals and blocks; each run of a pack sees its own seed's tasks."""
    benchmark = Numbered(num_tasks=3, examples_per_task=60, batch_size=batch_size)
    benchmark.load(Path())
    learner = Recorder([0, 5], 9)
    members = [Member(Path(), seed) for seed in (0, 5)]
    clock = Clock(1e9, 1e9)
    train(learner, benchmark, members, Position(), clock, lambda task, step: None, lambda: False)
    for run, seed in enumerate((0, 5)):
        parts = [benchmark.task(seed, index).examples(0, 60) for index in range(3)]
        x, y = (np.concatenate([part[k] for part in parts]) for k in (0, 1))
        np.testing.assert_array_equal(torch.cat([shown[run] for shown in learner.shown]), x)
        np.testing.assert_array_equal(torch.cat([labels[run] for labels in learner.labels]), y)
        for index, (first, _) in enumerate(parts):
            np.testing.assert_array_equal(learner.probes[index][run], first)  # shorter than 2,000: the whole task
    assert len(learner.shown) == 3 * 60 // batch_size
    assert learner.shown[0].shape == (2, batch_size, 9)


def test_probe_is_the_first_2000_rows_of_the_new_task() -> None:
    benchmark = PermutedDigits(num_tasks=2, examples_per_task=2_500, batch_size=100)
    benchmark.load(Path())
    learner = Recorder([1], 64)
    train(
        learner,
        benchmark,
        [Member(Path(), 1)],
        Position(),
        Clock(1e9, 1e9),
        lambda task, step: None,
        lambda: False,
    )
    assert [tuple(probe.shape) for probe in learner.probes] == [(1, 2_000, 64)] * 2
    np.testing.assert_array_equal(learner.probes[1][0], benchmark.task(1, 1).examples(0, 2_000)[0])


def test_digits() -> None:
    benchmark = PermutedDigits(num_tasks=1, examples_per_task=1_797)
    benchmark.load(Path())
    x, y = benchmark.task(0, 0).examples(0, 1_797)
    assert x.shape == (1_797, 64)
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@needs_mnist
def test_mnist() -> None:
    """60,000 training images, only scaled to [0, 1]: no mean subtracted."""
    benchmark = PermutedMNIST(num_tasks=800, examples_per_task=60_000)
    benchmark.load(SHARED / "data")
    task = benchmark.task(0, 799)
    x, y = task.examples(0, 3_000)
    assert x.shape == (3_000, 784)
    assert (x.min(), x.max()) == (0.0, 1.0)
    assert float(x.mean()) == pytest.approx(0.1307, abs=2e-3)
    np.testing.assert_array_equal(y, benchmark.labels[task.order[:3_000]])
    assert task.images.shape == (60_000, 784)
    assert sorted(task.order.tolist()) == list(range(60_000))
    assert np.bincount(task.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"num_tasks": 0, "examples_per_task": 10}, "num_tasks"),
        ({"num_tasks": 1, "examples_per_task": 0}, "examples_per_task"),
        ({"num_tasks": 1, "examples_per_task": 10, "batch_size": 3}, "batch_size"),
        ({"num_tasks": 1.5, "examples_per_task": 10}, "num_tasks"),
    ],
)
def test_wrong_lengths_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PermutedDigits(**options)
    assert caught.value.key == key
