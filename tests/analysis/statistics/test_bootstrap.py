"""The bootstrap interval: known values, coverage, missing values, and the axis it must not resample."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from lop_sweeps.analysis.statistics import bootstrap as module
from lop_sweeps.analysis.statistics.bootstrap import bootstrap, bootstrap_mean, resamples
from lop_sweeps.analysis.statistics.estimators import ESTIMATORS, Estimator, iqm

# Mean, low and high of 0, 1, 4, …, 36.
PINNED = [13.0, 4.425000000000006, 22.142857142857142]


def test_mean_and_shapes() -> None:
    values = np.arange(12.0).reshape(4, 3)
    mean, low, high = bootstrap_mean(values)
    assert mean.tolist() == values.mean(axis=0).tolist()
    assert low.shape == high.shape == (3,)
    assert (low < mean).all()
    assert (mean < high).all()
    single = bootstrap_mean(values[:, 1])
    assert [array.shape for array in single] == [(), (), ()]
    assert [float(array) for array in single] == [float(array[1]) for array in (mean, low, high)]


def test_two_runs_have_a_known_interval() -> None:
    """Of the resamples of (0, 1) a quarter is (0, 0) and a quarter (1, 1): the interval reaches both ends."""
    assert [float(value) for value in bootstrap_mean([0.0, 1.0])] == [0.5, 0.0, 1.0]


def test_interval_of_equal_runs_has_no_width() -> None:
    mean, low, high = bootstrap_mean(np.full((5, 2), 0.1))
    assert mean.tolist() == low.tolist() == high.tolist()


def test_agrees_with_the_normal_interval_for_many_runs() -> None:
    values = np.random.default_rng(1).normal(size=400)
    mean, low, high = bootstrap_mean(values)
    width = 1.96 * values.std() / np.sqrt(len(values))
    assert float(low) == pytest.approx(float(mean) - width, abs=0.1 * width)
    assert float(high) == pytest.approx(float(mean) + width, abs=0.1 * width)


def test_coverage_is_near_the_level() -> None:
    """The true mean lies in the 95 % interval of 30 runs in 91–97 % of 1000 experiments."""
    values = np.random.default_rng(2).normal(size=(30, 1000))
    _, low, high = bootstrap_mean(values)
    covered = np.mean((low <= 0) & (high >= 0))
    assert 0.91 < covered < 0.97


def test_error_bars_over_tasks_instead_of_runs() -> None:
    """The mistake: resampling the axis of tasks. Runs that agree have a narrow interval however tasks vary."""
    agree = np.tile(np.linspace(0, 1, 50), (5, 1))
    _, low, high = bootstrap_mean(agree)
    assert np.max(high - low) == 0
    differ = np.tile(np.linspace(0, 1, 5)[:, None], (1, 50))
    _, low, high = bootstrap_mean(differ)
    assert np.min(high - low) > 0.5


def test_one_run_has_no_interval() -> None:
    mean, low, high = bootstrap_mean([[0.3, 0.4]])
    assert mean.tolist() == [0.3, 0.4]
    assert np.isnan([low, high]).all()


def test_no_run_and_no_point() -> None:
    assert np.isnan(bootstrap_mean(np.zeros((0, 3)))[0]).all()
    assert bootstrap_mean(np.zeros((3, 0)))[0].shape == (0,)


def test_each_point_uses_the_runs_that_have_it() -> None:
    values = np.random.default_rng(3).normal(size=(6, 4))
    shorter = values.copy()
    shorter[4:, 2:] = np.nan
    shorter[1:, 3] = np.nan
    found = np.array(bootstrap_mean(shorter))
    assert found[:, :2].tolist() == np.array(bootstrap_mean(values[:, :2])).tolist()
    assert found[:, 2].tolist() == [float(value) for value in bootstrap_mean(values[:4, 2])]
    assert found[0, 3] == values[0, 3]
    assert np.isnan(found[1:, 3]).all()


def test_seed_chunks_and_level(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(4).normal(size=(8, 20))
    first = np.array(bootstrap_mean(values, seed=1))
    assert first.tolist() == np.array(bootstrap_mean(values, seed=1)).tolist()
    assert first.tolist() != np.array(bootstrap_mean(values, seed=2)).tolist()
    monkeypatch.setattr(module, "CHUNK", 6000)  # three points at a time
    assert np.array(bootstrap_mean(values, seed=1)) == pytest.approx(first, rel=1e-12)
    _, low, high = bootstrap_mean(values, level=0.5)
    assert (high - low < first[2] - first[1]).all()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="shape"):
        bootstrap_mean(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0, 2.0], level=95)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("runs", [2, 3, 4, 5, 6, 7, 12])
def test_every_estimator_is_taken_of_every_resample(estimator: Estimator, runs: int) -> None:
    """Against resamples written out, where runs are in no order and some are equal."""
    values = np.random.default_rng(runs).integers(5, size=(runs, 4)) + np.array([0.0, 0.1, 0.2, 1e6])
    counts = resamples(runs, 300, np.random.default_rng(7))
    written_out = np.stack([np.repeat(values, count, axis=0) for count in counts], axis=1)
    direct = {"mean": np.mean, "median": np.median, "iqm": lambda v, axis: stats.trim_mean(v, 0.25, axis=axis)}
    expected = np.quantile(direct[estimator](written_out, axis=0), [0.05, 0.95], axis=0)
    estimate, low, high = bootstrap(values, estimator, n_boot=300, seed=7, level=0.9)
    assert estimate == pytest.approx(direct[estimator](values, axis=0), rel=1e-12)
    assert np.array([low, high]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("estimator", "statistic"), [("mean", np.mean), ("median", np.median), ("iqm", iqm)])
def test_agrees_with_scipy_within_monte_carlo_error(estimator: Estimator, statistic: Callable[..., np.ndarray]) -> None:
    values = np.random.default_rng(5).gamma(2, size=41)
    _, low, high = bootstrap(values, estimator, n_boot=20_000)
    theirs = stats.bootstrap(
        (values,),
        (lambda v, axis: iqm(np.moveaxis(v, axis, 0))) if estimator == "iqm" else statistic,
        n_resamples=20_000,
        method="percentile",
        batch=1000,
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert [float(low), float(high)] == pytest.approx([theirs.low, theirs.high], abs=0.03 * (theirs.high - theirs.low))


@pytest.mark.parametrize("estimator", ["mean", "median", "iqm"])
def test_every_estimator_covers_near_the_level(estimator: Estimator) -> None:
    """Mean, median and interquartile mean of a normal distribution are its centre."""
    values = np.random.default_rng(6).normal(size=(30, 1000))
    _, low, high = bootstrap(values, estimator)
    assert 0.92 <= np.mean((low <= 0) & (high >= 0)) <= 0.97


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_repeating_points_gives_the_same_intervals(estimator: Estimator) -> None:
    """No point lends another one runs: each interval depends on its own column only."""
    values = np.random.default_rng(8).normal(size=(10, 3))
    once, often = np.array(bootstrap(values, estimator)), np.array(bootstrap(np.tile(values, (1, 4)), estimator))
    assert often == pytest.approx(np.tile(once, (1, 4)), rel=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_estimator_knows_missing_runs_one_run_and_equal_runs(estimator: Estimator) -> None:
    values = np.random.default_rng(9).normal(size=(8, 4))
    values[5:, 1] = np.nan
    values[1:, 2] = np.nan
    values[:, 3] = 0.1
    estimate, low, high = bootstrap(values, estimator)
    assert [estimate[1], low[1], high[1]] == pytest.approx([float(v) for v in bootstrap(values[:5, 1], estimator)])
    assert estimate[2] == values[0, 2]
    assert np.isnan([low[2], high[2]]).all()
    assert low[3] == high[3] == pytest.approx(0.1)
    assert bootstrap(values, estimator)[1].tobytes() == low.tobytes()
    assert bootstrap(values, estimator, seed=1)[1].tobytes() != low.tobytes()


def test_mean_is_bootstrap_mean() -> None:
    values = np.random.default_rng(10).normal(size=(8, 20))
    assert np.array(bootstrap(values)).tobytes() == np.array(bootstrap_mean(values)).tobytes()


def test_mean_has_the_numbers_it_always_had() -> None:
    """Figures that were drawn before stay as they are."""
    found = [float(value) for value in bootstrap_mean(np.arange(7.0) ** 2)]
    assert found == pytest.approx(PINNED, rel=1e-12)


@pytest.mark.parametrize(("estimator", "points"), [("mean", 5000), ("iqm", 1000)])
def test_many_runs_with_many_points_stay_small(estimator: Estimator, points: int) -> None:
    """All resampled means of 5000 points take 80 MB twice, all resamples of 1000 points 640 MB."""
    values = np.random.default_rng(11).normal(size=(40, points))
    tracemalloc.start()
    bootstrap(values, estimator)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 * 2**20
