"""The summary table in its three forms."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lop_sweeps.analysis.names.naming import Naming
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.statistics.band import Band
from lop_sweeps.analysis.tables import early_late
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
    return early_late.summary(load(sweep.folder))


def test_one_row_per_benchmark_and_method(summary: pd.DataFrame) -> None:
    rows = summary.set_index(["benchmark", "method"])
    backprop = rows.loc[("permuted_digits", "backprop")]
    assert backprop[["n", "n_early", "diverged", "left_out"]].tolist() == [3, 4, 1, 1]
    assert backprop["seeds"] == "0–2, 4"
    assert backprop["early"] == pytest.approx(90)
    assert backprop["late"] == pytest.approx(70)  # neither the diverged one, nor that with four tasks (cases 3.6)
    assert backprop["change_low"] <= backprop["change"] <= backprop["change_high"]
    gone = rows.loc[("permuted_digits", "l2")]  # diverged in its first task: there, without numbers
    assert gone["n"] == 0
    assert gone["diverged"] == 1
    assert np.isnan(gone["early"])
    assert rows.loc[("slowly_changing_regression", "backprop"), "change"] == -0.25


def test_terminal_text(summary: pd.DataFrame) -> None:
    lines = early_late.text(summary).splitlines()
    assert lines[0] == "permuted_digits: accuracy (%)"
    assert lines[1].split() == ["method", "runs", "early", "late", "late", "−", "early"]
    assert lines[2].startswith("backprop  3, 1 diverged, 1 left out  90.00 [90.00, 90.00]")
    assert "Left out: 1 run with fewer tasks" in lines[4]
    assert "Seeds 0–2, 4" in lines[4]  # cases 3.1
    assert "Diverged runs count early only" in lines[-1]
    assert lines[3].split() == ["l2", "0,", "1", "diverged", "–", "–", "–"]
    assert "slowly_changing_regression: squared_error" in lines
    assert "backprop  1     0.500  0.250  -0.250" in lines


def test_files(summary: pd.DataFrame, tmp_path: Path) -> None:
    csv, markdown = early_late.write(summary, tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(csv), summary, check_dtype=False)
    text = markdown.read_text()
    assert "| method | runs | early | late | late − early |" in text
    assert "Student's t interval" in text
    assert "Seeds 0–2, 4" in text


def test_other_estimator_is_named_wherever_the_table_goes(sweep: SweepBuilder, tmp_path: Path) -> None:
    for seed, value in enumerate([0.1, 0.2, 0.3, 0.4, 1.0]):
        sweep.add(seed=seed, rows=task_rows([value] * 10))
    loaded = load(sweep.folder)
    found = early_late.summary(loaded, band=Band("median"))
    assert found["early"].tolist() == pytest.approx([30])
    assert "then the median over runs; intervals: 95% bootstrap interval over runs" in early_late.text(found)
    csv, markdown = early_late.write(found, tmp_path)
    assert pd.read_csv(csv)["statistic"].tolist() == ["median"]
    assert "then the median over runs" in markdown.read_text()
    assert "then the interquartile mean over runs" in early_late.text(early_late.summary(loaded, band=Band("iqm")))


def test_table_has_the_intervals_of_the_figures(sweep: SweepBuilder) -> None:
    for seed in range(5):
        sweep.add(seed=seed, rows=task_rows([0.1 * seed] * 10))
    usual, found = (early_late.summary(load(sweep.folder), band) for band in (Band(), Band(interval="standard_error")))
    assert usual["early_low"][0] == pytest.approx(20 - 2.7764 * 100 * np.sqrt(0.025 / 5), abs=1e-2)
    assert found["early_low"][0] == pytest.approx(20 - 100 * np.sqrt(0.02 / 5))
    assert "one standard error of the mean" in early_late.text(found)


def test_two_runs_have_their_range_in_other_brackets(sweep: SweepBuilder) -> None:
    for seed in range(2):
        sweep.add(seed=seed, rows=task_rows([0.5 + 0.1 * seed] * 10))
    shown = early_late.text(early_late.summary(load(sweep.folder)))
    assert "55.00 (50.00 to 60.00)" in shown
    assert "range, in round brackets" in shown


def test_failed_run_is_no_part_of_late(sweep: SweepBuilder) -> None:
    """Cases 3.6: it was in the mean of four that was shown as of five."""
    for seed in range(4):
        sweep.add(seed=seed, rows=task_rows([0.5] * 20))
    sweep.add(seed=4, rows=task_rows([0.9] * 5), state="failed")
    row = early_late.summary(load(sweep.folder)).iloc[0]
    assert row[["n", "n_early", "left_out"]].tolist() == [4, 4, 1]
    assert row["late"] == pytest.approx(50)
    assert row["seeds"] == "0–3"


def test_latex_is_booktabs_and_escaped(sweep: SweepBuilder, tmp_path: Path) -> None:
    """Section 6."""
    for seed in range(3):
        sweep.add(seed=seed, config={"variant": r"50% & $\foo_1$"})
        sweep.add(seed=seed, algorithm="l2")
    naming = Naming(texts={"l2": r"L2 $\lambda=10^{-4}$ & more"})
    paths = early_late.write(early_late.summary(load(sweep.folder)), tmp_path, naming, ["Chosen on seeds 0–4"], ["tex"])
    text = paths[-1].read_text(encoding="utf-8")
    assert paths[-1].name == "table.tex"
    for words in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}{lrrrr}"):
        assert words in text
    assert "Chosen on seeds 0–4" in " ".join(line.removeprefix("% ") for line in text.splitlines())
    assert r"50\% \& \$\textbackslash{}foo\_1\$ &" in text
    assert r"L2 $\lambda=10^{-4}$ \& more &" in text
    assert r"late $-$ early" in text
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert all(line.count("&") - line.count(r"\&") == 4 for line in body if line.endswith(r"\\"))
