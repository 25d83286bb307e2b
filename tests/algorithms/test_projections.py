"""What acts on the weights after each update: clipping, soft rescaling, normalize-and-project."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import pytest
import torch

from lop_sweeps.algorithms.normalize_and_project import NormalizeAndProject
from lop_sweeps.algorithms.soft_weight_rescaling import SoftWeightRescaling
from lop_sweeps.algorithms.weight_clipping import WeightClipping
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from tests.algorithms.test_regularizers import NETWORKS, biases, learner_of, named, on_networks

NORMALISED: dict[str, Callable[[], Network]] = {
    **{name: network for name, network in NETWORKS.items() if name != "actor_critic"},
    "actor_critic": lambda: ActorCritic(5, 2, [6], init="default", norm="layer"),
}
SHIFTS = ("norm", "log_std")


@on_networks
@pytest.mark.parametrize("output", [True, False])
def test_clipping_counts_and_cuts_what_is_outside(network: Callable[[], Network], output: bool) -> None:
    kappas = (0.5, 2.0)
    learner = learner_of(network, *(WeightClipping(kappa, output) for kappa in kappas))
    before, packed = learner.parameters.clone(), learner.interventions[0]
    packed.after_update(0)
    packed.after_update(1)  # nothing is outside any more
    heads = () if output else learner.network.heads()
    for run, kappa in enumerate(kappas):
        was, now = named(learner, before, run), named(learner, learner.parameters, run)
        shares = []
        for weight, bias in zip(learner.weight_names, biases(learner), strict=True):
            bound = kappa / sqrt(was[weight][0].numel()) if weight not in heads else torch.inf
            for name in (weight, bias):
                torch.testing.assert_close(now.pop(name), was[name].clamp(-bound, bound), rtol=1e-14, atol=0)
            both = torch.cat([was[weight].flatten(), was[bias]])
            shares += [(both.abs() > bound).double().mean().item() / 2] if weight not in heads else []
        assert packed.report(run)["clipped_fraction"] == pytest.approx(shares, rel=1e-12)
        assert max(shares) > 0.05
        assert all(torch.equal(value, was[name]) for name, value in now.items())
    packed.clear_report()
    assert packed.report(0)["clipped_fraction"] == [0.0] * len(learner.weight_names if output else shares)


@on_networks
def test_rescaling_brings_lengths_towards_the_initial_ones(network: Callable[[], Network]) -> None:
    """Each matrix and each normalisation's scale by its own factor; all else but biases and shifts stays."""
    strengths = (0.2, 1.0)
    initial = learner_of(network, spread=0.0).parameters
    learner = learner_of(network, *map(SoftWeightRescaling, strengths))
    before = learner.parameters.clone()
    learner.interventions[0].after_update(0)
    for run, strength in enumerate(strengths):
        was, now, began = (named(learner, flat, run) for flat in (before, learner.parameters, initial))
        for name, value in now.items():
            if name.endswith("weight"):
                length = strength * began[name].norm() + (1 - strength) * was[name].norm()
                torch.testing.assert_close(value.norm(), length)
                torch.testing.assert_close(value / length, was[name] / was[name].norm())
            elif not name.endswith("bias"):
                assert torch.equal(value, was[name])


@pytest.mark.parametrize(
    "network",
    [
        lambda: MLP(6, 3, [8, 5], init="default"),
        lambda: MLP(6, 3, [8, 5, 4], init="default", norm="layer"),
        lambda: MLP(6, 3, [8, 5], init="default", norm="layer", norm_after=True),
        lambda: ConvNet((2, 10, 10), 3, [3], [3], [4]),
        lambda: ActorCritic(5, 2, [6, 4], init="default"),
    ],
)
def test_rescaling_multiplies_a_rectifier_networks_outputs_by_a_number(network: Callable[[], Network]) -> None:
    """The product of all factors, or of those from the last normalisation on."""
    learner = learner_of(
        network, SoftWeightRescaling(0.5), SoftWeightRescaling(0.5), spread=30.0
    )  # a norm's epsilon is small
    inputs = (
        200
        if isinstance(learner.network, ConvNet)
        else learner.view(learner.parameters, learner.weight_names[0]).shape[-1]
    )
    x = torch.randn(2, 20, inputs, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    was = learner.outputs_of(x)
    learner.interventions[0].after_update(0)
    now = learner.outputs_of(x)
    control = isinstance(learner.network, ActorCritic)
    for run in range(2):
        for part in (slice(0, 2), slice(4, 5)) if control else (slice(0, None),):
            ratios = now[run][:, part] / was[run][:, part]
            assert ratios.mean().item() != pytest.approx(1.0, abs=1e-3)
            torch.testing.assert_close(ratios, ratios.mean().expand_as(ratios), rtol=1e-6, atol=0)


def test_the_classifier_has_a_strength_of_its_own() -> None:
    strengths = {True: 1e-3, False: 0.5}
    method = SoftWeightRescaling(strengths[True], strengths[False])
    initial = learner_of(NETWORKS["conv_net"], spread=0.0).parameters
    learner = learner_of(NETWORKS["conv_net"], method, method)
    before = learner.parameters.clone()
    learner.interventions[0].after_update(0)
    was, now, began = (named(learner, flat, 0) for flat in (before, learner.parameters, initial))
    of_features = {"convolutions.0.weight": True, "norms.0.weight": True, "layers.0.weight": False}
    for name, features in {**of_features, "norms.1.weight": False, "layers.1.weight": False}.items():
        strength = strengths[features]
        length = strength * began[name].norm() + (1 - strength) * was[name].norm()
        torch.testing.assert_close(now[name].norm(), length)
    with pytest.raises(ConfigError, match="convolutions"):
        method.check(MLP(4, 2, [3]))


@pytest.mark.parametrize("network", NORMALISED.values(), ids=NORMALISED)
@pytest.mark.parametrize("output", [True, False])
def test_projection_keeps_the_initial_lengths(network: Callable[[], Network], output: bool) -> None:
    method = NormalizeAndProject(output=output)
    method.check(network())
    initial = learner_of(network, spread=0.0).parameters
    learner = learner_of(network, method, method)
    before = learner.parameters.clone()
    learner.interventions[0].after_update(0)
    heads = [] if output else [name.removesuffix("weight") for name in learner.network.heads()]
    for run in range(2):
        was, now, began = (named(learner, flat, run) for flat in (before, learner.parameters, initial))
        for name in (name for name in now if name.endswith("weight")):
            group = [name, name.removesuffix("weight") + "bias"] if "norm" in name else [name]
            if name.removesuffix("weight") in heads:
                assert torch.equal(now[name], was[name])
                continue
            length = torch.cat([began[one].flatten() for one in group]).norm()
            together = torch.cat([was[one].flatten() for one in group])
            expected = together * (length / together.norm())
            torch.testing.assert_close(torch.cat([now[one].flatten() for one in group]), expected)
        dropped = {layer.bias for layer in learner.graph}
        for name in biases(learner):
            assert bool(now[name].any()) == (name not in dropped)


def test_what_projection_may_leave_alone() -> None:
    """By options; a bias with the activation between it and the normalisation is not redundant."""

    def network() -> MLP:
        return MLP(6, 3, [8], norm="layer", norm_after=True)

    learner = learner_of(network, *[NormalizeAndProject(scale_offset="free")] * 2)
    before = learner.parameters.clone()
    learner.interventions[0].after_update(0)
    changed = [
        n
        for n in learner.parameter_names
        if not torch.equal(learner.view(before, n), learner.view(learner.parameters, n))
    ]
    assert changed == ["layers.0.weight"]


def test_scale_and_shift_may_be_pulled_instead_at_every_step() -> None:
    methods = [NormalizeAndProject(period=7, scale_offset="regularise", strength=s) for s in (0.1, 0.4)]
    learner = learner_of(NETWORKS["mlp"], *methods)
    assert [methods[0].next_step(step) for step in (0, 6, 7)] == [0, 6, 7]
    assert [NormalizeAndProject(period=7).next_step(step) for step in (0, 6, 7)] == [6, 6, 13]
    gradient, before = torch.zeros_like(learner.parameters), learner.parameters.clone()
    packed = learner.interventions[0]
    packed.before_update(gradient, 0)
    packed.after_update(0)
    assert torch.equal(learner.parameters, before)
    packed.after_update(6)
    assert not torch.equal(learner.parameters, before)
    for run, strength in enumerate((0.1, 0.4)):
        for name, slope in named(learner, gradient, run).items():
            initial = float(name.endswith("weight"))
            pull = strength * (named(learner, before, run)[name] - initial)
            torch.testing.assert_close(slope, pull if name.startswith("norms") else torch.zeros_like(pull))


@pytest.mark.parametrize("network", [MLP(4, 2, [3]), MLP(4, 2, []), ConvNet((2, 10, 10), 3, [3], [3], [4])])
def test_a_network_without_normalisation_is_refused(network: Network) -> None:
    with pytest.raises(ConfigError, match=r"normalised|hidden layers"):
        NormalizeAndProject().check(network)


def test_zeros_stay_zeros() -> None:
    for method in (SoftWeightRescaling(0.5), NormalizeAndProject()):
        learner = learner_of(NETWORKS["mlp"], method, method)
        learner.parameters.zero_()
        learner.interventions[0].after_update(0)
        assert not learner.parameters.any()
