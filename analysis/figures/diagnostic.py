"""One diagnostic over the tasks: dead units, weight magnitude, effective rank, or any other metric."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.figure import Figure

from ..errors import AnalysisError
from ..names.quantity import quantity
from ..reading.frame import layers
from ..reading.metric import check_metric
from ..statistics.aggregate import curves
from ..statistics.band import DEFAULT, Band
from .curve import Panel, draw, x_axis
from .legend import Legend, since
from .place import Places, fit, places
from .style import Look, StyleName, context, looks_of

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
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """Mean over layers in one panel, or one panel per layer on one vertical axis; frames of one benchmark.

    k: tasks averaged per point. axes: of the caller's (then without title and caption): one, or with per_layer one for
    each of the first layers. notes: more sentences of the caption. Raises AnalysisError for an unknown metric, if
    per_layer and it has no layers, and for more axes than there are panels.
    """
    check_metric(tasks, metric)
    panels = layers(tasks, metric) if per_layer else [metric]
    if not panels:
        raise AnalysisError(f"{metric} has no values per layer")
    x, unit = x_axis(tasks), quantity(metric)
    found = {name: curves(tasks, name, k=k, x=x) for name in panels}
    sentences = [f"Points average {k} tasks"] if k > 1 else []
    given = places(axes)
    with context(style):
        colours = looks_of(runs, looks)
        sentences += since(tasks, metric, colours)
        legend = Legend.of(curves(tasks, metric, k=k, x=x), runs, colours, *sentences, *notes, band=band)
        if given is None:
            fig, given = legend.grid(len(panels), style, PANELS_PER_ROW)
        else:
            fit(given, len(panels))
            fig = legend.inside(given[0])
        draw([Panel(ax, found[name], x) for name, ax in zip(panels, given, strict=False)], unit, colours, band)
        for name, ax in zip(panels, given, strict=False):
            if axes is None:
                ax.label_outer(remove_inner_ticks=False)
            if per_layer:
                ax.set_title(quantity(name).title)
        return colours.typeset(fig)
