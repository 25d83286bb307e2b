"""Is one method better than another? By how much, and in how many pairs of runs."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.quantity import Bounds, Quantity
from ..names.resolve import one_label
from .band import DEFAULT, Band
from .curve_summary import SUMMARIES, bounds_of
from .improvement import probability_of_improvement
from .interval import UNBOUNDED
from .paired_test import paired_test

COLUMNS = ("label", "n", "n_baseline", "diverged", "diverged_baseline", "pairs")
ESTIMATES = ("difference", "improvement")
TESTS = ("p_t", "p_wilcoxon")


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, band: Band = DEFAULT, bounds: Bounds = UNBOUNDED
) -> tuple[float, float, float]:
    """a, b (pairs,) → estimate of a − b, by default its mean, with the ends of its interval over pairs.

    Whatever the two runs of a pair share (their seed: tasks, initial weights) cancels, so the interval is narrower
    than that of two means, where runs with one seed resemble each other. A pair with a NaN is left out; the
    interval is the range of two pairs, NaN for one, and all is for none. Raises ValueError if a and b differ in shape.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"pairs need two arrays of one length, not of shapes {first.shape} and {second.shape}")
    estimate, low, high = band.of(first - second, bounds)
    return float(estimate), float(low), float(high)


def default_baseline(summaries: pd.DataFrame, runs: pd.DataFrame, larger_is_better: bool = True) -> str:
    """Of the labels that are plain backprop the one with the best late performance; without any, the first label.

    The strongest baseline is the one to beat. summaries: of `per_run`; runs: the frame of runs, both of one benchmark.
    Raises AnalysisError without a finished task.
    """
    labels = ordered(map(str, summaries["label"].unique()))
    if not labels:
        raise AnalysisError("no finished task to compare")
    plain = set(map(str, runs.loc[runs["algorithm"] == "backprop", "label"]))
    late = summaries[summaries["label"].isin(plain)].groupby("label", observed=True)["late"].mean().dropna()
    if late.empty:
        return next((label for label in labels if label in plain), labels[0])
    return str(late.idxmax() if larger_is_better else late.idxmin())


def compare(
    summaries: pd.DataFrame,
    baseline: str,
    summary: str = "late",
    unit: Quantity | None = None,
    band: Band = DEFAULT,
) -> pd.DataFrame:
    """One row per label other than `baseline`, baselines first; summaries: of `per_run`, of one benchmark.

    baseline: a label, or a name that stands for one. unit: of what is summarised; default one of which more is better.

    n, n_baseline: runs with the summary. diverged, diverged_baseline: runs that diverged, which have none but `early`.
    pairs: seeds of which both have it.
    difference (with _low, _high): label − baseline, paired by seed: one seed gives both the same tasks, and the same
    initial weights where their networks are the same. In the unit of the summary, whatever is better; NaN without
    common seeds.
    p_t, p_wilcoxon: of the paired tests of these differences (`paired_test`), each for itself: among several labels, or
    chosen after looking at them, the smallest is smaller than chance would have it.
    improvement (with _low, _high): probability that a run of the label is better than one of the baseline, 0.5 without
    a difference; it takes all runs, paired or not, and one that diverged is worse than any that did not.

    Raises AnalysisError for several benchmarks, an unknown summary or an unknown baseline.
    """
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    if summaries["benchmark"].nunique() > 1:
        names = ", ".join(sorted(map(str, summaries["benchmark"].unique())))
        raise AnalysisError(f"several benchmarks ({names}) in one comparison; take one: sweep.of(name)")
    labels = ordered(map(str, summaries["label"].unique()))
    baseline = one_label(baseline, labels, "to compare with")
    larger_is_better = unit is None or unit.larger_is_better
    bounds = UNBOUNDED if unit is None else bounds_of(summary, unit, difference=True)
    base = summaries[summaries["label"] == baseline]
    rows = []
    for label in labels:
        if label == baseline:
            continue
        runs = summaries[summaries["label"] == label]
        pairs = runs.merge(base, on="seed", suffixes=("", "_baseline"))
        a, b = (pairs[name].to_numpy(dtype=np.float64) for name in (summary, f"{summary}_baseline"))
        difference = (*paired_difference(a, b, band, bounds), *paired_test(a - b))
        improvement = probability_of_improvement(*(_worth(of, summary, larger_is_better) for of in (runs, base)))
        counts = [int(of[summary].notna().sum()) for of in (runs, base)]
        diverged = [int((of["state"] == "diverged").sum()) for of in (runs, base)]
        paired = int(pairs[[summary, f"{summary}_baseline"]].notna().all(axis=1).sum())
        rows.append([label, *counts, *diverged, paired, *difference, *improvement])
    difference_columns, improvement_columns = ([name + part for part in ("", "_low", "_high")] for name in ESTIMATES)
    return pd.DataFrame(rows, columns=[*COLUMNS, *difference_columns, *TESTS, *improvement_columns])


def _worth(runs: pd.DataFrame, summary: str, larger_is_better: bool) -> npt.NDArray[np.float64]:
    """(runs,): the larger the better; what diverged is the worst."""
    values = runs[summary].to_numpy(dtype=np.float64) * (1 if larger_is_better else -1)
    return np.where(np.isnan(values) & (runs["state"] == "diverged").to_numpy(), -np.inf, values)
