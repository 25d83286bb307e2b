"""Resets: which settings are the older choices, what belongs to the last layers, and what else is left alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lop_sweeps.algorithms.head_resetting import HeadResetting
from lop_sweeps.algorithms.reset import Reset, last_layers
from lop_sweeps.algorithms.retrained_network import RetrainedNetwork
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.network import output_parameters
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from tests.algorithms.test_task_resets import NETWORKS, before_task, kept, learn, make
from tests.fused.engines import assert_same_state

ADAM, MOMENTUM = Adam(0.01), SGD(0.05, 0.9)
SAME = {
    "head": (Reset("head", reset_optimizer=False), HeadResetting()),
    "last_1": (Reset("last_k", k=1, reset_optimizer=False), HeadResetting()),
    "retrained": (Reset("all", buffers=False, reset_optimizer=False), RetrainedNetwork()),
    "statistics": (Reset("all", reset_optimizer=False), RetrainedNetwork(reset_statistics=True)),
    "everything": (Reset(), RetrainedNetwork(reset_statistics=True, reset_optimizer=True)),
}


@pytest.mark.parametrize(
    ("network", "optimizer"), [("mlp", ADAM), ("mlp", MOMENTUM), ("batch", ADAM), ("conv", ADAM), ("residual", ADAM)]
)
@pytest.mark.parametrize("case", SAME)
def test_settings_that_are_the_older_choices_bit_for_bit(case: str, network: str, optimizer: Any) -> None:
    learners = [make(network, one, optimizer=optimizer) for one in SAME[case]]
    for task in range(3):
        for learner in learners:
            before_task(learner, task)
            learn(learner, network, task, 1)
        assert_same_state(learners[0].state(), learners[1].state())


@pytest.mark.parametrize("network", ["mlp", "batch", "residual"])
def test_last_layers_and_their_share_of_the_optimiser_begin_anew_and_nothing_else_does(network: str) -> None:
    """To what the run began with, after every third update; moments, step counts and statistics included."""
    learner = make(network, Reset("last_k", k=2, to="initial", at={"every": 3}), optimizer=ADAM)
    still = make(network, Reset("last_k", k=0, at={"every": 3}), optimizer=ADAM)
    start = kept(learner)
    learn(learner, network, 0, 3)
    learn(still, network, 0, 3)
    state, names = still.state(), last_layers(learner.network, 2)
    assert set(output_parameters(learner.network)) < set(names)
    assert any("norm" in name for name in names) == (network != "mlp")
    layout = [key for key, value in state.items() if value.shape == learner.parameters.shape]
    assert len(layout) == 5  # parameters, two moments, two step counts
    for name in names:
        for key in layout if name in learner.parameter_names else ():
            assert not torch.equal(learner.view(state[key], name), learner.view(start[key], name)), (key, name)
            learner.view(state[key], name).copy_(learner.view(start[key], name))
        if name in learner.buffers:
            state[f"buffers/{name}"].copy_(start[f"buffers/{name}"])
    assert_same_state(learner.state(), state)


def test_each_subnetwork_has_its_last_layers() -> None:
    network = ActorCritic(4, 2, (5, 6), norm="layer")
    assert set(last_layers(network, 2)) == {
        f"{part}.{name}.{kind}"
        for part in ("policy", "value")
        for name in ("layers.1", "layers.2", "norms.1")
        for kind in ("weight", "bias")
    }
    with pytest.raises(ConfigError, match="at most 3"):
        Reset("last_k", k=4).check(network)


def test_all_to_what_the_run_began_with() -> None:
    for network in NETWORKS:
        learner = make(network, Reset(to="initial"), optimizer=ADAM)
        start = kept(learner)
        learn(learner, network, 0, 3)
        before_task(learner, 1)
        assert_same_state(learner.state(), start)


def test_the_optimiser_or_its_step_counts_alone() -> None:
    """AdamRel keeps the moments; neither touches the network."""
    for of, kinds in (("optimizer", ("moment", "power")), ("step_count", ("power",))):
        learner = make("batch", Reset(of), optimizer=ADAM)
        start = kept(learner)
        learn(learner, "batch", 0, 3)
        before = kept(learner)
        before_task(learner, 1)
        for key, value in learner.state().items():
            anew = key.startswith(tuple(f"optimizer/{kind}" for kind in kinds))
            assert torch.equal(value, start[key] if anew else before[key]), key
            assert not torch.equal(start[key], before[key]), key


def test_fresh_weights_are_of_their_step_and_run() -> None:
    learner, seen = make("mlp", Reset("head", at={"every": 2})), []
    for first in (0, 2):
        learn(learner, "mlp", first, 2)
        seen += list(learner.view(learner.parameters, "layers.2.weight").clone())
    for task in (1, 3):
        at_tasks = make("mlp", Reset("head"))
        before_task(at_tasks, task)
        seen += list(at_tasks.view(at_tasks.parameters, "layers.2.weight").clone())
    for i, one in enumerate(seen):
        for other in seen[:i]:
            assert not torch.isclose(one, other).any()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"of": "body"}, "of"),
        ({"k": -1}, "k"),
        ({"to": "zero"}, "to"),
        ({"at": "epoch"}, "at"),
        ({"at": {"every": 0}}, "at.every"),
        ({"at": {"steps": 5}}, "at"),
        ({"buffers": 1}, "buffers"),
        ({"reset_optimizer": "yes"}, "reset_optimizer"),
    ],
)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Reset(**options)
    assert caught.value.key == key
