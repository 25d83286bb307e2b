"""Diagnostics in a run: what is logged of them, what they remember, and that training never notices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from lop_sweeps.training import checkpoint, online
from lop_sweeps.training.session import Position
from tests import runs
from tests.contracts.table import IMAGENET, SLIPPERY
from tests.diagnostics.packs import components
from tests.users_diagnostics import Wrong

DIGITS = [*runs.SMALL, "benchmark=permuted_digits", "benchmark.num_tasks=3", "benchmark.examples_per_task=100"]
LINES = {
    "torch": [*DIGITS, "engine=torch"],
    "fused": [*DIGITS, "engine=fused"],
    "batches": [*DIGITS, "engine=torch", "algorithm=[batch_norm,dropout]", "benchmark.batch_size=10"],
    "images": ["scale=tiny", *IMAGENET, "checkpoint.first=0", "checkpoint.every=0"],
    "control": ["scale=tiny", *SLIPPERY, "checkpoint.first=0", "checkpoint.every=0"],
}
TRUSTED = "trusted=[tests.users_diagnostics]"


def own(name: str, **options: Any) -> list[str]:
    """A diagnostic of the test's beside the standard set."""
    node = f"+diagnostics.{name}"
    more = [f"{node}.{key}={value}" for key, value in options.items()]
    return [TRUSTED, f"{node}._target_=tests.users_diagnostics.{name}", *more]


def trained(folder: Path, *overrides: str, seeds: int = 2, pack: int | None = 2) -> list[list[dict[str, Any]]]:
    """The rows of each run."""
    plan = runs.plan(folder, *overrides, seeds=seeds, pack=pack)
    assert {(outcome.state, outcome.message) for outcome in runs.train(plan)} == {("done", "")}
    return [[json.loads(line) for line in runs.metrics(point).splitlines()] for point in plan.points]


def without(rows: list[dict[str, Any]], *names: str) -> list[str]:
    return [json.dumps({name: value for name, value in row.items() if name not in names}) for row in rows]


@pytest.mark.parametrize("name", LINES)
def test_whatever_a_diagnostic_does_to_what_it_is_shown_the_run_stays_as_it_is(tmp_path: Path, name: str) -> None:
    plain = trained(tmp_path / "plain", *LINES[name])
    wrecked = trained(tmp_path / "wrecked", *LINES[name], *own("Vandal"))
    for one, other in zip(plain, wrecked, strict=True):
        assert without(other, "wreck") == without(one)
        assert len({row["wreck"] for row in other}) == len(other)  # its own draws, of each task


@pytest.mark.parametrize("name", ["torch", "fused", pytest.param("images", marks=pytest.mark.slow)])
def test_taken_every_few_tasks_and_remembered_over_kills(tmp_path: Path, name: str) -> None:
    line = [*LINES[name], *own("Counting", every=2)]
    whole = trained(tmp_path / "whole", *line)
    assert [row.get("taken") for row in whole[0]][:3] == [1.0, None, 2.0][: len(whole[0])]
    for _ in range(60):
        plan = runs.plan(tmp_path / "killed", *line, seeds=2, pack=2)
        if plan.finished == 2:
            break
        runs.train_and_kill(plan.packs[0], after_intervals=1)
    resumed = [[json.loads(row) for row in runs.metrics(point).splitlines()] for point in plan.points]
    assert resumed == whole


def test_a_checkpoint_holds_what_diagnostics_remember_under_their_names(tmp_path: Path) -> None:
    line = [*LINES["torch"], *own("Counting")]
    trained(tmp_path, *line, seeds=1)
    (folder,) = tmp_path.glob("*/*seed0*")
    memories = checkpoint.load(folder)["memories"]
    assert memories["Counting"] == {"taken": torch.tensor(3.0)}
    assert [mask.dtype for mask in memories["deaths"].values()] == [torch.bool] * 2


def test_older_checkpoints_know_which_units_were_dead() -> None:
    dead = [torch.tensor([True, False]), torch.tensor([False])]
    old: dict[str, Any] = {"task": 3, "step": 0, "samples": 0, "before": "{}", "sums": {}, "dead": dead}
    position = Position.restore([old, None])
    assert position.memories["deaths"][0] == {"0": dead[0], "1": dead[1]}
    assert position.memories["deaths"][1] == {}
    assert Position.restore([{key: value for key, value in old.items() if key != "dead"}]).memories == {}


@pytest.mark.parametrize("engine", ["torch", "fused"])
def test_an_extended_run_has_new_diagnostics_from_there_on_and_forgets_those_that_are_gone(
    tmp_path: Path, engine: str
) -> None:
    line = [*runs.SMALL, "benchmark=permuted_digits", "benchmark.examples_per_task=100", f"engine={engine}"]
    standard, churn = "diagnostics=[standard]", "diagnostics=[churn,units]"
    (first,) = trained(tmp_path, *line, standard, "benchmark.num_tasks=2", seeds=1)
    (second,) = trained(tmp_path, *line, churn, "benchmark.num_tasks=4", seeds=1)
    (third,) = trained(tmp_path, *line, standard, "benchmark.num_tasks=6", seeds=1)
    assert (second[:2], third[:4]) == (first, second)
    assert ["churn" in row for row in third] == [False, False, True, True, False, False]
    assert ["rank" in "".join(row) for row in third] == [True, True, False, False, True, True]
    assert ["died_units" in row for row in third] == [False, True, False, False, False, True]
    (whole,) = trained(tmp_path / "whole", *line, standard, "benchmark.num_tasks=6", seeds=1)
    assert [row["accuracy"] for row in third] == [row["accuracy"] for row in whole]
    (folder,) = tmp_path.glob("*/*seed0*/diagnostics.json")
    taken = json.loads(folder.read_text())["diagnostics"]
    assert {key: one["since"] for key, one in taken.items()} == {
        "units": 0,
        "rank": 0,
        "weight_magnitude": 0,
        "deaths": 0,
        "churn": 2,
    }


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("unknown", "diagnostics.Wrong measures other, which its `values` do not describe"),
        ("list", "diagnostics.Wrong: right must be a number, and is [1.0]"),
        ("number", "diagnostics.Wrong: layers must be a list, one value for each layer, and is 1.0"),
        ("error", "diagnostics.Wrong cannot be measured: ZeroDivisionError: division by zero"),
    ],
)
def test_a_mistake_in_a_diagnostic_is_a_failure_that_names_it(tmp_path: Path, how: str, words: str) -> None:
    plan = runs.plan(tmp_path, *LINES["torch"], *own("Wrong", how=how))
    (outcome,) = runs.train(plan)
    assert outcome.state == "failed"
    assert words in outcome.message


def test_what_is_no_number_is_null(tmp_path: Path) -> None:
    ((row, *_),) = trained(tmp_path, *LINES["torch"], *own("Wrong", how="infinite"), seeds=1)
    assert (row["right"], row["layers"]) == (None, [1.0, None])
    assert [value.name for value in Wrong().values] == ["right", "layers"]


@pytest.mark.parametrize("batch", [1, 10])
def test_updates_are_shown_to_who_wants_to_see_them(
    tmp_path: Path, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses before updates are those that the log has; kills and the ends of intervals change nothing."""
    monkeypatch.setattr(online, "INTERVAL", 7)
    line = [*LINES["torch"], f"benchmark.batch_size={batch}", *own("Updates", every=2)]
    whole = trained(tmp_path / "whole", *line)
    for rows in whole:
        assert [row.get("loss_of_updates") is None for row in rows] == [False, True, False]
        assert rows[2]["loss_of_updates"] == pytest.approx(rows[2]["cross_entropy"], rel=1e-6)
    for _ in range(60):
        plan = runs.plan(tmp_path / "killed", *line, seeds=2, pack=2)
        if plan.finished == 2:
            break
        runs.train_and_kill(plan.packs[0], after_intervals=4)
    for one, point in zip(whole, plan.points, strict=True):
        assert [json.loads(row) for row in runs.metrics(point).splitlines()] == one


def test_updates_of_a_task_are_measured_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on within a task with another set has it from the next row on."""
    monkeypatch.setattr(online, "INTERVAL", 20)
    line = LINES["torch"]
    plan = runs.plan(tmp_path, *line)
    assert runs.train_and_kill(plan.packs[0], after_intervals=2)
    (rows,) = trained(tmp_path, *line, *own("Updates"), seeds=1)
    assert ["loss_of_updates" in row for row in rows] == [False, True, True]


def test_sample_plasticity_is_by_the_network_after_the_update(tmp_path: Path) -> None:
    """Of a linear network and squared error with step size alpha: the error shrinks by 1 - 2 alpha (|x|^2 + 1)."""
    line = ["scale=tiny", "benchmark=slowly_changing_regression", "network=linear", "precision=float64"]
    line += ["benchmark.num_tasks=1", "benchmark.examples_per_task=50", "optimizer.step_size=0.01", "engine=torch"]
    ((row,),) = trained(tmp_path, *line, "diagnostics=[sample_plasticity]", seeds=1)
    x, _ = components(tmp_path, *line).benchmark.task(0, 0).examples(0, 50)  # type: ignore[union-attr, call-arg]
    expected = [1.0 - (1.0 - 0.02 * (float(one @ one) + 1.0)) ** 2 for one in x]
    assert row["sample_plasticity"] == pytest.approx(sum(expected) / 50, rel=1e-9)
