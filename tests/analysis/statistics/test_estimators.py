"""Mean, median, interquartile mean and standard error over runs: closed forms, and agreement with scipy."""

import numpy as np
import pytest
from scipy import stats

from lop_sweeps.analysis.statistics.estimators import ESTIMATORS, iqm, mean, median, standard_error

EVERY = [*ESTIMATORS.values(), standard_error]


def test_closed_forms() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 100.0]
    assert mean(values) == 16
    assert median(values) == 4.5
    assert iqm(values) == 4.5  # of 3, 4, 5, 6
    assert iqm([0.0, 0.0, 3.0, 6.0, 100.0]) == 3  # one of five at each end
    assert standard_error([1.0, 3.0]) == pytest.approx(1 / np.sqrt(2))


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_interquartile_mean_of_fewer_than_four_runs_is_their_mean(runs: int) -> None:
    values = np.array([1.0, 5.0, 100.0])[:runs]
    assert iqm(values) == pytest.approx(values.mean())
    assert iqm([1.0, 5.0, 100.0, 1000.0]) == 52.5


@pytest.mark.parametrize("runs", [*range(1, 14), 30, 101])
def test_agrees_with_scipy_and_numpy(runs: int) -> None:
    values = np.random.default_rng(runs).standard_cauchy(size=(runs, 6))
    assert iqm(values) == pytest.approx(stats.trim_mean(values, 0.25, axis=0), rel=1e-12)
    assert median(values).tolist() == np.median(values, axis=0).tolist()
    assert mean(values) == pytest.approx(values.mean(axis=0), rel=1e-12)
    if runs > 1:
        assert standard_error(values) == pytest.approx(stats.sem(values, axis=0, ddof=0), rel=1e-12)
        unbiased = standard_error(values) * np.sqrt(runs / (runs - 1))
        assert unbiased == pytest.approx(stats.sem(values, axis=0, ddof=1), rel=1e-12)


@pytest.mark.parametrize("estimate", EVERY)
def test_each_point_uses_the_runs_that_have_it(estimate: type) -> None:
    values = np.random.default_rng(0).normal(size=(9, 5))
    values[6:, 1] = np.nan
    values[[0, 3], 2] = np.nan
    values[1:, 3] = np.nan
    values[:, 4] = np.nan
    found = estimate(values)
    assert found.shape == (5,)
    for point in range(4):
        column = values[:, point]
        alone = estimate(column[~np.isnan(column)])
        assert alone.shape == ()
        assert found[point] == pytest.approx(float(alone), rel=1e-12, nan_ok=True)
    assert np.isnan(found[4])


def test_one_run_is_its_own_estimate_without_a_standard_error() -> None:
    for estimate in ESTIMATORS.values():
        assert estimate([[0.3, 0.4]]).tolist() == [0.3, 0.4]
    assert np.isnan(standard_error([[0.3, 0.4]])).all()


@pytest.mark.parametrize("estimate", EVERY)
def test_no_run_and_no_point(estimate: type) -> None:
    assert np.isnan(estimate(np.zeros((0, 3)))).tolist() == [True] * 3
    assert np.isnan(estimate(np.zeros(0)))
    assert estimate(np.zeros((3, 0))).shape == (0,)
