"""Plasticity injection: nothing changes at the moment, the old head and the new one's beginning never do afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.plasticity_injection import PlasticityInjection
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests import runs
from tests.images import image_data

INPUTS, CLASSES = 6, 3
OPTIMIZERS = {"adam": Adam(0.01, weight_decay=0.01), "momentum": SGD(0.05, 0.9, 0.01)}


def network(injection: int = 2, **options: Any) -> Network:
    return MLP(INPUTS, CLASSES, [7, 5, 4], injection=injection, **options)


def make(seeds: Sequence[int], *methods: PlasticityInjection, optimizer: str = "adam", **options: Any) -> TorchLearner:
    return TorchLearner(
        lambda: network(**options),
        [OPTIMIZERS[optimizer]] * len(seeds),
        [[one] * len(seeds) for one in methods],
        seeds,
        "cross_entropy",
        torch.float64,
    )


def learn(learner: TorchLearner, first: int, stop: int) -> None:
    learner.plan(first, stop - first)
    for step in range(first, stop):
        draws = [np.random.default_rng([seed, step]) for seed in learner.seeds]
        x = torch.from_numpy(np.stack([one.normal(size=(8, INPUTS)) for one in draws]))
        learner.learn(x, torch.from_numpy(np.stack([one.integers(0, CLASSES, 8) for one in draws])), step)


@torch.no_grad()
def before_task(learner: TorchLearner, task: int) -> None:
    for run in range(len(learner.seeds)):
        learner.interventions[0].before_task(run, task)


def state(learner: TorchLearner, start: str = "") -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.state().items() if name.startswith(start)}


PROBE = torch.from_numpy(np.random.default_rng(0).normal(size=(20, INPUTS)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "layer", "dropout": 0.2},
        {"norm": "batch", "norm_after": True},
        {"activation": "prelu"},
        {"activation": "crelu"},
    ],
)
def test_what_the_network_computes_is_the_same_at_the_moment_and_by_hand_afterwards(
    options: dict[str, Any], optimizer: str
) -> None:
    seeds = [3, 8]
    learner = make(seeds, PlasticityInjection(at=4), optimizer=optimizer, **options)
    plain = make(seeds, optimizer=optimizer, injection=0, **options)
    x = PROBE.expand(2, -1, -1)
    for one in (learner, plain):
        learn(one, 0, 30)
    before_task(learner, 3)
    assert torch.equal(learner.parameters, plain.parameters)  # not yet
    before, outputs = plain.state()["parameters"].clone(), learner.outputs_of(x)
    before_task(learner, 4)
    torch.testing.assert_close(learner.outputs_of(x), outputs, rtol=0, atol=1e-14)
    drawn = [learner.redraw(run, "plasticity injection")[0] for run in range(2)]
    of_head = [name for name in learner.parameter_names if int(name.split(".")[1]) >= 2]
    for name in learner.parameter_names:
        for run in range(2):
            value, old = learner.view(learner.parameters, name)[run], plain.view(before, name)[run]
            assert torch.equal(value, drawn[run][name] if name in of_head else old)
    frozen = {name: value for name, value in state(learner, "buffers/injection").items() if "running" not in name}
    frozen = {name: value for name, value in frozen.items() if "weight" in name or "bias" in name}
    learn(learner, 30, 60)
    for name, value in frozen.items():
        assert torch.equal(learner.state()[name], value)
    if options.get("norm") == "batch":
        return  # whose statistics the three heads have each
    for run in range(2):
        heads = {kind: network(0, **options).double().eval() for kind in ("trained", "kept", "begun")}
        trained = {name: learner.view(learner.parameters, name)[run] for name in learner.parameter_names}
        kept = trained | {name: plain.view(before, name)[run] for name in of_head}
        begun = trained | {name: drawn[run][name] for name in of_head}
        with torch.no_grad():
            one, two, three = (
                torch.func.functional_call(heads[kind], values, (PROBE,))[0]
                for kind, values in (("trained", trained), ("kept", kept), ("begun", begun))
            )
        torch.testing.assert_close(learner.outputs_of(x)[run], one + two - three, rtol=0, atol=1e-12)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_the_optimizer_begins_anew_on_the_new_head_and_there_alone(optimizer: str) -> None:
    learner = make([1], PlasticityInjection(at={"step": 20}), optimizer=optimizer)
    learn(learner, 0, 20)
    before = state(learner, "optimizer")
    learn(learner, 20, 21)
    assert before
    for name, value in learner.optimizer.state().items():
        for parameter in learner.parameter_names:
            new = int(parameter.split(".")[1]) >= 2
            fresh = {"power1": 1.0, "power2": 1.0}.get(name, 0.0)
            assert bool((learner.view(value, parameter) == fresh).all()) == new
    assert not learner.interventions[0].state()


def test_it_happens_once() -> None:
    assert [PlasticityInjection(at={"step": 5}).next_step(step) for step in (0, 5, 6)] == [5, 5, None]
    assert PlasticityInjection(at=2).next_step(0) is None


@pytest.mark.parametrize("at", [-1, 1.5, "1", {}, {"epoch": 3}, {"task": 1, "step": 2}, {"step": -1}])
def test_a_moment_that_is_none(at: Any) -> None:
    with pytest.raises(ConfigError, match="at"):
        PlasticityInjection(at=at)


def test_choice_on_networks_that_have_no_such_head(tmp_path: Path) -> None:
    line = [*runs.SMALL, "benchmark=permuted_digits", "algorithm=plasticity_injection"]
    assert runs.point(tmp_path, *line, "algorithm.plasticity_injection.at={step:7}").engine == "torch"
    with pytest.raises(ConfigError, match="injection"):
        runs.point(tmp_path, *line, "network=linear")
    with pytest.raises(ConfigError, match=r"needs network\.injection"):
        runs.point(tmp_path, *line, "network.injection=0")
    with pytest.raises(ConfigError, match=r"injection.* must be an integer >= 0 and <= 2"):
        runs.point(tmp_path, *line, "network.hidden=[9]", "network.injection=3")
    with pytest.raises(ConfigError, match=r"injection.* is not an option of ConvNet"):
        runs.point(tmp_path, *line, "network=conv_net", "benchmark=continual_imagenet", f"paths.data={image_data()}")
    with pytest.raises(ConfigError, match="it has no frozen heads"):
        runs.point(tmp_path, *line, "engine=fused")
