"""The actor-critic network: two plain MLPs and a vector, their law, their unit graph, their heads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.head_resetting import HeadResetting
from lop_sweeps.algorithms.redo import ReDo
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network, output_parameters
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.learner import TorchLearner

CLOSE: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
INPUTS, ACTIONS, HIDDEN = 5, 3, (7, 6)
NORMS: list[dict[str, Any]] = [
    {},
    {"dropout": 0.4},
    {"norm": "layer"},
    {"norm": "batch"},
    {"norm": "batch", "norm_after": True, "dropout": 0.2},
    {"norm": "online"},
]


def affine(part: MLP) -> list[Any]:
    return list(part.layers)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def small(**options: Any) -> ActorCritic:
    network = ActorCritic(INPUTS, ACTIONS, **{"hidden": HIDDEN, **options}).double()
    network.initialize(lambda i: streams.generator(0, "initial weights", i))
    return network


def learner_of(seeds: Sequence[int], *interventions: Any, **options: Any) -> TorchLearner:
    adams: list[Any] = [Adam()] * len(seeds)
    return TorchLearner(
        lambda: ActorCritic(INPUTS, ACTIONS, **{"hidden": HIDDEN, **options}),
        adams,
        [[one] * len(seeds) for one in interventions],
        seeds,
        "none",
        torch.float64,
    )


# Its law (spec/networks.md 7)


@pytest.mark.parametrize(
    ("inputs", "actions", "policy", "value"),
    [(111, 8, 96_528, 94_721), (11, 3, 69_638, 69_121), (17, 6, 71_948, 70_657)],
    ids=["ant", "hopper", "walker2d"],
)
def test_parameter_counts_are_the_authors(inputs: int, actions: int, policy: int, value: int) -> None:
    network = ActorCritic(inputs, actions)
    assert sum(p.numel() for p in network.policy.parameters()) + network.log_std.numel() == policy
    assert sum(p.numel() for p in network.value.parameters()) == value
    assert sum(p.numel() for p in network.parameters()) == policy + value


def test_initial_weights_are_lecuns_and_biases_zero() -> None:
    network = ActorCritic(111, 8)
    network.initialize(lambda i: streams.generator(3, "initial weights", i))
    for part, outputs in ((network.policy, 8), (network.value, 1)):
        for layer, fan_in, units in zip(affine(part), (111, 256, 256), (256, 256, outputs), strict=True):
            bound = math.sqrt(3 / fan_in)
            assert tuple(layer.weight.shape) == (units, fan_in)
            size = layer.weight.detach().abs()
            assert float(size.max()) == pytest.approx(bound, rel=0.02)
            assert float(size.max()) <= bound
            assert float(size.mean()) == pytest.approx(bound / 2, rel=0.1)
            assert not layer.bias.any()
        assert float(affine(part)[1].weight.detach().abs().mean()) == pytest.approx(0.0541, abs=5e-4)
    assert not network.log_std.any()


def test_over_numbered_actions_there_are_logits_and_no_standard_deviation() -> None:
    network = small(discrete=True)
    network.initialize(lambda i: np.random.default_rng(i))
    assert "log_std" not in dict(network.named_parameters())
    x = torch.randn(3, INPUTS, dtype=torch.float64)
    output, hidden = network(x)
    assert output.shape == (3, ACTIONS + 1)
    assert len(hidden) == 2 * len(HIDDEN)
    assert torch.equal(output[:, :-1], network.mean(x))


def test_log_std_starts_where_it_is_told_and_is_learned() -> None:
    network = small(log_std=-0.7)
    assert network.log_std.tolist() == [-0.7] * ACTIONS
    assert "log_std" in dict(network.named_parameters())
    output, _ = network(normal(4, INPUTS))
    assert bool((output[:, ACTIONS : 2 * ACTIONS] == -0.7).all())
    with pytest.raises(ConfigError) as caught:
        ActorCritic(INPUTS, ACTIONS, log_std=math.nan)
    assert caught.value.key == "log_std"


def test_each_weight_matrix_has_draws_of_its_own() -> None:
    """Matrix i of the policy has address i, of the value network those after; else both networks would start alike."""
    network = small()
    matrices = [dict(network.named_parameters())[name] for name in network.weights()]
    assert len(matrices) == 6
    for i, (matrix, fan_in) in enumerate(zip(matrices, (INPUTS, *HIDDEN) * 2, strict=True)):
        bound = math.sqrt(3 / fan_in)
        expected = streams.generator(0, "initial weights", i).uniform(-bound, bound, tuple(matrix.shape))
        np.testing.assert_allclose(matrix.detach(), expected, rtol=1e-15)


@pytest.mark.parametrize(
    "interventions", [[ReDo(0.1, 5)], [ContinualBackprop(0.1)], [HeadResetting()], [ReDo(), ContinualBackprop()]]
)
def test_initial_weights_do_not_depend_on_the_algorithm(interventions: list[Any]) -> None:
    plain = learner_of([4, 8])
    assert torch.equal(learner_of([4, 8], *interventions).parameters, plain.parameters)
    assert torch.equal(learner_of([8], *interventions).parameters[0], plain.parameters[1])
    assert not torch.equal(plain.parameters[0], plain.parameters[1])


# Forward


@pytest.mark.parametrize(
    ("activation", "module"), [("relu", nn.ReLU()), ("tanh", nn.Tanh()), ("sigmoid", nn.Sigmoid())]
)
def test_forward_and_gradients_are_pytorchs(activation: str, module: nn.Module) -> None:
    ours = small(activation=activation, log_std=0.3)
    theirs = []
    for part, outputs in ((ours.policy, ACTIONS), (ours.value, 1)):
        layers = [nn.Linear(*sizes).double() for sizes in ((INPUTS, 7), (7, 6), (6, outputs))]
        for mine, other in zip(affine(part), layers, strict=True):
            with torch.no_grad():
                mine.bias.copy_(normal(*mine.bias.shape, seed=9))
            other.load_state_dict(mine.state_dict())
        theirs.append(nn.Sequential(layers[0], module, layers[1], module, layers[2]))
    log_std = nn.Parameter(torch.full((ACTIONS,), 0.3, dtype=torch.float64))
    x, weight = normal(8, INPUTS, seed=1), normal(8, 2 * ACTIONS + 1, seed=2)
    output, hidden = ours(x)
    expected = torch.cat([theirs[0](x), log_std.expand(8, ACTIONS), theirs[1](x)], 1)
    torch.testing.assert_close(output, expected, **CLOSE)
    assert len(hidden) == 4
    for part_hidden, other_part in zip((hidden[:2], hidden[2:]), theirs, strict=True):
        torch.testing.assert_close(part_hidden[0], other_part[:2](x), **CLOSE)
        torch.testing.assert_close(part_hidden[1], other_part[:4](x), **CLOSE)
    torch.testing.assert_close(ours.mean(x), theirs[0](x), **CLOSE)
    gradients = torch.autograd.grad((output * weight).sum(), list(ours.parameters()))
    named = {name: g for (name, _), g in zip(ours.named_parameters(), gradients, strict=True)}
    other_gradients = torch.autograd.grad(
        (expected * weight).sum(), [log_std, *theirs[0].parameters(), *theirs[1].parameters()]
    )
    names = ["log_std"] + [
        f"{p}.layers.{i}.{leaf}" for p in ("policy", "value") for i in range(3) for leaf in ("weight", "bias")
    ]
    assert set(names) == set(named)
    for name, other_gradient in zip(names, other_gradients, strict=True):
        torch.testing.assert_close(named[name], other_gradient, **CLOSE)


@pytest.mark.parametrize("options", NORMS)
def test_pack_is_each_run_by_itself(options: dict[str, Any]) -> None:
    """Outputs, hidden activations, mean actions and running statistics, in training and in evaluation."""
    seeds = [4, 7, 2]
    batch = 1 if options.get("norm") == "online" else 5
    together, alone = learner_of(seeds, **options), [learner_of([seed], **options) for seed in seeds]
    shapes = together.network.draws(batch)
    generator = np.random.default_rng(0)
    for training in (True, False, True):
        x = torch.from_numpy(generator.normal(size=(3, batch, INPUTS)))
        uniforms = [torch.from_numpy(generator.random((3, *shape))) for shape in shapes] if training else None
        for learner in (together, *alone):
            learner.network.train(training)
        output, hidden = together._forward(x, uniforms)
        assert output.shape == (3, batch, 2 * ACTIONS + 1)
        for run, learner in enumerate(alone):
            own = None if uniforms is None else [u[run : run + 1] for u in uniforms]
            expected, expected_hidden = learner._forward(x[run : run + 1], own)
            torch.testing.assert_close(output[run : run + 1], expected, **CLOSE)
            assert len(hidden) == len(expected_hidden) == 4
            for h, other in zip(hidden, expected_hidden, strict=True):
                torch.testing.assert_close(h[run : run + 1], other, **CLOSE)
            for name, value in learner.buffers.items():
                torch.testing.assert_close(together.buffers[name][run], value[0], **CLOSE)
        if not training:
            torch.testing.assert_close(together.act(x), output[..., :ACTIONS], **CLOSE)
            for run, learner in enumerate(alone):
                torch.testing.assert_close(learner.act(x[run : run + 1])[0], output[run, :, :ACTIONS], **CLOSE)


@pytest.mark.parametrize("options", NORMS)
def test_options_reach_both_networks(options: dict[str, Any]) -> None:
    """Each part computes what an MLP of these options does, from its own share of the draws."""
    batch = 1 if options.get("norm") == "online" else 5
    network, x = small(**options).train(), normal(batch, INPUTS)
    uniforms = [
        torch.from_numpy(np.random.default_rng(i).random(shape)) for i, shape in enumerate(network.draws(batch))
    ]
    assert [tuple(u.shape) for u in uniforms] == ([(batch, units) for units in (*HIDDEN, *HIDDEN)] if uniforms else [])
    assert bool(uniforms) == bool(options.get("dropout"))
    parts = []
    for part, outputs in ((network.policy, ACTIONS), (network.value, 1)):
        mlp = MLP(INPUTS, outputs, HIDDEN, init="lecun", **options).double().train()
        mlp.load_state_dict(part.state_dict())
        parts.append(mlp)
    output, hidden = network(x, uniforms or None)
    mean, of_policy = parts[0](x, uniforms[:2] or None)
    value, of_value = parts[1](x, uniforms[2:] or None)
    torch.testing.assert_close(output, torch.cat([mean, torch.zeros_like(mean), value], 1), **CLOSE)
    for mine, theirs in zip(hidden, [*of_policy, *of_value], strict=True):
        torch.testing.assert_close(mine, theirs, **CLOSE)


def test_what_an_mlp_refuses_it_refuses() -> None:
    with pytest.raises(ConfigError, match="batch_size > 1"):
        small(norm="batch").check(1)
    with pytest.raises(ConfigError, match="batch_size = 1"):
        small(norm="online").check(2)
    small(norm="batch").check(2)
    for options, key in (
        ({"hidden": [0]}, "hidden[0]"),
        ({"activation": "step"}, "activation"),
        ({"init": "x"}, "init"),
    ):
        with pytest.raises(ConfigError) as caught:
            small(**options)
        assert caught.value.key == key


# The unit graph


@pytest.mark.parametrize("options", NORMS)
def test_unit_graph_names_real_parameters_of_the_promised_shapes(options: dict[str, Any]) -> None:
    network = small(**options)
    named, buffers = dict(network.named_parameters()), dict(network.named_buffers())
    graph = network.unit_graph()
    assert [layer.units for layer in graph] == [*HIDDEN, *HIDDEN]
    assert [layer.weight.partition(".")[0] for layer in graph] == ["policy", "policy", "value", "value"]
    widths = [(INPUTS, 7, 6), (7, 6, ACTIONS), (INPUTS, 7, 6), (7, 6, 1)]
    for layer, (fan_in, units, readers) in zip(graph, widths, strict=True):
        assert tuple(named[layer.weight].shape) == (units, fan_in)
        assert tuple(named[layer.bias].shape) == (units,)
        assert tuple(named[layer.next_weight].shape) == (readers, units)
        assert tuple(named[layer.next_bias].shape) == (readers,)
        assert (layer.fan_in, layer.spread, layer.std, layer.residual) == (fan_in, 1, None, False)
        assert layer.bound == math.sqrt(3 / fan_in)
        assert layer.norm_after == options.get("norm_after", False)
        assert bool(layer.norm) == ("norm" in options)
        for name, value in layer.norm:
            tensor = named[name] if name in named else buffers[name]
            assert tensor.tolist() == [value] * units
    norms = [name for layer in graph for name, _ in layer.norm]
    assert sorted(norms) == sorted(name for name in [*named, *buffers] if "norms" in name)
    everything = [name for layer in graph for name in (layer.weight, layer.bias)]
    assert sorted([*everything, *norms, *output_parameters(network), "log_std"]) == sorted([*named, *buffers])
    assert network.weights() == tuple(f"{p}.layers.{i}.weight" for p in ("policy", "value") for i in range(3))


def test_unit_graph_is_in_the_order_of_the_activations() -> None:
    """Moving a unit's bias moves that unit's activation, the layers above it in its own network, and nothing else."""
    network = small(activation="tanh")
    named, x = dict(network.named_parameters()), normal(4, INPUTS)
    before_output, before = network(x)
    for i, layer in enumerate(network.unit_graph()):
        with torch.no_grad():
            named[layer.bias][2] += 1.0
        output, hidden = network(x)
        changed = [bool((a != b).any()) for a, b in zip(hidden, before, strict=True)]
        assert (
            changed
            == [
                [True, True, False, False],
                [False, True, False, False],
                [False, False, True, True],
                [False, False, False, True],
            ][i]
        )
        moved = (hidden[i] != before[i]).any(0)
        assert torch.nonzero(moved).flatten().tolist() == [2]
        columns = torch.nonzero((output != before_output).any(0)).flatten().tolist()
        assert columns == (list(range(ACTIONS)) if i < 2 else [2 * ACTIONS])
        with torch.no_grad():
            column = named[layer.next_weight][:, 2].clone()
            named[layer.next_weight][:, 2] = 0
            silent = network(x)[0]
            named[layer.bias][2] -= 1.0
            assert torch.equal(network(x)[0], silent)  # nobody reads it now
            named[layer.next_weight][:, 2] = column


# Its heads


def one_task(learner: TorchLearner, task: int) -> None:
    with torch.no_grad():
        for run in range(len(learner.seeds)):
            learner.interventions[0].before_task(run, task)  # type: ignore[attr-defined]


@pytest.mark.parametrize("seeds", [[5], [5, 2, 9]])
@pytest.mark.parametrize("options", NORMS[:4])
def test_head_resetting_redraws_both_heads_and_nothing_else(options: dict[str, Any], seeds: list[int]) -> None:
    learner = learner_of(seeds, HeadResetting(), **options)
    generator = torch.Generator().manual_seed(0)
    for name, value in learner.state().items():
        if "power" not in name:
            value.copy_(torch.rand(value.shape, generator=generator, dtype=value.dtype))
    before = {name: value.clone() for name, value in learner.state().items()}
    one_task(learner, 0)
    for name, value in learner.state().items():
        assert torch.equal(value, before[name]), name
    one_task(learner, 2)
    for name, value in learner.state().items():
        if name != "parameters":
            assert torch.equal(value, before[name]), name
    bound = math.sqrt(3 / HIDDEN[-1])
    heads = {"policy.layers.2": (2, (ACTIONS, HIDDEN[-1])), "value.layers.2": (5, (1, HIDDEN[-1]))}
    for name in learner.parameter_names:
        head, _, leaf = name.rpartition(".")
        value = learner.view(learner.parameters, name)
        if head not in heads:
            assert torch.equal(value, learner.view(before["parameters"], name)), name
        elif leaf == "bias":
            assert not value.any()
        else:
            place, shape = heads[head]
            for run, seed in enumerate(seeds):
                drawn = streams.generator(seed, "head reset", 2, place).uniform(-bound, bound, shape)
                np.testing.assert_allclose(value[run], drawn, rtol=1e-15)


@pytest.mark.parametrize(
    ("network", "names"),
    [
        (MLP(4, 2, [3, 3]), ["layers.2"]),
        (Linear(4, 2), ["layers.0"]),
        (ConvNet((1, 8, 8), 2, [4], [3], [5]), ["layers.1"]),
        (ConvNet((1, 8, 8), 2, [4], [3], []), ["layers.0"]),
        (ResNet18((1, 8, 8), 2, width=2), ["outputs"]),
        (ActorCritic(4, 2, [3]), ["policy.layers.1", "value.layers.1"]),
        (ActorCritic(4, 2, []), ["policy.layers.0", "value.layers.0"]),
    ],
    ids=lambda case: type(case).__name__,
)
def test_heads_are_the_output_layers(network: Network, names: list[str]) -> None:
    assert network.heads() == tuple(f"{name}.weight" for name in names)
    assert output_parameters(network) == [f"{name}.{leaf}" for name in names for leaf in ("weight", "bias")]
    assert set(output_parameters(network)) <= set(dict(network.named_parameters()))


def test_zero_outputs_silences_both_heads_and_nothing_else() -> None:
    learner = learner_of([1, 2], log_std=0.5)
    learner.parameters.add_(1.0)
    before = learner.parameters.clone()
    learner.zero_outputs()
    for name in learner.parameter_names:
        value = learner.view(learner.parameters, name)
        if name.startswith(("policy.layers.2.", "value.layers.2.")):
            assert not value.any()
        else:
            assert torch.equal(value, learner.view(before, name)), name
    with torch.no_grad():
        output, _ = learner.forward(normal(2, 4, INPUTS))
    assert torch.equal(output, torch.tensor([0.0] * ACTIONS + [1.5] * ACTIONS + [0.0]).double().expand(2, 4, -1))
