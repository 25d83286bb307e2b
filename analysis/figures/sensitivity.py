"""Performance against one hyper-parameter: how much of a method's result is its tuning?"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.naming import Naming
from ..names.quantity import Bounds, quantity
from ..names.seeds import seeds_of
from ..reading.metric import check_metric, performance_metric
from ..statistics.band import DEFAULT, Band
from ..statistics.by_parameter import parameters, points
from ..statistics.compared import comparable
from ..statistics.curve_summary import SUMMARIES, bounds_of
from .curve import LOG_RATIO
from .legend import Legend, sentences
from .limits import mark, span
from .place import Places, fit, places
from .style import Look, Looks, StyleName, context, logarithmic, readable
from .style import looks as make_looks

__all__ = ["parameters", "sensitivity"]

# Height of a row of crosses, of the axes.
CROSS = 0.075

FloatArray = npt.NDArray[np.float64]


def sensitivity(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    parameter: str,
    *,
    metric: str | None = None,
    summary: str = "area",
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """A line per method over the values of `parameter` ('optimizer.step_size'); frames of one benchmark.

    Runs that agree in everything else are one line, named by their label without the hyper-parameter. A method that
    does not have it is a horizontal line, one with a single value of it a point: of each such method the best of its
    settings, as the others do not belong here; more than six of either are left out. The axis is logarithmic where the
    values are positive and span more than a decade; otherwise they are categories. Runs are taken over the tasks that
    all have (`comparable`). Diverged runs are no part of a mean: a cross counts them.

    metric: default the benchmark's performance. summary: see `curve_summary.SUMMARIES`. looks: taken for the methods
    that they have. axes: of the caller's (then without title and caption). notes: more sentences of the caption. Raises
    AnalysisError for an unknown parameter, metric or summary, a parameter with a single value, where two runs of one
    method, value and seed differ in something that is no hyper-parameter, and for several axes.
    """
    metric = metric or performance_metric(tasks)
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    check_metric(tasks, metric)
    unit, given = quantity(metric), places(axes)
    tasks, cut = comparable(tasks, metric)
    frame, told = points(tasks, runs, parameter, metric, summary, unit.larger_is_better)
    tried = frame["value"].dropna().unique().tolist()
    numbers = [] if any(isinstance(value, str) for value in tried) else sorted(map(float, tried))
    log = bool(numbers) and numbers[0] > 0 and numbers[-1] > 10 * numbers[0]
    values: Sequence[float | str] = numbers or ordered(tried)
    frame["x"] = frame["value"].map({value: numbers[at] if log else float(at) for at, value in enumerate(values)})
    colours = _looks(list(map(str, frame["method"].unique())), looks)
    methods = {name: frame[frame["method"] == name] for name in colours.ordered(frame["method"])}
    with context(style):
        legend = _legend(methods, runs, colours, band, [*told, *cut, *notes])
        if given is None:
            fig, given = legend.grid(1, style, 1)
        else:
            fit(given, 1)
            fig = legend.inside(given[0])
        ax, bounds = given[0], bounds_of(summary, unit)
        drawn = [_draw(ax, group, colours[name], band, bounds, unit.scale) for name, group in methods.items()]
        centre, low, high = np.concatenate(drawn).T
        known = centre[np.isfinite(centre)]
        tall = bool(known.size) and known.min() > 0 and bool(known.max() > LOG_RATIO * np.median(known))
        if tall:
            logarithmic(ax)
        if known.size:
            ax.set_ylim(*span(centre, low, high, tall))
        mark(ax, metric, parameter)
        _horizontal(ax, values, log)
        _mark_diverged(ax, methods, colours, at_top=not unit.larger_is_better)
        ax.set_xlabel(readable(parameter.rpartition(".")[2]))
        ax.set_ylabel(f"{unit.axis},\n{SUMMARIES[summary]}")
        return colours.typeset(fig)


def _looks(methods: Sequence[str], given: Mapping[str, Look] | None) -> Looks:
    """A label keeps its look, if all methods are labels; else all get looks of their own."""
    naming = given.naming if isinstance(given, Looks) else Naming()
    if given and set(methods) <= set(given):
        return Looks({name: look for name, look in given.items() if name in set(methods)}, naming)
    return make_looks(methods, naming)


def _draw(ax: Axes, group: pd.DataFrame, look: Look, band: Band, bounds: Bounds, scale: float) -> FloatArray:
    """One method. Returns (points, 3): centre, low and high."""
    if group["x"].isna().all():
        centre, low, high = (scale * float(value) for value in band.of(group["y"].to_numpy(), bounds))
        ax.axhline(centre, color=look.colour, linestyle=look.dashes)
        ax.axhspan(low, high, color=look.colour, alpha=0.12, linewidth=0)
        return np.array([[centre, low, high]])
    at = np.sort(group["x"].dropna().unique())
    found: FloatArray = scale * np.array([band.of(group.loc[group["x"] == x, "y"].to_numpy(), bounds) for x in at])
    centre, low, high = found.T
    ax.plot(at, centre, color=look.colour, linestyle=look.dashes, marker="o")
    if len(at) > 1:
        ax.fill_between(at, low, high, color=look.colour, alpha=0.2, linewidth=0)
    else:
        ax.vlines(at, low, high, color=look.colour)
    return found


def _horizontal(ax: Axes, values: Sequence[float | str], log: bool) -> None:
    texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
    if log:
        numbers = [float(value) for value in values]
        margin = (numbers[-1] / numbers[0]) ** 0.06
        ax.set_xscale("log")
        ax.set_xticks(numbers, texts)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(numbers[0] / margin, numbers[-1] * margin)
    else:
        ax.set_xticks(range(len(values)), texts)
        ax.set_xlim(-0.4, len(values) - 0.6)


def _mark_diverged(ax: Axes, methods: Mapping[str, pd.DataFrame], colours: Looks, at_top: bool) -> None:
    """Crosses at the bad end of the vertical axis, those of several methods at one value on top of each other."""
    marks: dict[float, list[tuple[str, str]]] = {}
    for name, group in methods.items():
        for x, runs in ((x, group[group["x"] == x]) for x in np.sort(group["x"].dropna().unique())):
            if count := int(runs["diverged"].sum()):
                marks.setdefault(float(x), []).append((colours[name].colour, f"{count}/{len(runs)}"))
    if not marks:
        return
    room = CROSS * max(map(len, marks.values()))
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(ax.get_ylim())
    more = (high - low) * room / (1 - room)
    bottom, top = scale.inverted().transform([low, high + more] if at_top else [low - more, high])
    ax.set_ylim(bottom, top)
    transform, size = ax.get_xaxis_transform(), 2 * mpl.rcParams["lines.markersize"]
    for x, found in marks.items():
        for row, (colour, text) in enumerate(found):
            y = (1 - CROSS * (0.6 + row)) if at_top else CROSS * (0.6 + row)
            ax.plot([x], [y], "x", color=colour, transform=transform, markersize=size)
            ax.annotate(
                text,
                (x, y),
                xycoords=transform,
                xytext=(0.6, 0),
                textcoords="offset fontsize",
                va="center",
                fontsize="small",
                color=colour,
            )


def _legend(
    methods: Mapping[str, pd.DataFrame], runs: pd.DataFrame, colours: Looks, band: Band, notes: list[str]
) -> Legend:
    handles: list[Artist] = [
        Line2D([], [], color=colours[name].colour, linestyle="", marker="o")
        if group["x"].nunique() == 1
        else Line2D([], [], color=colours[name].colour, linestyle=colours[name].dashes)
        for name, group in methods.items()
    ]
    counts = {name: group[group["y"].notna()].groupby("x", dropna=False).size() for name, group in methods.items()}
    texts = []
    for name, group in methods.items():
        few, many = (int(n) for n in (counts[name].min(), counts[name].max())) if len(counts[name]) else (0, 0)
        diverged = int(group["diverged"].sum())
        n = f"n={few}" + (f"–{many}" if many > few else "") + (f", {diverged} diverged" if diverged else "")
        texts.append(f"{colours.text(name)} ({n})")
    found = [band.words(), "n: runs per point"]
    if any(group["x"].isna().any() for group in methods.values()):
        found.append("Horizontal: methods without this hyper-parameter")
    if any(group["diverged"].any() for group in methods.values()):
        found.append("× k/n: k of n runs diverged, and are no part of the mean")
    found += band.cautions([count for each in counts.values() for count in each])
    title = readable(str(runs["benchmark"].iloc[0]))
    return Legend(title, handles, texts, sentences([*found, seeds_of(runs), *notes]))
