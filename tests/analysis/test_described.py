"""Diagnostics that the analysis has never heard of, by what their runs say of them; gaps where they were not taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lop_sweeps.analysis.figures.diagnostic import diagnostic
from lop_sweeps.analysis.figures.overview import overview
from lop_sweeps.analysis.names import described
from lop_sweeps.analysis.names.described import parse
from lop_sweeps.analysis.names.quantity import quantity
from lop_sweeps.analysis.reading.load import Sweep, load
from lop_sweeps.analysis.reading.metric import begins, diagnostics_of
from lop_sweeps.analysis.statistics.aggregate import curves
from tests.analysis.drawn import assert_readable, caption, points
from tests.analysis.sweep_builder import SweepBuilder, task_rows

VALUES: dict[str, dict[str, Any]] = {
    "glow": {"per": "layer", "title": "Glow", "unit": "%", "scale": 100.0, "weighted": True, "shown": True},
    "heat": {"per": "matrix", "title": "Heat", "weighted": True, "shown": False},
    "spark": {"per": "network", "title": "Spark", "unit": "mV", "positive": False, "shown": True},
    "dead_fraction": {"per": "layer", "title": "Not so", "shown": True},
}


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(described, "_SAID", {})


def add(sweep: SweepBuilder, seed: int = 0, tasks: Sequence[int] = range(20), **config: Any) -> Path:
    """A run of 20 tasks that has these values before some of them."""
    rows = task_rows(np.linspace(0.9, 0.8, 20))
    for task in tasks:
        rows[task] |= {"glow": [0.1, 0.4], "heat": [1.0, 2.0, 3.0], "spark": -float(task)}
    folder = sweep.add(seed=seed, rows=rows, **config)
    (folder / "diagnostics.json").write_text(json.dumps({"run": folder.name, "values": VALUES}))
    return folder


def loaded(sweep: SweepBuilder) -> Sweep:
    return load(sweep.folder)


def test_a_description_gives_title_unit_scale_and_weights(sweep: SweepBuilder) -> None:
    """Means over layers are over their 10 and 20 units, over matrices by their 80, 200 and 40 weights."""
    add(sweep)
    tasks = loaded(sweep).tasks
    assert tasks["glow"].to_list() == pytest.approx([(10 * 0.1 + 20 * 0.4) / 30] * 20)
    assert tasks["heat"].to_list() == pytest.approx([(80 * 1 + 200 * 2 + 40 * 3) / 320] * 20)
    glow, spark = quantity("glow"), quantity("spark")
    assert (glow.title, glow.axis, glow.scale, glow.bounds) == ("Glow", "Glow (%)", 100.0, (0.0, 1.0))
    assert (spark.axis, spark.bounds) == ("Spark (mV)", (-np.inf, np.inf))
    assert (quantity("glow/2").title, quantity("heat/3").title) == ("Hidden layer 2", "Weight matrix 3")
    assert quantity("dead_fraction").title == "Dead units"  # which is known here


def test_without_a_description_a_value_is_drawn_under_its_own_name(sweep: SweepBuilder) -> None:
    (add(sweep) / "diagnostics.json").unlink()
    assert loaded(sweep).tasks["glow"].iloc[0] == pytest.approx(0.25)
    assert quantity("glow").axis == "Glow"
    assert list(diagnostics_of(loaded(sweep).tasks)) == ["weight_magnitude", "dead_units", "effective_rank"]


@pytest.mark.parametrize(
    "content",
    ["", "[]", '{"values": 3}', '{"values": {"glow": 3}}', '{"values": {"glow": {"title": "Glow"}}}'],
)
def test_a_description_that_is_none_is_left_out(sweep: SweepBuilder, content: str) -> None:
    (add(sweep) / "diagnostics.json").write_text(content)
    assert quantity(next(name for name in loaded(sweep).tasks if name == "glow")).axis == "Glow"


def test_a_description_of_a_later_version_is_read_as_far_as_it_is_known() -> None:
    (found,) = parse({"glow": {**VALUES["glow"], "colour": "red"}, "odd": {"per": 1, "title": "x"}}).values()
    assert (found.title, found.scale) == ("Glow", 100.0)


def test_an_overview_has_as_many_panels_as_there_are_diagnostics_to_show(sweep: SweepBuilder) -> None:
    for seed in range(3):
        add(sweep, seed)
    found = loaded(sweep)
    assert list(diagnostics_of(found.tasks).values())[3:] == ["glow", "spark"]
    fig = overview(found.tasks, found.runs)
    assert [ax.get_ylabel() for ax in fig.axes][4:] == ["Glow (%)", "Spark (mV)"]
    assert_readable(fig)


def test_what_is_taken_every_few_tasks_is_a_line_through_them(sweep: SweepBuilder) -> None:
    for seed in range(2):
        add(sweep, seed, tasks=range(0, 20, 5))
    found = loaded(sweep)
    (curve,) = curves(found.tasks, "spark").values()
    assert (curve.x.tolist(), curve.values[0].tolist()) == ([0, 5, 10, 15], [0, -5, -10, -15])
    (averaged,) = curves(found.tasks, "spark", k=10).values()
    assert (averaged.x.tolist(), averaged.values[0].tolist()) == ([0, 10], [-2.5, -12.5])
    fig = diagnostic(found.tasks, found.runs, "glow")
    assert points(fig.axes[0].lines[0]) == [[float(x), pytest.approx(30.0)] for x in (0, 5, 10, 15)]
    assert "n=2" in fig.legends[0].get_texts()[0].get_text()
    assert "easured" not in caption(fig)


def test_performance_keeps_its_gaps(sweep: SweepBuilder) -> None:
    """No return in a row in which no episode ended is a gap, and a mean over it is none."""
    rows = task_rows(np.linspace(0.9, 0.8, 4))
    rows[1] = {name: value for name, value in rows[1].items() if name != "accuracy"}
    sweep.add(rows=rows)
    (curve,) = curves(loaded(sweep).tasks, "accuracy").values()
    assert np.isnan(curve.values[0]).tolist() == [False, True, False, False]


def test_figures_say_from_which_task_on_a_diagnostic_was_taken(sweep: SweepBuilder) -> None:
    for seed in range(2):
        add(sweep, seed, tasks=range(8, 20))
    found = loaded(sweep)
    assert begins(found.tasks, "glow") == {"backprop": 8}
    assert begins(found.tasks, "dead_fraction") == begins(found.tasks, "accuracy") == {}
    fig = diagnostic(found.tasks, found.runs, "glow")
    assert "Measured from task 8 on" in caption(fig)
    assert_readable(fig)
    assert "Panel e: measured from task 8 on. Panel f: measured from task 8 on" in caption(
        overview(found.tasks, found.runs)
    )


def test_of_several_methods_those_that_began_later_are_named(sweep: SweepBuilder) -> None:
    add(sweep, tasks=range(4, 20))
    add(sweep, algorithm="l2")
    found = loaded(sweep)
    assert "Measured: backprop from task 4 on" in caption(diagnostic(found.tasks, found.runs, "spark"))
