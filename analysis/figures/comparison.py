"""Methods side by side: how well each does, and by how much it differs from a baseline."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.quantity import quantity
from ..names.resolve import one_label
from ..names.seeds import seeds_of
from ..reading.metric import check_metric, performance_metric
from ..statistics.band import DEFAULT, Band
from ..statistics.compared import comparable
from ..statistics.comparison import compare, default_baseline
from ..statistics.curve_summary import SUMMARIES, bounds_of, per_run
from ..statistics.paired_test import p_text
from .legend import Legend, fill, sentences
from .limits import DIFFERENCE, mark, span
from .place import Places, figure_of, fit, places
from .style import SIZES, Look, Looks, Size, StyleName, context, looks_of, readable

# In lines of text: the least height of a row, and what the axes below the rows take. WRAP: characters of a row's name.
ROW, AXIS = 2.2, 4.0
WRAP = 36
ESTIMATE = ("difference", "difference_low", "difference_high")


def comparison(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    summary: str = "late",
    baseline: str | None = None,
    metric: str | None = None,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """A row per label, the best on top: left mean, interval and single runs, right the difference from the baseline.

    Differences are paired by seed, with the p-values of their tests (`paired_test`). Frames of one benchmark.

    summary: of a run, see `curve_summary.SUMMARIES`. baseline: a label, or a name that stands for one; default
    `comparison.default_baseline`. metric: default the benchmark's performance. looks: rows are in their order if the
    user gave one. axes: one or two of the caller's (then without title and caption). notes: more sentences of the
    caption. Raises AnalysisError for an unknown summary, metric or baseline, for a single label, and for more axes.
    """
    metric = metric or performance_metric(tasks)
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    check_metric(tasks, metric)
    unit = quantity(metric)
    tasks, cut = comparable(tasks, metric)
    summaries = per_run(tasks, metric)
    known = summaries[summaries[summary].notna()]
    if known["label"].nunique() < 2:
        raise AnalysisError("a comparison needs two methods with finished tasks")
    baseline = baseline or default_baseline(summaries, runs, unit.larger_is_better)
    baseline = one_label(baseline, map(str, summaries["label"].unique()), "to compare with")
    differences = compare(summaries, baseline, summary, unit, band).set_index("label")
    values = {str(label): group.to_numpy() for label, group in known.groupby("label")[summary]}
    colours, size, given = looks_of(runs, looks), SIZES[style], places(axes)
    labels = sorted(ordered(values), key=lambda label: values[label].mean(), reverse=unit.larger_is_better)
    diverged = runs.loc[runs["state"] == "diverged", "label"].value_counts()
    labels += ordered(set(map(str, diverged.index)) - set(labels))
    if colours.naming.order:
        labels = colours.ordered(labels)
    texts = [_text(colours.text(label), len(values.get(label, [])), int(diverged.get(label, 0))) for label in labels]
    with context(style):
        if given is None:
            caption = [*_caption(values, differences, bool(len(diverged)), band), *cut, seeds_of(runs), *notes]
            legend = Legend(readable(str(runs["benchmark"].iloc[0])), [], [], sentences(caption))
            row = max(ROW, 1 + max(text.count("\n") + 1 for text in texts))
            fig = legend.figure(size.width, (row * len(labels) + AXIS) * size.row, style)
            given = list(fig.subplots(1, 2, sharey=True, width_ratios=[1.25, 1]))
        else:
            fit(given, 2)
            fig = figure_of(given[0])
        _levels(given[0], values, labels, colours, bounds_of(summary, unit), unit.scale, band, size)
        given[0].set_xlabel(f"{unit.axis},\n{SUMMARIES[summary]}")
        mark(given[0], "", metric)
        given[0].set_yticks(range(len(labels)), texts)
        for ax in given[1:]:
            _differences(ax, differences, labels, colours, unit.scale, size)
            mark(ax, "", DIFFERENCE)
            points = {"%": "(percentage points)", "": ""}.get(unit.unit, f"({unit.unit})")
            ax.set_xlabel(f"{fill(f'Difference from {colours.text(baseline)}', WRAP)}\n{points}".rstrip())
        for ax in given:
            ax.set_ylim(len(labels) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.grid(visible=False, axis="y")
            ax.grid(visible=True, axis="x")
        return colours.typeset(fig)


def _levels(
    ax: Axes,
    values: Mapping[str, npt.NDArray[np.float64]],
    labels: Sequence[str],
    looks: Looks,
    bounds: tuple[float, float],
    scale: float,
    band: Band,
    size: Size,
) -> None:
    drawn = []
    for row, label in enumerate(labels):
        if label not in values:
            continue
        drawn.append([scale * float(number) for number in band.of(values[label], bounds)])
        _interval(ax, row, drawn[-1], looks[label].colour, size.line)
        heights = row + np.linspace(0.2, 0.36, len(values[label]))
        colour = looks[label].colour
        ax.plot(scale * values[label], heights, "o", color=colour, alpha=0.5, markersize=1.9 * size.line, mew=0)
    _, low, high = np.array(drawn).T
    ax.set_xlim(*span(scale * np.concatenate(list(values.values())), low, high))


def _differences(
    ax: Axes, differences: pd.DataFrame, labels: Sequence[str], looks: Looks, scale: float, size: Size
) -> None:
    """With p-values at the right, where there are any."""
    drawn = [[0.0, np.nan, np.nan]]
    tested = bool(differences["p_t"].notna().any())
    for row, label in enumerate(labels):
        if label not in differences.index or np.isnan(differences["difference"][label]):
            continue
        drawn.append([scale * float(differences[name][label]) for name in ESTIMATE])
        _interval(ax, row, drawn[-1], looks[label].colour, size.line)
        if tested:
            text = " / ".join(p_text(float(differences[name][label])) for name in ("p_t", "p_wilcoxon"))
            ax.text(1.03, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=size.small - 0.5)
    if tested:
        ax.text(1.03, 1.0, "p: t / Wilcoxon", transform=ax.transAxes, va="bottom", fontsize=size.small - 0.5)
    ax.axvline(0, color="0.35", linewidth=0.6 * size.line, zorder=1)
    ax.tick_params(axis="y", labelleft=False)
    centre, low, high = np.array(drawn).T
    ax.set_xlim(*span(centre, low, high))


def _interval(ax: Axes, row: int, numbers: Sequence[float], colour: str, line: float) -> None:
    """numbers: estimate, low, high."""
    ax.hlines(row, numbers[1], numbers[2], color=colour, linewidth=1.5 * line)
    ax.plot(numbers[0], row, "o", color=colour, markersize=3.6 * line, zorder=3)


def _text(name: str, runs: int, diverged: int) -> str:
    n = f"(n={runs}" + (f", {diverged} diverged)" if diverged else ")")
    return fill(f"{name} {n}", WRAP)


def _caption(
    values: Mapping[str, npt.NDArray[np.float64]], differences: pd.DataFrame, diverged: bool, band: Band
) -> list[str]:
    found = [f"{band.words('bar')}; small: single runs"]
    pairs = differences["pairs"]
    if (pairs > 0).any():
        of = f"{pairs.min()}" + (f" to {pairs.max()}" if pairs.max() > pairs.min() else "")
        found.append(f"Differences: pairs of runs with the same seed ({of})")
    if (pairs == 0).any():
        found.append("No difference is drawn where no seed is shared")
    if differences["p_t"].notna().any():
        found.append("p: paired tests of each difference for itself, not corrected for their number")
    if diverged:
        found.append("Diverged runs are counted, not averaged")
    return found + band.cautions([*(len(runs) for runs in values.values()), *pairs])
