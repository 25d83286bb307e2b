"""Curves relative to a baseline: pairs of one seed, task by task."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.relative import relative
from lop_sweeps.analysis.figures.style import METHODS, SIZES, Look
from lop_sweeps.analysis.reading.load import load
from tests.analysis.drawn import assert_readable, band, caption, legend, points
from tests.analysis.sweep_builder import Rows, SweepBuilder, task_rows


def draw(sweep: SweepBuilder, **options: object) -> Figure:
    loaded = load(sweep.folder)
    return relative(loaded.tasks, loaded.runs, **options)  # type: ignore[arg-type]


def fill(sweep: SweepBuilder, seeds: int = 5, tasks: int = 12) -> None:
    """Tasks differ in difficulty by seed; L2 gains 0.01 a task on backprop with every seed."""
    for seed in range(seeds):
        hard = np.random.default_rng(seed).normal(0.5, 0.1, tasks)
        sweep.add(seed=seed, rows=task_rows(hard.tolist()))
        sweep.add(seed=seed, algorithm="l2", rows=task_rows((hard + 0.01 * np.arange(tasks)).tolist()))


def incremental(values: list[float]) -> Rows:
    return [row | {"classes": 5 * (row["task"] + 1)} for row in task_rows(values, "best_test_accuracy")]


def cifar(sweep: SweepBuilder) -> None:
    options = {"name": "incremental_cifar100", "performance": "best_test_accuracy", "num_tasks": 4}
    for seed in range(3):
        for algorithm, value in {"backprop": 0.4, "retrained_network": 0.6, "continual_backprop": 0.7}.items():
            sweep.add(seed=seed, algorithm=algorithm, benchmark=options, rows=incremental([value] * 4))


def test_difference_to_the_run_of_the_same_seed_task_by_task(sweep: SweepBuilder) -> None:
    fill(sweep)
    fig = draw(sweep)
    (ax,) = fig.axes
    assert np.allclose(points(ax.lines[0]), [[task, task] for task in range(12)])
    assert np.allclose(band(ax)[:, 1], band(ax)[:, 0])  # what the tasks of a seed are worth has cancelled
    zero = [line for line in ax.lines if np.allclose(line.get_ydata(), 0) and len(line.get_xydata()) == 2]
    assert len(zero) == 1
    assert ax.get_ylabel() == "Difference in online accuracy\n(percentage points)"
    assert ax.get_xlabel() == "Task"
    assert legend(fig) == ["l2 (n=5)", "backprop (n=5)"]
    assert caption(fig) == (
        "Mean over runs; band: 95% Student's t interval over runs. Seeds 0–4. "
        "Each run minus the run of backprop with the same seed."
    )


def test_runs_without_a_partner_are_left_out_and_counted(sweep: SweepBuilder) -> None:
    fill(sweep)
    for seed in (7, 8):
        sweep.add(seed=seed, algorithm="l2", rows=task_rows([0.0] * 12))
    sweep.add(seed=9, algorithm="redo", rows=task_rows([0.0] * 12))
    fig = draw(sweep)
    assert legend(fig) == ["l2 (n=5)", "backprop (n=5)"]
    assert points(fig.axes[0].lines[0])[11][1] == pytest.approx(11)
    assert "Left out: runs whose seed backprop lacks (3)" in caption(fig)


def test_both_runs_of_a_pair_are_needed_at_a_task(sweep: SweepBuilder) -> None:
    fill(sweep, tasks=12)
    sweep.add(seed=5, rows=task_rows([0.5] * 6))
    sweep.add(seed=5, algorithm="l2", rows=task_rows([0.5] * 12))
    sweep.add(seed=6, algorithm="redo", rows=task_rows([0.5] * 12))
    sweep.add(seed=6, rows=task_rows([0.5] * 6), state="diverged")
    sweep.add(seed=0, algorithm="dropout", rows=task_rows([0.5] * 3))
    fig = draw(sweep)
    assert legend(fig) == ["dropout (n=1)", "l2 (n=6→5)", "redo (n=1)", "backprop (n=7)"]
    assert len(points(fig.axes[0].lines[0])) == 3
    assert np.isnan(fig.axes[0].lines[4].get_ydata()[6:]).all()


def test_class_incremental_learning_is_compared_with_the_retrained_network(sweep: SweepBuilder) -> None:
    cifar(sweep)
    fig = draw(sweep)
    (ax,) = fig.axes
    assert np.allclose(points(ax.lines[0]), [[classes, -20] for classes in (5, 10, 15, 20)])
    assert np.allclose(points(ax.lines[2])[0], [5, 10])
    assert ax.get_xlabel() == "Classes seen so far"
    assert legend(fig)[-1] == "retrained network (n=3)"
    assert ax.get_xlim()[1] > 20


@pytest.mark.parametrize(
    ("of", "at", "baseline"),
    [("all", "task", "reset"), ("head", "task", "backprop"), ("all", {"every": 5}, "backprop")],
)
def test_a_network_that_is_made_new_for_every_task_is_the_baseline_on_any_stream(
    sweep: SweepBuilder, of: str, at: object, baseline: str
) -> None:
    for seed in range(5):
        sweep.add(seed=seed, rows=task_rows([0.6] * 12))
        node = {"_target_": "lop_sweeps.algorithms.reset.Reset", "of": of, "at": at}
        sweep.add(seed=seed, algorithm="reset", options={"reset": node}, rows=task_rows([0.7] * 12))
    assert legend(draw(sweep))[-1] == f"{baseline} (n=5)"


def test_baseline_metric_and_points_are_chosen(sweep: SweepBuilder) -> None:
    cifar(sweep)
    fig = draw(sweep, baseline="backprop", k=2, looks={"retrained_network": Look("#123456", "-")})
    assert [y for _, y in points(fig.axes[0].lines[2])] == pytest.approx([20, 20])
    assert fig.axes[0].lines[2].get_color() == "#123456"
    assert fig.axes[0].get_xlabel() == "Task"  # a point of two tasks has no number of classes
    assert "Points average 2 tasks" in caption(fig)
    rank = draw(sweep, baseline="backprop", metric="effective_rank")
    assert rank.axes[0].get_ylabel() == "Difference in effective rank\n(units)"


def test_what_cannot_be_drawn_says_why(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(seed=1, algorithm="l2")
    with pytest.raises(AnalysisError, match="no run has a seed in common with one of 'backprop'"):
        draw(sweep)
    with pytest.raises(AnalysisError, match="no label 'adam' with values of accuracy; there are: backprop; l2"):
        draw(sweep, baseline="adam")
    with pytest.raises(AnalysisError, match="no metric 'loss'"):
        draw(sweep, metric="loss")


def test_axes_of_the_caller(sweep: SweepBuilder) -> None:
    fill(sweep)
    fig = Figure()
    ax = fig.subplots()
    assert draw(sweep, axes=ax) is fig
    assert not fig.legends


@pytest.mark.parametrize("style", SIZES)
@pytest.mark.parametrize("names", [["backprop", "l2"], list(METHODS)])
def test_nothing_overlaps(sweep: SweepBuilder, style: str, names: list[str]) -> None:
    for name in names:
        sweep.add(algorithm=name.replace(" ", "_"))
    assert_readable(draw(sweep, style=style))
