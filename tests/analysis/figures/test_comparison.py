"""Method comparison: rows in order of merit, intervals, single runs, and differences in pairs of seeds."""

from itertools import pairwise

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.comparison import comparison
from lop_sweeps.analysis.figures.style import METHODS, SIZES, Look
from lop_sweeps.analysis.reading.load import load
from tests.analysis.drawn import assert_readable, caption, points, ticks
from tests.analysis.sweep_builder import SweepBuilder, task_rows

METRICS = ["accuracy", "squared_error"]


def draw(sweep: SweepBuilder, **options: object) -> Figure:
    loaded = load(sweep.folder)
    return comparison(loaded.tasks, loaded.runs, **options)  # type: ignore[arg-type]


def fill(sweep: SweepBuilder, metric: str = "accuracy", seeds: int = 5) -> None:
    """Seeds lie 0.1 apart; L2 is 0.05 better than backprop with every seed, and redo 0.1 worse."""
    sign = 1 if metric == "accuracy" else -1
    for seed in range(seeds):
        for algorithm, more in {"backprop": 0.0, "l2": 0.05, "redo": -0.1}.items():
            sweep.add(seed=seed, algorithm=algorithm, rows=task_rows([0.4 + 0.1 * seed + sign * more] * 20, metric))


def estimates(ax: Axes) -> dict[float, float]:
    """Row → estimate."""
    return {y: x for line in ax.lines if line.get_zorder() == 3 for x, y in points(line)}


def intervals(ax: Axes) -> list[list[float]]:
    return [np.asarray(bar.get_segments())[0, :, 0].tolist() for bar in ax.collections]  # type: ignore[attr-defined]


def test_a_row_per_method_the_best_on_top(sweep: SweepBuilder) -> None:
    fill(sweep)
    fig = draw(sweep)
    left, right = fig.axes
    assert ticks(left.get_yticklabels()) == ["l2 (n=5)", "backprop (n=5)", "redo (n=5)"]
    assert estimates(left) == {0: pytest.approx(65), 1: pytest.approx(60), 2: pytest.approx(50)}
    assert left.get_ylim() == (2.5, -0.5)  # the first row is the upper one
    assert right.get_ylim() == left.get_ylim()
    assert left.get_xlabel() == "Online accuracy (%),\nmean over the last tenth of the tasks"
    assert right.yaxis.get_tick_params()["labelleft"] is False
    low, high = intervals(left)[0]
    assert 45 < low < 46 < 65 < 84 < high < 85  # five runs from 45 to 85: 65 ± 19.6
    assert caption(fig) == (
        "Mean over runs; bar: 95% Student's t interval over runs; small: single runs. "
        "Differences: pairs of runs with the same seed (5). Seeds 0–4."
    )


def test_an_error_is_best_where_it_is_smallest(sweep: SweepBuilder) -> None:
    fill(sweep, "squared_error")
    fig = draw(sweep)
    assert ticks(fig.axes[0].get_yticklabels()) == ["l2 (n=5)", "backprop (n=5)", "redo (n=5)"]
    assert estimates(fig.axes[1])[0] == pytest.approx(-0.05)


def test_single_runs_are_small_dots_under_their_row(sweep: SweepBuilder) -> None:
    fill(sweep)
    left = draw(sweep).axes[0]
    dots = [points(line) for line in left.lines if line.get_zorder() != 3]
    assert [x for x, _ in dots[0]] == pytest.approx([45, 55, 65, 75, 85])
    assert all(0 < y < 0.5 for _, y in dots[0])
    assert all(1 < y < 1.5 for _, y in dots[1])


def test_differences_are_paired_by_seed(sweep: SweepBuilder) -> None:
    """Seeds differ by 40 points, the methods with one seed always by 5: the interval of the difference has no width."""
    fill(sweep)
    right = draw(sweep).axes[1]
    assert estimates(right) == {0: pytest.approx(5), 2: pytest.approx(-10)}
    assert np.allclose(intervals(right), [[5, 5], [-10, -10]])
    zero = next(line for line in right.lines if line.get_zorder() == 1)
    assert zero.get_xdata() == [0, 0]
    assert right.get_xlabel() == "Difference from backprop\n(percentage points)"


def test_baseline_summary_and_looks_are_chosen(sweep: SweepBuilder) -> None:
    fill(sweep)
    fig = draw(sweep, baseline="redo", summary="early", looks={"l2": Look("#123456", "-")})
    left, right = fig.axes
    assert estimates(right)[0] == pytest.approx(15)
    assert right.get_xlabel().startswith("Difference from redo")
    assert left.get_xlabel().endswith("mean over the first tenth of the tasks")
    assert left.lines[0].get_color() == "#123456"


def test_diverged_runs_are_admitted(sweep: SweepBuilder) -> None:
    fill(sweep)
    sweep.add(seed=5, rows=task_rows([0.2] * 3), state="diverged")
    sweep.add(algorithm="head_resetting", rows=[], state="diverged")
    fig = draw(sweep)
    names = ticks(fig.axes[0].get_yticklabels())
    assert names == ["l2 (n=5)", "backprop (n=5, 1 diverged)", "redo (n=5)", "head resetting (n=0, 1 diverged)"]
    assert 3 not in estimates(fig.axes[0])
    assert "Diverged runs are counted, not averaged" in caption(fig)


def test_methods_without_a_common_seed_have_no_difference(sweep: SweepBuilder) -> None:
    fill(sweep, seeds=2)
    sweep.add(seed=7, algorithm="dropout")
    fig = draw(sweep)
    assert 0 not in {row for row, x in estimates(fig.axes[1]).items() if np.isfinite(x)}
    assert "pairs of runs with the same seed (0 to 2). No difference is drawn where no seed is shared" in caption(fig)
    assert "Where n=2: the range of both" in caption(fig)


def test_what_cannot_be_drawn_says_why(sweep: SweepBuilder) -> None:
    sweep.add()
    with pytest.raises(AnalysisError, match="two methods"):
        draw(sweep)
    more = SweepBuilder(sweep.folder.parent / "more")
    fill(more)
    with pytest.raises(AnalysisError, match="no summary 'best'"):
        draw(more, summary="best")
    with pytest.raises(AnalysisError, match="no label 'adam'"):
        draw(more, baseline="adam")
    with pytest.raises(AnalysisError, match="no metric 'loss'"):
        draw(more, metric="loss")
    axes = Figure().subplots(1, 3)
    with pytest.raises(AnalysisError, match="3 axes for 2 panels"):
        draw(more, axes=list(axes))


def test_axes_of_the_caller(sweep: SweepBuilder) -> None:
    fill(sweep)
    fig = Figure()
    axes = fig.subplots(1, 2)
    assert draw(sweep, axes=list(axes)) is fig
    assert estimates(axes[0]).keys() == {0, 1, 2}
    assert not fig.legends


@pytest.mark.parametrize("style", SIZES)
@pytest.mark.parametrize("names", [["backprop", "l2"], list(METHODS), ["backprop", "l2_" * 30, "redo_" * 20]])
def test_nothing_overlaps(sweep: SweepBuilder, style: str, names: list[str]) -> None:
    for index, name in enumerate(names):
        for seed in range(2):
            values = task_rows([0.9 - 0.03 * index + 0.01 * seed] * 12)
            sweep.add(seed=seed, algorithm=name.replace(" ", "_"), rows=values)
    fig = draw(sweep, style=style)
    assert_readable(fig)
    boxes = [text.get_window_extent() for text in fig.axes[0].get_yticklabels()]
    assert all(upper.y0 >= lower.y1 for upper, lower in pairwise(boxes))  # rows are apart
