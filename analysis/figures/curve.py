"""Curves with their intervals, on one pair of axes or on several that share the vertical one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from ..names.quantity import Quantity
from ..reading.frame import is_control
from ..statistics.aggregate import Curve
from ..statistics.band import DEFAULT, Band
from .limits import COURSE, DIFFERENCE, mark, span
from .style import MARKED_POINTS, Look, count_axis, logarithmic

FloatArray = npt.NDArray[np.float64]
# A squared error of 1e12 shortly before a run diverges would flatten all other curves.
LOG_RATIO = 300.0
# Runs that all stop at different tasks (a sweep that is running) would cover their curve with crosses.
MARKED_ENDS = 3
X_LABELS = {"task": "Task", "examples": "Examples", "steps": "Environment steps"}


@dataclass(frozen=True)
class Panel:
    """x: 'task', 'examples' or 'steps', what the curves' x counts. changes: x at which the environment changes."""

    ax: Axes
    curves: Mapping[str, Curve]
    x: str = "task"
    changes: FloatArray | None = None


def draw(panels: Sequence[Panel], quantity: Quantity, looks: Mapping[str, Look], band: Band = DEFAULT) -> None:
    """The estimate over runs as a line, its interval as a band (none where one run is left)."""
    found: list[FloatArray] = []
    for panel in panels:
        for label in [label for label in looks if label in panel.curves]:
            found.append(_line(panel.ax, panel.curves[label], quantity, looks[label], band))
        _horizontal(panel)
        mark(panel.ax, DIFFERENCE if quantity.difference else quantity.name, COURSE)
        for at in panel.changes if panel.changes is not None else ():
            width = 0.5 * mpl.rcParams["lines.linewidth"]
            panel.ax.axvline(at, color="0.6", linewidth=width, linestyle=":", zorder=0)
        panel.ax.set_ylabel(quantity.axis)
    _vertical([panel.ax for panel in panels], np.concatenate(found, axis=1) if found else np.zeros((3, 0)), quantity)


def ends(curve: Curve) -> npt.NDArray[np.int64]:
    """Points behind which runs drop out for good; none if there are too many to mark."""
    count = curve.count()
    most_later = np.maximum.accumulate(count[::-1])[::-1][1:]
    found = np.flatnonzero(count[:-1] > most_later)
    return found if len(found) <= MARKED_ENDS else found[:0]


def x_axis(tasks: pd.DataFrame) -> str:
    """Tasks, unless their length differs between configurations: then only examples can be compared.

    In control examples are environment steps, and rows of the log mean nothing else.
    """
    if is_control(tasks):
        return "steps"
    names = [name for name in ("benchmark.examples_per_task", "benchmark.epochs") if name in tasks.columns]
    differs = any(tasks[name].nunique() > 1 for name in names)
    return "examples" if differs and tasks["examples"].notna().all() else "task"


def _line(ax: Axes, curve: Curve, quantity: Quantity, look: Look, band: Band) -> FloatArray:
    """(3, points): centre, low, high, as they are drawn."""
    centre, low, high = (quantity.scale * values for values in band.of(curve.values, quantity.bounds))
    marker = "o" if len(curve.x) <= MARKED_POINTS else None
    ax.plot(curve.x, centre, color=look.colour, linestyle=look.dashes, marker=marker)
    ax.fill_between(curve.x, low, high, color=look.colour, alpha=0.2, linewidth=0)
    # A jump behind the cross is a change of runs, not of what the network can do.
    size = 1.9 * mpl.rcParams["lines.markersize"]
    ax.plot(curve.x[ends(curve)], centre[ends(curve)], "x", color=look.colour, markersize=size)
    return np.array([centre, low, high])


def _horizontal(panel: Panel) -> None:
    panel.ax.set_xlabel(X_LABELS[panel.x])
    last = max((float(curve.x[-1]) for curve in panel.curves.values() if len(curve.x)), default=0.0)
    count_axis(panel.ax, last)
    panel.ax.set_xlim((-0.02 * last, 1.02 * last) if last else (-0.5, 0.5))


def _vertical(axes: Sequence[Axes], found: FloatArray, quantity: Quantity) -> None:
    """found (3, points): centre, low, high of all curves."""
    means = found[0][np.isfinite(found[0])]
    log = bool(means.size) and means.min() > 0 and bool(means.max() / np.median(means) > LOG_RATIO)
    low, high = span(found[0], found[1], found[2], log)
    if quantity.from_zero and not log:
        # All-zero dead units are a line at the bottom of 0–1 %, not in the middle of ±0.05 %.
        highest = means.max() if means.size else 0.0
        low, high = 0.0, max(high if highest > 0 else 0.0, 1.0 if quantity.unit else 0.0) or 1.0
    for ax in axes:
        if log:
            logarithmic(ax)
        if means.size:
            ax.set_ylim(low, high)
