"""Performance beside what may explain it: weight magnitude, dead units, effective rank."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..aggregate import Curve, curves
from ..band import DEFAULT, Band
from ..errors import AnalysisError
from ..frame import is_control
from ..quantity import diagnostics_of, performance_metric, quantity
from .curve import Panel, draw, x_axis
from .legend import Legend, most
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
    notes = [f"Performance: points average {k} {'rows of the log' if is_control(tasks) else 'tasks'}"] if k > 1 else []
    first, *others = found.values()
    for letter, each in zip("bcd", others, strict=False):
        notes += _other_counts(letter, first, each)
    with context(style):
        colours = looks_of(runs, looks)
        everything = {label: curve for each in reversed(found.values()) for label, curve in each.items()}
        legend = Legend.of(everything, runs, colours, *notes, others=others, band=band)
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


def _other_counts(letter: str, first: Mapping[str, Curve], panel: Mapping[str, Curve]) -> list[str]:
    """A sentence on a panel in which runs are missing that the legend counts."""
    counts = {label: most(panel.get(label)) for label in first}
    if all(counts[label] == most(curve) for label, curve in first.items()):
        return []
    if len(set(counts.values())) == 1:
        return [f"Panel {letter}: n={next(iter(counts.values()))}"]
    fewer = (f"{label.replace('_', ' ')} n={n}" for label, n in counts.items() if n != most(first[label]))
    return [f"Panel {letter}: {', '.join(fewer)}"]


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
