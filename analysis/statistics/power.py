"""How many seeds a comparison needs, from a pilot's spread."""

import numpy as np
import numpy.typing as npt

from ..errors import AnalysisError

LARGE, MOST = 200, 10_000


def seeds_needed(
    differences: npt.ArrayLike, difference: float, *, power: float = 0.8, level: float = 0.05
) -> int | None:
    """Pairs of runs with which a paired two-sided t-test finds a true difference of this size with this power.

    differences (pairs,): of a pilot, seed by seed, of which only the spread counts; NaN left out. Their standard
    deviation is taken for the true one, and of n pilot pairs it is known to about 70 / sqrt(n) percent, so that the
    answer is rough. None: more than 10,000. Raises AnalysisError for fewer than three pairs, or a difference of 0.
    """
    from scipy import stats  # takes a second to import

    known = np.asarray(differences, dtype=np.float64)
    known = known[np.isfinite(known)]
    if len(known) < 3:
        raise AnalysisError(f"a pilot needs three pairs of runs at least, and here are {len(known)}")
    if not np.isfinite(difference) or difference == 0:
        raise AnalysisError("the difference to be found must not be 0")
    spread = float(known.std(ddof=1))
    if spread == 0:
        return 2
    effect = abs(difference) / spread

    def reached(n: int) -> bool:
        critical, shift = stats.t.ppf(1 - level / 2, n - 1), effect * np.sqrt(n)
        if n > LARGE:  # where the noncentral t-distribution is nearly normal, and its code no longer reliable
            return bool(stats.norm.sf(critical - shift) >= power)
        return bool(stats.nct.sf(critical, n - 1, shift) + stats.nct.cdf(-critical, n - 1, shift) >= power)

    high = 2
    while not reached(high):
        high *= 2
        if high > 2 * MOST:
            return None
    low = high // 2  # which does not reach it, or is 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high if high <= MOST else None
