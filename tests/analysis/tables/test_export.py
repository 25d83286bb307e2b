"""Numbers for other programs (section 6)."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.statistics.band import Band
from lop_sweeps.analysis.tables import early_late, export, latex
from tests.analysis.sweep_builder import SweepBuilder, task_rows


def test_values_of_runs_are_those_of_the_table(sweep: SweepBuilder, tmp_path: Path) -> None:
    for seed in range(4):
        sweep.add(seed=seed, rows=task_rows(0.5 + 0.1 * seed - 0.01 * np.arange(20)))
    sweep.add(seed=4, rows=task_rows([0.9] * 3), state="failed")
    sweep.add(seed=5, rows=task_rows([0.9] * 3), state="diverged")
    loaded = load(sweep.folder)
    runs, curves = export.write(loaded, tmp_path, ["accuracy"], 5, Band())
    found = pd.read_csv(runs)
    assert found["counted"].tolist() == [True] * 4 + [False, True]
    summary = early_late.summary(loaded).iloc[0]
    counted = found[found["counted"]]
    assert counted["late"].mean() == pytest.approx(summary["late"])
    assert counted["early"].mean() == pytest.approx(summary["early"])
    assert counted["late"].count() == summary["n"]
    assert {"optimizer.step_size", "unit", "state", "run"} <= set(found.columns)
    points = pd.read_csv(curves)
    assert points["task"].tolist() == [0, 5, 10, 15]
    assert points["n"].tolist() == [4] * 4
    assert points["seeds"].unique().tolist() == ["0–5"]
    assert points["estimate"][0] == pytest.approx(63)
    assert (points["low"] < points["estimate"]).all()


def test_metrics_that_a_benchmark_lacks_are_left_out(sweep: SweepBuilder) -> None:
    sweep.add()
    sweep.add(benchmark={"name": "regression"}, rows=task_rows([0.5] * 20, metric="squared_error"))
    loaded = load(sweep.folder)
    found = export.runs_table(loaded, ["accuracy", "squared_error"])
    assert found[["benchmark", "metric"]].to_numpy().tolist() == [
        ["permuted_digits", "accuracy"],
        ["regression", "squared_error"],
    ]
    assert len(export.curves_table(loaded, ["accuracy"])) == 20


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("a_b & 5% #1 {x} ~ ^ \\", r"a\_b \& 5\% \#1 \{x\} \textasciitilde{} \textasciicircum{} \textbackslash{}"),
        ("-4.91 [-5.55, -4.19]", "$-$4.91 [$-$5.55, $-$4.19]"),
        ("step-size ρ = Δ, é", r"step-size $\rho$ = $\Delta$, é"),
        ("1e-05", "1e-05"),
        ("a\x00b", "a b"),
    ],
)
def test_everything_is_escaped(text: str, written: str) -> None:
    assert latex.escape(text) == written


def test_formulas_of_the_user_are_not_escaped() -> None:
    assert latex.escape(r"A_1 $\rho_1$ \$5", formulas=True) == r"A\_1 $\rho_1$ \$5"
    assert latex.escape("$x$") == r"\$x\$"
