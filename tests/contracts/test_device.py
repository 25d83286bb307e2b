"""Every row of the table on a pretended GPU: no step mixes devices, and none makes the host wait."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lop_sweeps.benchmarks.benchmark import steps_of
from lop_sweeps.data import data_root
from lop_sweeps.diagnostics import rank
from lop_sweeps.diagnostics.measure import sample
from lop_sweeps.sweeps.load_run import components_of
from lop_sweeps.training import epochs, online, train
from lop_sweeps.training.components import Components, make_learner
from lop_sweeps.training.control import Control, ControlStage, Rollout
from lop_sweeps.training.epochs import EpochsStage
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.measuring import Measuring
from lop_sweeps.training.session import Member, Position
from tests import runs
from tests.contracts.fake_gpu import Host, fake_gpu
from tests.contracts.table import rows, small
from tests.contracts.test_diagnostics import everything

STEPS = 10  # of an interval
# What an interval may read: losses and weight magnitudes online; in control, the values of the states.
READS = {"online": 2, "epochs": 0, "control": 1}
PLANNED = ("continual_backprop",)  # methods that read once at the beginning of an interval, to plan it


def components(tmp_path: Path, overrides: list[str]) -> Components:
    point = runs.point(tmp_path, *small(overrides))
    made = components_of(dict(point.config))
    made.benchmark.load(data_root(point.config["paths"]["data"]))
    return made


def watch(learner: TorchLearner, host: Host) -> list[int]:
    """Note how often each step of the learner makes the host wait."""
    seen = []

    def watched(act: Any) -> Any:
        def step(*arguments: Any, **named: Any) -> Any:
            before = host.reads + host.handed_over
            result = act(*arguments, **named)
            seen.append(host.reads + host.handed_over - before)
            return result

        return step

    for name in ("learn", "predict", "learn_from"):
        setattr(learner, name, watched(getattr(learner, name)))
    return seen


def interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Components, count: int) -> tuple[list[int], int]:
    """Train a pack of `count` runs for one interval: the waits of each step, and the reads between the steps."""
    monkeypatch.setattr(online, "INTERVAL", STEPS)
    monkeypatch.setattr(epochs, "INTERVAL", STEPS)
    seeds = list(range(count))
    control = None
    if made.agent:
        control = Control(made.benchmark, [made.agent] * count, [Member(tmp_path, seed) for seed in seeds])
    with fake_gpu(monkeypatch) as host:
        learner = make_learner([made] * count, seeds, "torch", "cuda")
        assert isinstance(learner, TorchLearner)
        stage = train._stage(learner, made.benchmark, seeds, 0, control)
        position = Position(sums=stage.begin())
        if isinstance(stage, ControlStage):
            stage._ahead = ready_rollout(stage, count)
        waits, before = watch(learner, host), host.reads
        stage.learn(position, min(STEPS, steps_of(made.benchmark, 0)))
        reads = host.reads - before - sum(waits)
        if isinstance(stage, EpochsStage):  # its last interval evaluates, too
            while position.step < stage.steps_per_epoch:
                stage.learn(position, STEPS)
    return waits, reads


def ready_rollout(stage: ControlStage, count: int) -> Rollout:
    """Acting reads its actions step by step; here it has been done."""
    samples, beside = stage.agent.rollout, stage.agent.environments
    inputs = torch.zeros(count, samples + beside, stage.benchmark.inputs, device="cuda")
    width = 1 if stage.benchmark.discrete else stage.benchmark.outputs
    actions = torch.zeros(count, samples, width, device="cuda")
    rewards = np.zeros((count, beside, samples // beside))
    return Rollout(inputs, actions, rewards, rewards > 0, [], [False] * count)


@rows(engine="torch", long=True)
def test_no_step_mixes_devices_or_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> None:
    """Replacements, noise, masks and all; what is read between the steps is what the protocol says."""
    made = components(tmp_path, overrides)
    waits, reads = interval(tmp_path, monkeypatch, made, 2)
    assert waits
    assert not any(waits)
    plans = made.agent.epochs if made.agent else 1
    planning = any(name in line for line in overrides for name in PLANNED if line.startswith("algorithm="))
    planning &= not any(f"{name}.from_task" in line for line in overrides for name in PLANNED)  # not in task 0
    accuracies = made.benchmark.protocol == "online" and made.benchmark.loss == "cross_entropy"
    assert reads == READS[made.benchmark.protocol] + accuracies + plans * planning


@rows("cbp_adam", "imagenet_norm_cbp", "cifar_backprop", "ant_redo_norm", engine="torch")
def test_a_run_alone_does_not_wait_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]
) -> None:
    waits, _ = interval(tmp_path, monkeypatch, components(tmp_path, overrides), 1)
    assert waits
    assert not any(waits)


def test_what_mixes_devices_or_waits_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_gpu(monkeypatch) as host:
        there, here = torch.zeros(3, device="cuda"), torch.zeros(3)
        with pytest.raises(RuntimeError, match="device"):
            there + here
        assert (host.reads, host.handed_over) == (0, 0)
        there[0].item()
        bool((there > 0).any())
        there.cpu().numpy()
        assert (host.reads, host.handed_over) == (3, 0)
        here.to("cuda")
        there[1] = torch.ones(())
        assert (host.reads, host.handed_over) == (3, 2)


@pytest.mark.slow
@rows("adam_dropout_batch", "imagenet_norm_cbp", "cifar_redo", "ant_cbp_l2", engine="torch")
def test_no_diagnostic_mixes_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str]) -> None:
    """Singular values aside, of which how many are looked at depends on the values."""
    monkeypatch.setattr(rank, "_singular_values", torch.linalg.svdvals)
    made = components(tmp_path, [*overrides, *everything(overrides)])
    seeds, control = [0, 1], None
    with fake_gpu(monkeypatch):
        learner = make_learner([made] * 2, seeds, "torch", "cuda")
        assert isinstance(learner, TorchLearner)
        if made.agent:
            control = Control(made.benchmark, [made.agent] * 2, [Member(tmp_path, seed) for seed in seeds])
        stage = train._stage(learner, made.benchmark, seeds, 0, control)
        if isinstance(stage, ControlStage):
            stage._ahead = ready_rollout(stage, 2)
            with torch.no_grad(), learner.looking():
                layers = [sample(h) for h in learner.forward(stage._states())[1]]
        else:
            layers = stage.probe()
        measuring, position = Measuring(learner, [made] * 2, "torch"), Position()
        (row, _) = measuring.before(stage, position, layers, [True, True])
        assert len(row) > 25
        if isinstance(stage, EpochsStage):
            position.sums = stage.begin()
            measuring.watch(stage, position)
            stage.learn(position, 1)
            during = {"sample_plasticity", "examples_to_accuracy", "accuracy_reached"}
            assert measuring.during(position, 0).keys() == during
