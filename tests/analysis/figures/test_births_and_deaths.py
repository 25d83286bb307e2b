"""Births and deaths of units: counts over all layers up and down, and the stock beside them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import StepPatch

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.births_and_deaths import births_and_deaths
from lop_sweeps.analysis.figures.style import METHODS, SIZES, Look
from lop_sweeps.analysis.reading.load import load
from tests.analysis.drawn import assert_readable, band, caption, legend, points
from tests.analysis.sweep_builder import Rows, SweepBuilder, task_rows

FLOWS = {"died_units": [1, 2], "revived_units": [0, 1]}
REPLACING = FLOWS | {"replaced_units": [3, 1]}


def rows(flows: Mapping[str, Sequence[float]], tasks: int = 4, dead: float = 0.1) -> Rows:
    """The same units per layer in each task; deaths and revivals are not known of the first."""
    found = task_rows([0.9] * tasks)
    for row in found:
        row["dead_fraction"] = [dead, dead]
        row |= {name: list(units) for name, units in flows.items() if row["task"] or name == "replaced_units"}
    return found


def draw(sweep: SweepBuilder, **options: object) -> Figure:
    loaded = load(sweep.folder)
    return births_and_deaths(loaded.tasks, loaded.runs, **options)  # type: ignore[arg-type]


def bars(ax: Axes) -> list[tuple[list[float], list[float]]]:
    """(values, edges) in the order in which they are drawn."""
    found = [patch.get_data() for patch in ax.patches if isinstance(patch, StepPatch)]
    return [(np.asarray(data.values).tolist(), np.asarray(data.edges).tolist()) for data in found]


def test_units_of_all_layers_up_and_down(sweep: SweepBuilder) -> None:
    sweep.add(algorithm="continual_backprop", rows=rows(REPLACING))
    fig = draw(sweep)
    (replaced, edges), (revived, _), (died, _) = bars(fig.axes[0])
    assert edges == [0, 1, 2, 3, 4]
    assert replaced == [4, 4, 4, 4]
    assert np.isnan([revived[0], died[0]]).all()  # not known, which is not none
    assert revived[1:] == [1, 1, 1]
    assert died[1:] == [-3, -3, -3]
    assert legend(fig) == ["replaced", "no longer dead", "died"]
    assert [ax.get_ylabel() for ax in fig.axes] == ["Units per task", "Dead units (%)"]
    assert fig.axes[0].get_title(loc="left") == "continual backprop (n=1)"
    assert [text.get_text() for text in fig.axes[0].get_yticklabels() if "-" in text.get_text()] == []


def test_counts_and_stock_are_means_over_runs(sweep: SweepBuilder) -> None:
    for seed in range(2):
        flows = {"died_units": [2 * seed, 0], "revived_units": [0, 0]}
        sweep.add(seed=seed, rows=rows(flows, dead=0.1 + 0.2 * seed))
    fig = draw(sweep)
    assert bars(fig.axes[0])[1][0][1:] == [-1, -1, -1]
    stock = fig.axes[1]
    assert np.allclose(points(stock.lines[0]), [[task, 20] for task in range(4)])
    assert np.allclose([band(stock)[:, 1].min(), band(stock)[:, 1].max()], [10, 30])
    assert stock.get_ylim()[0] == 0
    assert "Right: mean over runs; band: 95% Student's t interval over runs" in caption(fig)
    assert "Where n=2: the range of both" in caption(fig)


def test_methods_share_axes_in_the_usual_order(sweep: SweepBuilder) -> None:
    sweep.add(algorithm="redo", rows=rows({**REPLACING, "replaced_units": [9, 9]}))
    sweep.add(algorithm="l2", rows=rows(FLOWS, dead=0.4))
    sweep.add(rows=rows(FLOWS))
    fig = draw(sweep, looks={"l2": Look("#123456", "-")})
    left, right = fig.axes[::2], fig.axes[1::2]
    assert [ax.get_title(loc="left") for ax in left] == ["backprop (n=1)", "l2 (n=1)", "redo (n=1)"]
    assert len({ax.get_ylim() for ax in left}) == len({ax.get_ylim() for ax in right}) == 1
    assert [len(bars(ax)) for ax in left] == [2, 2, 3]  # no replacements without a method that replaces
    assert right[1].lines[0].get_color() == "#123456"
    assert right[1].get_ylim()[1] > 40


def test_axes_of_the_callers_are_two_for_each_method(sweep: SweepBuilder) -> None:
    sweep.add(rows=rows(FLOWS, dead=0.2))
    sweep.add(algorithm="continual_backprop", rows=rows(REPLACING))
    axes = Figure().subplots(2, 2).ravel().tolist()
    fig = draw(sweep, axes=axes)
    assert fig is axes[0].figure
    assert [len(bars(ax)) for ax in axes] == [2, 0, 3, 0]
    assert axes[0].get_ylim() == axes[2].get_ylim()  # comparable, although nobody shares them
    assert axes[1].get_ylim() == axes[3].get_ylim()
    first = Figure().subplots(1, 3).tolist()
    draw(sweep, axes=first)  # as far as they go
    assert [len(bars(ax)) for ax in first] == [2, 0, 3]
    with pytest.raises(AnalysisError, match="5 axes for 4 panels"):
        draw(sweep, axes=Figure().subplots(1, 5))


def test_many_tasks_are_averaged_in_at_most_a_hundred_bars(sweep: SweepBuilder) -> None:
    found = rows(REPLACING, tasks=250)
    for row in found:
        row["replaced_units"] = [row["task"], 0]
    sweep.add(rows=found)
    fig = draw(sweep)
    values, edges = bars(fig.axes[0])[0]
    assert len(values) == 84
    assert edges[:3] == [0, 3, 6]
    assert edges[-1] == 250
    assert values[:2] == [1, 4]
    assert values[-1] == 249  # of one task
    assert bars(fig.axes[0])[1][0][0] == 1  # the first bar averages what is known of it
    assert "Bars average 3 tasks" in caption(fig)


def test_shorter_runs_count_where_they_are(sweep: SweepBuilder) -> None:
    sweep.add(rows=rows(FLOWS))
    sweep.add(seed=1, rows=rows({**FLOWS, "died_units": [5, 0]}, tasks=2), state="diverged")
    fig = draw(sweep)
    assert bars(fig.axes[0])[1][0][1:] == [-4, -3, -3]
    assert "Diverged runs (1) count with the tasks before" in caption(fig)


def test_replacements_do_not_flatten_deaths(sweep: SweepBuilder) -> None:
    sweep.add(rows=rows(FLOWS))
    assert draw(sweep).axes[0].get_yscale() == "linear"
    sweep.add(algorithm="continual_backprop", rows=rows({**FLOWS, "replaced_units": [600, 600]}))
    assert draw(sweep).axes[0].get_yscale() == "symlog"


def test_logs_without_deaths_show_replacements(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(algorithm="redo", rows=rows({"replaced_units": [3, 0]}))
    fig = draw(sweep)
    assert [ax.get_title(loc="left") for ax in fig.axes] == ["redo (n=1)", ""]
    assert legend(fig) == ["replaced"]


def test_no_births_and_no_deaths_are_flat(sweep: SweepBuilder) -> None:
    sweep.add(rows=rows({"died_units": [0, 0], "revived_units": [0, 0]}, dead=0.0))
    fig = draw(sweep)
    assert [ax.get_ylim() for ax in fig.axes] == [(-1, 1), (0, 1)]


def test_control_is_drawn_over_environment_steps(sweep: SweepBuilder) -> None:
    found = rows(FLOWS)
    sweep.add(rows=found, benchmark={"protocol": "control", "performance": "accuracy"})
    fig = draw(sweep)
    assert bars(fig.axes[0])[0][1] == [0, 100, 200, 300, 400]
    assert points(fig.axes[1].lines[0])[1][0] == 100
    assert fig.axes[0].get_xlabel() == "Environment steps"
    assert "of policy and value network" in caption(fig)


def test_without_dead_units_the_flows_are_drawn_and_the_stock_says_so(sweep: SweepBuilder) -> None:
    """It was once a KeyError, and the figures and tables behind this one were lost."""
    found = rows(REPLACING)
    for row in found:
        del row["dead_fraction"]
    sweep.add(rows=found)
    fig = draw(sweep)
    assert len(bars(fig.axes[0])) == 3
    assert [text.get_text() for text in fig.axes[1].texts] == ["no dead_fraction in the log"]
    sweep.add(algorithm="l2", rows=rows(FLOWS))
    fig = draw(sweep)
    assert [len(ax.texts) for ax in fig.axes] == [0, 1, 0, 0]
    assert [len(ax.lines) for ax in fig.axes[1::2]] == [0, 1]
    assert_readable(fig)


def test_runs_are_counted_that_have_what_is_drawn(sweep: SweepBuilder) -> None:
    sweep.add(rows=rows(REPLACING))
    sweep.add(seed=1, rows=rows({"replaced_units": [3, 0]}))
    for seed in (2, 3):
        sweep.add(seed=seed, rows=rows({}))
    left, right = draw(sweep).axes
    assert left.get_title(loc="left") == "backprop (n=1–2)"
    assert right.get_title(loc="left") == "(n=4)"
    sweep.add(algorithm="l2", rows=rows(FLOWS))
    assert [ax.get_title(loc="left") for ax in draw(sweep).axes[2:]] == ["l2 (n=1)", ""]


def test_row_that_no_run_has_is_interpolated(sweep: SweepBuilder) -> None:
    found = rows(FLOWS)
    del found[2]
    sweep.add(rows=found, benchmark={"protocol": "control", "performance": "accuracy"})
    fig = draw(sweep)
    assert bars(fig.axes[0])[0][1] == [0, 100, 200, 300, 400]
    assert fig.axes[0].get_xlim() == (0, 400)


def test_names_are_no_formulas(sweep: SweepBuilder) -> None:
    sweep.add(rows=rows(FLOWS), config={"variant": r"$\foo$"})
    fig = Figure()
    draw(sweep, axes=fig.subplots(1, 2).tolist())
    fig.draw_without_rendering()
    assert_readable(draw(sweep))


def test_without_any_of_the_metrics_the_reason_is_given(sweep: SweepBuilder) -> None:
    sweep.add()
    with pytest.raises(AnalysisError, match="no run logged units that were replaced, revived or died"):
        draw(sweep)
    sweep.add(benchmark={"name": "permuted_mnist"})
    with pytest.raises(AnalysisError, match="several benchmarks"):
        draw(sweep)


@pytest.mark.parametrize("style", SIZES)
@pytest.mark.parametrize("names", [["backprop"], ["backprop", "l2"], list(METHODS)[:9]])
def test_nothing_overlaps(sweep: SweepBuilder, style: str, names: list[str]) -> None:
    for name in names:
        sweep.add(algorithm=name.replace(" ", "_"), rows=rows({**REPLACING, "replaced_units": [600, 0]}))
    assert_readable(draw(sweep, style=style))
