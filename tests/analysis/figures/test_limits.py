"""Axes: where they end, and whose they are (section 6)."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.figures.births_and_deaths import births_and_deaths
from lop_sweeps.analysis.figures.comparison import comparison
from lop_sweeps.analysis.figures.correlation import correlation
from lop_sweeps.analysis.figures.diagnostic import diagnostic
from lop_sweeps.analysis.figures.limits import limit, parse, span
from lop_sweeps.analysis.figures.overview import overview
from lop_sweeps.analysis.figures.performance import performance
from lop_sweeps.analysis.figures.relative import relative
from lop_sweeps.analysis.figures.sensitivity import sensitivity
from lop_sweeps.analysis.figures.style import looks
from lop_sweeps.analysis.names.naming import Naming
from lop_sweeps.analysis.reading.load import Sweep, load
from tests.analysis.sweep_builder import SweepBuilder, task_rows

DRAW = {
    "performance": performance,
    "overview": overview,
    "comparison": comparison,
    "correlation": correlation,
    "relative": lambda *frames, **named: relative(*frames, baseline="backprop", **named),
    "diagnostic": lambda *frames, **named: diagnostic(*frames, "dead_fraction", **named),
    "per layer": lambda *frames, **named: diagnostic(*frames, "dead_fraction", per_layer=True, **named),
    "sensitivity": lambda *frames, **named: sensitivity(*frames, "optimizer.step_size", **named),
    "births": births_and_deaths,
}


@pytest.fixture
def filled(sweep: SweepBuilder) -> Sweep:
    rng = np.random.default_rng(0)
    for algorithm, step_sizes in (("backprop", (0.01,)), ("redo", (0.1, 0.01, 0.001))):
        for step_size in step_sizes:
            for seed in range(3):
                rows = task_rows(0.5 + 0.2 * rng.random(20))
                for row in rows:
                    row |= {"died_units": [1, 2], "replaced_units": [1, 0]}
                sweep.add(seed=seed, algorithm=algorithm, optimizer={"step_size": step_size}, rows=rows)
    return load(sweep.folder)


@pytest.mark.parametrize("name", DRAW)
def test_every_figure_draws_on_one_axes_of_the_callers(filled: Sweep, name: str) -> None:
    """`performance(axes=[ax])` said "2 axes are needed", although the README says "your axes"."""
    for give in (lambda ax: ax, lambda ax: [ax], lambda ax: np.array([[ax]])):
        fig = Figure()
        ax = fig.subplots()
        assert DRAW[name](filled.tasks, filled.runs, axes=give(ax)) is fig
        assert fig.axes == [ax]
        assert ax.lines or ax.patches
        assert not fig.legends
        fig.draw_without_rendering()


def test_one_axes_has_the_whole_course(filled: Sweep) -> None:
    ax = Figure().subplots()
    performance(filled.tasks, filled.runs, axes=ax)
    assert ax.lines[0].get_xdata()[-1] == 19


def test_what_is_no_axes_is_refused(filled: Sweep) -> None:
    for axes in ([], [Figure()]):
        with pytest.raises(AnalysisError, match="axes"):
            performance(filled.tasks, filled.runs, axes=axes)  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [1, 3, 5, 6, 9])
def test_overview_has_as_many_panels_as_diagnostics(filled: Sweep, count: int) -> None:
    """A fifth one left an empty panel."""
    names = [f"{name}/{layer}" for name in ("dead_fraction", "srank99", "effective_rank") for layer in (1, 2)]
    names = [*names, "weight_magnitude/1", "weight_magnitude/2", "weight_magnitude/3"][:count]
    fig = overview(filled.tasks, filled.runs, metrics=names)
    fig.draw_without_rendering()
    assert len(fig.axes) == 1 + count
    assert all(ax.lines for ax in fig.axes)
    assert [ax.get_title(loc="left") for ax in fig.axes] == list("abcdefghij")[: 1 + count]


def test_order_texts_and_formulas_reach_every_figure(filled: Sweep) -> None:
    naming = Naming(["redo", "backprop"], {"backprop": r"BP $\rho=10^{-4}$", "redo": "R_1"})
    found = looks(filled.runs["label"], naming)
    for name, draw in DRAW.items():
        fig = draw(filled.tasks, filled.runs, looks=found)
        fig.draw_without_rendering()
        texts = [text for text in fig.findobj(lambda artist: hasattr(artist, "get_parse_math"))]
        formulas = [text for text in texts if r"$\rho=10^{-4}$" in text.get_text() and text.get_visible()]
        assert formulas, name
        assert all(text.get_parse_math() for text in formulas), name
        assert any("R_1" in text.get_text() for text in texts), name
    fig = performance(filled.tasks, filled.runs, looks=found)
    assert [text.get_text().split(" (")[0] for text in fig.legends[0].get_texts()][-1] == r"BP $\rho=10^{-4}$"
    rows = comparison(filled.tasks, filled.runs, looks=found).axes[0].get_yticklabels()
    assert rows[-1].get_text().startswith("BP")


def test_formula_beside_a_name_that_is_none(sweep: SweepBuilder) -> None:
    for seed in range(3):
        sweep.add(seed=seed)
        sweep.add(seed=seed, algorithm="redo")
    for seed in range(2):
        sweep.add(seed=seed, config={"variant": r"$\foo$ 1"}, algorithm="l2")
    loaded = load(sweep.folder)
    found = looks(loaded.runs["label"], Naming(texts={"backprop": r"$\rho$"}))
    fig = relative(loaded.tasks, loaded.runs, baseline="backprop", looks=found)
    fig.draw_without_rendering()
    caption = next(text for text in fig.texts if "Each run" in text.get_text())
    assert caption.get_parse_math()
    assert r"\$\foo\$ 1: 0–1" in caption.get_text().replace("\n", " ")


def test_an_interval_that_explodes_does_not_squash_the_means() -> None:
    means = np.linspace(0.5, 0.6, 50)
    low, high = means - 0.01, means + 0.01
    high[-1] = 1e6
    bottom, top = span(means, low, high)
    assert bottom < 0.49
    assert 0.6 < top < 0.8
    assert span(means, means - 0.3, means + 0.3)[1] > 0.89  # wide everywhere is no explosion
    assert span([1e3, 1e-3], [-5.0, 1e-4], [1e9, 2e-3], log=True)[0] > 0
    for empty in ([], [np.nan]):
        assert span(empty, [], [])[0] < span(empty, [], [])[1]
    assert span([1.0], [1.0], [1.0])[0] < 1 < span([1.0], [1.0], [1.0])[1]


def test_band_of_shares_ends_at_0_and_1(sweep: SweepBuilder) -> None:
    for seed, value in enumerate((1.0, 0.99, 0.9)):
        sweep.add(seed=seed, rows=task_rows([value] * 12))
    loaded = load(sweep.folder)
    fig = performance(loaded.tasks, loaded.runs)
    heights = np.asarray(fig.axes[1].collections[0].get_paths()[0].vertices)[:, 1]
    assert heights.max() == pytest.approx(100)


def test_limits_are_of_the_axes_that_show_a_quantity(filled: Sweep) -> None:
    limits = parse(["accuracy=40:90", "task=:15", "dead_fraction=1:"])
    fig = overview(filled.tasks, filled.runs)
    assert limit(fig, limits) == {"accuracy", "task", "dead_fraction"}
    assert fig.axes[0].get_ylim() == (40, 90)
    assert fig.axes[0].get_xlim()[1] == fig.axes[1].get_xlim()[1] == 15
    assert fig.axes[2].get_ylim()[0] == 1
    fig = performance(filled.tasks, filled.runs)
    limit(fig, limits)
    assert fig.axes[0].get_xlim()[1] < 10  # the first ten tasks stay those
    assert limit(comparison(filled.tasks, filled.runs), limits) == {"accuracy"}
    differences = relative(filled.tasks, filled.runs, baseline="backprop")
    assert limit(differences, limits) == {"task"}  # percentage points are no accuracies
    assert limit(differences, parse(["difference=-5:5"])) == {"difference"}
    assert differences.axes[0].get_ylim() == (-5, 5)
    assert limit(sensitivity(filled.tasks, filled.runs, "optimizer.step_size"), limits) == {"accuracy"}


@pytest.mark.parametrize(
    "text", ["accuracy", "accuracy=", "=1:2", "accuracy=1", "accuracy=:", "a=2:1", "a=x:1", "a=nan:1"]
)
def test_wrong_limits_are_one_line(text: str) -> None:
    with pytest.raises(AnalysisError, match="--limits") as caught:
        parse([text])
    assert "\n" not in str(caught.value)
