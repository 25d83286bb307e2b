"""p-values of paired differences, and the probability of improvement with an interval that means something."""

import numpy as np
import pytest
from scipy import stats

from lop_sweeps.analysis.statistics.improvement import probability_of_improvement
from lop_sweeps.analysis.statistics.paired_test import paired_test, smallest_wilcoxon


def test_both_tests_are_scipys() -> None:
    a, b = np.random.default_rng(0).normal(size=(2, 9))
    assert paired_test(a - b) == pytest.approx((stats.ttest_rel(a, b).pvalue, stats.wilcoxon(a, b).pvalue))
    assert paired_test([*(a - b), np.nan]) == paired_test(a - b)


def test_no_test_of_two_pairs_or_of_differences_that_do_not_vary() -> None:
    for differences in ([], [1.0], [1.0, 2.0], [0.0, 0.0, 0.0], [0.1, 0.1, 0.1], [0.3 - 0.2, 0.2 - 0.1, 0.1]):
        assert np.isnan(paired_test(differences)).all()


def test_wilcoxon_cannot_be_below_what_is_told() -> None:
    assert paired_test([1.0, 2.0, 3.0, 4.0, 5.5])[1] == pytest.approx(smallest_wilcoxon(5)) == 0.0625


def test_improvement_of_five_clear_pairs_is_not_certain() -> None:
    """Cases 3.4: it was 1.00 [1.00, 1.00]."""
    estimate, low, high = probability_of_improvement(range(5, 10), range(5))
    assert (estimate, high) == (1, 1)
    assert 0.5 < low < 0.8
    estimate, low, high = probability_of_improvement(range(5), range(5, 10))
    assert (estimate, low) == (0, 0)
    assert 0.2 < high < 0.5


def test_interval_of_the_improvement_solves_newcombes_equation() -> None:
    a, b = np.random.default_rng(4).normal(size=(2, 12))
    estimate, low, high = probability_of_improvement(a, b)
    for end in (low, high):
        pairs = 11
        variance = end * (1 - end) * (1 + pairs * (1 - end) / (2 - end) + pairs * end / (1 + end)) / 144
        assert (estimate - end) ** 2 == pytest.approx(stats.norm.ppf(0.975) ** 2 * variance)
