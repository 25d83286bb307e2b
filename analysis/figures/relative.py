"""Each method minus a baseline, task by task, in pairs of runs with the same seed."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.quantity import Quantity, quantity
from ..names.resolve import one_label
from ..reading.metric import performance_metric
from ..statistics.aggregate import Curve, curves
from ..statistics.band import DEFAULT, Band
from ..statistics.comparison import default_baseline
from ..statistics.curve_summary import per_run
from .curve import Panel, draw, x_axis
from .legend import Legend
from .limits import DIFFERENCE, mark
from .performance import changes, tasks_per_point
from .place import Places, fit, places
from .style import SIZES, Look, StyleName, context, count_axis, looks_of

RETRAINED, RESET = "retrained_network", "reset"
ZERO = "0.35"

FloatArray = npt.NDArray[np.float64]


def relative(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    baseline: str | None = None,
    metric: str | None = None,
    k: int | None = None,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """Curves of each run minus the baseline's run of the same seed, with a line at 0; frames of one benchmark.

    One seed gives both the same tasks, so that what makes a task difficult for both cancels.

    baseline: a label, or a name that stands for one; default the network retrained from scratch where there is one
    (Nature 632, Fig. 2), else the best plain backprop. metric: default the benchmark's performance. k: tasks per point,
    default `tasks_per_point`. axes: of the caller's (then without title and caption). notes: more sentences of the
    caption. In class-incremental learning the horizontal axis is the number of classes. Raises AnalysisError for an
    unknown metric or baseline, if no two runs share a seed, and for several axes.
    """
    metric = metric or performance_metric(tasks)
    k = k or tasks_per_point(tasks)
    x = x_axis(tasks)
    every = curves(tasks, metric, k=k, x=x)
    if baseline is None:
        larger = quantity(metric).larger_is_better
        baseline = next(iter(retrained(runs)), None) or default_baseline(per_run(tasks, metric), runs, larger)
    baseline = one_label(baseline, every, f"with values of {metric}")
    seeds = runs.set_index("run")["seed"]
    base = every.pop(baseline)
    found = {label: _difference(curve, base, seeds) for label, curve in every.items()}
    found = {label: curve for label, curve in found.items() if curve.runs}
    if not found:
        raise AnalysisError(f"no run has a seed in common with one of {baseline!r}")
    alone = sum(len(curve.runs) - len(found[label].runs if label in found else []) for label, curve in every.items())
    classes = _classes(tasks) if k == 1 and x == "task" else None
    if classes is not None:
        found = {label: replace(curve, x=classes[curve.x.astype(int)]) for label, curve in found.items()}
    colours, given = looks_of(runs, looks), places(axes)
    name = colours.text(baseline)
    sentences = [f"Each run minus the run of {name} with the same seed"]
    if alone:
        sentences.append(f"Left out: runs whose seed {name} lacks ({alone})")
    if k > 1:
        sentences.append(f"Points average {k} tasks")
    with context(style):
        legend = Legend.of(found, runs[runs["label"] != baseline], colours, *sentences, *notes, band=band)
        legend.handles.append(Line2D([], [], color=ZERO, linewidth=0.6 * SIZES[style].line))
        legend.texts.append(f"{name} (n={len(base.runs)})")
        if given is None:
            fig, given = legend.grid(1, style, 1)
        else:
            fit(given, 1)
            fig = legend.inside(given[0])
        ax = given[0]
        draw([Panel(ax, found, x, changes(tasks))], _of_difference(quantity(metric)), colours, band)
        ax.axhline(0, color=ZERO, linewidth=0.6 * SIZES[style].line, zorder=1)
        if classes is not None:
            ax.set_xlabel("Classes seen so far")
            count_axis(ax, float(classes.max()))
            mark(ax, DIFFERENCE, "classes")
        return colours.typeset(fig)


def retrained(runs: pd.DataFrame) -> list[str]:
    """Labels of the network that is trained from scratch for every task: the oracle, and in class-incremental learning
    the baseline. `reset` is one if it makes everything new at every task.
    """
    scratch = runs["algorithm"] == RETRAINED
    if {"algorithm.reset.of", "algorithm.reset.at"} <= set(runs.columns):
        everything = (runs["algorithm.reset.of"] == "all") & (runs["algorithm.reset.at"] == "task")
        scratch |= (runs["algorithm"] == RESET) & everything
    return ordered(map(str, runs.loc[scratch & (runs["tasks"] > 0), "label"].unique()))


def _difference(curve: Curve, base: Curve, seeds: "pd.Series[int]") -> Curve:
    """Runs with a partner only, as far as both go."""
    partner = {int(seeds[run]): row for row, run in enumerate(base.runs)}
    rows = [row for row, run in enumerate(curve.runs) if int(seeds[run]) in partner]
    runs = [curve.runs[row] for row in rows]
    points = min(len(curve.x), len(base.x))
    theirs = base.values[[partner[int(seeds[run])] for run in runs], :points]
    return replace(curve, x=curve.x[:points], values=curve.values[rows, :points] - theirs, runs=runs)


def _classes(tasks: pd.DataFrame) -> FloatArray | None:
    """(tasks,): classes seen so far, in class-incremental learning."""
    if "classes" not in tasks.columns or not tasks["classes"].notna().any():
        return None
    by_task = tasks.groupby("task")["classes"].median()
    return by_task.reindex(range(int(tasks["task"].max()) + 1)).to_numpy(dtype=np.float64)


def _of_difference(unit: Quantity) -> Quantity:
    of = unit.title[:1].lower() + unit.title[1:]
    written = "percentage points" if unit.unit == "%" else unit.unit
    return replace(unit.of_difference(), axis=f"Difference in {of}" + (f"\n({written})" if written else ""))
