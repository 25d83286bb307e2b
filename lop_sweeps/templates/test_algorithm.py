"""Is my_algorithm what it should be, and does `lop` run it?"""

from __future__ import annotations

from pathlib import Path

import torch
from my_algorithm import MyAlgorithm
from torch import Tensor

from lop_sweeps import run
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner


def trained(*algorithms: MyAlgorithm, steps: int) -> Tensor:
    """Parameters (1, parameters) of a small network after some steps of SGD on random examples."""
    interventions = [[algorithm] for algorithm in algorithms]
    learner = TorchLearner(lambda: MLP(6, 3, [8]), [SGD(0.1)], interventions, [0], "cross_entropy", torch.float64)
    learner.plan(0, steps)
    random = torch.Generator().manual_seed(0)
    for step in range(steps):
        x = torch.randn(1, 4, 6, generator=random, dtype=torch.float64)
        learner.learn(x, torch.randint(3, (1, 4), generator=random), step)
    return learner.parameters


def test_strength_0_changes_nothing() -> None:
    assert torch.equal(trained(MyAlgorithm(0.0), steps=20), trained(steps=20))


def test_two_steps_by_hand() -> None:
    """The first step pulls at nothing; at the second the weights are theta_1 - theta_0 from where they began."""
    theta_0, theta_1, theta_2 = (trained(steps=steps) for steps in range(3))
    expected = theta_2 - 0.1 * 0.5 * (theta_1 - theta_0)
    torch.testing.assert_close(trained(MyAlgorithm(0.5), steps=2), expected, rtol=1e-12, atol=1e-12)


def test_lop_runs_it(tmp_path: Path) -> None:
    line = ["algorithm=my_algorithm", "scale=tiny", "benchmark.num_tasks=1", f"paths.sweeps={tmp_path}"]
    folder = run(*line, trusted=["my_algorithm"], config_dir=Path(__file__).parent / "conf", quiet=True)
    assert (folder / "metrics.jsonl").read_text().count("\n") == 1
