"""What is measured of whole tasks: how fast one is learned, and what is kept of those before."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lop_sweeps.diagnostics.diagnostic import Learning
from lop_sweeps.diagnostics.examples_to_accuracy import ExamplesToAccuracy
from lop_sweeps.errors import ConfigError
from lop_sweeps.training import online
from lop_sweeps.training.earlier_tasks import accuracy_on
from tests import runs
from tests.diagnostics.packs import components, moment

DIGITS = [*runs.SMALL, "benchmark=permuted_digits", "benchmark.num_tasks=4", "benchmark.examples_per_task=100"]
ADDED = [
    *("benchmark=stream", "benchmark/data=digits", "benchmark/change=classes_added", "benchmark/protocol=epochs"),
    *("benchmark.change.per_class=100", "scale=tiny", "network.hidden=[8]"),
]


def rows(folder: Path, *overrides: str) -> list[dict[str, Any]]:
    plan = runs.plan(folder, *overrides)
    assert {(outcome.state, outcome.message) for outcome in runs.train(plan)} == {("done", "")}
    return [json.loads(line) for line in runs.metrics(plan.points[0]).splitlines()]


def followed(right: list[int], batch: int, stretch: int, **options: Any) -> dict[str, Any]:
    """What is said of mini-batches of which so many examples were right, shown `stretch` updates at a time."""
    diagnostic, memory = ExamplesToAccuracy(**options), dict[str, torch.Tensor]()
    for at in range(0, len(right), stretch):
        part = torch.tensor(right[at : at + stretch], dtype=torch.float64) / batch
        examples = batch * (at + 1 + torch.arange(len(part)))
        diagnostic.follow(Learning(part, part, examples, batch), memory)
    return dict(diagnostic.summary(memory))


@pytest.mark.parametrize("stretch", [1, 3, 7, 100])
def test_an_accuracy_is_reached_at_the_end_of_the_first_window_that_has_it(stretch: int) -> None:
    right = [0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 0, 0]  # windows of 4: 0.5, 0.75, 0.5
    found = followed(right, 1, stretch, accuracy=0.75, window=4)
    assert found == {"examples_to_accuracy": 8.0, "accuracy_reached": 1.0}
    assert followed(right, 1, stretch, accuracy=0.5, window=4)["examples_to_accuracy"] == 4
    assert followed(right, 1, stretch, accuracy=0.8, window=4) == {"examples_to_accuracy": 12, "accuracy_reached": 0}
    assert followed(right, 1, stretch, accuracy=0.5, window=13)["accuracy_reached"] == 0  # no such window is full


def test_windows_are_of_examples_and_updates_of_mini_batches() -> None:
    assert followed([2, 5, 9, 10], 10, 2, accuracy=0.9, window=20) == {
        "examples_to_accuracy": 40.0,
        "accuracy_reached": 1.0,
    }


@pytest.mark.parametrize("engine", ["torch", "fused"])
def test_it_is_what_the_stream_of_accuracies_says(tmp_path: Path, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "INTERVAL", 30)
    line = [*DIGITS, f"engine={engine}", "diagnostics=[standard,examples_to_accuracy]", "benchmark.num_tasks=1"]
    windows = ["diagnostics.examples_to_accuracy.window=10", "diagnostics.examples_to_accuracy.accuracy=0"]
    (row,) = rows(tmp_path, *line, *windows)
    assert (row["examples_to_accuracy"], row["accuracy_reached"]) == (10, 1)
    (row,) = rows(tmp_path / "never", *line, windows[0], "diagnostics.examples_to_accuracy.accuracy=1")
    assert (row["examples_to_accuracy"], row["accuracy_reached"]) == (100, 0)


def test_in_epochs_examples_are_counted_over_the_passes(tmp_path: Path) -> None:
    line = [*ADDED, "benchmark.num_tasks=1", "benchmark.epochs=3"]
    options = ["diagnostics.examples_to_accuracy.accuracy=1", "diagnostics.examples_to_accuracy.window=10"]
    for last, count in (("drop", 0), ("keep", 1)):
        more = [
            f"benchmark.last_batch={last}",
            "benchmark.batch_size=60",
            "diagnostics=[standard,examples_to_accuracy]",
        ]
        made = components(tmp_path / last, *line, *more, *options)
        images = len(made.benchmark.task(0, 0).train.rows)  # type: ignore[union-attr]
        (row,) = rows(tmp_path / last, *line, *more, *options)
        assert row["examples_to_accuracy"] == 3 * (images if count else images // 60 * 60)


def test_accuracy_on_an_earlier_task_is_that_of_the_network_on_its_examples(tmp_path: Path) -> None:
    for line in (DIGITS, ADDED):
        made = components(tmp_path, *line)
        (view,) = moment(made, task=1).runs
        network = view.network()
        task: Any = made.benchmark.task(0, 0)
        if made.benchmark.protocol == "online":
            x, y = task.examples(0, 40)
            said = network(torch.from_numpy(x).float())[0].argmax(1).numpy()
        else:  # every so many of the task's training images: digits have no test set
            at = np.arange(40) * len(task.train.rows) // 40
            x, y = task.images[task.train.rows[at]].flatten(1) / 16, task.train.labels[at]
            said = network(x.float())[0][:, task.outputs].argmax(1).numpy()
            assert len(set(y.tolist())) > 1
        assert view.accuracy_on(network, 0, 40) == accuracy_on(made.benchmark, 0, 0, network, 40)
        assert view.accuracy_on(network, 0, 40) == pytest.approx((said == y).mean())


def test_what_is_kept_of_earlier_tasks(tmp_path: Path) -> None:
    """Of a network that hardly learns, the accuracy on each task stays what it was."""
    line = [*DIGITS, "benchmark.num_tasks=7", "diagnostics=[standard,earlier_tasks]", "optimizer.step_size=0.05"]
    found = rows(tmp_path, *line, "diagnostics.earlier_tasks.tasks=3")
    assert "earlier_accuracy" not in found[0]
    assert "backward_transfer" not in found[1]
    assert all(0 < row["earlier_accuracy"] < 1 and row["backward_transfer"] < 0 for row in found[2:])
    frozen = rows(tmp_path / "frozen", *line, "optimizer.step_size=1e-12")
    assert [row["backward_transfer"] for row in frozen[2:]] == [0] * 5
    some = rows(tmp_path / "some", *line, "diagnostics.earlier_tasks.every=2")
    assert ["earlier_accuracy" in row for row in some] == [False, False, True, False, True, False, True]
    assert some[2]["earlier_accuracy"] != found[2]["earlier_accuracy"]  # of task 1 only


@pytest.mark.parametrize("choice", ["earlier_tasks", "examples_to_accuracy"])
@pytest.mark.parametrize("benchmark", ["slowly_changing_regression", "slippery_ant"])
def test_where_nothing_is_classified_that_is_said(tmp_path: Path, choice: str, benchmark: str) -> None:
    with pytest.raises(ConfigError, match=r"nothing is classified|control does not have"):
        runs.point(tmp_path, f"benchmark={benchmark}", "scale=tiny", f"diagnostics=[standard,{choice}]")
