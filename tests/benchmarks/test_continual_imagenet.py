"""Continual ImageNet: which classes, which images, which labels, in which order, and what a new task begins with.

The made-up images say what they are: their first byte is the class, their second the position in the class's file.
"""

from __future__ import annotations

import inspect
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import steps_before, steps_of
from lop_sweeps.benchmarks.continual_imagenet import ContinualImageNet
from lop_sweeps.data.imagenet32 import ClassFile, Manifest, class_path, manifest_path
from lop_sweeps.errors import ConfigError, DataError
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Clock, Member, Position
from lop_sweeps.training.train import train
from tests import runs
from tests.sweeps.test_identity import name as identity

CLASSES, IMAGES = 6, 14
OPTIONS: dict[str, Any] = {
    "num_tasks": 2,
    "epochs": 3,
    "batch_size": 8,
    "classes": CLASSES,
    "train_per_class": 8,
    "test_per_class": 4,
}
CONFIG = ["benchmark=continual_imagenet", *(f"benchmark.{key}={value}" for key, value in OPTIONS.items())]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six classes of 14 images, of which the benchmark below uses 12."""
    folder = tmp_path_factory.mktemp("imagenet")
    rng = np.random.default_rng(0)
    manifest = Manifest("images", "made up", IMAGES, 0, CLASSES)
    class_path(folder, 0).parent.mkdir(parents=True)
    for c in range(CLASSES):
        images = rng.integers(0, 256, (IMAGES, 3, 32, 32), dtype=np.uint8)
        images[:, 0, 0, 0], images[:, 0, 0, 1] = c, np.arange(IMAGES)
        np.save(class_path(folder, c), images)
        manifest.files[c] = ClassFile(c, None, IMAGES, class_path(folder, c).stat().st_size, "")
    manifest_path(folder).write_text(manifest.text())
    return folder


def benchmark(root: Path, **options: Any) -> ContinualImageNet:
    made = ContinualImageNet(**{**OPTIONS, **options})
    made.check_data(root)
    made.load(root)
    return made


def identities(x: Tensor) -> list[tuple[int, int]]:
    """(class, position in its file) of network inputs (images, 3072)."""
    found = torch.round((x[:, :2].double() + 1.0) * 127.5).long()
    return [(int(c), int(i)) for c, i in found]


class Recorder(TorchLearner):
    """Keeps what it is shown: inputs and labels, and parameters and momentum as they were just before."""

    def __init__(self, seeds: list[int], **options: Any) -> None:
        optimizer: Any = SGD(**{"step_size": 0.01, "momentum": 0.9, **options})
        super().__init__(lambda: MLP(3072, 2, [5]), [optimizer] * len(seeds), [], seeds, "cross_entropy", torch.float64)
        self.shown: list[tuple[Tensor, Tensor]] = []
        self.before: list[dict[str, Tensor]] = []
        self.after: list[dict[str, Tensor]] = []

    def _copy(self) -> dict[str, Tensor]:
        return {name: value.clone() for name, value in self.state().items()}

    def learn(self, x: Tensor, y: Tensor, step: int, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        self.shown.append((x, y))
        self.before.append(self._copy())
        result = super().learn(x, y, step, outputs)
        self.after.append(self._copy())
        return result


def trained(made: ContinualImageNet, seeds: list[int], **options: Any) -> Recorder:
    learner, members = Recorder(seeds, **options), [Member(Path(), seed) for seed in seeds]
    train(learner, made, members, Position(), Clock(1e9, 1e9), lambda task, step: None, lambda: False)
    return learner


# --- the sequence of classes ---


def sequence(made: ContinualImageNet, seed: int, tasks: int) -> list[int]:
    return [c for index in range(tasks) for c in made.classes_of(seed, index)]


@pytest.mark.parametrize(("classes", "each"), [(6, 2), (6, 3), (1_000, 2), (12, 4)])
def test_classes_are_shuffles_of_all_classes_one_after_another(classes: int, each: int) -> None:
    """Every class once in each shuffle, a shuffle like no other; so tasks do not recur with a period."""
    made = ContinualImageNet(9, classes=classes, classes_per_task=each, train_per_class=100)
    shuffles = [
        tuple(sequence(made, 4, 3 * classes // each)[start : start + classes])
        for start in range(0, 3 * classes, classes)
    ]
    assert [sorted(shuffle) for shuffle in shuffles] == [list(range(classes))] * 3
    assert len(set(shuffles)) == 3
    assert len({tuple(sequence(made, seed, classes // each)) for seed in range(20)}) == 20


def test_shuffles_are_uniform() -> None:
    """Of 1,200 shuffles, each of six classes begins about 200, and each pair of classes about 40."""
    made = ContinualImageNet(1, classes=6)
    shuffles = np.array(sequence(made, 0, 3_600)).reshape(-1, 6)
    first = np.bincount(shuffles[:, 0], minlength=6)
    assert ((first - 200) ** 2 / 200).sum() < 30  # chi-square with 5 degrees of freedom, p = 1e-5
    pairs = np.bincount(shuffles[:, 0] * 6 + shuffles[:, 1], minlength=36)
    wanted = [(a, b) for a, b in itertools.product(range(6), repeat=2) if a != b]
    counts = np.array([pairs[a * 6 + b] for a, b in wanted])
    assert counts.sum() == 1_200
    assert ((counts - 40) ** 2 / 40).sum() < 75  # 29 degrees of freedom


def test_tasks_depend_on_nothing_but_seed_and_index(root: Path) -> None:
    """Not on the order of asking, nor on options that leave the images alone: runs of other lengths are paired."""
    one, other = benchmark(root), benchmark(root, num_tasks=50, epochs=9, batch_size=4, new_heads=False)
    forward = [one.task(7, index) for index in range(5)]
    for index in (4, 1, 3, 0, 2):
        again = other.task(7, index)
        assert torch.equal(again.images, forward[index].images)
        for ours, theirs in ((again.train, forward[index].train), (again.test, forward[index].test)):
            np.testing.assert_array_equal(ours.rows, theirs.rows)
            np.testing.assert_array_equal(ours.labels, theirs.labels)
        np.testing.assert_array_equal(again.probe, forward[index].probe)


ALGORITHMS = [
    ["optimizer=sgd"],
    ["optimizer=adam", "algorithm=continual_backprop"],
    ["algorithm=[dropout,shrink_and_perturb]"],
    ["algorithm=retrained_network", "network.hidden=[9]"],
]


def test_every_algorithm_is_shown_the_same_images_in_the_same_order(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the whole program, from the command line's words to the learner."""
    shown: list[list[tuple[int, int]]] = []
    original = TorchLearner.learn

    def watched(self: TorchLearner, x: Tensor, *rest: Any) -> Any:
        shown[-1] += identities(x[0])
        return original(self, x, *rest)

    monkeypatch.setattr(TorchLearner, "learn", watched)
    for i, lines in enumerate(ALGORITHMS):
        shown.append([])
        the_plan = runs.plan(tmp_path / str(i), *CONFIG, f"paths.data={root}", "network=mlp", "engine=torch", *lines)
        assert [outcome.state for outcome in runs.train(the_plan)] == ["done"]
    assert len(shown[0]) == 2 * 3 * 16
    assert shown == [shown[0]] * len(ALGORITHMS)


# --- the images of a task ---


@pytest.mark.parametrize("each", [2, 3])
def test_first_images_of_a_class_file_train_and_the_next_ones_test(root: Path, each: int) -> None:
    made = benchmark(root, classes_per_task=each)
    for index in range(4):
        task, classes = made.task(1, index), made.classes_of(1, index)
        for split, positions in ((task.train, range(8)), (task.test, range(8, 12))):
            found = identities(made.prepare(task.images[torch.from_numpy(split.rows)], None, torch.float64))
            assert sorted(found) == sorted(itertools.product(classes, positions))
            assert [classes[label] for label in split.labels] == [c for c, _ in found]
        assert task.validation is None
        assert task.outputs is None
        probe = identities(made.prepare(task.images[torch.from_numpy(task.probe)], None, torch.float64))
        assert sorted(probe) == sorted(itertools.product(classes, range(8)))


def test_images_are_whole_and_in_channels_first_order(root: Path) -> None:
    made = benchmark(root)
    task, (first, second) = made.task(0, 0), made.classes_of(0, 0)
    stored = [np.load(class_path(root, c)) for c in (first, second)]
    expected = np.concatenate([stored[0][:8], stored[1][:8]]).reshape(16, 3072).astype(np.float64) / 127.5 - 1.0
    shown = made.prepare(task.images[torch.from_numpy(task.train.rows)], None, torch.float64)
    np.testing.assert_allclose(shown.numpy(), expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bytes_are_scaled_to_minus_one_and_one(root: Path, dtype: torch.dtype) -> None:
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    kept = grey.clone()
    x = benchmark(root).prepare(grey, None, dtype)
    assert x.dtype == dtype
    assert x.shape == (1, 256)
    assert (float(x[0, 0]), float(x[0, 255])) == (-1.0, 1.0)
    np.testing.assert_allclose(x[0].double().numpy(), np.linspace(-1, 1, 256), rtol=0, atol=2e-7)
    assert torch.equal(grey, kept)


# --- learning ---


def test_each_image_once_an_epoch_in_an_order_of_its_own(root: Path) -> None:
    """The order belongs to the seed, the task and the epoch; each run of a pack sees its own, as it would alone."""
    made, seeds = benchmark(root), [3, 8]
    learner = trained(made, seeds)
    orders = set()
    assert len(learner.shown) == 2 * 3 * 2
    for run, seed in enumerate(seeds):
        for task, epoch in itertools.product(range(2), range(3)):
            steps = [2 * (3 * task + epoch) + i for i in range(2)]
            shown = [one for step in steps for one in identities(learner.shown[step][0][run])]
            labels = [int(label) for step in steps for label in learner.shown[step][1][run]]
            classes = made.classes_of(seed, task)
            assert sorted(shown) == sorted(itertools.product(classes, range(8)))
            assert [classes[label] for label in labels] == [c for c, _ in shown]
            orders.add(tuple((label, position) for label, (_, position) in zip(labels, shown, strict=True)))
    assert len(orders) == 12  # seeds, tasks and epochs
    for run, seed in enumerate(seeds):
        alone = trained(made, [seed])
        for (x, y), (xs, ys) in zip(alone.shown, learner.shown, strict=True):
            assert torch.equal(x[0], xs[run])
            assert torch.equal(y[0], ys[run])


def test_outputs_are_zero_at_the_start_of_every_task_and_nothing_else_changes(root: Path) -> None:
    """Spec/benchmarks.md 3.3: weight and bias, also before the first task; momentum buffers are not touched."""
    learner = trained(benchmark(root, num_tasks=3), [0, 1])
    plain: Any = SGD()
    fresh = TorchLearner(lambda: MLP(3072, 2, [5]), [plain] * 2, [], [0, 1], "cross_entropy", torch.float64)
    last: dict[str, Tensor] = {"parameters": fresh.parameters, "optimizer/momentum": torch.zeros_like(fresh.parameters)}
    for step in (0, 6, 12):
        now = learner.before[step]
        for name in ("layers.1.weight", "layers.1.bias"):
            assert not learner.view(now["parameters"], name).any()
        for name in ("layers.0.weight", "layers.0.bias"):
            assert torch.equal(learner.view(now["parameters"], name), learner.view(last["parameters"], name))
        assert torch.equal(now["optimizer/momentum"], last["optimizer/momentum"])
        last = learner.after[step + 5]
        assert bool(learner.view(last["parameters"], "layers.1.weight").any())
        assert bool(learner.view(last["optimizer/momentum"], "layers.1.weight").any())
    for step in (1, 2, 7):  # not in the middle of a task
        assert torch.equal(learner.before[step]["parameters"], learner.after[step - 1]["parameters"])


def test_outputs_are_kept_if_asked_for(root: Path) -> None:
    learner = trained(benchmark(root, new_heads=False), [0])
    assert bool(learner.view(learner.before[0]["parameters"], "layers.1.weight").all())
    assert torch.equal(learner.before[6]["parameters"], learner.after[5]["parameters"])


# --- options, data, identity ---

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"num_tasks": 0}, "num_tasks", ">= 1"),
    ({"epochs": 0}, "epochs", ">= 1"),
    ({"epochs": 2.5}, "epochs", "integer"),
    ({"classes": 5}, "classes_per_task", r"must divide classes \(5\)"),
    ({"classes_per_task": 4}, "classes_per_task", r"must divide classes \(6\)"),
    ({"classes_per_task": 1}, "classes_per_task", ">= 2"),
    ({"classes": 2, "classes_per_task": 4}, "classes_per_task", r"must divide classes \(2\)"),
    ({"batch_size": 5}, "batch_size", r"must divide the training images of a task \(16\)"),
    ({"batch_size": 32}, "batch_size", r"must divide the training images of a task \(16\)"),
    ({"train_per_class": 0}, "train_per_class", ">= 1"),
    ({"test_per_class": 0}, "test_per_class", ">= 1"),
    ({"evaluate_every": 0}, "evaluate_every", ">= 1"),
    ({"new_heads": 1}, "new_heads", "true or false"),
]


@pytest.mark.parametrize(("options", "key", "message"), WRONG)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        ContinualImageNet(**{**OPTIONS, **options})
    assert caught.value.key == key


def test_published_lengths() -> None:
    """250 epochs of 12 mini-batches (spec/benchmarks.md 3.3)."""
    made = ContinualImageNet(2_000)
    assert (made.steps_per_epoch(0), steps_of(made, 1_999), steps_before(made, 2_000)) == (12, 3_000, 6_000_000)
    assert (made.inputs, made.outputs, made.shape) == (3_072, 2, (3, 32, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": 8}, "class 6 is not one of them; 8 are needed"),
        ({"test_per_class": 7}, "14 images .*; 15 are needed"),
    ],
)
def test_too_little_data_is_known_before_a_run_starts(
    root: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        ContinualImageNet(**{**OPTIONS, **options}).check_data(root)
    lines = [f"benchmark.{key}={value}" for key, value in options.items()]
    with pytest.raises(DataError, match=message):
        runs.point(tmp_path, *CONFIG, *lines, f"paths.data={root}")
    with pytest.raises(DataError, match="lop-data build imagenet32"):
        runs.point(tmp_path, *CONFIG, f"paths.data={tmp_path / 'nothing'}")


def test_a_class_that_spoils_after_the_check_fails_its_run_by_name(root: Path, tmp_path: Path) -> None:
    """Classes are read when a task needs them: a run that meets a damaged one says which."""
    line = [*CONFIG, f"paths.data={root}", "network=linear", "benchmark.num_tasks=3"]
    the_plan = runs.plan(tmp_path, *line)
    victim = class_path(root, benchmark(root).classes_of(0, 2)[1])
    content = victim.read_bytes()
    try:
        victim.write_bytes(bytes(len(content)))  # of the right size
        (outcome,) = runs.train(the_plan)
    finally:
        victim.write_bytes(content)
    assert outcome.state == "failed"
    assert outcome.message.startswith("DataError")
    assert victim.name in outcome.message
    assert len(runs.metrics(the_plan.points[0]).splitlines()) == 2  # the tasks before it are kept
    assert [
        one.state
        for one in runs.train(
            runs.plan(tmp_path / "sweeps", *CONFIG, f"paths.data={root}", "network=linear", "benchmark.num_tasks=3")
        )
    ] == ["done"]


OTHER: dict[str, Any] = {
    "epochs": 4,
    "batch_size": 4,
    "classes": 12,
    "classes_per_task": 4,
    "train_per_class": 16,
    "test_per_class": 5,
    "new_heads": "false",
    "evaluate_every": 2,
    "inputs": "zero_one",
}


def test_identity_has_every_option_but_the_number_of_tasks() -> None:
    """An option without a value above fails here: it must not be forgotten."""
    plain = identity(*CONFIG)
    assert identity(*CONFIG, "benchmark.num_tasks=9") == plain
    changed = {key: identity(*CONFIG, f"benchmark.{key}={OTHER[key]}") for key in _options() if key != "num_tasks"}
    assert len({plain, *changed.values()}) == len(changed) + 1


def _options() -> list[str]:
    return list(inspect.signature(ContinualImageNet).parameters)


def test_the_helper_above_reads_what_the_images_say(root: Path) -> None:
    images: NDArray[np.uint8] = np.load(class_path(root, 3))
    x = benchmark(root).prepare(torch.from_numpy(images), None, torch.float32)
    assert identities(x) == [(3, i) for i in range(IMAGES)]
