"""Figures: what is drawn, what the legend admits, and that nothing overlaps or is written."""

from collections.abc import Callable

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.curve import ends
from lop_sweeps.analysis.figures.diagnostic import diagnostic
from lop_sweeps.analysis.figures.overview import overview
from lop_sweeps.analysis.figures.performance import performance
from lop_sweeps.analysis.figures.style import SIZES, Look, looks
from lop_sweeps.analysis.reading.load import Sweep, load
from lop_sweeps.analysis.statistics.aggregate import Curve
from lop_sweeps.analysis.statistics.band import Band
from tests.analysis.sweep_builder import SweepBuilder, task_rows

DRAW: dict[str, Callable[[Sweep], Figure]] = {
    "performance": lambda s: performance(s.tasks, s.runs),
    "diagnostic": lambda s: diagnostic(s.tasks, s.runs, "dead_fraction"),
    "per layer": lambda s: diagnostic(s.tasks, s.runs, "dead_fraction", per_layer=True),
    "overview": lambda s: overview(s.tasks, s.runs),
    "notebook": lambda s: performance(s.tasks, s.runs, style="notebook"),
}


def legend(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def note(fig: Figure) -> Text:
    return next(text for text in fig.texts if "over runs; band" in text.get_text().replace("\n", " "))


def caption(fig: Figure) -> str:
    return note(fig).get_text().replace("\n", " ")


def curve(fig: Figure, panel: int = -1, index: int = 0) -> np.ndarray:
    return np.asarray(fig.axes[panel].lines[index].get_xydata())


def heights(fig: Figure, panel: int = -1) -> list[float]:
    """Of the first curve's band, the lowest and the highest point."""
    ends = np.asarray(fig.axes[panel].collections[0].get_paths()[0].vertices)[:, 1]
    return [float(ends.min()), float(ends.max())]


def test_first_ten_tasks_beside_the_whole_course(sweep: SweepBuilder) -> None:
    for seed in range(5):
        sweep.add(seed=seed, rows=task_rows(np.linspace(0.9, 0.8, 40)))
    loaded = load(sweep.folder)
    fig = performance(loaded.tasks, loaded.runs)
    left, right = fig.axes
    assert curve(fig, 0)[:, 0].tolist() == list(range(10))
    assert len(curve(fig, 1)) == 40
    assert curve(fig, 1)[0, 1] == pytest.approx(90)  # percent
    assert left.get_ylim() == right.get_ylim()
    assert left.get_position().width < right.get_position().width
    assert left.get_ylabel() == "Online accuracy (%)"
    assert legend(fig) == ["backprop (n=5)"]
    assert fig.get_suptitle() == "Permuted digits"
    assert caption(fig) == "Mean over runs; band: 95% Student's t interval over runs. Seeds 0–4."


def test_short_runs_have_one_panel(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.5]))
    loaded = load(sweep.folder)
    fig = performance(loaded.tasks, loaded.runs)
    assert len(fig.axes) == 1
    assert fig.axes[0].lines[0].get_marker() == "o"  # one point has no line
    assert "none where n=1" in caption(fig)


def test_benchmark_says_how_many_tasks_a_point_averages(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.5, 0.7] * 10, metric="squared_error"), benchmark={"bin_tasks": 2})
    loaded = load(sweep.folder)
    fig = performance(loaded.tasks, loaded.runs)
    assert curve(fig).tolist() == [[x, pytest.approx(0.6)] for x in range(0, 20, 2)]
    assert curve(fig, 0)[:2, 1].tolist() == [0.5, 0.7]  # the first ten tasks stay single
    assert "Points on the right average 2 tasks" in caption(fig)
    assert len(curve(performance(loaded.tasks, loaded.runs, k=5))) == 4


def test_diverged_and_shorter_runs_are_in_the_legend(sweep: SweepBuilder) -> None:
    for seed in range(4):
        sweep.add(seed=seed)
    sweep.add(seed=4, rows=task_rows([0.9] * 12), state="diverged")
    sweep.add(seed=0, algorithm="l2", rows=[], state="diverged")
    loaded = load(sweep.folder)
    for draw in DRAW.values():
        fig = draw(loaded)
        assert legend(fig) == ["backprop (n=5→4, 1 diverged)", "l2 (n=0, 1 diverged)"]
        assert "×: fewer runs from here on" in caption(fig)


def test_few_runs_are_called_too_few(sweep: SweepBuilder) -> None:
    for seed in range(5):
        sweep.add(seed=seed)
    loaded = load(sweep.folder)
    assert "too narrow" in caption(performance(loaded.tasks, loaded.runs, band=Band(interval="bootstrap")))
    assert "too narrow" not in caption(performance(loaded.tasks, loaded.runs))


def test_band_is_the_interval_over_runs(sweep: SweepBuilder) -> None:
    """Two runs 0.2 apart on each of 20 tasks: the band is 0.2 wide everywhere, as 2 runs and not 40 samples have."""
    for seed in range(2):
        sweep.add(seed=seed, rows=task_rows([0.5 + 0.2 * seed] * 20))
    loaded = load(sweep.folder)
    assert heights(performance(loaded.tasks, loaded.runs)) == pytest.approx([50, 70])


@pytest.mark.parametrize("name", ["performance", "diagnostic", "overview"])
@pytest.mark.parametrize(
    ("band", "centre", "low", "high"),
    [
        (Band(), 0.22, 0.22 - 0.20403, 0.22 + 0.20403),
        (Band(interval="bootstrap"), 0.22, 0.12, 0.36),
        (Band("median"), 0.2, 0.1, 0.5),
        (Band("iqm"), 0.5 / 3, 0.1, 0.4),
        (Band(interval="standard_error"), 0.22, 0.22 - 0.06573, 0.22 + 0.06573),
    ],
)
def test_every_figure_draws_the_band_that_its_caption_names(
    sweep: SweepBuilder, name: str, band: Band, centre: float, low: float, high: float
) -> None:
    """Five runs at 0.1, 0.1, 0.2, 0.2, 0.5; their standard deviation over √5 is 0.066 (ddof = 0), 0.073 (ddof = 1)."""
    draw: dict[str, Callable[[Sweep], Figure]] = {
        "performance": lambda s: performance(s.tasks, s.runs, band=band),
        "diagnostic": lambda s: diagnostic(s.tasks, s.runs, "accuracy", band=band),
        "overview": lambda s: overview(s.tasks, s.runs, band=band),
    }
    for seed, value in enumerate([0.1, 0.1, 0.2, 0.2, 0.5]):
        sweep.add(seed=seed, rows=task_rows([value] * 12))
    fig = draw[name](load(sweep.folder))
    assert caption(fig).startswith(f"{band.words()}.")
    panel = 1 if name == "performance" else 0
    assert curve(fig, panel)[:, 1] == pytest.approx([100 * centre] * 12)
    assert heights(fig, panel) == pytest.approx([100 * low, 100 * high], rel=1e-3)


def test_standard_error_of_few_runs_claims_no_coverage(sweep: SweepBuilder) -> None:
    for seed in range(3):
        sweep.add(seed=seed)
    sweep.add(algorithm="l2")
    loaded = load(sweep.folder)
    text = caption(performance(loaded.tasks, loaded.runs, band=Band(interval="standard_error")))
    assert text == "Mean over runs; band: one standard error of the mean (none where n=1). Seeds 0–2; l2: 0."
    assert "too narrow" in caption(performance(loaded.tasks, loaded.runs, band=Band("median")))


def test_panel_per_layer_with_one_vertical_axis(sweep: SweepBuilder) -> None:
    sweep.add()
    loaded = load(sweep.folder)
    fig = diagnostic(loaded.tasks, loaded.runs, "dead_fraction", per_layer=True)
    assert [ax.get_title() for ax in fig.axes] == ["Hidden layer 1", "Hidden layer 2"]
    assert fig.axes[0].get_ylim() == fig.axes[1].get_ylim()
    assert fig.axes[0].get_ylim()[1] >= curve(fig, 1)[:, 1].max()  # the last layer's curve is the higher one
    fig = diagnostic(loaded.tasks, loaded.runs, "weight_magnitude", per_layer=True)
    assert [ax.get_title() for ax in fig.axes] == [f"Weight matrix {i}" for i in (1, 2, 3)]
    with pytest.raises(AnalysisError, match="no values per layer"):
        diagnostic(loaded.tasks, loaded.runs, "accuracy", per_layer=True)


def test_many_layers_take_several_rows(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.5] * 12, hidden=[5] * 6), network={"hidden": [5] * 6})
    loaded = load(sweep.folder)
    assert len(diagnostic(loaded.tasks, loaded.runs, "dead_fraction", per_layer=True).axes) == 6


def test_overview_leaves_out_what_a_linear_network_lacks(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([0.5] * 12, hidden=()), network={"hidden": []})
    loaded = load(sweep.folder)
    labels = [ax.get_ylabel() for ax in overview(loaded.tasks, loaded.runs).axes]
    assert labels == ["Online accuracy (%)", "Weight magnitude, mean |w|"]


def test_overview_on_axes_of_the_callers(sweep: SweepBuilder) -> None:
    sweep.add()
    loaded = load(sweep.folder)
    axes = Figure().subplots(1, 4).tolist()
    assert overview(loaded.tasks, loaded.runs, axes=axes) is axes[0].figure
    assert [len(ax.lines) > 0 for ax in axes] == [True] * 4
    two = Figure().subplots(1, 2)
    assert [ax.get_ylabel() for ax in overview(loaded.tasks, loaded.runs, axes=two).axes] == [
        ax.get_ylabel() for ax in axes[:2]
    ]
    with pytest.raises(AnalysisError, match="5 axes for 4 panels"):
        overview(loaded.tasks, loaded.runs, axes=Figure().subplots(1, 5))


def test_overview_has_four_panels_in_the_papers_units(sweep: SweepBuilder) -> None:
    sweep.add()
    loaded = load(sweep.folder)
    fig = overview(loaded.tasks, loaded.runs)
    assert [ax.get_ylabel() for ax in fig.axes] == [
        "Online accuracy (%)",
        "Weight magnitude, mean |w|",
        "Dead units (%)",
        "Effective rank (% of width)",
    ]
    assert curve(fig, 3)[0, 1] == pytest.approx(50)


def test_rank_without_known_widths_is_drawn_in_units(sweep: SweepBuilder) -> None:
    sweep.add(network={"hidden": None})
    loaded = load(sweep.folder)
    assert overview(loaded.tasks, loaded.runs).axes[3].get_ylabel() == "Effective rank (units)"


def test_tasks_of_different_length_are_compared_over_examples(sweep: SweepBuilder) -> None:
    for examples in (100, 500):
        sweep.add(rows=task_rows([0.5] * 15, examples=examples), benchmark={"examples_per_task": examples})
    loaded = load(sweep.folder)
    fig = performance(loaded.tasks, loaded.runs)
    assert [ax.get_xlabel() for ax in fig.axes] == ["Task", "Examples"]
    assert curve(fig)[1, 0] == 100


def test_runs_that_lack_a_metric_are_not_counted_in_its_panel(sweep: SweepBuilder) -> None:
    for seed in range(6):
        rows = task_rows([0.5] * 12)
        for row in rows[:12] if seed > 1 else []:
            del row["dead_fraction"]
        sweep.add(seed=seed, rows=rows)
    loaded = load(sweep.folder)
    fig = overview(loaded.tasks, loaded.runs)
    assert legend(fig) == ["backprop (n=6)"]
    assert "Panel c: n=2" in caption(fig)
    assert "Panel b" not in caption(fig)
    assert "Where n=2: the range of both" in caption(fig)
    sweep.add(algorithm="l2")
    loaded = load(sweep.folder)
    assert "Panel c: backprop n=2." in caption(overview(loaded.tasks, loaded.runs))


def test_point_of_more_tasks_than_there_are_says_why(sweep: SweepBuilder) -> None:
    sweep.add()
    loaded = load(sweep.folder)
    for draw in (performance, overview):
        with pytest.raises(AnalysisError, match="a point averages 1000 tasks, and the longest run has 20"):
            draw(loaded.tasks, loaded.runs, k=1000)


def test_label_too_short_for_a_point_is_counted(sweep: SweepBuilder) -> None:
    """Its legend once said n=0 beside the curve of its first ten tasks."""
    for seed in range(3):
        sweep.add(seed=seed)
        sweep.add(seed=seed, algorithm="redo", rows=task_rows([0.5] * 8), state="running")
    loaded = load(sweep.folder)
    for draw in (performance, overview):
        assert legend(draw(loaded.tasks, loaded.runs, k=10)) == [
            "backprop (n=3)",
            "redo (n=3, too few tasks for a point)",
        ]


def test_infinite_values_leave_the_band_and_are_told(sweep: SweepBuilder, recwarn: pytest.WarningsRecorder) -> None:
    for seed in range(5):
        sweep.add(seed=seed, rows=task_rows([0.5 + 0.1 * seed] * 6, metric="squared_error"))
    sweep.add(seed=5, rows=task_rows([0.5, 0.5, np.inf, 0.5, 0.5, 0.5], metric="squared_error"))
    loaded = load(sweep.folder)
    fig = performance(loaded.tasks, loaded.runs)
    fig.draw_without_rendering()
    assert not [warning for warning in recwarn if issubclass(warning.category, RuntimeWarning)]
    assert np.isfinite(np.asarray(fig.axes[0].collections[0].get_paths()[0].vertices)).all()
    assert len(fig.axes[0].collections[0].get_paths()) == 1
    assert "Infinite values are left out (1)" in caption(fig)
    assert "×" not in caption(fig)  # the run comes back


def test_runs_that_come_back_did_not_end() -> None:
    def curve(*counts: int) -> Curve:
        values = np.full((max(counts), len(counts)), np.nan)
        for point, count in enumerate(counts):
            values[:count, point] = 1
        return Curve(np.arange(len(counts), dtype=np.float64), values, [])

    assert ends(curve(2, 1, 2, 2)).tolist() == []
    assert ends(curve(3, 1, 2, 2, 1)).tolist() == [0, 3]
    assert ends(curve(2, 2)).tolist() == []


@pytest.mark.parametrize("name", DRAW)
def test_names_are_no_formulas(sweep: SweepBuilder, name: str) -> None:
    r"""A variant named $\foo$ was once a traceback."""
    sweep.add(config={"variant": r"$\foo$"})
    fig = DRAW[name](load(sweep.folder))
    fig.draw_without_rendering()
    assert legend(fig) == [r"$\foo$ (n=1)"]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([1.0] * 9 + [1e12], ["1", "100", "10⁴", "10⁶", "10⁸", "10¹⁰", "10¹²"]),
        ([1e-7] * 9 + [1.0], ["10⁻⁶", "10⁻⁴", "0.01", "1"]),
    ],
)
def test_powers_on_a_logarithmic_axis_are_letters(sweep: SweepBuilder, values: list[float], texts: list[str]) -> None:
    sweep.add(rows=task_rows([*values, values[0]], metric="squared_error"))
    loaded = load(sweep.folder)
    fig = performance(loaded.tasks, loaded.runs)
    fig.draw_without_rendering()
    (low, high), axis = fig.axes[0].get_ylim(), fig.axes[0].yaxis
    ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
    shown = [text.get_text() for at, text in ticks if low <= at <= high]
    assert set(texts) <= set(shown)
    assert not [text for text in shown if "$" in text]


def test_marks_are_as_thick_as_the_styles_lines(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(seed=1, rows=task_rows([0.9] * 12))
    loaded = load(sweep.folder)
    for style, size in SIZES.items():
        ax = performance(loaded.tasks, loaded.runs, style=style).axes[1]
        cross = next(line for line in ax.lines if line.get_marker() == "x")
        assert cross.get_markersize() == pytest.approx(4.2 * size.line, abs=0.1)
        assert cross.get_markeredgewidth() == pytest.approx(0.85 * size.line)


def test_explosion_before_a_divergence_does_not_flatten_the_others(sweep: SweepBuilder) -> None:
    sweep.add(rows=task_rows([1.0] * 15, metric="squared_error"))
    sweep.add(algorithm="l2", rows=task_rows([1.0] * 9 + [1e12], metric="squared_error"), state="diverged")
    loaded = load(sweep.folder)
    assert {ax.get_yscale() for ax in performance(loaded.tasks, loaded.runs).axes} == {"log"}


def test_no_dead_unit_is_a_line_at_the_bottom(sweep: SweepBuilder) -> None:
    rows = task_rows([0.5] * 12)
    for row in rows:
        row["dead_fraction"] = [0.0, 0.0]
    sweep.add(rows=rows)
    loaded = load(sweep.folder)
    assert diagnostic(loaded.tasks, loaded.runs, "dead_fraction").axes[0].get_ylim() == (0, 1)


def test_axes_of_the_caller(sweep: SweepBuilder) -> None:
    sweep.add()
    loaded = load(sweep.folder)
    fig = Figure()
    axes = fig.subplots(1, 2)
    assert performance(loaded.tasks, loaded.runs, axes=list(axes)) is fig
    assert diagnostic(loaded.tasks, loaded.runs, "srank99", axes=axes[0]) is fig
    assert not fig.legends
    assert axes[1].get_legend() is not None
    with pytest.raises(AnalysisError, match="3 axes for 2 panels"):
        performance(loaded.tasks, loaded.runs, axes=Figure().subplots(1, 3))


def test_label_keeps_its_colour_in_every_figure(sweep: SweepBuilder) -> None:
    for algorithm in ("l2", "continual_backprop", "backprop"):
        sweep.add(algorithm=algorithm)
    found = looks(load(sweep.folder).runs["label"])
    assert list(found) == ["backprop", "continual_backprop", "l2"]
    assert len({(look.colour, look.dashes) for look in looks(map(str, range(28))).values()}) == 28
    part = load(sweep.folder)
    part = Sweep(part.runs[part.runs["label"] == "l2"], part.tasks[part.tasks["label"] == "l2"])
    fig = performance(part.tasks, part.runs, looks=found)
    assert fig.axes[0].lines[0].get_color() == found["l2"].colour != found["backprop"].colour
    assert isinstance(found["l2"], Look)


@pytest.mark.parametrize(("count", "algorithm"), [(1, "l2"), (4, "l2"), (12, "l2"), (3, "l2_" * 30), (10, "l2_" * 30)])
@pytest.mark.parametrize("name", DRAW)
def test_nothing_overlaps(sweep: SweepBuilder, name: str, count: int, algorithm: str) -> None:
    """Title, panels, legend and caption lie in this order and inside the figure."""
    for index in range(count):
        sweep.add(
            algorithm=["continual_backprop", algorithm],
            options={"continual_backprop": {"replacement_rate": 1e-6 * (index + 1), "maturity_threshold": 100}},
            optimizer={"step_size": 0.01 / (index + 1)},
        )
    fig = DRAW[name](load(sweep.folder))
    fig.draw_without_rendering()
    boxes = [fig._suptitle.get_window_extent()]  # type: ignore[attr-defined]
    panels = [ax.get_tightbbox() for ax in fig.axes]
    lowest = min(panels, key=lambda box: box.y0)
    highest = max(panels, key=lambda box: box.y1)
    boxes += [highest, lowest, fig.legends[0].get_window_extent(), note(fig).get_window_extent()]
    assert boxes[0].y0 >= highest.y1 - 1
    assert lowest.y0 >= boxes[3].y1 - 1
    assert boxes[3].y0 >= boxes[4].y1 - 1
    for box in boxes:
        assert box.x0 >= fig.bbox.x0 - 1
        assert box.x1 <= fig.bbox.x1 + 1
        assert box.y0 >= fig.bbox.y0 - 1
        assert box.y1 <= fig.bbox.y1 + 1
