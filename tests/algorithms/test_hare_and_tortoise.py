"""Hare and tortoise: the average, when learning goes back to it, and what is tested."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lop_sweeps.algorithms.hare_and_tortoise import HareAndTortoise
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.learner import TorchLearner
from tests import runs
from tests.contracts.table import HARE, IMAGENET, SLIPPERY, small


class Epochs:
    """A source of data of which ten updates are an epoch."""

    task = 0

    def epochs_over(self, step: int) -> int | None:
        return None if (step + 1) % 10 else (step + 1) // 10


def make(*methods: HareAndTortoise) -> TorchLearner:
    learner = TorchLearner(
        lambda: MLP(5, 3, [4]), [Adam(0.01)] * 2, [[one] * 2 for one in methods], [1, 2], "cross_entropy", torch.float64
    )
    learner.source = Epochs()  # type: ignore[assignment]
    learner.plan(0, 100)
    return learner


@pytest.mark.parametrize(("options", "every"), [({"period": 2}, 20), ({"period": 7, "period_in": "updates"}, 7)])
def test_in_plain_lines(options: dict[str, Any], every: int) -> None:
    learner, plain = make(HareAndTortoise(mu=0.9, **options)), make()
    tortoise = plain.parameters.clone()
    for step in range(50):
        generator = np.random.default_rng(step)
        x, y = generator.normal(size=(2, 8, 5)), generator.integers(0, 3, (2, 8))
        for one in (learner, plain):
            one.learn(torch.from_numpy(x), torch.from_numpy(y), step)
        tortoise = 0.9 * tortoise + 0.1 * plain.parameters
        if (step + 1) % every == 0:
            plain.parameters.copy_(tortoise)
        torch.testing.assert_close(learner.parameters, plain.parameters, rtol=0, atol=1e-12)
        torch.testing.assert_close(learner.tested_beside()["tortoise"], tortoise, rtol=0, atol=1e-12)


def test_a_new_head_is_the_tortoises_too() -> None:
    """Else learning would go back to the head of the task before."""
    learner = make(HareAndTortoise(mu=0.9))
    x, y = torch.ones(2, 8, 5, dtype=torch.float64), torch.zeros(2, 8, dtype=torch.int64)
    learner.learn(x, y, 0)
    learner.zero_outputs(*learner.tested_beside().values())  # as training in epochs does
    for flat in (learner.parameters, learner.tested_beside()["tortoise"]):
        assert not learner.view(flat, "layers.1.weight").any()
        assert not learner.view(flat, "layers.1.bias").any()
        assert learner.view(flat, "layers.0.weight").all()


def trained(folder: Path, *line: str) -> list[dict[str, Any]]:
    plan = runs.plan(folder, *small(list(line)), "algorithm=hare_and_tortoise")
    assert {outcome.state for outcome in runs.train(plan)} == {"done"}
    return [json.loads(row) for row in runs.metrics(plan.points[0]).splitlines()]


def test_epochs_are_counted_over_the_run_and_the_tortoise_is_tested(tmp_path: Path) -> None:
    """Three tasks of three epochs; a tortoise that stays, to which the hare goes back after epochs 2, 4, 6 and 8."""
    rows = trained(tmp_path, *IMAGENET, f"{HARE}.mu=1", f"{HARE}.period=2", "optimizer.step_size=0.1")
    before = [row["weight_magnitude"][:-1] for row in rows]
    assert before[0] == before[2] != before[1]
    differs = [row["test_cross_entropy"] != row["tortoise_test_cross_entropy"] for row in rows]
    assert differs == [True, False, True]  # the last epoch of task 1 is the sixth
    for row in rows:  # its output layer is zero, as before the first update
        assert row["tortoise_test_cross_entropy"] == pytest.approx(math.log(2), rel=1e-6)


def test_a_tortoise_that_is_the_hare_is_tested_the_same(tmp_path: Path) -> None:
    for row in trained(tmp_path, *IMAGENET, f"{HARE}.mu=0", "optimizer.step_size=0.1"):
        for what in ("accuracy", "cross_entropy"):
            assert row[f"tortoise_test_{what}"] == row[f"test_{what}"]


def test_in_control_a_pass_over_a_rollout_is_an_epoch(tmp_path: Path) -> None:
    rows = trained(tmp_path, *SLIPPERY, f"{HARE}.mu=1", f"{HARE}.period=1")
    assert len({tuple(row["weight_magnitude"]) for row in rows}) == 1
    rows = trained(tmp_path, *SLIPPERY, f"{HARE}.mu=1", f"{HARE}.period=100")
    assert len({tuple(row["weight_magnitude"]) for row in rows}) == len(rows)
