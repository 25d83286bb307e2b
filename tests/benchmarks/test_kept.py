"""The benchmarks that were there before streams could be composed: their runs have the names and logs of then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import runs
from tests.contracts.table import CIFAR, IMAGENET

LENGTHS = ["benchmark.num_tasks=3", "benchmark.examples_per_task=200"]
# Overrides, the run's name, and per task some of its measures, as commit 6888c9a had them (float64, torch engine).
THEN: dict[str, tuple[list[str], str, list[dict[str, float]]]] = {
    "permuted_digits": (
        ["benchmark=permuted_digits", "network.hidden=[12,12]", *LENGTHS],
        "backprop-seed0-f20f2c5644e1",
        [
            {"cross_entropy": 2.2483954992410893, "accuracy": 0.225},
            {"cross_entropy": 2.3620844223505033, "accuracy": 0.02},
            {"cross_entropy": 2.347443090583287, "accuracy": 0.07},
        ],
    ),
    "slowly_changing_regression": (
        ["benchmark=slowly_changing_regression", *LENGTHS],
        "backprop-seed0-d9a80533e115",
        [
            {"squared_error": 1.2694255543274757},
            {"squared_error": 1.9316001633685878},
            {"squared_error": 1.7821662613857325},
        ],
    ),
    "continual_imagenet": (
        [*IMAGENET, "benchmark.num_tasks=2"],
        "backprop-seed0-be1f67d003fd",
        [
            {"train_cross_entropy": 0.6934174403876128, "test_cross_entropy": 0.6931488303796586},
            {"train_cross_entropy": 0.6931806711585939, "test_cross_entropy": 0.6931486489179246},
        ],
    ),
    "incremental_cifar100": (
        [*CIFAR, "benchmark.num_tasks=2"],
        "backprop-seed0-9531042684eb",
        [
            {"train_cross_entropy": 1.298125458584525, "test_cross_entropy": 2.131472850808327},
            {"train_cross_entropy": 1.938725994356157, "test_cross_entropy": 2.583069174987531},
        ],
    ),
}


@pytest.mark.parametrize("benchmark", THEN)
def test_a_run_has_its_name_and_its_log(benchmark: str, tmp_path: Path) -> None:
    overrides, name, then = THEN[benchmark]
    plan = runs.plan(tmp_path, "scale=tiny", *overrides, "precision=float64", "engine=torch")
    runs.train(plan)
    (point,) = plan.points
    assert point.directory.name == name
    rows = [json.loads(line) for line in runs.metrics(point).splitlines()]
    assert [{key: row[key] for key in kept} for row, kept in zip(rows, then, strict=True)] == [
        pytest.approx(kept, rel=1e-9) for kept in then
    ]
