"""One number per run: closed forms, missing tasks, and that repeated tasks are no further runs."""

import numpy as np
import pytest
from scipy import stats

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.statistics.bootstrap import bootstrap
from lop_sweeps.analysis.statistics.curve_summary import SUMMARIES, per_run, summarise
from tests.analysis.sweep_builder import SweepBuilder, task_rows


def one(run: object) -> dict[str, float]:
    return {name: float(value[0]) for name, value in summarise([run]).items()}


def test_closed_forms_of_a_straight_line() -> None:
    found = one(2 + 0.5 * np.arange(40))
    assert list(found) == list(SUMMARIES)
    assert found == pytest.approx(
        {"early": 2.75, "late": 20.75, "change": 18, "area": 2 + 0.5 * 19.5, "slope": 0.5, "final": 21.5}
    )


def test_windows_are_a_tenth_rounded_down_and_at_least_one_task() -> None:
    assert one(np.arange(9))["early"] == 0
    assert one(np.arange(19))["late"] == 18
    assert one(np.arange(29))["late"] == 27.5
    assert one(np.arange(30))["early"] == 1


def test_slope_is_that_of_scipy_also_with_gaps() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 60)).cumsum(axis=1)
    values[rng.random(values.shape) < 0.2] = np.nan
    values[2, 30:] = np.nan
    for run, slope in zip(values, summarise(values)["slope"], strict=True):
        tasks = np.flatnonzero(~np.isnan(run))
        assert slope == pytest.approx(stats.linregress(tasks, run[tasks]).slope, rel=1e-10)


def test_each_run_counts_by_the_tasks_it_has() -> None:
    values = np.full((3, 20), np.nan)
    values[0] = np.arange(20)
    values[1, :5] = [1, 2, 3, 4, 9]
    values[2, 3:6] = [5, np.nan, 7]
    found = summarise(values)
    assert found["early"].tolist() == [0.5, 1, 5]
    assert found["late"].tolist() == [18.5, 9, 7]
    assert found["final"].tolist() == [19, 9, 7]
    assert found["area"] == pytest.approx([9.5, 3.8, 6])
    assert found["slope"][2] == pytest.approx(1)  # two tasks apart


def test_one_task_has_no_change_and_no_slope_and_none_has_nothing() -> None:
    found = one([np.nan, 0.5])
    assert {name for name, value in found.items() if value == 0.5} == {"early", "late", "area", "final"}
    assert np.isnan([found["change"], found["slope"]]).all()
    assert np.isnan(list(one([np.nan, np.nan]).values())).all()
    assert summarise(np.zeros((0, 3)))["area"].shape == (0,)


def test_repeated_tasks_do_not_narrow_an_interval() -> None:
    """The mistake: taking tasks for repetitions. Ten times the tasks of the same runs say nothing new about runs."""
    values = np.random.default_rng(1).normal(size=(8, 30))
    for name in ("early", "late", "area"):
        once = np.array(bootstrap(summarise(values)[name]))
        often = np.array(bootstrap(summarise(np.repeat(values, 10, axis=1))[name]))
        assert often == pytest.approx(once, rel=1e-9)


def test_tasks_of_a_run_that_resemble_each_other_leave_the_coverage_alone() -> None:
    """1000 experiments with 30 runs of 20 tasks, where most of the spread is between runs."""
    rng = np.random.default_rng(2)
    values = rng.normal(size=(1000, 30, 1)) + 0.3 * rng.normal(size=(1000, 30, 20))
    areas = summarise(values.reshape(30_000, 20))["area"].reshape(1000, 30).T
    _, low, high = bootstrap(areas)
    assert 0.92 <= np.mean((low <= 0) & (high >= 0)) <= 0.97
    flat = values[:100].reshape(100, 600).T  # as if each task of each run were a repetition
    _, low, high = bootstrap(flat)
    assert np.mean((low <= 0) & (high >= 0)) < 0.6


def test_one_row_per_run_with_what_it_is_and_its_summaries(sweep: SweepBuilder) -> None:
    for seed, step_size in enumerate([0.1, 0.01]):
        sweep.add(seed=seed, run=f"run{seed}", rows=task_rows(seed + np.arange(10)), optimizer={"step_size": step_size})
    sweep.add(seed=2, run="short", rows=task_rows([0.5]), state="diverged")
    tasks = load(sweep.folder).tasks
    found = per_run(tasks.sample(frac=1, random_state=0), "accuracy").set_index("run").loc[["run0", "run1", "short"]]
    assert found["seed"].tolist() == [0, 1, 2]
    assert found["state"].tolist() == ["done", "done", "diverged"]
    assert found["label"].tolist() == ["backprop, step_size=0.1", *["backprop, step_size=0.01"] * 2]
    assert found["benchmark"].unique().tolist() == ["permuted_digits"]
    assert found["optimizer.step_size"].tolist() == [0.1, 0.01, 0.01]
    assert found["n_tasks"].tolist() == [10, 10, 1]
    assert found["area"].tolist()[:2] == [4.5, 5.5]
    assert found.loc["short", ["late", "change", "area", "slope", "final"]].isna().all()  # it diverged
    assert found["early"].tolist() == [0.0, 1.0, 0.5]
    assert found["final"].tolist()[:2] == [9, 10]
    assert "dead_fraction" not in found.columns


def test_run_without_the_metric_has_a_row_without_numbers(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(rows=task_rows([0.5] * 3, hidden=()), network={"hidden": []}, choices={"network": "linear"})
    found = per_run(load(sweep.folder).tasks, "dead_fraction")
    assert found["n_tasks"].tolist() == [20, 0]
    assert np.isnan(found["area"]).tolist() == [False, True]


def test_unknown_metric(sweep: SweepBuilder) -> None:
    sweep.add()
    with pytest.raises(AnalysisError, match="no metric 'acuracy'; available: accuracy"):
        per_run(load(sweep.folder).tasks, "acuracy")
