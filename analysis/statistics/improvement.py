"""The probability that a run of one method is better than a run of another."""

import numpy as np
import numpy.typing as npt

from .interval import LEAST, LEVEL


def probability_of_improvement(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[float, float, float]:
    """a (n,), b (m,) → P(A > B) + P(A = B) / 2 over all n·m pairs, with the ends of its 95 % interval.

    0.5: no difference. It is the Mann-Whitney U over n·m and needs no pairs of seeds (Agarwal et al. 2021, here for one
    benchmark). The interval is a score interval, as Wilson's is of a share, with the variance that U has (Newcombe,
    "Confidence intervals for an effect size measure based on the Mann-Whitney statistic", Stat. Med. 2006, method 5):
    it has a width also where every a exceeds every b, which the bootstrap's has not. NaN in a or b: no such run. The
    interval is NaN where a or b has fewer than three runs.
    """
    first, second = (array[~np.isnan(array)] for array in (np.asarray(a, np.float64), np.asarray(b, np.float64)))
    if not first.size or not second.size:
        return np.nan, np.nan, np.nan
    wins = (first[:, None] > second) + 0.5 * (first[:, None] == second)  # no difference: -inf is worse than all numbers
    estimate = float(wins.mean())
    if min(wins.shape) < LEAST:
        return estimate, np.nan, np.nan
    return estimate, _low(estimate, *wins.shape), 1 - _low(1 - estimate, *wins.shape)


def _low(estimate: float, n: int, m: int) -> float:
    """The smallest θ from which the estimate is no farther than z of U's standard deviations at θ."""
    from scipy.special import ndtri

    low, high, z = 0.0, estimate, float(ndtri((1 + LEVEL) / 2))
    for _ in range(60):
        middle = (low + high) / 2
        outside = (estimate - middle) ** 2 > z**2 * _variance(middle, n, m)
        low, high = (middle, high) if outside else (low, middle)
    return low


def _variance(theta: float, n: int, m: int) -> float:
    pairs = (n + m) / 2 - 1
    return theta * (1 - theta) * (1 + pairs * (1 - theta) / (2 - theta) + pairs * theta / (1 + theta)) / (n * m)
