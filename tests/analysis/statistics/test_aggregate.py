"""Bins, curves, early and late performance."""

import numpy as np
import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.statistics.aggregate import bin_tasks, curves, early_late
from lop_sweeps.analysis.statistics.band import Band
from lop_sweeps.analysis.statistics.bootstrap import bootstrap_mean
from tests.analysis.sweep_builder import SweepBuilder, task_rows


def test_bins_are_means_of_consecutive_tasks_without_the_incomplete_last_one() -> None:
    assert bin_tasks([1, 3, 5, 7, 100], 2).tolist() == [2, 6]
    assert bin_tasks([[1, 3, 5], [2, 4, np.nan]], 1)[0].tolist() == [1, 3, 5]
    assert bin_tasks(np.zeros((3, 7)), 3).shape == (3, 2)
    assert bin_tasks([1.0], 2).shape == (0,)
    with pytest.raises(AnalysisError, match="at least one task"):
        bin_tasks([1.0], 0)


def test_bin_with_a_missing_task_is_missing() -> None:
    assert np.isnan(bin_tasks([1, np.nan, 3, 5], 2)).tolist() == [True, False]


def test_first_seed_dropped_instead_of_first_task(sweep: SweepBuilder) -> None:
    """The mistake: slicing or binning the axis of runs. Every seed stays in every view of a curve."""
    for seed in range(4):
        sweep.add(seed=seed, rows=task_rows(seed + np.arange(20) / 100))
    tasks = load(sweep.folder).tasks
    for k in (1, 2, 3):
        curve = curves(tasks, "accuracy", k=k)["backprop"]
        assert curve.values.shape == (4, 20 // k)
        assert np.floor(curve.values[:, 0]).tolist() == [0, 1, 2, 3]
    first = curves(tasks, "accuracy")["backprop"].first(10)
    assert first.values.shape == (4, 10)
    assert first.values[:, 0].tolist() == [0, 1, 2, 3]
    assert first.x.tolist() == list(range(10))


def test_points_lie_at_the_left_edge_of_their_tasks(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([1, 2, 3, 4, 5], examples=100))
    tasks = load(sweep.folder).tasks
    assert curves(tasks, "accuracy", k=2)["backprop"].x.tolist() == [0, 2]
    assert curves(tasks, "accuracy", k=2, x="examples")["backprop"].x.tolist() == [0, 200]
    assert curves(tasks, "accuracy", k=2)["backprop"].values.tolist() == [[1.5, 3.5]]


def test_runs_of_different_length(sweep: SweepBuilder) -> None:
    sweep.add(seed=0, rows=task_rows([1, 1, 1]))
    sweep.add(seed=1, rows=task_rows([3]), state="running")
    curve = curves(load(sweep.folder).tasks, "accuracy")["backprop"]
    assert curve.count().tolist() == [2, 1, 1]
    assert bootstrap_mean(curve.values)[0].tolist() == [2, 1, 1]


def test_label_without_a_number_of_the_metric_has_no_curve(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(rows=task_rows([0.5], hidden=()), network={"hidden": []}, choices={"network": "linear"})
    tasks = load(sweep.folder).tasks
    assert list(curves(tasks, "dead_fraction")) == ["backprop, network=mlp"]
    assert len(curves(tasks, "accuracy")) == 2


def test_group_by_a_hyper_parameter(sweep: SweepBuilder) -> None:
    for seed, step_size in enumerate([0.1, 0.1, 0.01]):
        sweep.add(seed=seed, optimizer={"step_size": step_size})
    found = curves(load(sweep.folder).tasks, "accuracy", by="optimizer.step_size")
    assert {name: len(curve.runs) for name, curve in found.items()} == {"0.01": 1, "0.1": 2}


def test_unknown_metric_lists_the_others(sweep: SweepBuilder) -> None:
    sweep.add()
    with pytest.raises(AnalysisError, match=r"no metric 'acuracy'; available: accuracy, dead_fraction, .*srank99"):
        curves(load(sweep.folder).tasks, "acuracy")


def test_benchmarks_are_not_mixed(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(benchmark={"name": "permuted_mnist"})
    with pytest.raises(AnalysisError, match=r"several benchmarks \(permuted_digits, permuted_mnist\)"):
        curves(load(sweep.folder).tasks, "accuracy")


def test_examples_of_runs_with_different_tasks_are_not_mixed(sweep: SweepBuilder) -> None:
    for seed, examples in enumerate([100, 200]):
        sweep.add(seed=seed, rows=task_rows([1, 2], examples=examples))
    with pytest.raises(AnalysisError, match="different numbers of examples per task"):
        curves(load(sweep.folder).tasks, "accuracy", x="examples")


def test_row_that_no_run_has_is_no_different_number_of_examples(sweep: SweepBuilder) -> None:
    rows = task_rows([1, 2, 3, 4, 5], examples=100)
    for seed in range(2):
        sweep.add(seed=seed, rows=[row for row in rows if row["task"] not in (0, 2)])
    curve = curves(load(sweep.folder).tasks, "accuracy", x="examples")["backprop"]
    assert curve.x.tolist() == [0, 100, 200, 300, 400]
    assert np.isnan(curve.values[0]).tolist() == [True, False, True, False, False]


def test_row_that_one_run_lacks_is_no_different_number_of_examples(sweep: SweepBuilder) -> None:
    rows = task_rows([1, 2, 3], examples=100)
    rows[1]["examples"] = 150
    sweep.add(rows=rows)
    sweep.add(seed=1, rows=[rows[0], rows[2]])
    assert curves(load(sweep.folder).tasks, "accuracy", x="examples")["backprop"].x.tolist() == [0, 100, 150]


def test_log_without_examples_cannot_be_drawn_over_them(sweep: SweepBuilder) -> None:
    sweep.add(rows=[{"task": task, "accuracy": 0.5} for task in range(3)])
    with pytest.raises(AnalysisError, match="no row of the log has its number of examples"):
        curves(load(sweep.folder).tasks, "accuracy", x="examples")


def test_point_of_more_tasks_than_there_are_is_refused(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(algorithm="l2", rows=task_rows([0.5] * 30))
    tasks = load(sweep.folder).tasks
    with pytest.raises(AnalysisError, match="a point averages 31 tasks, and the longest run has 30"):
        curves(tasks, "accuracy", k=31)
    found = curves(tasks, "accuracy", k=30)
    assert [(len(curve.x), curve.started) for curve in found.values()] == [(0, 1), (1, 1)]


def test_infinite_values_are_missing_and_counted(sweep: SweepBuilder) -> None:
    for seed, value in enumerate([1, np.inf, -np.inf, 3]):
        sweep.add(seed=seed, rows=task_rows([1, value, 1]))
    curve = curves(load(sweep.folder).tasks, "accuracy")["backprop"]
    assert curve.count().tolist() == [4, 2, 4]
    assert curve.infinite == 2
    assert bootstrap_mean(curve.values)[0].tolist() == [1, 2, 1]


def test_early_and_late_are_tenths_of_each_runs_own_tasks(sweep: SweepBuilder) -> None:
    sweep.add(seed=0, rows=task_rows(np.arange(20)))
    sweep.add(seed=1, rows=task_rows(np.arange(5)))
    row = early_late(load(sweep.folder).tasks, "accuracy").loc["backprop"]
    assert row["n"] == 2
    assert row["early"] == pytest.approx((0.5 + 0) / 2)
    assert row["late"] == pytest.approx((18.5 + 4) / 2)


def test_change_is_paired_within_runs(sweep: SweepBuilder) -> None:
    """Runs far apart that all fall by 0.1: both levels are uncertain, the change is not."""
    for seed in range(6):
        sweep.add(seed=seed, rows=task_rows(np.linspace(seed, seed - 0.1, 10)))
    row = early_late(load(sweep.folder).tasks, "accuracy").loc["backprop"]
    assert row["early_high"] - row["early_low"] > 1
    assert row["change"] == pytest.approx(-0.1)
    assert row["change_high"] - row["change_low"] < 1e-9


def test_single_task_is_no_change(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.5]))
    row = early_late(load(sweep.folder).tasks, "accuracy").loc["backprop"]
    assert row["early"] == row["late"] == 0.5
    assert np.isnan(row["change"])


def test_order_of_the_rows_does_not_matter(sweep: SweepBuilder) -> None:
    for seed in range(3):
        sweep.add(seed=seed, rows=task_rows(seed + np.arange(10) / 10))
    shuffled = load(sweep.folder).tasks.sample(frac=1, random_state=0)
    row = early_late(shuffled, "accuracy").loc["backprop"]
    assert row[["early", "late", "change"]].tolist() == pytest.approx([1.0, 1.9, 0.9])


def test_early_and_late_of_another_estimator(sweep: SweepBuilder) -> None:
    for seed, value in enumerate([1, 2, 3, 4, 100]):
        sweep.add(seed=seed, rows=task_rows([value, value, 2 * value]))
    tasks = load(sweep.folder).tasks
    found = early_late(tasks, "accuracy", band=Band("median")).loc["backprop"]
    assert found[["early", "late", "change"]].tolist() == [3, 6, 3]
    assert found["early_low"] < 3 <= found["early_high"]  # an accuracy of 3 is beyond its bounds
    assert early_late(tasks, "accuracy", band=Band("iqm")).loc["backprop", "early"] == 3
    assert early_late(tasks, "accuracy").loc["backprop", "early"] == 22


def test_run_of_a_single_task_counts_for_the_levels(sweep: SweepBuilder) -> None:
    sweep.add(seed=0, rows=task_rows([1, 2]))
    sweep.add(seed=1, rows=task_rows([3]))
    row = early_late(load(sweep.folder).tasks, "accuracy").loc["backprop"]
    assert row[["n", "early", "late", "change"]].tolist() == [2, 2, 2.5, 1]
