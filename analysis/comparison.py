"""Is one method better than another? By how much, and in how many pairs of runs."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from .bootstrap import bootstrap, resamples, tails
from .curve_summary import SUMMARIES
from .errors import AnalysisError
from .label import ordered

Estimate = tuple[float, float, float]
N_BOOT, LEVEL = 2000, 0.95
COLUMNS = ("label", "n", "n_baseline", "diverged", "diverged_baseline", "pairs")
ESTIMATES = ("difference", "improvement")


def paired_difference(a: npt.ArrayLike, b: npt.ArrayLike) -> Estimate:
    """a, b (pairs,) → mean of a − b, with the ends of its 95 % bootstrap interval over pairs.

    Whatever the two runs of a pair share (their seed: tasks, initial weights) cancels, so the interval is narrower
    than that of two means, where runs with one seed resemble each other. A pair with a NaN is left out; the
    interval is NaN for one pair, all is for none. Raises ValueError if a and b differ in shape.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"pairs need two arrays of one length, not of shapes {first.shape} and {second.shape}")
    mean, low, high = bootstrap(first - second)
    return float(mean), float(low), float(high)


def probability_of_improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> Estimate:
    """a (n,), b (m,) → P(A > B) + P(A = B) / 2 over all n·m pairs, with the ends of its 95 % bootstrap interval.

    0.5: no difference. It is the Mann-Whitney U over n·m, and needs no pairs of seeds; runs of both are drawn with
    replacement, each among its own. Source: Agarwal et al. 2021, here for one benchmark. NaN in a or b: no such run.
    The interval is NaN where a or b has one run. Where every a exceeds every b it has no width, whatever the number
    of runs: no resample can contain the opposite.
    """
    first, second = (array[~np.isnan(array)] for array in (np.asarray(a, np.float64), np.asarray(b, np.float64)))
    if not first.size or not second.size:
        return np.nan, np.nan, np.nan
    wins = (first[:, None] > second) + 0.5 * (first[:, None] == second)  # no difference: -inf is worse than all numbers
    if min(wins.shape) == 1:
        return float(wins.mean()), np.nan, np.nan
    rng = np.random.default_rng(0)
    shares = [resamples(runs, N_BOOT, rng) / runs for runs in wins.shape]
    low, high = np.quantile(np.sum(shares[0] @ wins * shares[1], axis=1), tails(LEVEL))
    return float(wins.mean()), float(low), float(high)


def comparable(tasks: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[str]]:
    """The frame of tasks as far as every label has a run, without runs that are not there yet; sentences about it.

    A method of which five tasks are done is compared with the first five of the others. Runs that diverged stay.
    Frames of one benchmark.
    """
    known = tasks[tasks[metric].notna()]
    runs = known.groupby("run", observed=True).agg(
        label=("label", "first"), state=("state", "first"), last=("task", "max")
    )
    going = runs[runs["state"] != "diverged"]
    if going.empty:
        return tasks, []
    reached = going.groupby("label", observed=True)["last"].max()
    short = going.index[going["last"] < reached.min()]
    notes = [f"The first {reached.min() + 1} tasks, as far as every method has come"] if reached.nunique() > 1 else []
    notes += [f"Left out: {len(short)} run{'s' * (len(short) > 1)} with fewer tasks"] if len(short) else []
    return tasks[(tasks["task"] <= reached.min()) & ~tasks["run"].isin(short)] if notes else tasks, notes


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
    summaries: pd.DataFrame, baseline: str, summary: str = "late", larger_is_better: bool = True
) -> pd.DataFrame:
    """One row per label other than `baseline`, baselines first; summaries: of `per_run`, of one benchmark.

    n, n_baseline: runs with the summary. diverged, diverged_baseline: runs that diverged, which have none but `early`.
    pairs: seeds of which both have it.
    difference (with _low, _high): label − baseline, paired by seed: one seed gives both the same tasks, and the same
    initial weights where their networks are the same. In the unit of the summary, whatever is better; NaN without
    common seeds.
    improvement (with _low, _high): probability that a run of the label is better than one of the baseline, 0.5 without
    a difference; it takes all runs, paired or not, and one that diverged is worse than any that did not.
    No p-value: among several labels, chosen after looking at them, it would not mean what it says.

    Raises AnalysisError for several benchmarks, an unknown summary or an unknown baseline.
    """
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    if summaries["benchmark"].nunique() > 1:
        names = ", ".join(sorted(map(str, summaries["benchmark"].unique())))
        raise AnalysisError(f"several benchmarks ({names}) in one comparison; take one: sweep.of(name)")
    labels = ordered(map(str, summaries["label"].unique()))
    if baseline not in labels:
        raise AnalysisError(f"no label {baseline!r} to compare with; there are: {'; '.join(labels)}")
    base = summaries[summaries["label"] == baseline]
    rows = []
    for label in labels:
        if label == baseline:
            continue
        runs = summaries[summaries["label"] == label]
        pairs = runs.merge(base, on="seed", suffixes=("", "_baseline"))
        difference = paired_difference(pairs[summary].to_numpy(), pairs[f"{summary}_baseline"].to_numpy())
        improvement = probability_of_improvement(*(_worth(of, summary, larger_is_better) for of in (runs, base)))
        counts = [int(of[summary].notna().sum()) for of in (runs, base)]
        diverged = [int((of["state"] == "diverged").sum()) for of in (runs, base)]
        paired = int(pairs[[summary, f"{summary}_baseline"]].notna().all(axis=1).sum())
        rows.append([label, *counts, *diverged, paired, *difference, *improvement])
    named = [name + part for name in ESTIMATES for part in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*COLUMNS, *named])


def _worth(runs: pd.DataFrame, summary: str, larger_is_better: bool) -> npt.NDArray[np.float64]:
    """(runs,): the larger the better; what diverged is the worst."""
    values = runs[summary].to_numpy(dtype=np.float64) * (1 if larger_is_better else -1)
    return np.where(np.isnan(values) & (runs["state"] == "diverged").to_numpy(), -np.inf, values)
