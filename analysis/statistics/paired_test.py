"""Could a difference between two methods, seed by seed, be chance?"""

import numpy as np
import numpy.typing as npt

from .interval import LEAST


def paired_test(differences: npt.ArrayLike) -> tuple[float, float]:
    """differences (pairs,), NaN left out → two-sided p-values of the paired t-test and of Wilcoxon's signed-rank test.

    The first asks whether the mean difference is 0, and takes differences for normally distributed; the second asks
    whether they are symmetric about 0, and only ranks them. Of n pairs its p-value cannot be below 2 / 2ⁿ
    (`smallest_wilcoxon`). NaN for fewer than three pairs, and where all differences are equal: then nothing varies.
    """
    from scipy import stats  # takes a second to import

    known = np.asarray(differences, dtype=np.float64)
    known = known[np.isfinite(known)]
    if len(known) < LEAST or np.ptp(known) <= 1e-12 * np.abs(known).max():
        return np.nan, np.nan
    return float(stats.ttest_1samp(known, 0).pvalue), float(stats.wilcoxon(known).pvalue)


def p_text(p: float) -> str:
    """A p-value as it is printed; '–' for none."""
    if np.isnan(p):
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def smallest_wilcoxon(pairs: int) -> float:
    """The p-value where all differences have one sign."""
    return float(2.0 ** (1 - pairs))
