"""What is drawn around a curve, and that its words say so."""

from typing import Any

import numpy as np
import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.statistics.band import DEFAULT, Band
from lop_sweeps.analysis.statistics.bootstrap import bootstrap
from lop_sweeps.analysis.statistics.estimators import ESTIMATORS, Estimator, mean, standard_error
from lop_sweeps.analysis.statistics.interval import student

VALUES = np.random.default_rng(0).normal(size=(12, 5))


def test_default_is_the_mean_with_students_interval_and_the_bootstrap_for_the_others() -> None:
    assert Band() == DEFAULT == Band("mean", "t")
    assert Band("median") == Band("median", "bootstrap")
    assert Band("iqm") == Band("iqm", "bootstrap")
    assert np.array(Band().of(VALUES)).tobytes() == np.array(student(VALUES)).tobytes()
    assert Band().words() == "Mean over runs; band: 95% Student's t interval over runs"


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_bootstrap_band_is_of_the_estimator(estimator: Estimator) -> None:
    found = np.array(Band(estimator, "bootstrap").of(VALUES))
    assert found.tobytes() == np.array(bootstrap(VALUES, estimator)).tobytes()
    assert found[0].tolist() == ESTIMATORS[estimator](VALUES).tolist()


def test_standard_error_band_is_one_on_each_side_of_the_mean() -> None:
    centre, low, high = Band(interval="standard_error").of(VALUES)
    assert centre.tolist() == mean(VALUES).tolist()
    assert high - centre == pytest.approx(VALUES.std(axis=0, ddof=0) / np.sqrt(12))
    assert centre - low == pytest.approx(standard_error(VALUES))


def test_words_name_every_combination() -> None:
    assert Band("median").words() == "Median over runs; band: 95% bootstrap interval over runs"
    assert Band("iqm").words() == "Interquartile mean over runs; band: 95% bootstrap interval over runs"
    assert Band(interval="standard_error").words() == "Mean over runs; band: one standard error of the mean"


@pytest.mark.parametrize("band", [Band(), Band("iqm"), Band("iqm", "bca"), Band(interval="standard_error")])
def test_one_run_has_a_centre_and_no_band(band: Band) -> None:
    values = np.array([[0.3, 0.4], [np.nan, 0.6]])
    centre, low, high = band.of(values)
    assert centre.tolist() == pytest.approx([0.3, 0.5])
    assert np.isnan([low, high]).tolist() == [[True, False], [True, False]]
    assert [array.shape for array in band.of(values[:, 1])] == [(), (), ()]


@pytest.mark.parametrize("estimator", ["median", "iqm"])
def test_standard_error_is_of_the_mean_only(estimator: Estimator) -> None:
    with pytest.raises(AnalysisError, match="a standard error is of the mean"):
        Band(estimator, "standard_error")


def test_unknown_names_list_what_there_is() -> None:
    wrong: Any = "average"
    with pytest.raises(AnalysisError, match=r"'average'.*mean, median, iqm"):
        Band(wrong)
    with pytest.raises(AnalysisError, match=r"'average'.*t, bootstrap, bca, standard_error"):
        Band(interval=wrong)
