"""Parity of one whole PPO update with the authors' code, in float64: same rollout, same order, same final weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.agents.ppo import PPO
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.control import Control, ControlStage, Rollout
from lop_sweeps.training.learner import TorchLearner
from tests.shared import SHARED, needs_golden

GOLDEN = SHARED / "golden"
FILES = ("ppo_update", "ppo_update_l2_equal_betas")


class Injected(ControlStage):
    """Goes through the rollout in the golden order."""

    orders: Any

    def _order(self, update: int, epoch: int) -> Tensor:
        return torch.from_numpy(np.stack([self.orders[epoch]] * len(self.seeds)))


def theirs(name: str) -> str:
    """The authors' name of a parameter of ours."""
    if name == "log_std":
        return "policy/log_std"
    part, _, layer, leaf = name.split(".")
    return f"{part}/{'mean_net' if part == 'policy' else 'v_net'}.{2 * int(layer)}.{leaf}"


def learner_and_stage(golden: Any, meta: dict[str, Any], network: dict[str, Any], runs: int) -> Injected:
    samples, inputs = golden["observations"].shape
    actions, hidden = golden["actions"].shape[1], golden["init_value/v_net.0.bias"].size
    samples -= 1
    agent = PPO(samples, meta["epochs"], samples // meta["minibatches"], 1, meta["gamma"], meta["lam"], meta["clip"])
    betas = meta.get("betas", (0.9, 0.999))
    adam = Adam(meta["step_size"], *betas, weight_decay=meta.get("wd", 0.0))
    seeds: Sequence[int] = range(runs)
    learner = TorchLearner(
        lambda: ActorCritic(inputs, actions, [hidden, hidden], **network),
        [adam] * runs,
        [],
        seeds,
        "none",
        torch.float64,
    )
    with torch.no_grad():
        for name in learner.parameter_names:
            learner.view(learner.parameters, name).copy_(torch.from_numpy(golden[f"init_{theirs(name)}"]))
    benchmark = SimpleNamespace(inputs=inputs, outputs=actions, log_every=samples)
    members = [SimpleNamespace(seed=seed) for seed in seeds]
    control = SimpleNamespace(benchmark=benchmark, agents=[agent] * runs, members=members, environments=None)
    stage = Injected(learner, cast(Control, control), 0)
    stage.orders = golden["shuffles"]
    return stage


def rollout(golden: Any, runs: int) -> Rollout:
    def repeated(name: str) -> Any:
        return np.stack([golden[name]] * runs)

    ends = repeated("dones")[:, None]
    inputs, actions = torch.from_numpy(repeated("observations")), torch.from_numpy(repeated("actions"))
    return Rollout(inputs, actions, repeated("rewards")[:, None], ends, [], [False] * runs)


@needs_golden
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("way", ["explicit", "autograd"])
@pytest.mark.parametrize("name", FILES)
def test_one_update_ends_in_the_authors_weights(name: str, way: str, runs: int) -> None:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        golden = dict(file)
    stage = learner_and_stage(golden, json.loads(str(golden["meta"])), {}, runs)
    learner = stage.learner
    assert learner._explicit is not None
    if way == "autograd":
        learner._explicit = None
    before = learner.parameters.clone()
    experience, _ = stage._judge(rollout(golden, runs))
    acted = torch.from_numpy(golden["log_probs"][:, 0])
    torch.testing.assert_close(experience.log_probability, acted.expand(runs, -1), rtol=0, atol=1e-9)
    stage._improve(experience._replace(log_probability=acted.expand(runs, -1).clone()), 0)
    assert (learner.parameters - before).abs().max() > 1e-3
    for ours in learner.parameter_names:
        expected = torch.from_numpy(golden[f"final_{theirs(ours)}"]).expand(
            runs, *golden[f"final_{theirs(ours)}"].shape
        )
        torch.testing.assert_close(learner.view(learner.parameters, ours), expected, rtol=0, atol=1e-9)
