"""The table of differences from the baseline."""

from pathlib import Path

import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.tables import comparison as comparison_table
from tests.analysis.sweep_builder import SweepBuilder, task_rows


def add(sweep: SweepBuilder, algorithm: str, offset: float) -> None:
    for seed in range(6):
        sweep.add(seed=seed, algorithm=algorithm, rows=task_rows([0.5 + 0.01 * seed + offset] * 10))


def test_difference_is_paired_by_seed_and_in_percent(sweep: SweepBuilder) -> None:
    add(sweep, "backprop", 0.0)
    add(sweep, "continual_backprop", 0.015)
    table = comparison_table.comparison_table(load(sweep.folder))
    (row,) = table.to_dict("records")
    assert row["label"] == "continual_backprop"
    assert row["pairs"] == 6
    assert row["difference"] == pytest.approx(1.5)
    assert row["difference_high"] - row["difference_low"] == pytest.approx(0.0, abs=1e-9)
    assert row["improvement"] == pytest.approx(26 / 36)
    shown = comparison_table.text(table)
    assert "permuted_digits: accuracy (%), against backprop" in shown
    assert "+1.50 [+1.50, +1.50]" in shown


def test_markdown_and_csv_are_written(sweep: SweepBuilder, tmp_path: Path) -> None:
    add(sweep, "backprop", 0.0)
    add(sweep, "continual_backprop", 0.015)
    table = comparison_table.comparison_table(load(sweep.folder), "continual_backprop")
    csv, markdown = comparison_table.write(table, tmp_path)
    assert csv.read_text().startswith("benchmark,metric,baseline,summary,label,")
    assert "| backprop | 6 | 6 | -1.50 [-1.50, -1.50] | – | – |" in markdown.read_text()


def test_one_label_has_no_table(sweep: SweepBuilder) -> None:
    add(sweep, "backprop", 0.0)
    assert comparison_table.comparison_table(load(sweep.folder)).empty


def test_unknown_baseline(sweep: SweepBuilder) -> None:
    add(sweep, "backprop", 0.0)
    with pytest.raises(AnalysisError, match="no label 'cbp' to compare with; there are: backprop"):
        comparison_table.comparison_table(load(sweep.folder), "cbp")


def test_what_is_compared_is_said(sweep: SweepBuilder) -> None:
    for seed in range(3):
        sweep.add(seed=seed, rows=task_rows([0.5] * 20))
        sweep.add(seed=seed, algorithm="l2", rows=task_rows([0.5] * 4), state="running")
    shown = comparison_table.text(comparison_table.comparison_table(load(sweep.folder)))
    assert "The first 4 tasks, as far as every method has come" in shown
    assert "Seeds 0–2" in shown


def test_baseline_alone_has_no_table(sweep: SweepBuilder) -> None:
    add(sweep, "backprop", 0.0)
    assert comparison_table.comparison_table(load(sweep.folder), "backprop").empty
