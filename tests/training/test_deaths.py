"""Units that die and come back, in the logs of runs."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from tests import runs

DYING = [*runs.SMALL, "benchmark=permuted_digits", "optimizer.step_size=0.3", "benchmark.num_tasks=12"]


@pytest.mark.parametrize("engine", ["fused", "torch"])
@pytest.mark.parametrize("algorithm", ["backprop", "continual_backprop"])
def test_stock_of_dead_units_changes_by_deaths_and_revivals(tmp_path: Path, engine: str, algorithm: str) -> None:
    plan = runs.plan(tmp_path, *DYING, f"engine={engine}", f"algorithm={algorithm}")
    runs.train(plan)
    rows = [json.loads(line) for line in runs.metrics(plan.points[0]).splitlines()]
    units = plan.points[0].config["layers"]["units"]
    assert "died_units" not in rows[0]
    died = [row["died_units"] for row in rows[1:]]
    assert any(map(sum, died))
    for before, now in pairwise(rows):
        for layer, count in enumerate(units):
            change = now["died_units"][layer] - now["revived_units"][layer]
            assert round(count * now["dead_fraction"][layer]) == round(count * before["dead_fraction"][layer]) + change
