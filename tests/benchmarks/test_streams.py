"""Streams of both protocols: what is composed is what was known, drift has the ends that it promises, tests are where
they can be.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lop_sweeps.benchmarks.benchmark import HELD_OUT
from lop_sweeps.benchmarks.drifting_task import DriftingTask, weights
from lop_sweeps.benchmarks.epochs_stream import EpochsStream
from lop_sweeps.benchmarks.online_stream import OnlineStream
from lop_sweeps.benchmarks.permuted_digits import PermutedDigits
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.changes.change import Change
from lop_sweeps.changes.chunks import Chunks
from lop_sweeps.changes.classes_added import ClassesAdded
from lop_sweeps.changes.inputs_permuted import InputsPermuted
from lop_sweeps.changes.labels_permuted import LabelsPermuted
from lop_sweeps.changes.labels_random import LabelsRandom
from lop_sweeps.datasets.digits import Digits
from lop_sweeps.errors import ConfigError
from tests import runs

STREAM = ["benchmark=stream", "benchmark/data=digits", "scale=tiny", "network.hidden=[12,12]"]


def online(change: Change, examples: int = 200, drift: float = 0.0, *, interpolate: bool = False) -> OnlineStream:
    stream = OnlineStream(4, examples, Digits(), change, drift=drift, interpolate=interpolate)
    stream.load(Path())
    return stream


def test_inputs_permuted_online_is_the_benchmark_that_was_there(tmp_path: Path) -> None:
    """The same examples, and by its composed name the same run in the same folder."""
    known = PermutedDigits(4, 200)
    known.load(Path())
    ours, theirs = online(InputsPermuted()).task(7, 2), known.task(7, 2)
    for a, b in zip(ours.examples(0, 200), theirs.examples(0, 200), strict=True):
        np.testing.assert_array_equal(a, b)
    lengths = ["benchmark.num_tasks=3", "benchmark.examples_per_task=70"]
    composed = runs.point(tmp_path, *STREAM, *lengths)
    named = runs.point(tmp_path, "benchmark=permuted_digits", *STREAM[2:], *lengths)
    assert composed.directory.path == named.directory.path
    assert composed.config["benchmark"] == named.config["benchmark"]


@pytest.mark.parametrize(
    "other",
    [
        ["benchmark.drift=0.1"],
        ["benchmark/data=fashion_mnist"],
        ["benchmark/change=labels_permuted"],
        ["benchmark/protocol=epochs"],
        ["benchmark/change=labels_random"],
        ["benchmark/change=labels_random", "benchmark.change.count=100"],
        ["benchmark/change=labels_random", "benchmark.change.law=drawn"],
        ["benchmark.inputs=minus_one_one"],
    ],
)
def test_every_part_counts_in_the_identity(tmp_path: Path, other: Sequence[str]) -> None:
    names = {
        runs.composer().point(None, [*STREAM, *more, f"paths.sweeps={tmp_path}"], data=False).directory.name
        for more in ([], other, [*other, "seed=1"])
    }
    assert len(names) == 3


def test_a_streams_name_is_that_of_its_parts(tmp_path: Path) -> None:
    point = runs.point(tmp_path, *STREAM, "benchmark/change=labels_permuted")
    assert point.directory.path.parent.name == "digits_labels_permuted_online-tiny"
    assert point.config["benchmark"]["name"] == "digits_labels_permuted_online"


# The first task once more


@pytest.mark.parametrize("drift", [0.0, 0.5])
def test_the_last_task_is_the_first_once_more(drift: float) -> None:
    stream = OnlineStream(4, 200, Digits(), InputsPermuted(), drift=drift, relearn=True)
    stream.load(Path())
    tasks = [stream.task(3, index).examples(0, 200) for index in range(4)]
    for at in range(2):
        np.testing.assert_array_equal(tasks[3][at], tasks[0][at])
    assert not np.array_equal(tasks[2][0], tasks[0][0])
    if drift:  # what comes after task 2 is the first
        task = stream.task(3, 2)
        assert isinstance(task, DriftingTask)
        np.testing.assert_array_equal(task.after.pixels, online(InputsPermuted()).task(3, 0).pixels)  # type: ignore[union-attr]


def test_in_epochs_too_and_after_all_that_a_change_has() -> None:
    stream = EpochsStream(6, 2, Digits(), ClassesAdded(2, 50), batch_size=50, relearn=True)
    stream.load(Path())
    assert [stream.images(index) for index in range(6)] == [100, 200, 300, 400, 500, 100]
    first, last = stream.task(1, 0), stream.task(1, 5)
    np.testing.assert_array_equal(first.train.rows, last.train.rows)
    np.testing.assert_array_equal(np.asarray(first.outputs), np.asarray(last.outputs))
    with pytest.raises(ConfigError, match="must be at most 5"):
        EpochsStream(7, 2, Digits(), ClassesAdded(2, 50), batch_size=50, relearn=True)


def test_a_stream_that_ends_with_its_first_task_is_not_the_beginning_of_a_longer_one(tmp_path: Path) -> None:
    lengths = (["benchmark.num_tasks=3"], ["benchmark.num_tasks=5"])
    plain = {runs.point(tmp_path, *STREAM, "benchmark.drift=0.5", *more).directory.name for more in lengths}
    relearned = {runs.point(tmp_path, *STREAM, "benchmark.relearn=true", *more).directory.name for more in lengths}
    assert (len(plain), len(relearned)) == (1, 2)
    plan = runs.plan(tmp_path, *STREAM, "benchmark.relearn=true", "benchmark.num_tasks=3")
    assert [outcome.state for outcome in runs.train(plan)] == ["done"]
    assert runs.plan(tmp_path, *STREAM, "benchmark.relearn=true", "benchmark.num_tasks=3").finished == 1


# Drift


def test_the_weight_rises_over_the_last_share_to_one() -> None:
    np.testing.assert_allclose(weights(10, 0.5), [0, 0, 0, 0, 0, 0.2, 0.4, 0.6, 0.8, 1])
    assert weights(10, 1.0)[-1] == 1
    assert not weights(10, 0.0).any()


def both(stream: OnlineStream, index: int, of: slice) -> tuple[tuple[NDArray[np.floating], NDArray[np.int64]], ...]:
    """Examples of a drifting task, of the abrupt one, and of the next abrupt one."""
    abrupt = OnlineStream(4, stream.examples_per_task, Digits(), stream.change)
    abrupt.load(Path())
    tasks = (stream.task(3, index), abrupt.task(3, index), abrupt.task(3, index + 1))
    return tuple(task.examples(of.start, of.stop) for task in tasks)


@pytest.mark.parametrize(
    "change", [InputsPermuted(), LabelsPermuted(), LabelsRandom(300)], ids=lambda one: type(one).__name__
)
def test_drift_begins_as_this_task_and_ends_as_the_next(change: Change) -> None:
    stream = online(change, 400, drift=0.5)
    drifting, this, following = both(stream, 1, slice(0, 400))
    from_next = np.zeros(400, bool)
    for i in range(400):
        is_this, is_next = (
            bool((drifting[0][i] == one[0][i]).all() and drifting[1][i] == one[1][i]) for one in (this, following)
        )
        assert is_this or is_next
        from_next[i] = is_next and not is_this
    assert not from_next[:200].any()
    assert from_next[-20:].mean() > 0.8
    assert 0.25 < from_next[250:350].mean() < 0.75
    assert isinstance(online(change).task(3, 1), PermutedTask)
    assert isinstance(stream.task(3, HELD_OUT), PermutedTask)


def test_a_task_that_is_the_last_of_its_change_does_not_drift() -> None:
    stream = online(Chunks(4), drift=0.5)
    assert isinstance(stream.task(0, 2), DriftingTask)
    assert isinstance(stream.task(0, 3), PermutedTask)


def test_interpolated_inputs_end_as_what_the_next_task_makes_of_the_image() -> None:
    stream = online(InputsPermuted(), 100, drift=0.4, interpolate=True)
    task = stream.task(3, 0)
    assert isinstance(task, DriftingTask)
    x, y = task.examples(0, 100)
    plain, labels = task.before.examples(0, 100)
    np.testing.assert_array_equal(x[:60], plain[:60])
    rows = task.before.rows(0, 100)
    seen_next = task.after.inputs_of(rows)
    np.testing.assert_allclose(x[-1], seen_next[-1])
    np.testing.assert_allclose(x[79], 0.5 * plain[79] + 0.5 * seen_next[79])
    np.testing.assert_array_equal(y, labels)  # both tasks call an image by the same name


def test_interpolation_needs_the_same_images_and_a_drift() -> None:
    with pytest.raises(ConfigError, match="shows the same images"):
        online(Chunks(4), drift=0.5, interpolate=True)
    with pytest.raises(ConfigError, match="needs a drift"):
        online(InputsPermuted(), interpolate=True)


@pytest.mark.parametrize("options", [[], ["benchmark.interpolate=true"]], ids=["drawn", "interpolated"])
def test_a_drifting_run_is_the_same_on_both_engines(tmp_path: Path, options: list[str]) -> None:
    line = [*STREAM, "benchmark.drift=0.5", *options, "benchmark.examples_per_task=100", "precision=float64"]
    logs = []
    for engine in ("torch", "fused"):
        plan = runs.plan(tmp_path / engine, *line, f"engine={engine}")
        assert [one.state for one in runs.train(plan)] == ["done"]
        logs.append(runs.metrics(plan.points[0]))
    runs.assert_close(*logs, 1e-9)


# Epochs


def epochs(change: Change, batch: int = 50, **options: object) -> EpochsStream:
    stream = EpochsStream(2, 2, Digits(), change, batch, **options)  # type: ignore[arg-type]
    stream.load(Path())
    return stream


def test_online_streams_leave_no_output_out() -> None:
    with pytest.raises(ConfigError, match="needs epochs"):
        online(ClassesAdded(2, 100))
    assert epochs(ClassesAdded(2, 100)).task(0, 1).outputs is not None


def test_images_that_fill_no_mini_batch_wait_and_a_batch_fits_into_a_task() -> None:
    assert [epochs(Chunks(10)).steps_per_epoch(index) for index in (0, 1)] == [3, 7]  # of 179 and 358 images
    assert [epochs(Chunks(10), last_batch="keep").steps_per_epoch(index) for index in (0, 1)] == [4, 8]
    with pytest.raises(ConfigError, match="must be at most 179"):
        epochs(Chunks(10), batch=180)


def test_inputs_are_scaled_as_asked() -> None:
    images = torch.tensor([[[[0, 8], [16, 4]]]], dtype=torch.uint8)
    scaled = {
        name: epochs(Chunks(10), inputs=name).prepare(images, None, torch.float64)[0].tolist()
        for name in ("zero_one", "minus_one_one", "standardised")
    }
    assert scaled["zero_one"] == [0, 0.5, 1, 0.25]
    assert scaled["minus_one_one"] == [-1, 0, 1, -0.5]
    assert Digits.MEAN is not None
    assert Digits.STD is not None
    expected = [(x - Digits.MEAN[0]) / Digits.STD[0] for x in scaled["zero_one"]]
    assert scaled["standardised"] == pytest.approx(expected)


def test_each_run_of_a_pack_has_its_own_permutation_of_inputs_in_epochs(tmp_path: Path) -> None:
    line = [*STREAM, "benchmark/protocol=epochs", "precision=float64", "engine=torch"]
    together = runs.plan(tmp_path / "together", *line, seeds=3, pack=3)
    alone = runs.plan(tmp_path / "alone", *line, seeds=3, pack=1)
    for plan in (together, alone):
        assert {one.state for one in runs.train(plan)} == {"done"}
    for one, other in zip(together.points, alone.points, strict=True):
        runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-9)
    rows = [json.loads(line) for line in runs.metrics(together.points[0]).splitlines()]
    assert "test_accuracy" not in rows[0]  # these data have nothing to test on
    assert rows[0]["online_accuracy"] == pytest.approx(rows[0]["train_accuracy"])  # of one epoch
    assert together.points[0].config["benchmark"]["performance"] == "online_accuracy"


MINE = """
from lop_sweeps.benchmarks.benchmark import Split
from lop_sweeps.changes.change import Change, View
from lop_sweeps.datasets.dataset import DataSet, LabelledSet
import numpy as np


class Halves(Change):
    def __init__(self, shift=1):
        self.shift = shift

    def images(self, index, images):
        return images // 2

    def view(self, pool, seed, index):
        rows = np.arange(index % 2, len(pool.labels) - len(pool.labels) % 2, 2)
        return View(Split(rows, (pool.labels[rows] + self.shift * index) % pool.classes), None)


class Dots(DataSet):
    shape, classes, training_images, tested = (1, 2, 2), 3, 60, False

    def training_set(self, root):
        labels = np.arange(60) % 3
        images = np.zeros((60, 1, 2, 2), np.uint8)
        images[np.arange(60), 0, labels // 2, labels % 2] = 255
        return LabelledSet(images, labels)
"""


@pytest.mark.parametrize("protocol", ["online", "epochs"])
def test_a_data_set_and_a_change_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str) -> None:
    module = f"mine_{protocol}"
    (tmp_path / f"{module}.py").write_text(MINE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    line = ["benchmark=stream", f"benchmark/protocol={protocol}", "scale=tiny", "network.hidden=[5]"]
    line += [f"benchmark.batch_size={10 if protocol == 'epochs' else 1}"]
    line += [f"benchmark.data={{_target_: {module}.Dots}}", f"benchmark.change={{_target_: {module}.Halves}}"]
    with pytest.raises(ConfigError, match=f"trusted=\\[{module}\\]"):
        runs.point(tmp_path / "sweeps", *line)
    plan = runs.plan(tmp_path / "sweeps", *line, f"trusted=[{module}]")
    assert [one.state for one in runs.train(plan)] == ["done"]
    other = runs.point(tmp_path / "sweeps", *line, f"trusted=[{module}]", "+benchmark.change.shift=2")
    assert other.directory.name != plan.points[0].directory.name
    shifted = [f"benchmark.change={{_target_: {module}.Halves, shift: 2}}", f"trusted=[{module}]"]
    for before in ([], ["benchmark/change=chunks"]):  # whose options are not those of this one
        same = runs.point(tmp_path / "sweeps", *line[:-1], *before, *shifted)
        assert same.directory.name == other.directory.name
