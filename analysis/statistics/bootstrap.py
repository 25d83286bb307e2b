"""The bootstrap of an estimate over runs: percentile interval, and BCa."""

import numpy as np
import numpy.typing as npt

from .estimators import ESTIMATORS, Estimator, FloatArray, trimmed

# Resampled estimates held at once; 4 million numbers are 32 MB.
CHUNK = 4_000_000


def bootstrap(
    values: npt.ArrayLike,
    estimator: Estimator = "mean",
    n_boot: int = 2000,
    seed: int = 0,
    level: float = 0.95,
    bca: bool = False,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """values (runs, points) → estimate, low, high, each (points,); values (runs,) give three arrays of shape ().

    Percentile interval of the estimate (Efron & Tibshirani 1993, ch. 13) over *runs*, the only independent
    repetitions: whole runs are drawn with replacement, the same draw for all points. NaN means that a run has
    no such point; each point uses the runs that have it. With one run the interval is NaN, without any the
    estimate too. The result at a point depends on that point's values and the seed only. bca: corrected for bias and
    acceleration (ibid., ch. 14). Both are too narrow for few runs: docs/statistics.md has by how much.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(f"values must be (runs, points) or (runs,), not of shape {array.shape}")
    if not 0 < level < 1 or n_boot < 1:
        raise ValueError(f"level must be in (0, 1) and n_boot positive, not {level} and {n_boot}")
    table = array if array.ndim == 2 else array[:, None]
    present = ~np.isnan(table)
    estimate = ESTIMATORS[estimator](table)
    low, high = np.full_like(estimate, np.nan), np.full_like(estimate, np.nan)
    # Runs mostly differ in their length only, so few patterns of "which runs have this point" exist.
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    for index, pattern in enumerate(patterns.T):
        if pattern.sum() > 1:
            points = np.flatnonzero(which.ravel() == index)
            interval = _interval(table[np.ix_(pattern, points)], estimator, n_boot, seed, level, bca)
            low[points], high[points] = estimate[points] + interval
    shape = array.shape[1:]
    return estimate.reshape(shape), low.reshape(shape), high.reshape(shape)


def bootstrap_mean(
    values: npt.ArrayLike, n_boot: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """`bootstrap` of the mean."""
    return bootstrap(values, "mean", n_boot, seed, level)


def resamples(runs: int, n_boot: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """(n_boot, runs): how often each run is in each resample of as many runs."""
    draws = rng.integers(runs, size=(n_boot, runs))
    rows = np.repeat(np.arange(n_boot), runs)
    return np.bincount(rows * runs + draws.ravel(), minlength=n_boot * runs).reshape(n_boot, runs)


def tails(level: float) -> list[float]:
    """The two quantiles of the resampled estimates between which a share `level` of them lies."""
    return [(1 - level) / 2, (1 + level) / 2]


def _interval(values: FloatArray, estimator: Estimator, n_boot: int, seed: int, level: float, bca: bool) -> FloatArray:
    """values (runs, points) without NaN → (2, points): the interval's ends minus the estimate."""
    counts = resamples(len(values), n_boot, np.random.default_rng(seed))
    centred = values - ESTIMATORS[estimator](values)  # equal runs then give an interval of exactly zero width
    step = max(1, CHUNK // n_boot)
    chunks = (centred[:, at : at + step] for at in range(0, values.shape[1], step))
    resample = _means if estimator == "mean" else _trimmed_means
    cut = trimmed(estimator, len(values))
    found = []
    for chunk in chunks:
        estimates = resample(chunk, counts, cut)
        found.append(
            _corrected(chunk, estimates, estimator, level) if bca else np.quantile(estimates, tails(level), axis=0)
        )
    return np.concatenate(found, axis=1)


def _corrected(values: FloatArray, estimates: FloatArray, estimator: Estimator, level: float) -> FloatArray:
    """values (runs, points), estimates (n_boot, points) → (2, points): the quantiles that BCa takes."""
    from scipy.special import ndtr, ndtri

    estimate, count = ESTIMATORS[estimator](values), len(estimates)
    below = (np.mean(estimates < estimate, axis=0) + np.mean(estimates <= estimate, axis=0)) / 2
    bias = ndtri(np.clip(below, 0.5 / count, 1 - 0.5 / count))
    without = np.array([ESTIMATORS[estimator](np.delete(values, run, axis=0)) for run in range(len(values))])
    apart = without.mean(axis=0) - without
    spread = np.sum(apart**2, axis=0)
    acceleration = np.sum(apart**3, axis=0) / (6 * np.where(spread > 0, spread, 1) ** 1.5)
    ranked = np.sort(estimates, axis=0)
    ends = []
    for tail in tails(level):
        moved = bias + ndtri(tail)
        place = ndtr(bias + moved / np.maximum(1 - acceleration * moved, 1e-12)) * (count - 1)
        low = np.floor(place).astype(np.int64)
        high, columns = np.minimum(low + 1, count - 1), np.arange(values.shape[1])
        ends.append(ranked[low, columns] + (place - low) * (ranked[high, columns] - ranked[low, columns]))
    return np.array(ends)


def _means(values: FloatArray, counts: npt.NDArray[np.int64], cut: int) -> FloatArray:
    """values (runs, points), counts (n_boot, runs) → (n_boot, points)."""
    means: FloatArray = (counts / (len(values) - 2 * cut)) @ values
    return means


def _trimmed_means(values: FloatArray, counts: npt.NDArray[np.int64], cut: int) -> FloatArray:
    """values (runs, points), counts (n_boot, runs) → (n_boot, points): without the `cut` lowest and highest.

    No resample is sorted: with the runs in order, the sums of their counts say which of a resample's values are kept.
    """
    runs, points = values.shape
    order = np.argsort(values, axis=0)
    by_run = counts.T.astype(np.float64)
    found = np.empty((points, len(counts)))
    for point, ranked in enumerate(order.T):
        up_to = np.clip(np.cumsum(by_run[ranked], axis=0), cut, runs - cut)
        kept = np.diff(up_to, axis=0, prepend=cut)
        found[point] = values[ranked, point] @ kept / (runs - 2 * cut)
    return found.T
