"""The bootstrap interval: known values, coverage, missing values, and the axis it must not resample."""

import numpy as np
import pytest

from lop_sweeps.analysis import bootstrap
from lop_sweeps.analysis.bootstrap import bootstrap_mean


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
    monkeypatch.setattr(bootstrap, "CHUNK", 6000)  # three points at a time
    assert np.array(bootstrap_mean(values, seed=1)) == pytest.approx(first, rel=1e-12)
    _, low, high = bootstrap_mean(values, level=0.5)
    assert (high - low < first[2] - first[1]).all()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="shape"):
        bootstrap_mean(np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="level"):
        bootstrap_mean([1.0, 2.0], level=95)
