"""UPGD beside what the authors' trajectories show: other profiles, other networks, and what they do not come across."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps import counter_random
from lop_sweeps.algorithms import new_units
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.adaupgd import AdaUPGD
from lop_sweeps.optimizers.upgd import UPGD, PackedUPGD
from lop_sweeps.training.learner import TorchLearner

NETWORKS: dict[str, Callable[[], Network]] = {
    "mlp": lambda: MLP(12, 4, [7, 5], activation="tanh"),
    "conv_net": lambda: ConvNet((3, 12, 12), 4, channels=[4, 5], kernels=[3, 2], hidden=[6]),
    "actor_critic": lambda: ActorCritic(12, 3, [6, 5]),
}
NOISELESS = UPGD(noise_std=0.0, scope="feature_wise")


def make(network: Callable[[], Network], options: UPGD, runs: int = 2) -> tuple[TorchLearner, PackedUPGD]:
    learner = TorchLearner(network, [options] * runs, [], range(runs), "cross_entropy", torch.float64)
    optimizer = learner.optimizer
    assert isinstance(optimizer, PackedUPGD)
    return learner, optimizer


@pytest.mark.parametrize("name", NETWORKS)
def test_a_units_utility_is_the_gradient_of_a_factor_behind_it(name: str) -> None:
    learner, optimizer = make(NETWORKS[name], NOISELESS, runs=1)
    assert optimizer.units is not None
    inputs = 432 if name == "conv_net" else 12
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 3, inputs)))
    output, activations = learner._forward(x, None)
    of_activations: list[Tensor] = []
    gradient = learner._gradient(output.square(), torch.ones_like(output), activations, of_activations)
    with torch.no_grad():
        ours = optimizer.units.sums(gradient * learner.parameters)
        expected = [
            new_units.HiddenUnits(learner, layer).by_unit(h * slope).sum(1)
            for layer, h, slope in zip(learner.graph, activations, of_activations, strict=True)
        ]
    expected = [one.flatten(2).sum(2) if one.dim() > 2 else one for one in expected]  # parts of a unit
    torch.testing.assert_close(ours, torch.cat(expected, 1), rtol=1e-10, atol=1e-12)


def test_a_units_gate_is_that_of_all_it_owns() -> None:
    learner, optimizer = make(lambda: MLP(4, 2, [3, 2], norm="layer"), NOISELESS)
    assert optimizer.units is not None
    gates = torch.arange(10, dtype=torch.float64).view(2, 5) / 10
    spread = optimizer.units.spread(gates)
    for layer, units in ((0, slice(0, 3)), (1, slice(3, 5))):
        for name in (f"layers.{layer}.bias", f"norms.{layer}.weight", f"norms.{layer}.bias"):
            assert torch.equal(learner.view(spread, name), gates[:, units])
        weight = learner.view(spread, f"layers.{layer}.weight")
        assert torch.equal(weight, gates[:, units].unsqueeze(2).expand_as(weight))
    assert (learner.view(spread, "layers.2.weight") == 1).all()
    assert not learner.view(optimizer.units.gated.unsqueeze(0), "layers.2.bias").any()


def test_the_papers_maximum_is_that_of_corrected_utilities() -> None:
    """Where all weights have the same count, it is the maximum divided by 1 - beta^t; Algorithm 1 in plain numbers."""
    options = UPGD(0.1, noise_std=0.0, beta_utility=0.9, weight_decay=0.5, profile="paper")
    w, u = np.array([1.0, -2.0, 0.5]), np.zeros(3)
    parameters = torch.from_numpy(np.stack([w, w]))
    optimizer = options.pack([options] * 2, parameters, resets_units=False)
    optimizer.attach(make(lambda: MLP(2, 1, []), options)[0])
    for step in range(5):
        g = np.random.default_rng(step).normal(size=3)
        u = 0.9 * u - 0.1 * g * w
        corrected = u / (1 - 0.9 ** (step + 1))
        gate = 1 - 1 / (1 + np.exp(-corrected / corrected.max()))
        w = (1 - 0.1 * 0.5) * w - 0.1 * g * gate
        optimizer.update(parameters, torch.from_numpy(np.stack([g, g])))
    np.testing.assert_allclose(parameters.numpy(), [w, w], rtol=1e-13)


@pytest.mark.parametrize("profile", ["paper", "experiments"])
def test_without_any_utility_nothing_but_decay_happens(profile: str) -> None:
    learner, optimizer = make(NETWORKS["mlp"], UPGD(0.1, noise_std=0.0, weight_decay=0.5, profile=profile))
    before = learner.parameters.clone()
    optimizer.update(learner.parameters, torch.zeros_like(learner.parameters))
    torch.testing.assert_close(learner.parameters, before * 0.95)


@pytest.mark.parametrize("resets_units", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        UPGD(0.02, 0.1, 0.9, 0.3),
        UPGD(0.02, 0.1, 0.9, 0.0, profile="paper", protecting=False),
        UPGD(0.02, 0.0, 0.9, 0.3, profile="readme"),
        UPGD(0.02, 0.0, 0.9, 0.3, protecting=False),
        AdaUPGD(0.02, 0.1, 0.9, 0.3),
    ],
    ids=repr,
)
def test_the_compiled_update_is_that_of_tensors(options: UPGD, resets_units: bool) -> None:
    """GPUs and gates of another scope take the latter. The first gradient is 0, and so is the largest utility then."""
    runs = [options, dataclasses.replace(options, step_size=0.01, noise_std=options.noise_std / 2)]
    drawn = np.random.default_rng(0).normal(size=(20, 2, 37))
    ours, theirs = (torch.from_numpy(drawn[0].copy()) for _ in range(2))
    optimizers = [options.pack(runs, one, resets_units=resets_units) for one in (ours, theirs)]
    for optimizer in optimizers:
        optimizer.names, optimizer.units = [], None
        optimizer.keys = counter_random.Keys([np.uint64(1), np.uint64(2)])
    for step, gradient in enumerate(torch.from_numpy(drawn[1:])):
        for optimizer in optimizers:
            optimizer.step = step
        optimizers[0].update(ours, gradient * (step > 0))
        optimizers[1]._update_with_tensors(theirs, gradient * (step > 0))
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    for name, value in optimizers[0].state().items():
        torch.testing.assert_close(value, optimizers[1].state()[name], rtol=1e-12, atol=1e-12)
