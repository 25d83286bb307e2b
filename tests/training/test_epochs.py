"""Learning in epochs: what a row says, where a run may be cut, what a run that diverges does to the others."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.benchmarks.benchmark import EpochsTask, Split, steps_before
from lop_sweeps.benchmarks.continual_imagenet import ContinualImageNet
from lop_sweeps.benchmarks.incremental_cifar100 import IncrementalCIFAR100
from lop_sweeps.errors import ConfigError
from lop_sweeps.fused.limits import LARGEST_BATCH_IN_EPOCHS
from lop_sweeps.sweeps import status
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.load_run import load_run
from lop_sweeps.sweeps.local_runner import steps_of
from lop_sweeps.sweeps.planning import Plan, Point, make_plan
from lop_sweeps.sweeps.progress import ProgressDisplay
from lop_sweeps.training import epochs
from lop_sweeps.training.learner import TorchLearner
from tests import runs
from tests.images import CIFAR_FILE, image_data

TINY = ["engine=torch", "scale=tiny", "precision=float64", f"paths.data={image_data()}"]
IMAGENET = ["benchmark=continual_imagenet", *TINY, "benchmark.num_tasks=2"]
CIFAR = ["benchmark=incremental_cifar100", *TINY, f"benchmark.file={CIFAR_FILE}"]
LINEAR = ["network=linear"]
MLP = ["network=mlp", "network.hidden=[8]"]
NORM = [*MLP, "network.norm=batch"]
CONV = ["network=conv_net", "network.channels=[4,5,6]", "network.hidden=[7]"]
RESNET = ["network=resnet18", "network.width=1"]
BENCHMARKS = {"imagenet": IMAGENET, "cifar": CIFAR}

EACH = pytest.mark.parametrize(
    "line",
    [
        pytest.param([*benchmark, *network], id=f"{name}-{network[0].removeprefix('network=')}")
        for (name, benchmark), network in itertools.product(BENCHMARKS.items(), (LINEAR, MLP, CONV, RESNET))
    ],
)


def trained(sweeps: Path, *line: str, **options: Any) -> Plan:
    the_plan = runs.plan(sweeps, *line, **options)
    assert {outcome.state for outcome in runs.train(the_plan)} == {"done"}
    return the_plan


def rows(point: Point) -> list[dict[str, Any]]:
    return [json.loads(row) for row in runs.metrics(point).splitlines()]


def task_of(point: Point, index: int) -> EpochsTask:
    """A task of a run, from the benchmark's class and the stored options."""
    given = {key: value for key, value in point.config["benchmark"].items() if key != "_target_"}
    kind: Any = ContinualImageNet if "imagenet" in given["name"] else IncrementalCIFAR100
    known = {key: value for key, value in given.items() if key in kind.__init__.__annotations__}
    made = kind(**known)
    made.load(image_data())
    task: EpochsTask = made.task(int(point.config["seed"]), index)
    return task


def plain_inputs(point: Point, task: EpochsTask, split: Split) -> Tensor:
    """Un-augmented inputs (images, 3072), float64, by formulas of this test's own."""
    pixels: NDArray[np.float64] = task.images.numpy()[split.rows].astype(np.float64) / 255.0
    if "imagenet" in point.config["benchmark"]["name"]:
        return torch.from_numpy((2.0 * pixels - 1.0).reshape(len(pixels), -1))
    mean, std = np.array([0.5071, 0.4865, 0.4409]), np.array([0.2673, 0.2564, 0.2762])
    return torch.from_numpy(((pixels - mean[:, None, None]) / std[:, None, None]).reshape(len(pixels), -1))


def evaluated(point: Point, index: int, split: str) -> tuple[float, float]:
    """Cross-entropy and accuracy of the network that `load_run` gives back, on images as they are."""
    network, _ = load_run(point.directory.path)
    task = task_of(point, index)
    images: Split = getattr(task, split)
    with torch.no_grad():
        logits = network(plain_inputs(point, task, images))[0].numpy()
    if task.outputs is not None:
        logits = logits[:, task.outputs]
    losses = np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1)) + logits.max(1)
    losses -= logits[np.arange(len(logits)), images.labels]
    return float(losses.mean()), float((logits.argmax(1) == images.labels).mean())


# --- what a row says ---


@EACH
def test_final_numbers_are_those_of_the_network_that_the_run_leaves(tmp_path: Path, line: list[str]) -> None:
    """Every network on both benchmarks; evaluation mode, all test images, only the classes seen."""
    plain = ["benchmark.restore_best=false", "benchmark.augment_test=false"] if CIFAR[0] in line else []
    the_plan = trained(tmp_path, *line, *plain, "optimizer.step_size=0.01", seeds=2, pack=2)
    for point in the_plan.points:
        *_, last = rows(point)
        loss, accuracy = evaluated(point, 1, "test")
        assert last["test_accuracy"] == pytest.approx(accuracy, abs=1e-12)
        assert last["test_cross_entropy"] == pytest.approx(loss, rel=1e-9)
        if plain:
            loss, accuracy = evaluated(point, 1, "validation")
            assert last["validation_accuracy"] == pytest.approx(accuracy, abs=1e-12)
            assert last["validation_cross_entropy"] == pytest.approx(loss, rel=1e-9)


def test_more_images_than_are_looked_at_together_make_the_same_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*CIFAR, *NORM, "benchmark.test_per_class=4"]  # 20 and 40 images
    whole = trained(tmp_path / "whole", *line)
    monkeypatch.setattr(epochs, "EVALUATED", 7)
    parts = trained(tmp_path / "parts", *line)
    runs.assert_close(runs.metrics(whole.points[0]), runs.metrics(parts.points[0]), 1e-12)


@pytest.mark.parametrize("line", [IMAGENET, CIFAR], ids=BENCHMARKS)
def test_training_numbers_are_means_over_the_epoch_before_each_update(
    tmp_path: Path, line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A linear network's outputs worked out from the weights that it has when it is shown the mini-batch."""
    right: list[NDArray[np.float64]] = []
    losses: list[NDArray[np.float64]] = []
    learn = TorchLearner.learn

    def watched(self: TorchLearner, x: Tensor, y: Tensor, step: int, outputs: Tensor | None) -> Any:
        z = torch.einsum("rbi,roi->rbo", x, self.view(self.parameters, "layers.0.weight"))
        z = z + self.view(self.parameters, "layers.0.bias").unsqueeze(1)
        if outputs is not None:
            z = torch.stack([of_run[:, seen] for of_run, seen in zip(z, outputs, strict=True)])
        right.append((z.argmax(2) == y).double().mean(1).numpy())
        losses.append(torch.nn.functional.cross_entropy(z.mT, y, reduction="none").mean(1).numpy())
        return learn(self, x, y, step, outputs)

    monkeypatch.setattr(TorchLearner, "learn", watched)
    the_plan = trained(tmp_path, *line, *LINEAR, "benchmark.evaluate_every=2", seeds=2, pack=2)
    at = 0
    for task in range(2):
        steps = 2 if line is IMAGENET else task + 1  # in an epoch, of which there are three
        of_task = [slice(at + epoch * steps, at + (epoch + 1) * steps) for epoch in range(3)]
        for run, point in enumerate(the_plan.points):
            row = rows(point)[task]
            for values, name in ((right, "train_accuracy"), (losses, "train_cross_entropy")):
                means = [float(np.mean([value[run] for value in values[span]])) for span in of_task]
                assert row["epochs"][name] == pytest.approx([means[1], means[2]], rel=1e-9)
                assert row[name] == row["epochs"][name][-1]
        at += 3 * steps
    assert at == len(right)


@pytest.mark.parametrize(
    ("every", "evaluations"), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (4, [3, 4]), (5, [4]), (7, [4])]
)
def test_evaluations_come_after_every_few_epochs_and_after_the_last(
    tmp_path: Path, every: int, evaluations: list[int]
) -> None:
    """Without a choice of the best, evaluating less often changes nothing but which points of the curve there are."""
    line = [*CIFAR, *NORM, "benchmark.epochs=5", "benchmark.restore_best=false", "optimizer.step_size=0.01"]
    dense = rows(trained(tmp_path / "dense", *line).points[0])
    sparse = rows(trained(tmp_path / "sparse", *line, f"benchmark.evaluate_every={every}").points[0])
    for of_all, row in zip(dense, sparse, strict=True):
        found = row.pop("epochs", None)
        assert row.pop("best_test_accuracy", None) == (max(found["test_accuracy"]) if len(evaluations) > 1 else None)
        if found is not None:
            assert found == {name: [curve[i] for i in evaluations] for name, curve in of_all["epochs"].items()}
        assert (found is None) == (len(evaluations) == 1)
        assert row == {name: of_all[name] for name in row}
        assert "selected_test_accuracy" not in row


def test_best_is_of_the_test_and_selected_is_where_validation_was_best(tmp_path: Path) -> None:
    line = [*CIFAR, *NORM, "benchmark.epochs=8", "optimizer.step_size=0.05"]
    differ = 0
    for point in trained(tmp_path, *line, seeds=4, pack=4).points:
        for row in rows(point):
            test, validation = (row["epochs"][f"{split}_accuracy"] for split in ("test", "validation"))
            assert row["best_test_accuracy"] == max(test)
            assert row["selected_test_accuracy"] == test[validation.index(max(validation))]
            assert (row["test_accuracy"], row["validation_accuracy"]) == (test[-1], validation[-1])
            differ += len({row["best_test_accuracy"], row["selected_test_accuracy"], row["test_accuracy"]}) > 1
    assert differ


def test_examples_and_classes_are_counted_from_the_start(tmp_path: Path) -> None:
    (imagenet,) = trained(tmp_path, *IMAGENET, *LINEAR, "benchmark.num_tasks=3").points
    assert [row["examples"] for row in rows(imagenet)] == [120, 240, 360]  # 3 epochs of 2 x 20 images
    assert "classes" not in rows(imagenet)[0]
    (cifar,) = trained(tmp_path, *CIFAR, *LINEAR, "benchmark.num_tasks=3").points
    assert [row["examples"] for row in rows(cifar)] == [75, 225, 450]  # 3 epochs of 25, 50, 75
    assert [row["classes"] for row in rows(cifar)] == [5, 10, 15]


def test_weight_magnitude_of_a_task_is_the_mean_over_its_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Intervals end with each epoch, and there is one sample at the end of each, before the best network is back."""
    monkeypatch.setattr(epochs, "INTERVAL", 2)
    found: list[float] = []
    steps: list[int] = []
    learn = TorchLearner.learn

    def watched(self: TorchLearner, *given: Any) -> Any:
        result = learn(self, *given)
        found.append(float(self.view(self.parameters, "layers.0.weight").abs().mean()))
        steps.append(given[2])
        return result

    monkeypatch.setattr(TorchLearner, "learn", watched)
    (point,) = trained(tmp_path, *CIFAR, *LINEAR, "benchmark.batch_size=5", "optimizer.step_size=0.01").points
    assert steps == list(range(3 * 5 + 3 * 10))  # numbered from the start of the run
    first = [1, 3, 4]  # of five steps an epoch, the ones after which an interval ends
    second = [1, 3, 5, 7, 9]
    samples = [found[5 * epoch + i] for epoch in range(3) for i in first]
    assert rows(point)[0]["weight_magnitude_task"] == pytest.approx([np.mean(samples)], rel=1e-12)
    samples = [found[15 + 10 * epoch + i] for epoch in range(3) for i in second]
    assert rows(point)[1]["weight_magnitude_task"] == pytest.approx([np.mean(samples)], rel=1e-12)


# --- cuts ---


def boundaries(benchmark_line: list[str], num_tasks: int) -> list[tuple[int, int]]:
    """(task, step) of every boundary of the runs below, by counting: intervals of 2 steps that end with the epoch."""
    found = []
    for task in range(num_tasks):
        each = 3 if benchmark_line is IMAGENET else 3 * (task + 1)
        inside = sorted({min(2 * i, each) for i in range(1, each)})
        found += [(task, epoch * each + at) for epoch in range(3) for at in inside]
        found[-1] = (task + 1, 0)
    return found


CUT = {
    "imagenet": [*IMAGENET, *NORM, "benchmark.train_per_class=15", "benchmark.batch_size=10"],
    "cifar": [*CIFAR, *NORM, "benchmark.train_per_class=7", "benchmark.batch_size=10", "optimizer.step_size=0.05"],
}


@pytest.mark.parametrize("name", CUT)
def test_interrupted_at_any_boundary_and_resumed_is_the_same_bytes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an epoch, at its end, at a task's end; the best network so far is part of the checkpoint.

    Compared are the log and the network; and the position of each cut, so that none is missed.
    """
    monkeypatch.setattr(epochs, "INTERVAL", 2)
    line = CUT[name]
    whole = trained(tmp_path / "whole", *line, seeds=2, pack=2)
    reference = [(runs.metrics(point), state_of(point)) for point in whole.points]
    assert any(state["best"] for state in best_in_checkpoints(tmp_path / "probe", line)) == (name == "cifar")
    expected = boundaries(BENCHMARKS[name], 2)
    for cut, at in enumerate(expected[:-1]):
        sweeps = tmp_path / str(cut)
        stopped = runs.plan(sweeps, *line, seeds=2, pack=2)
        outcomes = run_pack(stopped.packs[0], runs.nobody, _true_after(cut))
        assert {outcome.state for outcome in outcomes} == {"interrupted"}
        said = stopped.points[0].directory.status()
        assert (said["task"], said["step"]) == at
        resumed = trained(sweeps, *line, seeds=2, pack=2)
        for point, (log, state) in zip(resumed.points, reference, strict=True):
            assert runs.metrics(point) == log, at
            assert all(torch.equal(value, state[key]) for key, value in state_of(point).items()), at


def state_of(point: Point) -> dict[str, Tensor]:
    saved = torch.load(point.directory.path / "checkpoint.pt", weights_only=True)
    learner: dict[str, Tensor] = saved["learner"]
    return learner


def best_in_checkpoints(sweeps: Path, line: list[str]) -> Iterator[dict[str, Any]]:
    """Of a run that is interrupted at every boundary: whether its checkpoint holds a network that may be put back."""
    for _ in range(100):
        the_plan = runs.plan(sweeps, *line)
        if not the_plan.packs:
            return
        run_pack(the_plan.packs[0], runs.nobody, lambda: True)
        path = the_plan.points[0].directory.path / "checkpoint.pt"
        sums = torch.load(path, weights_only=True)["sums"]
        yield {"best": [key for key in sums if key.startswith("best/")]}
    raise AssertionError("the run never ended")


@pytest.mark.parametrize(
    "line", [[*IMAGENET, *CONV], [*CIFAR, *NORM], [*CIFAR, *RESNET]], ids=["conv", "mlp", "resnet"]
)
def test_more_tasks_go_on_from_a_finished_run(tmp_path: Path, line: list[str]) -> None:
    short = trained(tmp_path / "extended", *line, "benchmark.num_tasks=1", seeds=2, pack=2)
    first = runs.metrics(short.points[0])
    longer = trained(tmp_path / "extended", *line, "benchmark.num_tasks=3", seeds=2, pack=2)
    assert [p.directory.name for p in longer.points] == [p.directory.name for p in short.points]
    assert runs.metrics(longer.points[0]).startswith(first)
    long = trained(tmp_path / "long", *line, "benchmark.num_tasks=3", seeds=2, pack=2)
    for one, other in zip(longer.points, long.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


# --- divergence ---


def mixed(sweeps: Path, line: list[str], sizes: list[str]) -> Plan:
    """One pack of runs with these step sizes."""
    points = [runs.point(sweeps, *line, f"optimizer.step_size={size}") for size in sizes]
    the_plan = make_plan(points, workers=1, pack=len(sizes), threads=1)
    assert len(the_plan.packs) <= 1
    return the_plan


@pytest.mark.parametrize(
    "line",
    [
        pytest.param([*IMAGENET, *MLP], id="imagenet"),
        pytest.param([*CIFAR, *NORM], id="norm"),
        pytest.param([*CIFAR, *RESNET], id="resnet", marks=pytest.mark.slow),
    ],
)
def test_a_run_that_diverges_is_final_and_leaves_the_others_alone(
    tmp_path: Path, line: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their bytes are those of the same pack with a well-behaved run in its place, also after interruptions."""
    monkeypatch.setattr(epochs, "INTERVAL", 1)
    line = [*line, "algorithm=shrink_and_perturb", "benchmark.num_tasks=3"]
    well = mixed(tmp_path / "well", line, ["0.01", "0.012", "0.02"])
    runs.train(well)
    ill = mixed(tmp_path / "ill", line, ["0.01", "1e200", "0.02"])
    states = [outcome.state for outcome in runs.train(ill)]
    assert states == ["done", "diverged", "done"]
    for run in (0, 2):
        assert runs.metrics(ill.points[run]) == runs.metrics(well.points[run])
    assert ill.points[1].directory.status()["state"] == "diverged"
    assert not mixed(tmp_path / "ill", line, ["0.01", "1e200", "0.02"]).packs  # nothing is tried again
    while (cut := mixed(tmp_path / "cut", line, ["0.01", "1e200", "0.02"])).packs:
        run_pack(cut.packs[0], runs.nobody, _true_after(3))
    for run in (0, 2):
        assert runs.metrics(cut.points[run]) == runs.metrics(well.points[run])


def _true_after(times: int) -> Callable[[], bool]:
    """A request to stop that comes at a run's next boundary but `times`."""
    asked = itertools.count()
    return lambda: next(asked) >= times


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_run_that_diverges_with_the_last_update_before_a_test_is_diverged_too(tmp_path: Path, name: str) -> None:
    """Its loss before that update and its weights are finite, its test loss is not: nothing a row could hold.

    It must not fail, nor split its pack: the other run goes on beside it.
    """
    line = [*BENCHMARKS[name], *MLP, "network.hidden=[8,8,8]", "benchmark.epochs=1", "optimizer.momentum=0"]
    line += ["benchmark.num_tasks=1"]  # one update, or two: the first one of new heads moves nothing else
    the_plan = mixed(tmp_path, line, ["1e120", "0.01"])
    assert [outcome.state for outcome in runs.train(the_plan)] == ["diverged", "done"]
    packs = [json.loads((point.directory.path / "pack.json").read_text()) for point in the_plan.points]
    assert [len(pack["members"]) for pack in packs] == [2, 2]


# --- engines ---


REFUSED = {
    "the best network put back": ([*CIFAR, *LINEAR, "benchmark.restore_best=true"], "the best network of a task"),
    "gradients cut": ([*IMAGENET, *MLP, "optimizer.max_gradient_norm=1"], "it cuts no gradients"),
}


@pytest.mark.parametrize(("line", "why"), REFUSED.values(), ids=REFUSED)
def test_fused_engine_is_refused_and_auto_says_why(tmp_path: Path, line: list[str], why: str) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        runs.point(tmp_path, *line, "engine=fused")
    assert caught.value.key == "engine"
    line = [*line, "engine=auto"]
    point = runs.point(tmp_path, *line)
    assert point.engine == "torch"
    assert why in point.reason
    noise = ["algorithm=shrink_and_perturb", "algorithm.shrink_and_perturb.noise=lazy"]
    with pytest.raises(ConfigError, match="must be per_step here"):
        runs.point(tmp_path, *line, *noise)


@pytest.mark.parametrize(
    ("size", "engine"), [(LARGEST_BATCH_IN_EPOCHS, "fused"), (LARGEST_BATCH_IN_EPOCHS + 1, "torch")]
)
def test_auto_takes_the_fused_engine_for_small_mini_batches(tmp_path: Path, size: int, engine: str) -> None:
    line = ["benchmark=stream", "benchmark/data=digits", "benchmark/protocol=epochs", f"benchmark.batch_size={size}"]
    assert runs.point(tmp_path, *runs.SMALL, *line).engine == engine


def test_decay_of_the_step_size_is_refused_where_there_are_no_epochs(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trains in epochs") as caught:
        runs.point(tmp_path, *runs.SMALL, "benchmark=permuted_digits", "optimizer.decay_at=[0.5]")
    assert caught.value.key == "optimizer.decay_at"


# --- status and progress, for tasks of different lengths ---

LONGER = [*CIFAR, *LINEAR, "benchmark.num_tasks=4"]  # 3 epochs of 1, 2, 3 and 4 steps


def test_status_knows_the_lengths_of_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 30 steps, 9 are done after two of four tasks."""
    the_plan = runs.plan(tmp_path, *LONGER)
    (point,) = the_plan.points
    assert point.steps == steps_before(_benchmark(point), 4) == 30
    assert steps_of(the_plan, the_plan.packs) == (30, 0)
    run_pack(the_plan.packs[0], runs.nobody, _true_after(5))  # three intervals a task
    said = point.directory.status()
    assert (said["state"], said["task"], said["step"]) == ("waiting", 2, 0)
    assert (said["steps"], said["total_steps"]) == (9, 30)
    assert steps_of(the_plan, the_plan.packs) == (30, 9)
    assert status.main([str(the_plan.folders[0]), "--all"]) == 0
    assert "waiting    30%" in capsys.readouterr().out


def _benchmark(point: Point) -> IncrementalCIFAR100:
    given = point.config["benchmark"]
    names = [name for name in IncrementalCIFAR100.__init__.__annotations__ if name != "return"]
    return IncrementalCIFAR100(**{name: given[name] for name in names})


@pytest.mark.parametrize("line", [LONGER, ["scale=tiny", "engine=torch"]], ids=["epochs", "online"])
def test_a_finished_run_has_done_all_of_its_steps(
    tmp_path: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    the_plan = trained(tmp_path, *line)
    said = the_plan.points[0].directory.status()
    assert said["steps"] == said["total_steps"] == the_plan.points[0].steps
    assert status.main([str(the_plan.folders[0]), "--all"]) == 0
    assert "done      100%" in capsys.readouterr().out


def test_progress_adds_up_to_all_steps_also_when_a_run_goes_on(tmp_path: Path) -> None:
    told: list[int] = []

    def on_progress(runs_at_work: int, steps: int, *returns: float) -> None:
        told.append(runs_at_work * steps)

    the_plan = runs.plan(tmp_path, *LONGER, seeds=2, pack=2)
    run_pack(the_plan.packs[0], on_progress, _true_after(3))  # in the second task
    first = sum(told)
    assert first == 2 * (3 + 2)
    again = runs.plan(tmp_path, *LONGER, seeds=2, pack=2)
    total, done = steps_of(again, again.packs)
    assert (total, done) == (60, first)
    display = ProgressDisplay(2, total, done)
    run_pack(again.packs[0], lambda active, steps: display.advance(active * steps), lambda: False)
    assert "100% of steps" in display.line()


def test_a_run_that_is_extended_says_its_new_length(tmp_path: Path) -> None:
    trained(tmp_path, *CIFAR, *LINEAR, "benchmark.num_tasks=1")
    the_plan = runs.plan(tmp_path, *LONGER)
    assert steps_of(the_plan, the_plan.packs) == (30, 3)
    runs.train(the_plan)
    said = the_plan.points[0].directory.status()
    assert (said["num_tasks"], said["total_steps"]) == (4, 30)
