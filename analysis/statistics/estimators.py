"""One number from the runs: mean, median or interquartile mean, and the standard error of the mean."""

import warnings
from collections.abc import Callable, Mapping
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

Estimator = Literal["mean", "median", "iqm"]
FloatArray = npt.NDArray[np.float64]
Count = TypeVar("Count", int, npt.NDArray[np.int64])


def mean(values: npt.ArrayLike) -> FloatArray:
    """values (runs, points) or (runs,) → (points,) or (), over the runs that are not NaN; NaN without any."""
    array = np.asarray(values, dtype=np.float64)
    if not len(array):
        return np.full(array.shape[1:], np.nan)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        return np.asarray(np.nanmean(array, axis=0), dtype=np.float64)


def median(values: npt.ArrayLike) -> FloatArray:
    """values (runs, points) or (runs,) → (points,) or (), over the runs that are not NaN; NaN without any."""
    return _trimmed_mean(values, "median")


def iqm(values: npt.ArrayLike) -> FloatArray:
    """values (runs, points) or (runs,) → (points,) or (), over the runs that are not NaN; NaN without any.

    Interquartile mean: of n runs the n // 4 lowest and the n // 4 highest are left out, as by
    `scipy.stats.trim_mean(x, 0.25)`; with fewer than four runs none is, and it is the mean. Source: Agarwal et al.,
    "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021, who pool the scores of
    several environments; here each point has its own.
    """
    return _trimmed_mean(values, "iqm")


def standard_error(values: npt.ArrayLike) -> FloatArray:
    """values (runs, points) or (runs,) → (points,) or (): standard error of the mean of the runs that are not NaN.

    As the paper draws it (`plot_online_performance.py` of the authors): the standard deviation with ddof = 0, over the
    root of the number of runs. With ddof = 1 the variance would be unbiased, and the error √(n / (n − 1)) times as
    large. NaN for one run, where the formula gives 0 although nothing is known.
    """
    array = np.asarray(values, dtype=np.float64)
    runs = np.sum(~np.isnan(array), axis=0)
    deviation = np.sqrt(mean((array - mean(array)) ** 2))
    return np.asarray(np.where(runs > 1, deviation / np.sqrt(np.maximum(runs, 1)), np.nan), dtype=np.float64)


ESTIMATORS: Mapping[Estimator, Callable[[npt.ArrayLike], FloatArray]] = {"mean": mean, "median": median, "iqm": iqm}


def trimmed(estimator: Estimator, runs: Count) -> Count:
    """How many of the lowest values of so many runs, and of the highest, are left out: all three are trimmed means."""
    if estimator == "mean":
        return 0 * runs
    return runs // 4 if estimator == "iqm" else (runs - 1) // 2


def _trimmed_mean(values: npt.ArrayLike, estimator: Estimator) -> FloatArray:
    ranked = np.sort(np.asarray(values, dtype=np.float64), axis=0)  # NaN last
    runs = np.asarray(np.sum(~np.isnan(ranked), axis=0), dtype=np.int64)
    cut = trimmed(estimator, np.maximum(runs, 1))
    rank = np.arange(len(ranked)).reshape(-1, *[1] * (ranked.ndim - 1))
    total = np.sum(ranked, axis=0, where=(rank >= cut) & (rank < runs - cut))
    return np.asarray(np.where(runs > 0, total / (np.maximum(runs, 1) - 2 * cut), np.nan), dtype=np.float64)
