"""The percentile bootstrap of a mean over runs."""

import warnings

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
# Resampled means held at once; 4 million numbers are 32 MB.
CHUNK = 4_000_000


def bootstrap_mean(
    values: npt.ArrayLike, n_boot: int = 2000, seed: int = 0, level: float = 0.95
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """values (runs, points) → mean, low, high, each (points,); values (runs,) give three arrays of shape ().

    Percentile interval of the mean (Efron & Tibshirani 1993, ch. 13) over *runs*, the only independent
    repetitions: whole runs are drawn with replacement, the same draw for all points. NaN means that a run has
    no such point; each point uses the runs that have it. With one run the interval is NaN, without any the
    mean too. The result at a point depends on that point's values and the seed only. Below five runs the
    interval is known to be too narrow.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim not in (1, 2):
        raise ValueError(f"values must be (runs, points) or (runs,), not of shape {array.shape}")
    if not 0 < level < 1 or n_boot < 1:
        raise ValueError(f"level must be in (0, 1) and n_boot positive, not {level} and {n_boot}")
    table = array if array.ndim == 2 else array[:, None]
    present = ~np.isnan(table)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Mean of empty slice")
        mean = np.nanmean(table, axis=0) if len(table) else np.full(table.shape[1], np.nan)
    low, high = np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    # Runs mostly differ in their length only, so few patterns of "which runs have this point" exist.
    patterns, which = np.unique(present, axis=1, return_inverse=True)
    for index, pattern in enumerate(patterns.T):
        if pattern.sum() > 1:
            points = np.flatnonzero(which.ravel() == index)
            interval = _interval(table[np.ix_(pattern, points)], n_boot, seed, level)
            low[points], high[points] = mean[points] + interval
    shape = array.shape[1:]
    return mean.reshape(shape), low.reshape(shape), high.reshape(shape)


def _interval(values: FloatArray, n_boot: int, seed: int, level: float) -> FloatArray:
    """values (runs, points) without NaN → (2, points): the interval's ends minus the mean."""
    runs, points = values.shape
    draws = np.random.default_rng(seed).integers(runs, size=(n_boot, runs))
    rows = np.repeat(np.arange(n_boot), runs)
    shares = np.bincount(rows * runs + draws.ravel(), minlength=n_boot * runs).reshape(n_boot, runs) / runs
    centred = values - values.mean(axis=0)  # equal runs then give an interval of exactly zero width
    tails = [(1 - level) / 2, (1 + level) / 2]
    step = max(1, CHUNK // n_boot)
    chunks = (centred[:, at : at + step] for at in range(0, points, step))
    return np.concatenate([np.quantile(shares @ chunk, tails, axis=0) for chunk in chunks], axis=1)
