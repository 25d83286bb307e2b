"""The summary table in its three forms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lop_sweeps.analysis import table
from lop_sweeps.analysis.statistics.band import Band
from lop_sweeps.analysis.load import load
from tests.analysis.sweep_builder import SweepBuilder, task_rows


@pytest.fixture
def summary(sweep: SweepBuilder) -> pd.DataFrame:
    for seed in range(3):
        sweep.add(seed=seed, rows=task_rows(np.linspace(0.9, 0.7, 10)))
    sweep.add(seed=3, rows=task_rows([0.9] * 4), state="running")
    sweep.add(seed=4, rows=task_rows([0.9] * 4), state="diverged")
    sweep.add(seed=5, rows=[], state="waiting")
    sweep.add(algorithm="l2", rows=[], state="diverged")
    name = {"name": "slowly_changing_regression"}
    sweep.add(benchmark=name, rows=task_rows([0.5, 0.25], metric="squared_error"))
    return table.summary(load(sweep.folder))


def test_one_row_per_benchmark_and_method(summary: pd.DataFrame) -> None:
    rows = summary.set_index(["benchmark", "method"])
    backprop = rows.loc[("permuted_digits", "backprop")]
    assert backprop["n"] == 5
    assert backprop["diverged"] == 1
    assert backprop["partial"] == 1
    assert backprop["early"] == pytest.approx(90)
    assert backprop["late"] == pytest.approx((3 * 70 + 90) / 4)  # not the diverged one
    assert backprop["change_low"] <= backprop["change"] <= backprop["change_high"]
    gone = rows.loc[("permuted_digits", "l2")]  # diverged in its first task: there, without numbers
    assert gone["n"] == 0
    assert gone["diverged"] == 1
    assert np.isnan(gone["early"])
    assert rows.loc[("slowly_changing_regression", "backprop"), "change"] == -0.25


def test_terminal_text(summary: pd.DataFrame) -> None:
    lines = table.text(summary).splitlines()
    assert lines[0] == "permuted_digits: accuracy (%)"
    assert lines[1].split() == ["method", "runs", "early", "late", "late", "−", "early"]
    assert lines[2].startswith("backprop  5, 1 diverged, 1 partial  90.00 [90.00, 90.00]")
    assert "Diverged runs count early only. Runs that are not finished count with the tasks that they have" in lines[-1]
    assert lines[3].split() == ["l2", "0,", "1", "diverged", "–", "–", "–"]
    assert "slowly_changing_regression: squared_error" in lines
    assert "backprop  1     0.500  0.250  -0.250" in lines


def test_files(summary: pd.DataFrame, tmp_path: Path) -> None:
    csv, markdown = table.write(summary, tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(csv), summary, check_dtype=False)
    text = markdown.read_text()
    assert "| method | runs | early | late | late − early |" in text
    assert "bootstrap intervals" in text


def test_other_estimator_is_named_wherever_the_table_goes(sweep: SweepBuilder, tmp_path: Path) -> None:
    for seed, value in enumerate([0.1, 0.2, 0.3, 0.4, 1.0]):
        sweep.add(seed=seed, rows=task_rows([value] * 10))
    loaded = load(sweep.folder)
    found = table.summary(loaded, band=Band("median"))
    assert found["early"].tolist() == pytest.approx([30])
    assert "then the median over runs, with 95% bootstrap intervals over runs" in table.text(found)
    csv, markdown = table.write(found, tmp_path)
    assert pd.read_csv(csv)["estimator"].tolist() == ["median"]
    assert "then the median over runs" in markdown.read_text()
    assert "then the interquartile mean over runs" in table.text(table.summary(loaded, band=Band("iqm")))


def test_table_has_bootstrap_intervals_whatever_the_figures_have(sweep: SweepBuilder) -> None:
    for seed in range(5):
        sweep.add(seed=seed, rows=task_rows([0.1 * seed] * 10))
    loaded = load(sweep.folder)
    usual, found = table.summary(loaded), table.summary(loaded, band=Band(interval="standard_error"))
    pd.testing.assert_frame_equal(found, usual)
    assert "estimator" not in usual.columns
    assert table.text(usual).endswith(
        "early, late: mean over the first and last tenth of a run's tasks, then over runs, with 95% bootstrap "
        "intervals over runs; late − early is paired within runs"
    )
