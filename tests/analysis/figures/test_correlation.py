"""Rank correlation of diagnostics with performance, within runs and across them."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.correlation import correlation, diagnostics, spearman
from lop_sweeps.analysis.figures.style import METHODS, SIZES, Look
from lop_sweeps.analysis.reading.load import load
from tests.analysis.drawn import assert_readable, caption, legend, points, ticks
from tests.analysis.sweep_builder import Rows, SweepBuilder


def draw(sweep: SweepBuilder, **options: object) -> Figure:
    loaded = load(sweep.folder)
    return correlation(loaded.tasks, loaded.runs, **options)  # type: ignore[arg-type]


def rows(performance: list[float], **series: list[float]) -> Rows:
    """Diagnostics by name, the same in both layers."""
    return [
        {"task": task, "examples": 100 * (task + 1), "accuracy": value}
        | {name: [values[task], values[task]] for name, values in series.items()}
        for task, value in enumerate(performance)
    ]


def fill(sweep: SweepBuilder, seeds: int = 6) -> None:
    """In each run accuracy falls, dead units rise and rank falls, but the better runs have the more dead units."""
    for seed in range(seeds):
        for algorithm, more in {"backprop": 0.0, "l2": 0.3}.items():
            down = np.linspace(0.6, 0.4, 10) + 0.02 * seed + more
            dead = np.linspace(0.0, 0.2, 10) + 0.02 * seed + more
            rank = {"effective_rank": (10 * down).tolist(), "srank99": [3.0] * 10}
            sweep.add(seed=seed, algorithm=algorithm, rows=rows(down.tolist(), dead_fraction=dead.tolist(), **rank))


def estimates(ax: Axes) -> list[float]:
    """By row, from the top."""
    found = {y: x for line in ax.lines if line.get_marker() == "D" for x, y in points(line)}
    return [found[row] for row in sorted(found)]


def intervals(ax: Axes) -> list[list[float]]:
    """By row; NaN where none is drawn."""
    bars = [np.asarray(bar.get_segments()) for bar in ax.collections]  # type: ignore[attr-defined]
    return [bar[0, :, 0].tolist() if bar.size else [np.nan, np.nan] for bar in bars]


def test_within_runs_and_across_runs_differ(sweep: SweepBuilder) -> None:
    fill(sweep)
    fig = draw(sweep)
    left, right = fig.axes
    assert ticks(left.get_yticklabels()) == ["Effective rank", "Dead units"]  # what is constant is left out
    assert estimates(left) == pytest.approx([1, -1])
    assert estimates(right) == pytest.approx([1, 1])
    assert left.get_title() == "Within runs (n=12)"
    assert right.get_title() == "Across runs (n=12)"
    assert left.get_xlim() == (-1.05, 1.05)
    assert left.get_xlabel() == "Rank correlation\nwith online accuracy"
    assert legend(fig) == ["all runs", "backprop (n=6)", "l2 (n=6)"]
    assert "Two quantities that both drift over the tasks correlate even if neither acts on the other" in caption(fig)
    assert caption(fig).startswith(
        "Mean over runs; bar: 95% Student's t interval over runs; small: mean of each method."
    )


def test_interval_is_over_runs(sweep: SweepBuilder) -> None:
    """Half of the runs have a correlation of 1, the others of −1, each over 30 tasks."""
    up = np.linspace(0.2, 0.8, 30).tolist()
    for seed in range(8):
        sweep.add(seed=seed, rows=rows(up, dead_fraction=up if seed % 2 else up[::-1]))
    left, right = draw(sweep).axes
    assert estimates(left) == pytest.approx([0])
    low, high = intervals(left)[0]
    assert -0.9 < low < -0.4
    assert 0.4 < high < 0.9
    assert np.isnan(estimates(right)).all()  # all runs end alike


def test_interval_across_runs_resamples_runs(sweep: SweepBuilder) -> None:
    ends = np.random.default_rng(1).normal(0.5, 0.1, (20, 2))
    for seed, (accuracy, dead) in enumerate(ends):
        sweep.add(seed=seed, rows=rows([accuracy] * 5, dead_fraction=[dead] * 5))
    right = draw(sweep).axes[1]
    expected = spearmanr(ends[:, 0], ends[:, 1]).statistic
    assert estimates(right) == pytest.approx([expected])
    low, high = intervals(right)[0]
    assert expected - 0.6 < low < expected - 0.2
    assert expected + 0.2 < high < expected + 0.6


def spread(sweep: SweepBuilder, algorithm: str, seeds: int, **more: list[float]) -> None:
    """Runs whose numbers are drawn at random."""
    rng = np.random.default_rng(len(algorithm))
    for seed in range(seeds):
        accuracy, dead = rng.uniform(0.2, 0.8, (2, 5)).tolist()
        sweep.add(seed=seed, algorithm=algorithm, rows=rows(accuracy, dead_fraction=dead, **more))


def test_runs_of_several_methods_have_no_interval_across(sweep: SweepBuilder) -> None:
    """With three methods of five runs, an interval over fifteen runs held the true 0 in 60 % of simulated sweeps."""
    spread(sweep, "l2", 6)
    fig = draw(sweep)
    assert np.isfinite(intervals(fig.axes[1])).all()
    assert "pooled" not in caption(fig)
    spread(sweep, "redo", 6, replaced_units=np.random.default_rng(9).uniform(size=5).tolist())
    spread(sweep, "backprop", 6)
    fig = draw(sweep)
    names = ticks(fig.axes[0].get_yticklabels())
    found = dict(zip(names, zip(estimates(fig.axes[1]), intervals(fig.axes[1]), strict=True), strict=True))
    estimate, interval = found["Dead units"]
    assert np.isfinite(estimate)
    assert np.isnan(interval).all()
    assert np.isfinite(intervals(fig.axes[0])).all()
    assert "3 methods are pooled: no interval, as runs of one method are not independent" in caption(fig)


def test_diagnostic_of_one_method_alone_keeps_its_interval(sweep: SweepBuilder) -> None:
    spread(sweep, "l2", 6)
    rng = np.random.default_rng(5)
    for seed in range(6):
        accuracy, dead, rank = rng.uniform(0.2, 0.8, (3, 5)).tolist()
        sweep.add(seed=seed, algorithm="redo", rows=rows(accuracy, dead_fraction=dead, srank99=rank))
    fig = draw(sweep)
    names = ticks(fig.axes[0].get_yticklabels())
    assert np.isnan(intervals(fig.axes[1])[names.index("Dead units")]).all()
    assert np.isfinite(intervals(fig.axes[1])[names.index("srank, δ = 0.01 (n=6)")]).all()


def test_run_without_late_performance_is_no_point_across(sweep: SweepBuilder) -> None:
    spread(sweep, "l2", 6)
    found = rows([0.5] * 5, dead_fraction=[0.5] * 5)
    sweep.add(seed=6, algorithm="l2", rows=[{**row, "accuracy": None} for row in found])
    sweep.add(seed=7, algorithm="l2", rows=found, state="diverged")
    right = draw(sweep).axes[1]
    assert right.get_title() == "Across runs (n=6)"
    assert np.isfinite(estimates(right)).all()


def test_methods_have_dots_of_their_own(sweep: SweepBuilder) -> None:
    up = np.linspace(0.2, 0.8, 10).tolist()
    sweep.add(rows=rows(up, dead_fraction=up))
    sweep.add(algorithm="l2", rows=rows(up, dead_fraction=up[::-1]))
    left = draw(sweep, looks={"l2": Look("#123456", "-")}).axes[0]
    dots = {line.get_color(): points(line) for line in left.lines if line.get_marker() == "o"}
    assert dots == {METHODS["backprop"][1]: [[pytest.approx(1), 0]], "#123456": [[pytest.approx(-1), 0]]}
    for index in range(12):
        sweep.add(optimizer={"step_size": index + 1}, rows=rows(up, dead_fraction=up))
    fig = draw(sweep)
    assert legend(fig) == ["all runs"]
    assert not [line for line in fig.axes[0].lines if line.get_marker() == "o"]
    assert "each method" not in caption(fig)


def test_few_runs_have_no_correlation_across(sweep: SweepBuilder) -> None:
    fill(sweep, seeds=2)
    fig = draw(sweep)
    assert np.isnan(estimates(fig.axes[1])).all()
    assert fig.axes[1].get_title() == "Across runs (n=4, too few)"
    assert "too few" in fig.axes[1].get_title()


def test_diagnostic_that_some_runs_lack_says_how_many_have_it(sweep: SweepBuilder) -> None:
    fill(sweep)
    up = np.linspace(0.2, 0.8, 10).tolist()
    sweep.add(seed=9, algorithm="redo", rows=rows(up, dead_fraction=up, effective_rank=up, replaced_units=up))
    assert "Replaced units (n=1)" in ticks(draw(sweep).axes[0].get_yticklabels())


def test_ranks_in_percent_and_of_the_policy_are_preferred(sweep: SweepBuilder) -> None:
    sweep.add(network={"hidden": [10, 20]})
    names = diagnostics(load(sweep.folder).tasks)
    assert "effective_rank_fraction" in names
    assert "effective_rank" not in names
    assert "accuracy" not in names
    control = SweepBuilder(sweep.folder.parent / "control")
    control.add(network={"hidden": [10]}, benchmark={"protocol": "control"})
    names = diagnostics(load(control.folder).tasks)
    assert "policy_dead_fraction" in names
    assert "dead_fraction" not in names
    assert "weight_magnitude" in names


def test_spearman_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(5, size=(3, 20)), rng.normal(size=(3, 20))
    assert np.allclose(spearman(a, b), [spearmanr(x, y).statistic for x, y in zip(a, b, strict=True)])
    assert np.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_gaps_are_left_out_pair_by_pair(sweep: SweepBuilder) -> None:
    up = np.linspace(0.2, 0.8, 10).tolist()
    found = rows(up, dead_fraction=up)
    found[3]["dead_fraction"] = None
    found[4]["accuracy"] = None
    sweep.add(rows=found)
    assert estimates(draw(sweep).axes[0]) == pytest.approx([1])


def test_what_cannot_be_drawn_says_why(sweep: SweepBuilder) -> None:
    sweep.add(seed=9, rows=rows([0.5] * 10, dead_fraction=[0.1] * 10))
    with pytest.raises(AnalysisError, match="no diagnostic varies together with accuracy"):
        draw(sweep)
    with pytest.raises(AnalysisError, match="no metric 'loss'"):
        draw(sweep, metric="loss")
    fill(sweep)
    with pytest.raises(AnalysisError, match="3 axes for 2 panels"):
        draw(sweep, axes=Figure().subplots(1, 3))
    sweep.add(benchmark={"name": "permuted_mnist"})
    with pytest.raises(AnalysisError, match="several benchmarks"):
        draw(sweep)


def test_axes_of_the_caller(sweep: SweepBuilder) -> None:
    fill(sweep)
    fig = Figure()
    axes = fig.subplots(1, 2)
    assert draw(sweep, axes=list(axes)) is fig
    assert not fig.legends


@pytest.mark.parametrize("style", SIZES)
@pytest.mark.parametrize("count", [1, 9])
def test_nothing_overlaps(sweep: SweepBuilder, style: str, count: int) -> None:
    rng = np.random.default_rng(0)
    names = ["dead_fraction", "dormant_fraction_tau0.025", "rarely_active_fraction", "stable_rank_fro", "srank99"]
    for name in list(METHODS)[:count]:
        series = {diagnostic: rng.normal(size=10).tolist() for diagnostic in names}
        sweep.add(algorithm=name.replace(" ", "_"), rows=rows(rng.normal(size=10).tolist(), **series))
    fig = draw(sweep, style=style)
    assert_readable(fig)
    boxes = [text.get_window_extent() for text in fig.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))
