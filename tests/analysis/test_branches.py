"""Runs that go on from another run's network: their logs begin at a task that is not the first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lop_sweeps.analysis.__main__ import main
from lop_sweeps.analysis.figures.births_and_deaths import births_and_deaths
from lop_sweeps.analysis.figures.performance import performance
from lop_sweeps.analysis.reading.inventory import configurations
from lop_sweeps.analysis.reading.load import Sweep, load
from lop_sweeps.analysis.statistics.aggregate import curves, early_late
from lop_sweeps.analysis.statistics.compared import comparable
from lop_sweeps.analysis.tables.export import runs_table
from tests.analysis.sweep_builder import SweepBuilder, task_rows

AT = 10


def parent(seed: int, group: str = "a") -> dict[str, Any]:
    return {"run": f"backprop-seed{seed}-0123456789ab", "seed": seed, "task": AT, "group": f"of parents {group}"}


@pytest.fixture
def family(sweep: SweepBuilder) -> Sweep:
    """Two runs of 20 tasks; from before the eleventh of each, one goes on the same and one with a method."""
    for seed in (0, 1):
        sweep.add(seed=seed, run=f"backprop-seed{seed}-0123456789ab", rows=task_rows(np.linspace(0.9, 0.5, 20)))
        for algorithm in ("backprop", "redo"):
            rows = [{**row, "died_units": [0, 1]} for row in task_rows([0.0] * AT + [0.8] * (20 - AT))[AT:]]
            about = {"parent": parent(seed, algorithm), "configuration": f"{algorithm} of seed {seed}"}
            sweep.add(seed=seed, algorithm=algorithm, rows=rows, task=20, config=about)
    return load(sweep.folder)


def test_frames_have_the_tasks_of_the_log_and_what_a_run_goes_on_from(family: Sweep) -> None:
    runs = family.runs.set_index("label")
    assert sorted(runs.index.unique()) == ["backprop", "backprop, start=backprop@10", "redo"]
    child = runs.loc["redo"]
    assert child[["first_task", "tasks", "start"]].to_numpy().tolist() == [[10, 10, "backprop@10"]] * 2
    assert sorted(child["seed"]) == [0, 1]  # one method, though their parents are two
    tasks = family.tasks[family.tasks["label"] == "redo"]
    assert sorted(tasks["task"].unique()) == list(range(10, 20))
    assert tasks["examples"].min() == 1_100
    assert any("begin at tasks 0, 10: some go on from another run's network" in note for note in family.notes)
    assert not any("finished tasks; tables" in note for note in family.notes)  # all have come to the twentieth
    (found,) = load(
        str(Path(child["folder"].iloc[0]).parent), where=["start==backprop@10", "algorithm==redo"]
    ).benchmarks
    assert found == "permuted_digits"


def test_a_curve_stands_at_its_tasks(family: Sweep) -> None:
    drawn = curves(family.tasks, "accuracy", k=5)
    assert drawn["redo"].x.tolist() == [0, 5, 10, 15]
    np.testing.assert_allclose(drawn["redo"].values, [[np.nan, np.nan, 0.8, 0.8]] * 2)
    examples = curves(family.tasks, "accuracy", k=5, x="examples")["redo"]
    assert examples.x.tolist() == [0, 500, 1000, 1500]


def test_methods_are_compared_over_the_tasks_that_all_have(family: Sweep) -> None:
    tasks, notes = comparable(family.tasks, "accuracy")
    assert notes == ["Tasks 10 to 19, which every method has"]
    assert sorted(tasks["task"].unique()) == list(range(10, 20))
    table = early_late(tasks, "accuracy")
    assert table.loc["backprop", "early"] == pytest.approx(0.9 - 0.4 * 10 / 19)
    values = runs_table(family).groupby("label")["n_tasks"].unique()
    assert {label: of.tolist() for label, of in values.items()} == {label: [10] for label in values.index}


def test_methods_without_a_task_in_common_are_shown_as_they_are(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.9] * AT))
    sweep.add(algorithm="redo", rows=task_rows([0.8] * 20)[AT:], task=20, config={"parent": parent(0)})
    _, notes = comparable(load(sweep.folder).tasks, "accuracy")
    assert notes == ["The first 10 tasks, as far as every method has come"]


def test_how_far_runs_have_come_counts_from_the_parents_first_task(family: Sweep) -> None:
    assert {(one.label, *one.tasks) for one in configurations(family.runs)} == {
        (label, 20, 20) for label in ("backprop", "backprop, start=backprop@10", "redo")
    }


def test_figures_are_drawn(family: Sweep) -> None:
    assert performance(family.tasks, family.runs) is not None
    assert births_and_deaths(family.tasks, family.runs) is not None


@pytest.mark.slow
def test_a_report_is_made(family: Sweep, tmp_path: Path) -> None:
    folder = str(Path(family.runs["folder"].iloc[0]).parent)
    assert main([folder, "--out", str(tmp_path / "out"), "--report", "--csv"]) == 0
    assert "start=backprop@10" in (tmp_path / "out" / "report.html").read_text()
