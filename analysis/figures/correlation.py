"""Which diagnostics go with performance: within runs, over their tasks, and across runs."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import AnalysisError
from ..names.described import described
from ..names.metric import POLICY, RANK, RANK_FRACTION
from ..names.quantity import quantity
from ..names.seeds import seeds_of
from ..reading.frame import layers, metric_names
from ..reading.metric import check_metric, performance_metric
from ..statistics.band import DEFAULT, Band
from ..statistics.curve_summary import per_run
from .legend import Legend, sentences
from .place import Places, figure_of, fit, places
from .style import SIZES, Look, StyleName, context, looks_of, readable

# Ranks of fewer tasks say nothing; below so many runs the interval is most of what is possible.
POINTS, FEW_RUNS = 3, 5
# More methods have no colours that are told apart as dots.
COLOURED = 12
N_BOOT, INTERVAL = 2000, (0.025, 0.975)
# In lines of text: the height of a row, and what the axes below the rows take.
ROW, AXIS = 1.9, 4.0
ALL = "#222222"

FloatArray = npt.NDArray[np.float64]


def correlation(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    *,
    metric: str | None = None,
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    axes: Places | None = None,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """Spearman's rank correlation of each diagnostic with performance; frames of one benchmark.

    Left within runs: over the tasks of each run, mean over runs (black) and of each label (small). Right across runs:
    one point per run (at least five), its means over the last tenth of the tasks, all labels together; it has an
    interval only if they are of one label: runs of one among several are not independent. Rows are sorted by the left.
    Labels have dots of their own if there are two to twelve. A series that does not vary is left out.

    metric: default the benchmark's performance. axes: one or two of the caller's (then without title and caption).
    notes: more sentences of the caption. Raises AnalysisError for an unknown metric, for more axes than two, and if no
    diagnostic varies together with performance.
    """
    if runs["benchmark"].nunique() > 1:
        raise AnalysisError("several benchmarks in one figure; take one: sweep.of(name)")
    metric = metric or performance_metric(tasks)
    check_metric(tasks, metric)
    within, late = _within(tasks, metric), _late(tasks, metric)
    found = list(map(str, within.columns))
    labels = tasks.drop_duplicates("run").set_index("run")["label"].astype(str)
    both = {name: late[np.isfinite(late[name]) & np.isfinite(late[metric])] for name in found}
    methods = {name: int(labels.reindex(frame.index).nunique()) for name, frame in both.items()}
    across = {
        name: _across(frame[name].to_numpy(), frame[metric].to_numpy(), methods[name]) for name, frame in both.items()
    }
    means = dict(zip(found, within.mean().to_numpy(), strict=True))
    names = [name for name in found if not (np.isnan(means[name]) and np.isnan(across[name][0]))]
    names.sort(key=lambda name: (np.isnan(means[name]), -means[name]))
    if not names:
        raise AnalysisError(f"no diagnostic varies together with {metric}")
    of_label = within.groupby(labels.reindex(within.index).to_numpy()).mean()
    colours, size, given = looks_of(runs, looks), SIZES[style], places(axes)
    shown = [label for label in colours.ordered(map(str, of_label.index)) if of_label.loc[label].notna().any()]
    if len(shown) not in range(2, COLOURED + 1):
        shown = []
    with context(style):
        if given is None:
            handles: list[Artist] = [Line2D([], [], color=ALL, marker="D")]
            handles += [Line2D([], [], color=colours[label].colour, marker="o", linestyle="") for label in shown]
            counts = labels.reindex(within.index).value_counts()
            texts = ["all runs", *(f"{colours.text(label)} (n={counts[label]})" for label in shown)]
            caption = _caption(within, bool(shown), max(map(methods.__getitem__, names)), band)
            title = readable(str(runs["benchmark"].iloc[0]))
            legend = Legend(title, handles, texts, sentences([*caption, seeds_of(runs), *notes]))
            fig = legend.figure(size.width, (ROW * len(names) + AXIS) * size.row, style)
            given = list(fig.subplots(1, 2, sharey=True))
        else:
            fit(given, 2)
            fig = figure_of(given[0])
        left, right = given[0], given[1] if len(given) > 1 else None
        for row, name in enumerate(names):
            for label in shown:
                left.plot(float(of_label[name][label]), row, "o", color=colours[label].colour, alpha=0.85, mew=0)
            _estimate(left, row, [float(value) for value in band.of(within[name], (-1.0, 1.0))], size.line)
            if right is not None:
                _estimate(right, row, across[name], size.line)
        _axes(given, [_text(name, late[[name, metric]].notna().all(axis=1)) for name in names], size.line)
        left.set_title(f"Within runs (n={int(within.notna().sum().max())})")
        if right is not None:
            count = max(len(both[name]) for name in names)
            right.set_title(f"Across runs (n={count}{', too few' if count < FEW_RUNS else ''})")
        of = quantity(metric).title
        for ax in given:
            ax.set_xlabel(f"Rank correlation\nwith {of[:1].lower()}{of[1:]}")
        return colours.typeset(fig)


def diagnostics(tasks: pd.DataFrame) -> list[str]:
    """Metrics with a value per layer, and what runs say is a diagnostic; in control, those of the policy.

    The effective rank in percent where that is known.
    """
    known = metric_names(tasks)
    found = [name for name in known if layers(tasks, name) or described(name) is not None]
    if RANK_FRACTION in found:
        found.remove(RANK)
    return [POLICY + name if POLICY + name in known else name for name in found]


def _within(tasks: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per run, a column per diagnostic: the correlation over its tasks, NaN where there is none."""
    names = [name for name in diagnostics(tasks) if name != metric]
    found = {}
    for run, group in tasks[["run", metric, *names]].groupby("run", observed=True, sort=False):
        performance = group[metric].to_numpy(dtype=np.float64)
        found[run] = {name: _of_finite(group[name].to_numpy(dtype=np.float64), performance) for name in names}
    return pd.DataFrame.from_dict(found, orient="index", columns=names)


def _late(tasks: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per run, a column per diagnostic and one for performance: means over the last tenth of its tasks."""
    names = [metric, *(name for name in diagnostics(tasks) if name != metric)]
    with np.errstate(invalid="ignore"):  # an infinite value has no slope, of which nobody asks here
        return pd.DataFrame({name: per_run(tasks, name).set_index("run")["late"] for name in names})


def _across(a: FloatArray, b: FloatArray, methods: int) -> list[float]:
    """a, b (runs,), finite → correlation, and for one method its 95 % bootstrap interval over runs, else NaN."""
    if len(a) < FEW_RUNS:
        return [np.nan] * 3
    if methods > 1:
        return [float(spearman(a, b)), np.nan, np.nan]
    draws = np.random.default_rng(0).integers(len(a), size=(N_BOOT, len(a)))
    resampled = spearman(a[draws], b[draws])
    resampled = resampled[np.isfinite(resampled)]  # a resample of one run, again and again, has no correlation
    interval = np.quantile(resampled, INTERVAL) if resampled.size else [np.nan, np.nan]
    return [float(spearman(a, b)), *map(float, interval)]


def _of_finite(a: FloatArray, b: FloatArray) -> float:
    both = np.isfinite(a) & np.isfinite(b)
    return float(spearman(a[both], b[both])) if both.sum() >= POINTS else np.nan


def spearman(a: npt.ArrayLike, b: npt.ArrayLike) -> FloatArray:
    """a, b (..., points) → (...): Pearson's correlation of ranks, ties sharing theirs; NaN where one is constant."""
    from scipy.stats import rankdata  # takes a second to import

    first, second = (rankdata(np.asarray(values, dtype=np.float64), axis=-1) for values in (a, b))
    first, second = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (first, second))
    spread = np.sqrt((first**2).sum(axis=-1) * (second**2).sum(axis=-1))
    with np.errstate(invalid="ignore"):
        found: FloatArray = (first * second).sum(axis=-1) / spread
    return found


def _estimate(ax: Axes, row: int, numbers: Sequence[float], line: float) -> None:
    """numbers: estimate, low, high."""
    ax.hlines(row, numbers[1], numbers[2], color=ALL, linewidth=1.2 * line)
    ax.plot(numbers[0], row, "D", color=ALL, markersize=3.2 * line, zorder=3)


def _axes(axes: Sequence[Axes], texts: Sequence[str], line: float) -> None:
    axes[0].set_yticks(range(len(texts)), texts)
    for ax in axes[1:]:
        ax.tick_params(axis="y", labelleft=False)
    for ax in axes:
        ax.set_ylim(len(texts) - 0.5, -0.5)
        ax.set_xlim(-1.05, 1.05)
        ax.set_xticks([-1, -0.5, 0, 0.5, 1], ["−1", "−0.5", "0", "0.5", "1"])
        ax.axvline(0, color="0.35", linewidth=0.6 * line, zorder=1)
        ax.tick_params(axis="y", length=0)


def _text(name: str, present: "pd.Series[bool]") -> str:
    """With the number of runs where others have more."""
    return quantity(name).title + ("" if present.all() else f" (n={int(present.sum())})")


def _caption(within: pd.DataFrame, labels: bool, methods: int, band: Band) -> list[str]:
    across = "bar: 95% bootstrap interval"
    if methods > 1:
        across = f"{methods} methods are pooled: no interval, as runs of one method are not independent"
    return [
        f"{band.words('bar')}{'; small: mean of each method' if labels else ''}",
        "Within: Spearman's correlation over the tasks of a run; diagnostics are measured before the task",
        f"Across: one point per run, its last tenth of tasks; {across}",
        "Two quantities that both drift over the tasks correlate even if neither acts on the other",
        *band.cautions([len(within)]),
    ]
