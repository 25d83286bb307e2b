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
    wins = (np.sign(first[:, None] - second) + 1) / 2
    if min(wins.shape) == 1:
        return float(wins.mean()), np.nan, np.nan
    rng = np.random.default_rng(0)
    shares = [resamples(runs, N_BOOT, rng) / runs for runs in wins.shape]
    low, high = np.quantile(np.sum(shares[0] @ wins * shares[1], axis=1), tails(LEVEL))
    return float(wins.mean()), float(low), float(high)


def default_baseline(runs: pd.DataFrame) -> str:
    """Of the labels with finished tasks one that is plain backprop, that with the most runs, else the first.

    runs: of one benchmark. Of equals the first in `label.ordered`. Raises AnalysisError without a finished task.
    """
    started = runs[runs["tasks"] > 0]
    if started.empty:
        raise AnalysisError("no finished task to compare")
    plain = started[started["algorithm"] == "backprop"]
    counts = (started if plain.empty else plain)["label"].value_counts()
    labels = ordered(map(str, counts.index))
    return labels[0] if plain.empty else max(labels, key=lambda label: counts[label])


def compare(
    summaries: pd.DataFrame, baseline: str, summary: str = "late", larger_is_better: bool = True
) -> pd.DataFrame:
    """One row per label other than `baseline`, baselines first; summaries: of `per_run`, of one benchmark.

    n, n_baseline: runs with the summary. diverged, diverged_baseline: how many of them diverged; they count with
    the tasks before. pairs: seeds that both have.
    difference (with _low, _high): label − baseline, paired by seed: one seed gives both the same tasks, and the same
    initial weights where their networks are the same. In the unit of the summary, whatever is better; NaN without
    common seeds.
    improvement (with _low, _high): probability that a run of the label is better than one of the baseline, 0.5 without
    a difference; it takes all runs, paired or not.
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
    known = summaries[summaries[summary].notna()]
    base = known[known["label"] == baseline]
    rows = []
    for label in labels:
        if label == baseline:
            continue
        runs = known[known["label"] == label]
        pairs = runs.merge(base, on="seed", suffixes=("", "_baseline"))
        diverged = [int((of["state"] == "diverged").sum()) for of in (runs, base)]
        ours, theirs = runs[summary].to_numpy(), base[summary].to_numpy()
        better = (ours, theirs) if larger_is_better else (-ours, -theirs)
        estimates = (
            paired_difference(pairs[summary].to_numpy(), pairs[f"{summary}_baseline"].to_numpy()),
            probability_of_improvement(*better),
        )
        rows.append([label, len(runs), len(base), *diverged, len(pairs), *estimates[0], *estimates[1]])
    named = [name + part for name in ESTIMATES for part in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=[*COLUMNS, *named])
