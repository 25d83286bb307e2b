"""Performance beside what may explain it: weight magnitude, dead units, effective rank."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..aggregate import curves
from ..band import DEFAULT, Band
from ..errors import AnalysisError
from ..frame import is_control
from ..quantity import diagnostics_of, performance_metric, quantity
from .curve import Panel, draw, x_axis
from .legend import Legend
from .performance import changes, tasks_per_point
from .style import SIZES, Look, StyleName, context, looks_of


def overview(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    k: int | None = None,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Sequence[Axes] | None = None,
    style: StyleName = "paper",
) -> Figure:
    """Up to four panels, as in Nature 632; one without any value (dead units of a linear network) is left out.

    k: tasks per point of performance, default what the benchmark says; diagnostics are drawn task by task. axes: of the
    caller's, one for each panel (then without title and caption); AnalysisError if their number is wrong.
    """
    k = k or tasks_per_point(tasks)
    x = x_axis(tasks)
    shown = [metric for metric in diagnostics_of(tasks).values() if metric is not None]
    panels = {performance_metric(tasks): k} | dict.fromkeys(shown, 1)
    found = {metric: curves(tasks, metric, k=bins, x=x) for metric, bins in panels.items()}
    notes = [f"Performance: points average {k} tasks"] if k > 1 else []
    if is_control(tasks):
        notes.append("Weights and rank: the policy's last hidden layer")
    with context(style):
        colours = looks_of(runs, looks)
        everything = {label: curve for each in reversed(found.values()) for label, curve in each.items()}
        legend = Legend.of(everything, runs, colours, *notes, band=band)
        if axes is None:
            fig, axes = _grid(legend, len(panels), style)
        elif len(axes) != len(panels):
            raise AnalysisError(f"{len(panels)} axes are needed, not {len(axes)}")
        else:
            fig = legend.inside(axes[0])
        for letter, metric, ax in zip("abcd", panels, axes, strict=False):
            draw([Panel(ax, found[metric], x, changes(tasks))], quantity(metric), colours, band)
            ax.set_title(letter, loc="left", fontweight="bold")
    return fig


def _grid(legend: Legend, panels: int, style: StyleName) -> tuple[Figure, list[Axes]]:
    size = SIZES[style]
    columns = min(2, panels)
    rows = -(-panels // columns)
    width, height = size.width if columns == 2 else size.single, 0.85 * size.height * rows
    fig = legend.figure(width, height, style)
    grid = fig.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in grid[panels:]:
        unused.remove()
    return fig, grid[:panels]
