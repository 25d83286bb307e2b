"""Class-incremental CIFAR-100: which classes and images, what is augmented, which outputs count, what a task ends with.

Two made-up data sets: `NUMBERED`, whose images can be told from each other, and `EQUAL`, whose images are all the
same, so that what differs between two of them is their augmentation.
"""

from __future__ import annotations

import inspect
import itertools
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from lop_sweeps.benchmarks.benchmark import Split, steps_before
from lop_sweeps.benchmarks.incremental_cifar100 import IncrementalCIFAR100
from lop_sweeps.data import load_arrays
from lop_sweeps.errors import ConfigError, DataError
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import AdamW
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.load_run import load_run
from lop_sweeps.training.epochs import EpochsStage
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Clock, Member, Position
from lop_sweeps.training.train import train
from tests import runs
from tests.sweeps.test_identity import name as identity

NUMBERED, EQUAL = "numbered.npz", "equal.npz"
OPTIONS: dict[str, Any] = {
    "num_tasks": 2,
    "epochs": 2,
    "batch_size": 10,
    "train_per_class": 6,
    "validation_per_class": 2,
    "test_per_class": 3,
}
MEAN, STD = (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)  # spec/benchmarks.md 5.1


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven training and three test images of each class, in random order."""
    folder = tmp_path_factory.mktemp("cifar")
    rng = np.random.default_rng(5)
    labels = {"train": rng.permutation(np.repeat(np.arange(100), 7)), "test": rng.permutation(np.repeat(range(100), 3))}
    images = {split: rng.integers(0, 256, (len(y), 32, 32, 3), dtype=np.uint8) for split, y in labels.items()}
    one = rng.integers(1, 256, (32, 32, 3), dtype=np.uint8)
    for name in (NUMBERED, EQUAL):
        arrays: dict[str, Any] = {f"y_{split}": y for split, y in labels.items()}
        for split, x in images.items():
            arrays[f"x_{split}"] = x if name == NUMBERED else np.broadcast_to(one, x.shape)
        np.savez(folder / name, **arrays)
    return folder


def benchmark(root: Path, **options: Any) -> IncrementalCIFAR100:
    made = IncrementalCIFAR100(**{**OPTIONS, "file": NUMBERED, **options})
    made.check_data(root)
    made.load(root)
    return made


def config(root: Path, **options: Any) -> list[str]:
    given = {**OPTIONS, "file": NUMBERED, **options}
    lines = [f"benchmark.{key}={str(value).lower()}" for key, value in given.items()]
    return ["benchmark=incremental_cifar100", f"paths.data={root}", "checkpoint.first=0", "checkpoint.every=0", *lines]


class Recorder(TorchLearner):
    """Keeps what it is shown in training and, without learning, in test and validation."""

    def __init__(self, seeds: list[int], optimizers: list[Any] | None = None, **network: Any) -> None:
        made = optimizers or [SGD(step_size=0.01)] * len(seeds)
        options: dict[str, Any] = {"hidden": [], **network}
        super().__init__(lambda: MLP(3072, 100, **options), made, [], seeds, "cross_entropy", torch.float64)
        self.trained: list[tuple[Tensor, Tensor]] = []
        self.looked: list[Tensor] = []
        self.states: list[dict[str, Tensor]] = []

    def learn(self, x: Tensor, y: Tensor, step: int, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        self.trained.append((x.clone(), y))
        result = super().learn(x, y, step, outputs)
        self.states.append({name: value.clone() for name, value in self.state().items()})
        return result

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        self.looked.append(x.clone())
        return super().forward(x)


def trained(made: IncrementalCIFAR100, learner: TorchLearner) -> None:
    members = [Member(Path(), seed) for seed in learner.seeds]
    train(learner, made, members, Position(), Clock(1e9, 1e9), lambda task, step: None, lambda: False)


# --- classes and splits ---


def test_order_of_classes_is_a_permutation_that_belongs_to_the_seed(root: Path) -> None:
    one, other = benchmark(root), benchmark(root, num_tasks=20, epochs=7, classes_per_task=5, file=EQUAL)
    orders = [tuple(one.class_order(seed)) for seed in range(30)]
    assert len(set(orders)) == 30
    for seed, order in enumerate(orders):
        assert sorted(order) == list(range(100))
        assert tuple(other.class_order(seed)) == order
    places = np.array([one.class_order(seed)[0] for seed in range(2_000)])
    assert ((np.bincount(places, minlength=100) - 20) ** 2 / 20).sum() < 180  # 99 degrees of freedom, p = 1e-6


@pytest.mark.parametrize("each", [1, 5])
@pytest.mark.parametrize("train_per_class", [6, 4])
def test_splits_are_those_of_the_specification(root: Path, each: int, train_per_class: int) -> None:
    """Cumulative classes; label = place in the order; the first images of a class, as the file has them, validate."""
    data = load_arrays(root / NUMBERED)
    made = benchmark(root, classes_per_task=each, train_per_class=train_per_class, batch_size=2, num_tasks=3)
    for index, seed in itertools.product(range(3), (0, 9)):
        task, order = made.task(seed, index), made.class_order(seed)
        assert task.outputs is not None
        assert task.validation is not None
        np.testing.assert_array_equal(task.outputs, order[: each * (index + 1)])
        wanted: dict[str, list[tuple[int, bytes]]] = {"train": [], "test": [], "validation": []}
        for label, c in enumerate(task.outputs):
            of_class = [x for x, y in zip(data.x_train, data.y_train, strict=True) if y == c]
            of_test = [x for x, y in zip(data.x_test, data.y_test, strict=True) if y == c]
            wanted["validation"] += [(label, x.tobytes()) for x in of_class[:2]]
            wanted["train"] += [(label, x.tobytes()) for x in of_class[2:train_per_class]]
            wanted["test"] += [(label, x.tobytes()) for x in of_test]
        assert contents(task.images, task.train) == sorted(wanted["train"])
        assert contents(task.images, task.test) == sorted(wanted["test"])
        assert contents(task.images, task.validation) == sorted(wanted["validation"])


def contents(pool: Tensor, split: Split) -> list[tuple[int, bytes]]:
    """(label, pixels in the data set's layout) of each image."""
    images = pool[torch.from_numpy(split.rows)].permute(0, 2, 3, 1).contiguous().numpy()
    return sorted((int(y), x.tobytes()) for y, x in zip(split.labels, images, strict=True))


def test_published_lengths() -> None:
    """25 batches of 90 for each group of five classes; 20 tasks of 200 epochs (spec/benchmarks.md 5.1, 5.2)."""
    made = IncrementalCIFAR100(20)
    assert [made.steps_per_epoch(k) for k in range(20)] == [25 * (k + 1) for k in range(20)]
    assert steps_before(made, 20) == 200 * 25 * 210
    assert (made.inputs, made.outputs, made.shape, made.new_heads) == (3_072, 100, (3, 32, 32), False)
    assert (made.restore_best, sorted(made.augmented), made.evaluate_every) == (True, ["test", "train"], 1)


def test_each_training_image_once_an_epoch_in_an_order_of_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By seed, task and epoch: two of each. (Without augmentation, so that images can be told.)"""
    made, learner = benchmark(root), Recorder([4, 5])
    made.augmented = frozenset()
    trained(made, learner)
    orders, at = set(), 0
    for task in (0, 0, 1, 1):
        steps = made.steps_per_epoch(task)
        for run, seed in enumerate((4, 5)):
            split = made.task(seed, task)
            x = torch.cat([learner.trained[step][0][run] for step in range(at, at + steps)])
            y = torch.cat([learner.trained[step][1][run] for step in range(at, at + steps)])
            expected = standardised(split.images[torch.from_numpy(split.train.rows)])
            order = [int((expected == row).all(1).nonzero()) for row in x]
            assert sorted(order) == list(range(20 * (task + 1)))
            assert y.tolist() == split.train.labels[order].tolist()
            orders.add(tuple(order))
        at += steps
    assert at == len(learner.trained)
    assert len(orders) == 8


def standardised(images: Tensor) -> Tensor:
    """(n, 3072) float64, by torchvision, from uint8 (n, 3, 32, 32)."""
    normal: Tensor = transforms.normalize(images.double() / 255.0, list(MEAN), list(STD))
    return normal.flatten(1)


# --- which outputs count ---


def test_unseen_classes_have_no_say_in_loss_and_predictions() -> None:
    """Outputs of the classes seen, in the order of the labels; a huge logit of another class changes nothing."""
    learner = Recorder([0, 1])
    outputs = torch.tensor([[7, 3, 99], [0, 50, 2]])
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 40, 100, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, (2, 40), generator=generator)
    loud = logits.clone()
    for run in range(2):
        unseen = [c for c in range(100) if c not in outputs[run]]
        loud[run][:, unseen] = 1e9
    for given in (logits, loud):
        loss, accuracy = learner.score(given, labels, outputs)
        assert accuracy is not None
        for run in range(2):
            seen = logits[run].numpy()[:, outputs[run].numpy()]
            each = [-z[y] + np.log(np.exp(z).sum()) for z, y in zip(seen, labels[run].numpy(), strict=True)]
            assert float(loss[run]) == pytest.approx(np.mean(each), rel=1e-12)
            assert float(accuracy[run]) == np.mean(seen.argmax(1) == labels[run].numpy())


@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_weights_of_unseen_classes_get_weight_decay_and_no_gradient(root: Path, decay: float) -> None:
    made = benchmark(root, restore_best=False)
    learner = Recorder([0, 1], [SGD(step_size=0.1, weight_decay=decay)] * 2, init="default")
    start = learner.parameters.clone()
    trained(made, learner)
    assert len(learner.states) == 2 * 2 + 2 * 4
    for run, seed in enumerate((0, 1)):
        order = made.class_order(seed)
        for step, seen in ((3, 5), (11, 10)):
            after = learner.states[step]["parameters"]
            for name in ("layers.0.weight", "layers.0.bias"):
                before, now = (learner.view(flat, name)[run] for flat in (start, after))
                unseen, known = order[seen:], order[:seen]
                torch.testing.assert_close(now[unseen], before[unseen] * (1 - 0.1 * decay) ** (step + 1))
                assert not torch.isclose(now[known], before[known] * (1 - 0.1 * decay) ** (step + 1)).all(-1).any()


# --- augmentation ---


@lru_cache(maxsize=1)
def the_image(root: Path) -> Tensor:
    """The image of `EQUAL`, standardised, (3072,)."""
    return standardised(torch.from_numpy(load_arrays(root / EQUAL).x_train[:1].transpose(0, 3, 1, 2)))[0]


def watch(root: Path, seeds: list[int], **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs of a pack on `EQUAL`: in training (runs, images, 3072), of tests and of validations, in their order."""
    made, learner = benchmark(root, file=EQUAL, **options), Recorder(seeds)
    evaluated: dict[str, list[Tensor]] = {"test": [], "validation": []}
    stage_evaluate = EpochsStage._evaluate

    def watched(stage: EpochsStage, split: str, epoch: int) -> tuple[Tensor, Tensor]:
        learner.looked = []
        result = stage_evaluate(stage, split, epoch)
        evaluated[split] += learner.looked
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EpochsStage, "_evaluate", watched)
        trained(made, learner)
    return (
        torch.cat([x for x, _ in learner.trained], 1),
        torch.cat(evaluated["test"], 1),
        torch.cat(evaluated["validation"], 1),
    )


def test_every_image_is_augmented_by_a_draw_of_its_own(root: Path) -> None:
    """Equal images come out different: within a batch, from step to step, epoch, task and run to run; in tests, too.

    Small angles round to the same pixels, so 11 of these 420 are like another by chance; if draws were shared by tasks,
    by epochs, by runs, or by training and test, there would be at least 60.
    """
    training, test, _ = watch(root, [0, 1])
    assert training.shape == (2, 2 * 20 + 2 * 40, 3072)
    assert test.shape == (2, 2 * 15 + 2 * 30, 3072)
    everything = torch.cat([training.flatten(0, 1), test.flatten(0, 1)])
    assert len(everything) == 420
    assert len(torch.unique(everything, dim=0)) > 400


def test_augmentation_moves_pixels_and_fills_with_the_mean_colour(root: Path) -> None:
    training, test, _ = watch(root, [0])
    for x in (training[0], test[0]):
        images, original = x.view(-1, 3, 1024), the_image(root).view(3, 1024)
        for channel in range(3):
            allowed = np.append(original[channel].numpy().round(9), 0.0)
            assert np.isin(images[:, channel].numpy().round(9), allowed).all()
        empty = (images == 0).all(1).double().mean()
        assert 0.01 < float(empty) < 0.1  # corners that rotation leaves empty, on average


def test_validation_images_are_never_augmented(root: Path) -> None:
    _, _, validation = watch(root, [0, 1])
    assert validation.shape == (2, 2 * 10 + 2 * 20, 3072)
    torch.testing.assert_close(validation, the_image(root).expand_as(validation), rtol=0, atol=1e-12)


def test_test_images_are_as_they_are_if_asked_for(root: Path) -> None:
    """And training images are augmented as ever, by the same draws."""
    training, test, _ = watch(root, [0, 1], augment_test=False)
    torch.testing.assert_close(test, the_image(root).expand_as(test), rtol=0, atol=1e-12)
    assert torch.equal(training, watch(root, [0, 1])[0])


def test_draws_belong_to_the_run_not_to_its_pack(root: Path) -> None:
    together = watch(root, [3, 1, 3])
    for run, seed in enumerate((3, 1, 3)):
        for ours, alone in zip(together, watch(root, [seed]), strict=True):
            assert torch.equal(ours[run], alone[0])


def test_draws_do_not_depend_on_where_a_run_was_interrupted(root: Path, tmp_path: Path) -> None:
    """A run that is interrupted at every boundary sees the images that it would have seen."""
    line = [*config(root, file=EQUAL), "network=linear"]
    whole = runs.plan(tmp_path / "whole", *line)
    runs.train(whole)
    for _ in range(4):  # two tasks of two epochs, each an interval
        stopped = runs.plan(tmp_path / "stopped", *line)
        run_pack(stopped.packs[0], runs.nobody, lambda: True)
    assert stopped.points[0].is_finished()
    assert runs.metrics(stopped.points[0]) == runs.metrics(whole.points[0])


# --- standardisation ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_standardisation_is_torchvisions_with_the_published_constants(root: Path, dtype: torch.dtype) -> None:
    made = benchmark(root)
    images = made.task(0, 0).images[:50]
    x = made.prepare(images, None, dtype)
    assert x.dtype == dtype
    torch.testing.assert_close(x.double(), standardised(images), rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)


# --- what a task ends with ---

SCRIPTS = {
    "best_in_the_middle": ([0.2, 0.5, 0.4], [0.1, 0.3, 0.2]),
    "first_of_equals": ([0.2, 0.5, 0.5], [0.4, 0.4, 0.4]),
    "the_last": ([0.1, 0.2, 0.3], [0.0, 0.0, 0.1]),
    "each_run_its_own": ([0.9, 0.2, 0.3], [0.0, 0.7, 0.1]),
    "all_wrong": ([0.0, 0.0, 0.0], [0.5, 0.6, 0.0]),
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_task_ends_with_the_parameters_of_its_best_validation(
    root: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strictly better than before; running statistics included; the second task starts from nothing.

    Validation accuracies are given here: run 0's in both tasks, run 1's in both, at half the height in the second
    task, so that a best accuracy that were not forgotten would win. "all_wrong": the network that the log calls
    selected is the first one, and so it must be the one that is put back.
    """
    accuracies = torch.tensor(SCRIPTS[script], dtype=torch.float64)
    learner, seen = Recorder([0, 1], hidden=[6], norm="batch"), []

    def scripted(stage: EpochsStage, split: str, epoch: int) -> tuple[Tensor, Tensor]:
        if split == "validation":
            seen.append({name: value.clone() for name, value in learner.state().items()})
        return torch.zeros(2, dtype=torch.float64), accuracies[:, epoch] / (1 + stage.task)

    monkeypatch.setattr(EpochsStage, "_evaluate", scripted)
    ends: list[dict[str, Tensor]] = []
    stage_end = EpochsStage.end

    def ended(stage: EpochsStage, position: Position) -> list[dict[str, Any]]:
        rows = stage_end(stage, position)
        for row, of_run in zip(rows, accuracies / (1 + stage.task), strict=True):
            assert row["selected_test_accuracy"] == of_run.max()
            assert row["best_test_accuracy"] == of_run.max()
            assert row["validation_accuracy"] == of_run[-1]
            assert row["epochs"]["validation_accuracy"] == of_run.tolist()
        ends.append({name: value.clone() for name, value in learner.state().items()})
        return rows

    monkeypatch.setattr(EpochsStage, "end", ended)
    trained(benchmark(root, epochs=3), learner)
    assert (len(seen), len(ends)) == (6, 2)
    names = [name for name in ends[0] if name == "parameters" or name.startswith("buffers/")]
    assert len(names) == 3
    for task, run in itertools.product(range(2), range(2)):
        best = int(accuracies[run].argmax())  # the first of equals
        for name in names:
            assert torch.equal(ends[task][name][run], seen[3 * task + best][name][run]), (task, run, name)


def test_restored_network_is_the_one_that_is_saved(root: Path, tmp_path: Path) -> None:
    """The checkpoint's network has the best validation accuracy of the log, worked out here from the images."""
    line = [*config(root, epochs=6, num_tasks=1), "network=mlp", "network.hidden=[8]", "network.norm=batch"]
    the_plan = runs.plan(tmp_path, *line, "optimizer.step_size=0.05", "precision=float64", seeds=4, pack=4)
    runs.train(the_plan)
    better = 0
    for seed, point in enumerate(the_plan.points):
        row = json.loads(runs.metrics(point))
        curve = row["epochs"]["validation_accuracy"]
        task = benchmark(root).task(seed, 0)
        assert task.validation is not None
        assert task.outputs is not None
        network, _ = load_run(point.directory.path)
        with torch.no_grad():
            logits = network(standardised(task.images[torch.from_numpy(task.validation.rows)]))[0]
        right = logits[:, torch.from_numpy(task.outputs)].argmax(1).numpy() == task.validation.labels
        assert right.mean() == pytest.approx(max(curve))
        better += max(curve) > curve[-1]
    assert better  # otherwise this test could not tell


def test_nothing_is_put_back_if_not_asked_for(root: Path) -> None:
    learner = Recorder([0], hidden=[6], norm="batch")
    trained(benchmark(root, restore_best=False, num_tasks=1), learner)
    for name, value in learner.state().items():
        assert torch.equal(value, learner.states[-1][name])


# --- step sizes ---

PUBLISHED = [0.1] * 60 + [0.02] * 60 + [0.004] * 40 + [0.0008] * 40


@pytest.mark.parametrize("optimizer", ["momentum_cifar100", pytest.param("adamw", marks=pytest.mark.slow)])
def test_step_size_follows_the_published_schedule_in_every_task(
    root: Path, tmp_path: Path, optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the weight of a class that is not there yet feels it: decay multiplies it by 1 - step size x weight decay."""
    line = [
        *config(root, epochs=200, batch_size=5, train_per_class=2, validation_per_class=1, restore_best=False),
        "benchmark.evaluate_every=200",
        "checkpoint.first=1e9",
        "network=linear",
        "engine=torch",
        f"optimizer={optimizer}",
        "optimizer.weight_decay=0.01",
        "precision=float64",
        *(["optimizer.momentum=0"] if optimizer != "adamw" else ["optimizer.step_size=0.1"]),
        *(["optimizer.decay_at=[0.3,0.6,0.8]", "optimizer.decay_by=0.2"] if optimizer == "adamw" else []),
    ]
    made, weights, learn = benchmark(root), [], TorchLearner.learn

    def watched(self: TorchLearner, *given: Any) -> Any:
        result = learn(self, *given)
        weights.append(float(self.view(self.parameters, "layers.0.weight")[0, made.class_order(0)[-1], 0]))
        return result

    monkeypatch.setattr(TorchLearner, "learn", watched)
    runs.train(runs.plan(tmp_path, *line))
    values = np.array(weights)
    assert len(values) == 200 + 400
    sizes = (1.0 - values[1:] / values[:-1]) / 0.01
    np.testing.assert_allclose(sizes[:199], PUBLISHED[1:], rtol=1e-6)
    np.testing.assert_allclose(sizes[199:], np.repeat(PUBLISHED, 2), rtol=1e-6)


def test_runs_of_a_pack_have_their_own_schedules(root: Path) -> None:
    optimizers: list[Any] = [
        SGD(step_size=0.1, weight_decay=0.1),
        SGD(step_size=0.1, weight_decay=0.1, decay_at=[0.5], decay_by=0.1),
        SGD(step_size=0.2, weight_decay=0.1, decay_at=(0.5, 0.75), decay_by=0.5),
    ]
    learner = Recorder([0, 0, 0], optimizers, init="default")
    start = learner.parameters.clone()
    made = benchmark(root, epochs=4, num_tasks=1, batch_size=20, restore_best=False)
    trained(made, learner)
    last = int(made.class_order(0)[-1])
    values = torch.stack([learner.view(flat, "layers.0.weight")[:, last, 0] for flat in _flat(start, learner)])
    sizes = (1.0 - values[1:] / values[:-1]) / 0.1
    expected = [[0.1, 0.1, 0.2], [0.1, 0.1, 0.2], [0.1, 0.01, 0.1], [0.1, 0.01, 0.05]]
    np.testing.assert_allclose(sizes.numpy(), expected, rtol=1e-9)


def _flat(start: Tensor, learner: Recorder) -> Iterator[Tensor]:
    yield start
    for state in learner.states:
        yield state["parameters"]


def test_adamw_takes_the_schedule_directly() -> None:
    """60 of 200 epochs is 0.3 of a task exactly, and so on: the epoch that is named is the first of the new size."""
    parameters = torch.ones(1, 2, dtype=torch.float64)
    made = AdamW(step_size=0.1, weight_decay=1.0, decay_at=[0.3, 0.6, 0.8], decay_by=0.2)
    packed = made.pack([made], parameters, resets_units=False)
    for epoch, size in enumerate(PUBLISHED):
        packed.progress(epoch / 200)
        before = parameters.clone()
        packed.update(parameters, torch.zeros_like(parameters))
        torch.testing.assert_close(parameters, before * (1 - size))


# --- the probe ---


@pytest.mark.parametrize("images_per_batch", [100, 16])
def test_probe_is_the_new_classes_with_the_statistics_of_batches_and_leaves_no_trace(
    root: Path, images_per_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training and validation images of the next task's new classes, as they are (spec/metrics.md 6)."""
    monkeypatch.setattr(IncrementalCIFAR100, "PROBE_BATCH", images_per_batch)
    made, learner = benchmark(root, num_tasks=3), Recorder([0, 1], hidden=[7], norm="batch")
    with torch.no_grad():
        learner.buffers["norms.0.running_mean"].fill_(0.3)  # a use of these would show
    before = {name: value.clone() for name, value in learner.state().items()}
    stage = EpochsStage(learner, made, [0, 1], 2)
    (found,) = stage.probe()
    assert all(torch.equal(value, before[name]) for name, value in learner.state().items())
    shown = torch.cat(learner.looked, 1)
    for run, seed in enumerate((0, 1)):
        data, new = load_arrays(root / NUMBERED), made.class_order(seed)[10:15]
        images = np.concatenate([data.x_train[data.y_train == c][:6] for c in new]).transpose(0, 3, 1, 2)
        expected = standardised(torch.from_numpy(images))
        assert sorted(map(tuple, shown[run].numpy().round(9))) == sorted(map(tuple, expected.numpy().round(9)))
        weight, bias = (learner.view(learner.parameters, f"layers.0.{name}")[run] for name in ("weight", "bias"))
        z = shown[run] @ weight.T + bias
        parts = z.tensor_split(-(-len(z) // images_per_batch))  # 15 + 15 of 30 images, not 16 + 14
        normal = [(part - part.mean(0)) / (part.var(0, correction=0) + 1e-5).sqrt() for part in parts]
        h = torch.relu(torch.cat(normal))
        torch.testing.assert_close(found.pooled[run], h)
        torch.testing.assert_close(found.statistics.active[run], (h != 0).double().mean(0))
    orders = [tuple(EpochsStage(learner, made, [seed], 2).tasks[0].probe) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def test_probe_has_at_most_a_thousand_images_of_the_new_classes_in_random_order(root: Path) -> None:
    """As the authors: one batch of 1,000 of a shuffled loader."""
    made = benchmark(root, classes_per_task=50, num_tasks=2, batch_size=20)
    assert made._data is not None
    many = np.concatenate([made._data.train] * 4, 1)  # 24 images a class
    made._data = made._data._replace(train=many)
    made.train_per_class = 24
    task = made.task(0, 1)
    assert len(task.probe) == 1_000
    new = made._data.train[made.class_order(0)[50:]].flatten()
    assert set(task.probe) <= set(new)
    assert len(set(task.probe)) > 250  # of all 50 classes, not of the first 42


@pytest.mark.parametrize("algorithm", ["head_resetting", "retrained_network"])
def test_diagnostics_come_before_resets_and_after_the_best_network_is_back(
    root: Path, tmp_path: Path, algorithm: str
) -> None:
    """Before the second task the baseline and the one that resets are still the same network, then no more."""
    line = [
        *config(root, epochs=5),
        "network=mlp",
        "network.hidden=[8]",
        "precision=float64",
        "optimizer.step_size=0.05",
    ]
    rows = {}
    for name in ("backprop", algorithm):
        the_plan = runs.plan(tmp_path / name, *line, f"algorithm={name}")
        runs.train(the_plan)
        rows[name] = [json.loads(row) for row in runs.metrics(the_plan.points[0]).splitlines()]
    plain, reset = rows["backprop"], rows[algorithm]
    assert plain[0] == reset[0]
    for name in ("weight_magnitude", "dead_fraction", "effective_rank"):
        assert plain[1][name] == reset[1][name]
    assert plain[1]["train_cross_entropy"] != reset[1]["train_cross_entropy"]
    one_task = runs.plan(tmp_path / "one", *line, "algorithm=backprop", "benchmark.num_tasks=1")
    runs.train(one_task)
    network, _ = load_run(one_task.points[0].directory.path)
    magnitudes = [float(network.get_parameter(f"layers.{i}.weight").detach().abs().mean()) for i in range(2)]
    assert plain[1]["weight_magnitude"] == pytest.approx(magnitudes, rel=1e-12)


# --- options, data, identity ---

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"num_tasks": 21}, "num_tasks", "<= 20"),
    ({"num_tasks": 2, "classes_per_task": 51}, "num_tasks", "<= 1"),
    ({"classes_per_task": 0}, "classes_per_task", ">= 1 and <= 100"),
    ({"classes_per_task": 101}, "classes_per_task", ">= 1 and <= 100"),
    ({"batch_size": 7}, "batch_size", r"must divide the training images that a task adds \(20\)"),
    ({"batch_size": 0}, "batch_size", ">= 1"),
    ({"train_per_class": 1}, "train_per_class", ">= 2"),
    ({"validation_per_class": 6}, "validation_per_class", "<= 5"),
    ({"validation_per_class": 0}, "validation_per_class", ">= 1"),
    ({"test_per_class": 0}, "test_per_class", ">= 1"),
    ({"epochs": 0}, "epochs", ">= 1"),
    ({"evaluate_every": 0}, "evaluate_every", ">= 1"),
    ({"restore_best": "yes"}, "restore_best", "true or false"),
    ({"augment_test": 0}, "augment_test", "true or false"),
    ({"file": 3}, "file", "must be text"),
]


@pytest.mark.parametrize(("options", "key", "message"), WRONG)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        IncrementalCIFAR100(**{**OPTIONS, **options})
    assert caught.value.key == key


def test_missing_data_are_known_before_a_run_starts(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npz is missing; benchmark\.file names it"):
        runs.point(tmp_path, *config(root, file="nowhere.npz"))
    with pytest.raises(DataError, match="cifar-100-python"):
        runs.point(tmp_path, *config(root, file="null"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_per_class": 8, "batch_size": 10}, r"7 train images, and 8 are wanted; set benchmark\.train_per_class"),
        ({"test_per_class": 4}, r"3 test images, and 4 are wanted; set benchmark\.test_per_class"),
    ],
)
def test_too_few_images_are_named(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        benchmark(root, **options)


@pytest.mark.parametrize("options", [{"train_per_class": 8}, {"test_per_class": 4}])
def test_too_few_images_are_known_before_a_run_starts(root: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    """DESIGN 4.1: whatever is wrong with point 731 is reported before the first point runs."""
    with pytest.raises(DataError, match="are wanted"):
        runs.point(tmp_path, *config(root, **options))


OTHER: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 20,
    "classes_per_task": 10,
    "train_per_class": 12,
    "validation_per_class": 4,
    "test_per_class": 2,
    "restore_best": "false",
    "augment_test": "false",
    "evaluate_every": 2,
    "file": EQUAL,
    "inputs": "minus_one_one",
}


def test_identity_has_every_option_but_the_number_of_tasks(root: Path) -> None:
    """An option without a value above fails here: it must not be forgotten."""
    names = list(inspect.signature(IncrementalCIFAR100).parameters)
    plain = identity(*config(root))
    assert identity(*config(root, num_tasks=9)) == plain
    changed = {name: identity(*config(root, **{name: OTHER[name]})) for name in names if name != "num_tasks"}
    assert len({plain, *changed.values()}) == len(changed) + 1
    assert identity(*config(root / "elsewhere")) == plain


def test_images_of_the_tests_differ(root: Path) -> None:
    pixels: NDArray[np.uint8] = load_arrays(root / NUMBERED).x_train
    assert len(np.unique(pixels.reshape(len(pixels), -1), axis=0)) == len(pixels) == 700
