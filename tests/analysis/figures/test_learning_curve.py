"""Learning curves in control: steps, single runs behind the mean, and what the environment did."""

from collections.abc import Sequence

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.learning_curve import learning_curve
from lop_sweeps.analysis.figures.style import METHODS, SIZES, Look
from lop_sweeps.analysis.reading.load import load
from tests.analysis.drawn import assert_readable, band, caption, legend, points
from tests.analysis.sweep_builder import SweepBuilder

EVERY = 1_000


def add(
    sweep: SweepBuilder,
    returns: Sequence[float],
    seed: int = 0,
    friction: Sequence[float] | None = None,
    algorithm: str = "backprop",
) -> None:
    rows = [{"task": row, "examples": (row + 1) * EVERY, "return": value} for row, value in enumerate(returns)]
    if friction is not None:
        rows = [row | {"friction": value} for row, value in zip(rows, friction, strict=True)]
    benchmark = {"name": "slippery_ant", "protocol": "control", "performance": "return", "num_tasks": len(rows)}
    sweep.add(seed=seed, algorithm=algorithm, rows=rows, benchmark=benchmark)


def draw(sweep: SweepBuilder, **options: object) -> Figure:
    loaded = load(sweep.folder)
    return learning_curve(loaded.tasks, loaded.runs, **options)  # type: ignore[arg-type]


def single(ax: Axes) -> list[Line2D]:
    return [line for line in ax.lines if line.get_alpha() == 0.5]


def test_return_against_environment_steps_with_single_runs_behind(sweep: SweepBuilder) -> None:
    for seed in range(2):
        add(sweep, [0.0, 10.0, 20.0 + 10 * seed], seed)
    fig = draw(sweep)
    (ax,) = fig.axes
    assert points(ax.lines[0]) == [[EVERY, 0], [2 * EVERY, 10], [3 * EVERY, 25]]
    assert [points(line)[2] for line in single(ax)] == [[3 * EVERY, 20], [3 * EVERY, 30]]
    assert all(line.get_zorder() < ax.lines[0].get_zorder() for line in single(ax))
    assert all(line.get_linewidth() < ax.lines[0].get_linewidth() / 2 for line in single(ax))
    assert np.ptp(band(ax)[:, 1]) == 30
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Environment steps", "Return of an episode")
    assert legend(fig) == ["backprop (n=2)"]
    assert "Thin: single runs" in caption(fig)
    assert "Dotted" not in caption(fig)


@pytest.mark.parametrize(("runs", "drawn"), [(1, 0), (10, 10), (11, 0)])
def test_single_runs_of_up_to_ten(sweep: SweepBuilder, runs: int, drawn: int) -> None:
    for seed in range(runs):
        add(sweep, [1.0, 2.0, 3.0], seed)
    fig = draw(sweep)
    assert len(single(fig.axes[0])) == drawn
    assert ("Thin" in caption(fig)) == bool(drawn)


def test_changes_of_friction_are_dotted_and_drawn_as_steps_below(sweep: SweepBuilder) -> None:
    for seed in range(2):
        add(sweep, [1.0] * 4, seed, [1.0, 1.0, 0.02, 0.02])
    fig = draw(sweep)
    above, below = fig.axes
    dotted = [line for line in above.lines if line.get_linestyle() == ":"]
    assert [line.get_xdata() for line in dotted] == [[2 * EVERY] * 2]
    assert len(below.lines) == 1  # both runs have the same
    assert points(below.lines[0]) == [[0, 1], [EVERY, 1], [2 * EVERY, 0.02], [3 * EVERY, 0.02], [4 * EVERY, 0.02]]
    assert below.lines[0].get_drawstyle() == "steps-post"
    assert below.get_yscale() == "log"
    assert below.get_xlim() == above.get_xlim()
    assert (above.get_xlabel(), below.get_xlabel()) == ("", "Environment steps")
    assert below.get_ylabel() == "Friction"
    assert "Dotted: the friction changes" in caption(fig)


def test_each_seed_has_its_own_friction(sweep: SweepBuilder) -> None:
    for seed in range(2):
        add(sweep, [1.0] * 4, seed, [1.0, 1.0, 0.5 + 0.1 * seed, 0.5])
    below = draw(sweep).axes[1]
    assert len(below.lines) == 2
    assert below.get_yscale() == "linear"


def test_friction_is_left_out_on_demand(sweep: SweepBuilder) -> None:
    add(sweep, [1.0] * 4, friction=[1.0, 1.0, 0.5, 0.5])
    fig = draw(sweep, friction=False)
    assert len(fig.axes) == 1
    assert fig.axes[0].get_xlabel() == "Environment steps"


def test_points_and_looks_are_chosen(sweep: SweepBuilder) -> None:
    add(sweep, [1.0, 3.0, 5.0, 7.0])
    fig = draw(sweep, k=2, looks={"backprop": Look("#123456", "-")})
    assert points(fig.axes[0].lines[0]) == [[2 * EVERY, 2], [4 * EVERY, 6]]
    assert fig.axes[0].lines[0].get_color() == "#123456"
    assert "Points average 2 rows of the log" in caption(fig)


def test_what_cannot_be_drawn_says_why(sweep: SweepBuilder) -> None:
    sweep.add()
    with pytest.raises(AnalysisError, match="needs a benchmark with an environment"):
        draw(sweep)
    control = SweepBuilder(sweep.folder.parent / "control")
    add(control, [1.0] * 4, friction=[1.0, 1.0, 0.5, 0.5])
    with pytest.raises(AnalysisError, match="no metric 'loss'"):
        draw(control, metric="loss")
    with pytest.raises(AnalysisError, match="3 axes for 2 panels"):
        draw(control, axes=Figure().subplots(1, 3))


def test_axes_of_the_caller(sweep: SweepBuilder) -> None:
    add(sweep, [1.0] * 4, friction=[1.0, 1.0, 0.5, 0.5])
    fig = Figure()
    axes = fig.subplots(2, 1)
    assert draw(sweep, axes=list(axes)) is fig
    assert len(axes[1].lines) == 1
    assert not fig.legends


@pytest.mark.parametrize("style", SIZES)
@pytest.mark.parametrize("names", [["backprop", "l2"], list(METHODS)])
def test_nothing_overlaps(sweep: SweepBuilder, style: str, names: list[str]) -> None:
    for name in names:
        add(sweep, [1.0, 2.0, -4000.0, 1.0], friction=[1.0, 1.0, 0.02, 0.5], algorithm=name.replace(" ", "_"))
    assert_readable(draw(sweep, style=style))
