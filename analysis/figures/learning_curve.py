"""Return against environment steps: how an agent learns, and what a change of its environment does to it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import AnalysisError
from ..names.quantity import quantity
from ..reading.frame import is_control
from ..reading.metric import performance_metric
from ..statistics.aggregate import Curve, curves
from ..statistics.band import DEFAULT, Band
from .curve import Panel, draw
from .legend import Legend
from .limits import COURSE, mark
from .performance import changes, tasks_per_point
from .place import Places, fit, places
from .style import SIZES, Look, StyleName, context, logarithmic, looks_of

# With more, single runs hide what they are there to show.
SINGLE_RUNS = 10
FRICTION = "friction"


def learning_curve(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    metric: str | None = None,
    k: int | None = None,
    friction: bool = True,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """Over all runs as a line with its band, single runs (of up to ten) thin behind it; frames of one benchmark.

    A point stands where the steps that it averages end, as in the paper. Dotted lines: the environment changes. Where
    the log has its friction, a second panel shows it, run by run.

    metric: default the benchmark's performance, the return. k: rows of the log per point, default `tasks_per_point`.
    friction: False leaves the second panel out. axes: one or two of the caller's (then without title and caption).
    notes: more sentences of the caption. Raises AnalysisError if the frames are not of control, for an unknown metric,
    and for more axes than there are panels.
    """
    if not is_control(tasks):
        raise AnalysisError("a learning curve over environment steps needs a benchmark with an environment")
    metric = metric or performance_metric(tasks)
    k = k or tasks_per_point(tasks)
    found = curves(tasks, metric, k=k, x="steps")
    given = places(axes)
    logged = FRICTION in tasks.columns and bool(tasks[FRICTION].notna().any())
    below = friction and logged and (given is None or len(given) > 1)
    sentences = ["Thin: single runs"] if any(_few(curve) for curve in found.values()) else []
    if len(changes(tasks)):
        sentences.append(f"Dotted: the {FRICTION if logged else 'level'} changes")
    if k > 1:
        sentences.append(f"Points average {k} rows of the log")
    with context(style):
        colours, size = looks_of(runs, looks), SIZES[style]
        legend = Legend.of(found, runs, colours, *sentences, *notes, band=band)
        if given is None:
            fig = legend.figure(size.single, size.height * (1.35 if below else 1), style)
            ratios = [3, 1] if below else [1]
            given = fig.subplots(len(ratios), 1, sharex=True, height_ratios=ratios, squeeze=False).ravel().tolist()
        else:
            fit(given, 1 + below)
            fig = legend.inside(given[0])
        unit = quantity(metric)
        draw([Panel(given[0], found, "steps", changes(tasks))], unit, colours, band)
        for label, curve in found.items():
            if _few(curve):
                values = (unit.scale * curve.values).T
                given[0].plot(
                    curve.x, values, color=colours[label].colour, alpha=0.5, linewidth=0.4 * size.line, zorder=1
                )
        if below:
            _friction(given[1], tasks, size.line)
            mark(given[1], FRICTION, COURSE)
            given[1].set_xlabel(given[0].get_xlabel())
            given[0].set_xlabel("")
        return colours.typeset(fig)


def _few(curve: Curve) -> bool:
    return 1 < len(curve.runs) <= SINGLE_RUNS


def _friction(ax: Axes, tasks: pd.DataFrame, line: float) -> None:
    """Step by step of each run; runs of one seed have the same, so that it is drawn once."""
    seen: set[bytes] = set()
    drawn = []
    for _, run in tasks[["run", "examples", FRICTION]].dropna().groupby("run", observed=True):
        ends, values = run["examples"].to_numpy(dtype=np.float64), run[FRICTION].to_numpy(dtype=np.float64)
        if values.tobytes() not in seen:
            seen.add(values.tobytes())
            drawn.append((np.concatenate([[0.0], ends]), np.append(values, values[-1])))
    for x, y in drawn:
        ax.step(x, y, where="post", color="0.25", linewidth=0.6 * line, alpha=1 if len(drawn) == 1 else 0.5)
    values = np.concatenate([y for _, y in drawn])
    if values.min() > 0 and values.max() > 10 * values.min():
        logarithmic(ax)
    ax.set_ylabel(quantity(FRICTION).axis)
