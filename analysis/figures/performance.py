"""Performance per task: does the network still learn the thousandth task as well as the first?"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure

from ..names.quantity import quantity
from ..reading.frame import is_control
from ..reading.metric import performance_metric
from ..statistics.aggregate import curves
from ..statistics.band import DEFAULT, Band
from .curve import Panel, draw, x_axis
from .legend import Legend
from .limits import mark
from .place import Places, fit, places
from .style import SIZES, Look, StyleName, context, looks_of

FIRST_TASKS = 10
POINTS = 40  # of a learning curve, at least
CHANGING = ("friction", "level")  # columns of a log that say what an environment is

FloatArray = npt.NDArray[np.float64]


def performance(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    metric: str | None = None,
    k: int | None = None,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """Left the first ten tasks, right the whole course, on one vertical axis; frames of one benchmark.

    In control one panel: the learning curve, with a dotted line where the environment changes.

    metric: default the benchmark's performance. k: tasks per point on the right, default `tasks_per_point`.
    axes: of the caller's (then without title and caption): on a single one the whole course. notes: more sentences of
    the caption. Runs of at most ten tasks give one panel. Raises AnalysisError for more axes than there are panels.
    """
    metric = metric or performance_metric(tasks)
    k = k or tasks_per_point(tasks)
    x = x_axis(tasks)
    single = curves(tasks, metric)
    course = curves(tasks, metric, k=k, x=x)
    given = places(axes)
    split = int(tasks["task"].max()) >= FIRST_TASKS and x != "steps" and (given is None or len(given) > 1)
    sentences = [f"Points{' on the right' if split else ''} average {k} tasks"] if k > 1 else []
    with context(style):
        colours = looks_of(runs, looks)
        legend = Legend.of(course, runs, colours, *sentences, *notes, band=band)
        size = SIZES[style]
        if given is None:
            fig = legend.figure(size.width if split else size.single, size.height, style)
            given = list(fig.subplots(1, 2, sharey=True, width_ratios=[1, 2.4])) if split else [fig.subplots()]
        else:
            fit(given, 1 + split)
            fig = legend.inside(given[-1])
        panels = [Panel(given[-1], course, x, changes(tasks))]
        if split:
            panels.insert(0, Panel(given[0], {n: c.first(FIRST_TASKS) for n, c in single.items()}))
        draw(panels, quantity(metric), colours, band)
        if split:
            mark(given[0], metric)  # limits of the course are not those of its first tasks
            given[0].set_title("First ten tasks")
            given[1].set_title("Whole course")
            given[1].set_ylabel("")
            given[1].tick_params(left=False)
        return colours.typeset(fig)


def tasks_per_point(tasks: pd.DataFrame) -> int:
    """What the benchmark says (`bin_tasks`: 2 for the slowly-changing regression, as in its figures), else 1.

    At most the number of tasks, so that a run cut short still shows a point; in control, so few that there are 40.
    """
    name, count = "benchmark.bin_tasks", int(tasks["task"].max()) + 1
    given = tasks[name].max() if name in tasks.columns else 1
    most = max(1, count // POINTS) if is_control(tasks) else count
    return max(1, min(int(given) if pd.notna(given) else 1, most))


def changes(tasks: pd.DataFrame) -> FloatArray:
    """Where the environment changed, in environment steps: of each change, the median over runs."""
    column = next((name for name in CHANGING if name in tasks.columns), None)
    if column is None:
        return np.zeros(0)
    found: dict[int, list[float]] = {}
    for _, run in tasks[["run", "task", "examples", column]].groupby("run", observed=True):
        values, ends = run[column].to_numpy(), run["examples"].to_numpy()
        for number, row in enumerate(np.flatnonzero(values[1:] != values[:-1])):
            found.setdefault(number, []).append(float(ends[row]))
    return np.array([np.median(steps) for steps in found.values()])
