"""Every row of the table on a pretended GPU: no step mixes devices, and none makes the host wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lop_sweeps.data import data_root
from lop_sweeps.sweep.execute import components_of
from lop_sweeps.training import epochs, online, train
from lop_sweeps.training.components import Components, make_learner
from lop_sweeps.training.control import Control, ControlStage, Rollout
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Member, Position
from tests import runs
from tests.contracts.fake_gpu import Host, fake_gpu
from tests.contracts.table import rows, small

RUNS, STEPS = 2, 10


def assemble(tmp_path: Path, overrides: list[str]) -> Components:
    point = runs.point(tmp_path, *small(overrides))
    made = components_of(dict(point.config))
    made.benchmark.load(data_root(point.config["paths"]["data"]))
    return made


def watch(learner: TorchLearner, host: Host) -> list[tuple[int, int]]:
    """Note what each step of the learner makes the host do: (reads, waits)."""
    seen = []

    def watched(act: Any) -> Any:
        def step(*arguments: Any) -> Any:
            before = host.reads, host.handed_over
            result = act(*arguments)
            seen.append((host.reads - before[0], host.handed_over - before[1]))
            return result

        return step

    for name in ("learn", "predict", "learn_from"):
        setattr(learner, name, watched(getattr(learner, name)))
    return seen


@rows(engine="torch")
def test_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> None:
    """One interval of each protocol, its steps watched one by one; then a row of the log is made of it."""
    monkeypatch.setattr(online, "INTERVAL", STEPS)
    monkeypatch.setattr(epochs, "INTERVAL", STEPS)
    made = assemble(tmp_path, overrides)
    benchmark, seeds = made.benchmark, list(range(RUNS))
    control = None
    if made.agent:
        members = [Member(tmp_path, seed) for seed in seeds]
        control = Control(benchmark, [made.agent] * RUNS, members)
    with fake_gpu(monkeypatch) as host:
        learner = make_learner([made] * RUNS, seeds, "torch", "cuda")
        stage = train._stage(learner, benchmark, seeds, 0, control)
        steps = watch(learner, host)
        position = Position(sums=stage.begin())
        if isinstance(stage, ControlStage):
            stage._ahead = ready_rollout(stage)
        before = host.reads, host.handed_over, host.operations
        stage.learn(position, STEPS)
        print(
            "STEPS",
            len(steps),
            sum(map(sum, steps)),
            "reads",
            host.reads - before[0],
            "over",
            host.handed_over - before[1],
            "ops",
            (host.operations - before[2]) / len(steps),
        )
        assert steps and not any(map(sum, steps))


def ready_rollout(stage: ControlStage) -> Rollout:
    samples, count = stage.agent.rollout, stage.agent.environments
    inputs = torch.zeros(RUNS, samples + count, stage.benchmark.inputs, device="cuda")
    actions = torch.zeros(RUNS, samples, stage.benchmark.outputs, device="cuda")
    rewards = np.zeros((RUNS, count, samples // count))
    return Rollout(inputs, actions, rewards, rewards > 0, [], [False] * RUNS)
