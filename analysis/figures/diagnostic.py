"""One diagnostic over the tasks: dead units, weight magnitude, effective rank, or any other metric."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..aggregate import check_metric, curves
from ..band import DEFAULT, Band
from ..errors import AnalysisError
from ..frame import layers
from ..quantity import quantity
from .curve import Panel, draw, x_axis
from .legend import Legend
from .style import SIZES, Look, StyleName, context, looks_of

PANELS_PER_ROW = 4


def diagnostic(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    metric: str,
    *,
    per_layer: bool = False,
    k: int = 1,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    ax: Axes | None = None,
    style: StyleName = "paper",
) -> Figure:
    """Mean over layers in one panel, or one panel per layer on one vertical axis; frames of one benchmark.

    k: tasks averaged per point. ax: axes of the caller's, for the mean over layers (then without title and
    caption). Raises AnalysisError for an unknown metric, or if per_layer and it has no layers.
    """
    check_metric(tasks, metric)
    panels = layers(tasks, metric) if per_layer else [metric]
    if not panels or (ax is not None and per_layer):
        raise AnalysisError(f"{metric} has no values per layer" if not panels else "per_layer needs its own figure")
    x, unit = x_axis(tasks), quantity(metric)
    found = {name: curves(tasks, name, k=k, x=x) for name in panels}
    notes = [f"Points average {k} tasks"] if k > 1 else []
    with context(style):
        colours = looks_of(runs, looks)
        legend = Legend.of(curves(tasks, metric, k=k, x=x), runs, colours, *notes, band=band)
        if ax is not None:
            fig = legend.inside(ax)
            axes = [ax]
        else:
            fig, axes = _grid(legend, len(panels), style)
        draw([Panel(axis, found[name], x) for name, axis in zip(panels, axes, strict=True)], unit, colours, band)
        for name, axis in zip(panels, axes, strict=True):
            axis.label_outer(remove_inner_ticks=False)
            if per_layer:
                axis.set_title(quantity(name).title)
    return fig


def _grid(legend: Legend, panels: int, style: StyleName) -> tuple[Figure, list[Axes]]:
    size = SIZES[style]
    columns = min(panels, PANELS_PER_ROW)
    rows = -(-panels // columns)
    wide = columns > 1
    fig = legend.figure(size.width if wide else size.single, size.height * rows * (0.8 if wide else 1), style)
    grid = fig.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for unused in grid[panels:]:
        unused.remove()
    return fig, grid[:panels]
