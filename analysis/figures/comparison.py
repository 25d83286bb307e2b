"""Methods side by side: how well each does, and by how much it differs from a baseline."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..band import DEFAULT
from ..bootstrap import FEW_RUNS, TOO_NARROW
from ..comparison import comparable, compare, default_baseline
from ..curve_summary import SUMMARIES, per_run
from ..errors import AnalysisError
from ..label import ordered
from ..metric import check_metric
from ..quantity import performance_metric, quantity
from .legend import Legend, figure_of
from .style import SIZES, Look, StyleName, context, looks_of, readable

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
    looks: Mapping[str, Look] | None = None,
    axes: Sequence[Axes] | None = None,
    style: StyleName = "paper",
) -> Figure:
    """A row per label, the best on top: left mean, interval and single runs, right the difference from the baseline.

    Differences are paired by seed. Frames of one benchmark.

    summary: of a run, see `curve_summary.SUMMARIES`. baseline: a label, default `comparison.default_baseline`. metric:
    default the benchmark's performance. axes: two of the caller's (then without title and caption). Raises
    AnalysisError for an unknown summary, metric or baseline, for a single label, and for a wrong number of axes.
    """
    metric = metric or performance_metric(tasks)
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    check_metric(tasks, metric)
    unit = quantity(metric)
    tasks, notes = comparable(tasks, metric)
    summaries = per_run(tasks, metric)
    baseline = baseline or default_baseline(summaries, runs, unit.larger_is_better)
    summaries[summary] *= unit.scale
    if summaries.loc[summaries[summary].notna(), "label"].nunique() < 2:
        raise AnalysisError("a comparison needs two methods with finished tasks")
    differences = compare(summaries, baseline, summary, unit.larger_is_better).set_index("label")
    known = summaries[summaries[summary].notna()]
    values = {str(label): group.to_numpy() for label, group in known.groupby("label")[summary]}
    labels = sorted(ordered(values), key=lambda label: values[label].mean(), reverse=unit.larger_is_better)
    diverged = runs.loc[runs["state"] == "diverged", "label"].value_counts()
    labels += ordered(set(map(str, diverged.index)) - set(labels))
    texts = [_text(label, len(values.get(label, [])), int(diverged.get(label, 0))) for label in labels]
    with context(style):
        colours, size = looks_of(runs, looks), SIZES[style]
        if axes is None:
            caption = ". ".join([_caption(values, differences, bool(len(diverged))), *notes]).rstrip(".") + "."
            legend = Legend(readable(str(runs["benchmark"].iloc[0])), [], [], caption)
            row = max(ROW, 1 + max(text.count("\n") + 1 for text in texts))
            fig = legend.figure(size.width, (row * len(labels) + AXIS) * size.row, style)
            axes = fig.subplots(1, 2, sharey=True, width_ratios=[1.25, 1])
        elif len(axes) != 2:
            raise AnalysisError(f"2 axes are needed, not {len(axes)}")
        else:
            fig = figure_of(axes[0])
        left, right = axes
        for row, label in enumerate(labels):
            colour = colours[label].colour
            if label in values:
                _interval(left, row, [float(number) for number in DEFAULT.of(values[label])], colour, size.line)
                heights = row + np.linspace(0.2, 0.36, len(values[label]))
                left.plot(values[label], heights, "o", color=colour, alpha=0.5, markersize=1.9 * size.line, mew=0)
            if label in differences.index:
                numbers = [float(differences[name][label]) for name in ESTIMATE]
                _interval(right, row, numbers, colour, size.line)
        right.axvline(0, color="0.35", linewidth=0.6 * size.line, zorder=1)
        left.set_yticks(range(len(labels)), texts)
        right.tick_params(axis="y", labelleft=False)
        for ax in axes:
            ax.set_ylim(len(labels) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.grid(visible=False, axis="y")
            ax.grid(visible=True, axis="x")
        left.set_xlabel(f"{unit.axis},\n{SUMMARIES[summary]}")
        points = {"%": "(percentage points)", "": ""}.get(unit.unit, f"({unit.unit})")
        right.set_xlabel(fill(f"Difference from {baseline.replace('_', ' ')}", WRAP) + f"\n{points}".rstrip())
    return fig


def _interval(ax: Axes, row: int, numbers: Sequence[float], colour: str, line: float) -> None:
    """numbers: estimate, low, high."""
    ax.hlines(row, numbers[1], numbers[2], color=colour, linewidth=1.5 * line)
    ax.plot(numbers[0], row, "o", color=colour, markersize=3.6 * line, zorder=3)


def _text(label: str, runs: int, diverged: int) -> str:
    n = f"(n={runs}" + (f", {diverged} diverged)" if diverged else ")")
    return fill(f"{label.replace('_', ' ')} {n}", WRAP)


def _caption(values: Mapping[str, npt.NDArray[np.float64]], differences: pd.DataFrame, diverged: bool) -> str:
    sentences = [f"{DEFAULT.words().replace('band', 'bar')}; small: single runs"]
    pairs = differences["pairs"]
    if (pairs > 0).any():
        of = f"{pairs.min()}" + (f" to {pairs.max()}" if pairs.max() > pairs.min() else "")
        sentences.append(f"Differences: pairs of runs with the same seed ({of})")
    if (pairs == 0).any():
        sentences.append("No difference is drawn where no seed is shared")
    if diverged:
        sentences.append("Diverged runs are counted, not averaged")
    if any(1 < len(runs) < FEW_RUNS for runs in values.values()):
        sentences.append(TOO_NARROW)
    return ". ".join(sentences) + "."
