"""Whatever is measured, training is the same to the byte: every method, with every diagnostic, on every engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lop_sweeps.training import epochs, online
from tests import runs
from tests.contracts.table import ROWS, engines, one_of_each, rows, small

CHOICES = sorted(path.stem for path in (Path(__file__).parents[2] / "conf" / "diagnostics").glob("*.yaml"))
STANDARD = {"units", "rank", "weight_magnitude", "deaths"}
# Of each task, and of as few examples as show whether they leave a trace.
FEW = [
    "diagnostics.plasticity_probe.every=1",
    "diagnostics.plasticity_probe.updates=10",
    "diagnostics.neural_tangent_kernel.every=1",
    "diagnostics.neural_tangent_kernel.examples=8",
    "diagnostics.gradient_coverage.examples=8",
    "diagnostics.churn.updates=2",
    "diagnostics.earlier_tasks.examples=20",
    "diagnostics.examples_to_accuracy.accuracy=0.1",
    "diagnostics.examples_to_accuracy.window=20",
]


# A row of each kind: engine, protocol, network, loss, state that a look could disturb.
KINDS = frozenset(
    ("cbp_adam", "batch_norm", "regression_cbp_tanh", "linear", "imagenet_cbp", "cifar_redo", "ant_cbp_l2")
)


def everything(overrides: list[str]) -> list[str]:
    """Every diagnostic that such a run can have."""
    without = {"none", "standard", *STANDARD}
    control = any(line.startswith("agent.") for line in overrides)
    if control or "engine=fused" in overrides:
        without.add("sample_plasticity")
    if control or "benchmark=slowly_changing_regression" in overrides:
        without |= {"earlier_tasks", "examples_to_accuracy"}
    options = [line for line in FEW if line.split(".")[1] not in without]
    return [f"diagnostics=[standard,{','.join(name for name in CHOICES if name not in without)}]", *options]


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs, "INTERVAL", 2)
    monkeypatch.setattr(online, "INTERVAL", 70)


# What is looked at is a network and its gradients, whatever method has made them; so not every row.
LOOKED_AT = one_of_each("network", "network.activation", "network.norm", "network.norm_after", "benchmark/protocol")


@rows(*LOOKED_AT, long=True, quick=KINDS)
def test_with_all_diagnostics_the_log_is_that_without_them_and_their_columns(
    tmp_path: Path, overrides: list[str]
) -> None:
    plans = [
        runs.plan(tmp_path / name, *small(overrides), *more, seeds=2, pack=2)
        for name, more in (("plain", []), ("all", everything(overrides)))
    ]
    for plan in plans:
        assert {(outcome.state, outcome.message) for outcome in runs.train(plan)} == {("done", "")}
    for one, other in zip(plans[0].points, plans[1].points, strict=True):
        assert one.directory.name == other.directory.name
        plain, measured = ([json.loads(line) for line in runs.metrics(p).splitlines()] for p in (one, other))
        known = {name for row in plain for name in row}
        described = json.loads((other.directory.path / "diagnostics.json").read_text())["values"]
        kept = [json.dumps({name: value for name, value in row.items() if name in known}) for row in measured]
        assert kept == [json.dumps(row) for row in plain]
        new = {name for row in measured for name in row} - known
        assert len(new) > 20
        assert new <= set(described)


@rows("cbp_adam", "batch_norm", "imagenet_cbp", "ant_cbp_l2", long=True, quick=frozenset({"cbp_adam", "ant_cbp_l2"}))
def test_with_all_diagnostics_a_killed_and_resumed_run_logs_the_same_bytes(
    tmp_path: Path, overrides: list[str]
) -> None:
    line = [*small(overrides), *everything(overrides)]
    whole = runs.plan(tmp_path / "whole", *line, seeds=2, pack=2)
    runs.train(whole)
    for _ in range(60):
        killed = runs.plan(tmp_path / "killed", *line, seeds=2, pack=2)
        if killed.finished == len(killed.points):
            break
        runs.train_and_kill(killed.packs[-1], after_intervals=4)
    for one, other in zip(whole.points, killed.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)


@rows(*(name for name in ROWS if len(engines(name)) == 2), engine="fused", long=True, quick=KINDS)
def test_engines_measure_the_same(tmp_path: Path, overrides: list[str]) -> None:
    """Up to rounding, which a condition number and a rank magnify."""
    plans = []
    for engine in ("torch", "fused"):
        line = [*small(overrides), f"engine={engine}", "precision=float64", "benchmark.num_tasks=2"]
        plans.append(runs.plan(tmp_path / engine, *line, *everything([*overrides, "engine=fused"])))
        runs.train(plans[-1])
    logs = [[json.loads(line) for line in runs.metrics(plan.points[0]).splitlines()] for plan in plans]
    for one, other in zip(*logs, strict=True):
        assert list(one) == list(other)
        for name in ("condition", "numerical_rank", "sigma_min"):
            for row in (one, other):
                for key in [key for key in row if key.endswith(name)]:
                    del row[key]
    both = ["\n".join(json.dumps(row) for row in log).encode() for log in logs]
    runs.assert_close(both[0], both[1], 1e-8)
