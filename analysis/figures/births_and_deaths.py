"""Births and deaths of units over the tasks, and the stock of dead units that they leave."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..errors import AnalysisError
from ..names.quantity import quantity
from ..names.seeds import seeds_of
from ..reading.frame import is_control, layers
from ..reading.metric import by_run
from ..statistics.aggregate import edges as filled
from ..statistics.band import DEFAULT, Band
from ..statistics.estimators import mean
from .curve import X_LABELS
from .legend import Legend, sentences
from .limits import COURSE, mark, span
from .place import Places, fit, places
from .style import SIZES, Look, StyleName, context, count_axis, looks_of, readable

REPLACED, REVIVED, DIED, STOCK = "replaced_units", "revived_units", "died_units", "dead_fraction"
# Bars of one panel, at most.
BARS = 100
# Beside a hundred replacements a task, a death has no height.
LINEAR_RATIO = 20.0
DEATH = "#444444"

FloatArray = npt.NDArray[np.float64]


def births_and_deaths(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """A row per label: left units replaced and revived (up) and died (down) per task, right the dead units.

    Counts are summed over layers, and averaged over runs and over the tasks of a bar, of which there are at most a
    hundred. All rows share their axes; the left one is logarithmic beyond 1 where bars differ much in height. A right
    panel without dead units in the log says so. n: runs that have what is drawn.
    Frames of one benchmark. axes: of the caller's, left and right of each row, as far as they go (then without title
    and caption). notes: more sentences of the caption. Raises AnalysisError if no run logged replacements, revivals or
    deaths, and for more axes than there are panels.
    """
    if runs["benchmark"].nunique() > 1:
        raise AnalysisError("several benchmarks in one figure; take one: sweep.of(name)")
    x = "steps" if is_control(tasks) else "task"
    k = -(-(int(tasks["task"].max()) + 1) // BARS)
    edges = _edges(tasks, 1)
    colours, given = looks_of(runs, looks), places(axes)
    groups = {label: tasks[tasks["label"] == label] for label in colours.ordered(map(str, tasks["label"].unique()))}
    flows: dict[str, dict[str, FloatArray]] = {}
    for label, group in groups.items():
        found = {name: _per_task(group, name, k) for name in (REPLACED, REVIVED, DIED)}
        if counted := {name: counts for name, counts in found.items() if counts is not None}:
            flows[label] = counted
    if not flows:
        raise AnalysisError("no run logged units that were replaced, revived or died (linear networks have none)")
    groups = {label: groups[label] for label in flows}
    if given is not None:
        fit(given, 2 * len(groups))
        groups = {label: groups[label] for label in list(groups)[: -(-len(given) // 2)]}
    with context(style):
        size = SIZES[style]
        legend = _legend(groups, flows, runs, band, k, x == "steps", notes)
        if given is None:
            fig = legend.figure(size.width, size.height * (0.15 + 0.45 * len(groups)), style)
            grid = fig.subplots(len(groups), 2, sharex=True, sharey="col", squeeze=False, width_ratios=[1.4, 1])
            rows: list[tuple[Axes, Axes | None]] = [(left, right) for left, right in grid]
        else:
            fig = legend.inside(given[0])
            rows = list(zip_longest(given[::2], given[1::2]))
        tops = [1.0]
        for (left, right), (label, group) in zip(rows, groups.items(), strict=True):
            _bars(left, flows[label], _edges(tasks, k), colours[label].colour, 0.5 * size.line)
            mark(left, "units", COURSE)
            counts = [_runs(group, name) for name in flows[label]]
            name = f"{colours.text(label)} (n={'–'.join(map(str, sorted({min(counts), max(counts)})))})"
            left.set_title(name, loc="left")
            left.set_ylabel("Units per task" if x == "task" else "Units per row")
            if right is None:
                continue
            stock = _runs(group, STOCK)
            if stock:
                tops.append(_stock(right, group, edges, colours[label], band))
            else:
                right.text(0.5, 0.5, f"no {STOCK} in the log", ha="center", va="center", transform=right.transAxes)
            if stock and set(counts) != {stock}:
                right.set_title(f"(n={stock})", loc="left")
            right.set_ylabel(quantity(STOCK).axis)
            mark(right, STOCK, COURSE)
        for ax in (ax for row in rows for ax in row if ax is not None):
            count_axis(ax, float(edges[-1]))
            ax.set_xlim(edges[0], edges[-1])
        for ax in (ax for ax in rows[-1] if ax is not None):
            ax.set_xlabel(X_LABELS[x])
        limits = [left.get_ylim() for left, _ in rows]
        for left, right in rows:  # the caller's axes share nothing by themselves
            if given is not None:
                left.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
            _vertical(left, flows)
            if right is not None:
                right.set_ylim(0, max(tops))
        return colours.typeset(fig)


def _per_task(group: pd.DataFrame, metric: str, k: int) -> FloatArray | None:
    """(bars,) units per task over all layers; None where no run of the group logged them."""
    names = layers(group, metric)
    if not names:
        return None
    counts = np.sum([by_run(group, name) for name in names], axis=0)
    padding = np.full((len(counts), -counts.shape[1] % k), np.nan)
    blocks = np.concatenate([counts, padding], axis=1).reshape(len(counts), -1, k)
    return mean(mean(np.moveaxis(blocks, 2, 0)))


def _edges(tasks: pd.DataFrame, k: int) -> FloatArray:
    """(all bars + 1,): tasks, or in control environment steps."""
    count = int(tasks["task"].max()) + 1
    at = np.minimum(np.arange(0, count + k, k), count)
    if not is_control(tasks):
        return at.astype(np.float64)
    ends = tasks.groupby("task")["examples"].median().reindex(range(count)).to_numpy(dtype=np.float64)
    return filled(ends)[at]


def _runs(group: pd.DataFrame, metric: str) -> int:
    """How many have a value of it."""
    return int(group.loc[group[metric].notna(), "run"].nunique()) if metric in group.columns else 0


def _bars(ax: Axes, flow: Mapping[str, FloatArray], edges: FloatArray, colour: str, line: float) -> None:
    for name, counts in flow.items():
        drawn = -counts if name == DIED else counts
        ax.stairs(drawn, edges[: len(counts) + 1], fill=True, **_paint(name, colour))
    ax.axhline(0, color="0.2", linewidth=line)


def _paint(name: str, colour: str) -> dict[str, Any]:
    """Replacements are light: they include units that were alive, and those that were dead are revived, too."""
    return {"color": DEATH if name == DIED else colour, "alpha": 0.3 if name == REPLACED else 0.9, "linewidth": 0}


def _stock(ax: Axes, group: pd.DataFrame, x: FloatArray, look: Look, band: Band) -> float:
    """Returns how high the axis should go."""
    unit = quantity(STOCK)
    centre, low, high = (unit.scale * values for values in band.of(by_run(group, STOCK), unit.bounds))
    ax.plot(x[: len(centre)], centre, color=look.colour)
    ax.fill_between(x[: len(centre)], low, high, color=look.colour, alpha=0.2, linewidth=0)
    return span(centre, low, high)[1]


def _vertical(ax: Axes, flows: Mapping[str, Mapping[str, FloatArray]]) -> None:
    most = [float(np.nanmax(counts)) for flow in flows.values() for counts in flow.values()]
    some = [count for count in most if count > 0]
    if some and max(some) > LINEAR_RATIO * min(some):
        ax.set_yscale("symlog", linthresh=1)
    ax.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    if not some:
        ax.set_ylim(-1, 1)


def _legend(
    groups: Mapping[str, pd.DataFrame],
    flows: Mapping[str, Mapping[str, FloatArray]],
    runs: pd.DataFrame,
    band: Band,
    k: int,
    control: bool,
    notes: Sequence[str],
) -> Legend:
    names = {REPLACED: "replaced", REVIVED: "no longer dead", DIED: "died"}
    shown = [name for name in names if any(name in flow for flow in flows.values())]
    handles: list[Artist] = [Patch(**_paint(name, "#888888")) for name in shown]
    found = [f"Units of all layers{' of policy and value network' if control else ''}, mean over runs"]
    if k > 1:
        found.append(f"Bars average {k} {'rows of the log' if control else 'tasks'}")
    found.append(f"Right: {band.words()[0].lower()}{band.words()[1:]}")
    found += band.cautions([_runs(group, STOCK) for group in groups.values()])
    if diverged := int((runs["state"] == "diverged").sum()):
        found.append(f"Diverged runs ({diverged}) count with the tasks before")
    title = readable(str(runs["benchmark"].iloc[0]))
    return Legend(title, handles, [names[name] for name in shown], sentences([*found, seeds_of(runs), *notes]))
