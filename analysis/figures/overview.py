"""Performance beside what may explain it: weight magnitude, dead units, effective rank."""

from collections.abc import Mapping, Sequence
from string import ascii_lowercase

import pandas as pd
from matplotlib.figure import Figure

from ..names.quantity import quantity
from ..reading.frame import is_control
from ..reading.metric import diagnostics_of, performance_metric
from ..statistics.aggregate import Curve, curves
from ..statistics.band import DEFAULT, Band
from .curve import Panel, draw, x_axis
from .legend import Legend, most, since
from .performance import changes, tasks_per_point
from .place import Places, fit, places
from .style import Look, Looks, StyleName, context, looks_of


def overview(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    metrics: Sequence[str] | None = None,
    k: int | None = None,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """A panel of performance and one of each diagnostic; by default four, as in Nature 632.

    metrics: the diagnostics; default `diagnostics_of`, of which one without any value (dead units of a linear network)
    is left out. k: tasks per point of performance, default what the benchmark says; diagnostics are drawn task by task.
    axes: of the caller's, for the first panels (then without title and caption). notes: more sentences of the caption.
    Raises AnalysisError for an unknown metric, and for more axes than there are panels.
    """
    k = k or tasks_per_point(tasks)
    x = x_axis(tasks)
    usual = [metric for metric in diagnostics_of(tasks).values() if metric is not None]
    panels = {performance_metric(tasks): k} | dict.fromkeys(usual if metrics is None else metrics, 1)
    given = places(axes)
    if given is not None:
        fit(given, len(panels))
        panels = {metric: panels[metric] for metric in list(panels)[: len(given)]}
    found = {metric: curves(tasks, metric, k=bins, x=x) for metric, bins in panels.items()}
    rows = "rows of the log" if is_control(tasks) else "tasks"
    sentences = [f"Performance: points average {k} {rows}"] if k > 1 else []
    first, *others = found.values()
    letters, colours = _letters(len(panels)), looks_of(runs, looks)
    for letter, each in zip(letters[1:], others, strict=True):
        sentences += _other_counts(letter, first, each, colours)
    for letter, metric in zip(letters[1:], list(panels)[1:], strict=True):
        sentences += [f"Panel {letter}: {text[:1].lower()}{text[1:]}" for text in since(tasks, metric, colours)]
    with context(style):
        everything = {label: curve for each in reversed(found.values()) for label, curve in each.items()}
        legend = Legend.of(everything, runs, colours, *sentences, *notes, others=others, band=band)
        if given is None:
            fig, given = legend.grid(len(panels), style, 2 if len(panels) <= 4 else 3, sharey=False)
        else:
            fig = legend.inside(given[0])
        for letter, metric, ax in zip(letters, panels, given, strict=True):
            draw([Panel(ax, found[metric], x, changes(tasks))], quantity(metric), colours, band)
            ax.set_title(letter, loc="left", fontweight="bold")
        return colours.typeset(fig)


def _letters(count: int) -> list[str]:
    """a, b, …, z, aa, ab, …"""
    names = [*ascii_lowercase, *(first + second for first in ascii_lowercase for second in ascii_lowercase)]
    return names[:count]


def _other_counts(letter: str, first: Mapping[str, Curve], panel: Mapping[str, Curve], looks: Looks) -> list[str]:
    """A sentence on a panel in which runs are missing that the legend counts."""
    counts = {label: most(panel.get(label)) for label in first}
    if all(counts[label] == most(curve) for label, curve in first.items()):
        return []
    if len(set(counts.values())) == 1:
        return [f"Panel {letter}: n={next(iter(counts.values()))}"]
    fewer = (f"{looks.text(label)} n={n}" for label, n in counts.items() if n != most(first[label]))
    return [f"Panel {letter}: {', '.join(fewer)}"]
