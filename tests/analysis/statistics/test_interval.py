"""Intervals of few runs: what they cover, where they end, and when there is none (cases 3.3)."""

from typing import Any

import numpy as np
import pytest
from scipy import stats

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.statistics.band import Band
from lop_sweeps.analysis.statistics.interval import Interval, interval_of, student

EVERY: list[Interval] = ["t", "bootstrap", "bca", "standard_error"]


def covered(interval: Interval, runs: int, experiments: int = 20_000) -> float:
    """Share of experiments with normally distributed runs whose interval holds the true mean."""
    values = np.random.default_rng(runs).normal(size=(runs, experiments))
    _, low, high = interval_of(values, "mean", interval)
    return float(np.mean((low <= 0) & (high >= 0)))


def test_default_covers_what_it_says_at_five_normal_runs() -> None:
    """Cases 3.3: 84.5 % of the percentile bootstrap was called 95 %."""
    assert 0.94 <= covered("t", 5) <= 0.96
    assert 0.94 <= covered("t", 3) <= 0.96
    assert covered("bootstrap", 5, 2000) < 0.88


def test_students_interval_is_scipys_also_with_missing_runs() -> None:
    values = np.random.default_rng(0).normal(size=(6, 4))
    theirs = stats.ttest_1samp(values, 0).confidence_interval()
    mean, low, high = student(values)
    assert mean == pytest.approx(values.mean(axis=0))
    assert [*low, *high] == pytest.approx([*theirs.low, *theirs.high])
    values[4:, 1] = np.nan
    assert student(values)[1][1] == pytest.approx(student(values[:4, 1])[1])


@pytest.mark.parametrize("estimator", ["mean", "iqm"])
def test_bca_is_scipys_within_monte_carlo_error(estimator: Any) -> None:
    values = np.random.default_rng(1).lognormal(size=15)
    statistic = np.mean if estimator == "mean" else lambda x, axis: stats.trim_mean(x, 0.25, axis=axis)
    rng = np.random.default_rng(0)
    theirs = stats.bootstrap((values,), statistic, method="BCa", n_resamples=4000, rng=rng).confidence_interval
    estimate, low, high = interval_of(values, estimator, "bca")
    assert [low, high] == pytest.approx([theirs.low, theirs.high], abs=0.1 * (theirs.high - theirs.low))
    assert low < estimate < high


@pytest.mark.parametrize("interval", EVERY)
def test_two_runs_have_their_range_and_one_has_nothing(interval: Interval) -> None:
    values = np.array([[1.0, 1.0, np.nan, 2.0], [3.0, np.nan, np.nan, 2.0]])
    estimate, low, high = interval_of(values, "mean", interval)
    assert estimate[:2].tolist() == [2, 1]
    assert np.isnan(estimate[2])
    assert low[[0, 3]].tolist() == [1, 2]
    assert high[[0, 3]].tolist() == [3, 2]
    assert np.isnan([low[1:3], high[1:3]]).all()
    assert Band("mean", interval).cautions([2, 9])[0] == "Where n=2: the range of both"


@pytest.mark.parametrize("interval", EVERY)
def test_equal_runs_have_an_interval_of_no_width(interval: Interval) -> None:
    assert [*map(float, interval_of([0.1, 0.1, 0.1], "mean", interval))] == pytest.approx([0.1] * 3, abs=1e-15)


@pytest.mark.parametrize("interval", EVERY)
def test_intervals_end_at_what_is_possible(interval: Interval) -> None:
    estimate, low, high = interval_of([0.0, 0.99, 1.0], "mean", interval, (0.0, 1.0))
    assert 0 <= low <= estimate <= high <= 1
    percent = interval_of([80.0, 90.0, 91.0], "mean", interval, (0.0, 1.0))  # logged in a unit that nobody knew
    assert percent[1] <= percent[0] <= percent[2]


@pytest.mark.parametrize(
    ("estimator", "interval"), [("median", "t"), ("iqm", "t"), ("median", "bca"), ("iqm", "standard_error")]
)
def test_pairs_without_sense_are_refused_with_what_fits(estimator: Any, interval: Any) -> None:
    with pytest.raises(AnalysisError, match="bootstrap") as caught:
        Band(estimator, interval)
    assert "\n" not in str(caught.value)


def test_too_few_runs_for_a_bootstrap_are_told() -> None:
    assert Band(interval="bootstrap").cautions([5])
    assert not Band(interval="bootstrap").cautions([30, 1])
    assert not Band().cautions([5])
    assert not Band("median").cautions([5])  # it holds the truth as often as it says
