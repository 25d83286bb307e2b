"""What is drawn around an estimate over runs, and from how many runs on.

One run says nothing about another one: no interval. Two say how far apart two are, and no more: their range. From three
runs on there is an interval, of one of four kinds; `docs/statistics.md` has how often each of them covers the truth.
"""

from collections.abc import Mapping
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from ..errors import AnalysisError
from ..names.quantity import Bounds
from .bootstrap import bootstrap
from .estimators import ESTIMATORS, Estimator, FloatArray, mean, standard_error

Interval = Literal["t", "bootstrap", "bca", "standard_error"]

LEVEL = 0.95
# Runs from which on there is an interval, and from which on the bootstrap's holds what it says (perf/intervals.py).
LEAST = 3
ENOUGH: Mapping[Estimator, int] = {"mean": 20, "median": 5, "iqm": 10}
UNBOUNDED: Bounds = (-np.inf, np.inf)

USUAL: Mapping[Estimator, Interval] = {"mean": "t", "median": "bootstrap", "iqm": "bootstrap"}
NAMES: Mapping[Estimator, str] = {"mean": "mean", "median": "median", "iqm": "interquartile mean"}
WORDS: Mapping[Interval, str] = {
    "t": "95% Student's t interval over runs",
    "bootstrap": "95% bootstrap interval over runs",
    "bca": "95% BCa bootstrap interval over runs",
    "standard_error": "one standard error of the mean",
}
# What makes no sense, and why.
REFUSED: Mapping[tuple[Estimator, Interval], str] = {
    ("median", "t"): "Student's t interval is of the mean",
    ("iqm", "t"): "Student's t interval is of the mean",
    ("median", "standard_error"): "a standard error is of the mean",
    ("iqm", "standard_error"): "a standard error is of the mean",
    ("median", "bca"): "BCa needs a jackknife, which fails for a median",
}


def check(estimator: Estimator, interval: Interval) -> None:
    """Raises AnalysisError for an unknown name, and for a pair that makes no sense."""
    for name, known in ((estimator, get_args(Estimator)), (interval, get_args(Interval))):
        if name not in known:
            raise AnalysisError(f"no {name!r} over runs; possible: {', '.join(known)}")
    if reason := REFUSED.get((estimator, interval)):
        fitting = [name for name in get_args(Interval) if (estimator, name) not in REFUSED]
        raise AnalysisError(f"{reason}; of the {NAMES[estimator]}: {', '.join(fitting)}")


def interval_of(
    values: npt.ArrayLike, estimator: Estimator = "mean", interval: Interval = "t", bounds: Bounds = UNBOUNDED
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """values (runs, points) or (runs,) → estimate, low, high, each (points,) or ().

    NaN: the run has no such point. Two runs: their range; one: low and high are NaN. bounds: the least and the largest
    possible value, where low and high are cut.
    """
    array = np.asarray(values, dtype=np.float64)
    if interval == "t":
        estimate, low, high = student(array)
    elif interval == "standard_error":
        error = standard_error(array)
        estimate = mean(array)
        low, high = estimate - error, estimate + error
    else:
        estimate, low, high = bootstrap(array, estimator, level=LEVEL, bca=interval == "bca")
    runs = np.sum(~np.isnan(array), axis=0)
    pair, enough = runs == LEAST - 1, runs >= LEAST
    least, most = (of(array, axis=0, initial=np.nan) for of in (np.fmin.reduce, np.fmax.reduce))
    low, high = np.fmin(np.clip(low, *bounds), estimate), np.fmax(np.clip(high, *bounds), estimate)
    low, high = (
        np.asarray(np.where(pair, end, np.where(enough, found, np.nan))) for end, found in ((least, low), (most, high))
    )
    return estimate, low, high


def student(values: npt.ArrayLike, level: float = LEVEL) -> tuple[FloatArray, FloatArray, FloatArray]:
    """values (runs, points) or (runs,) → mean, low, high, each (points,) or (): Student's t interval of the mean.

    It covers what it says for normally distributed runs, however few; NaN for fewer than two.
    """
    from scipy.special import stdtrit

    array = np.asarray(values, dtype=np.float64)
    runs = np.sum(~np.isnan(array), axis=0)
    estimate = ESTIMATORS["mean"](array)
    centred = array - np.fmin.reduce(array, axis=0, initial=np.nan)  # equal runs then have exactly no width
    free = np.maximum(runs - 1, 1)
    deviation = np.sqrt(mean((centred - mean(centred)) ** 2) * runs / free)
    half = np.where(runs > 1, stdtrit(free, (1 + level) / 2) * deviation / np.sqrt(np.maximum(runs, 1)), np.nan)
    return estimate, np.asarray(estimate - half), np.asarray(estimate + half)


def too_narrow(estimator: Estimator, interval: Interval, runs: npt.ArrayLike) -> list[str]:
    """A sentence if an interval of this kind, of so many runs (of one of these), covers clearly less than it says."""
    counts, enough = np.asarray(runs), ENOUGH[estimator]
    narrow = interval in ("bootstrap", "bca") and bool(np.any((counts >= LEAST) & (counts < enough)))
    return [f"Bootstrap intervals of fewer than {enough} runs are too narrow"] if narrow else []


def ranges(runs: npt.ArrayLike) -> bool:
    """Whether a range is drawn instead of an interval for one of these numbers of runs."""
    return bool(np.any(np.asarray(runs) == LEAST - 1))
