"""The convolutional network against torch.nn modules: forward pass, normalisation, dropout, initial law, unit graph."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from scipy import stats
from torch import Tensor, nn

from lop_sweeps import streams
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.network import Network
from tests import runs

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-12}
PUBLISHED = (3, 32, 32)
SMALL: dict[str, Any] = {"channels": [4, 5], "kernels": [3, 3], "hidden": [7, 6]}
SHAPES: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {
    "published": (PUBLISHED, {}),
    "mnist": ((1, 28, 28), {}),
    "small": ((2, 14, 14), SMALL),
    "odd_and_oblong": ((2, 17, 23), {"channels": [3, 4], "kernels": [4, 3], "hidden": [5]}),
    "no_hidden_layer": ((2, 11, 14), {"channels": [3, 4], "kernels": [2, 2], "hidden": []}),
    "one_position": ((3, 10, 10), {"channels": [4, 6], "kernels": [3, 3], "hidden": [5]}),
    "tanh": ((2, 14, 14), {**SMALL, "activation": "tanh"}),
    "padded": ((2, 9, 13), {**SMALL, "padding": 1}),
    "pooled_by_three_and_not": ((2, 14, 17), {**SMALL, "pool": [3, 1]}),
    "linear_convolutions": ((2, 14, 14), {**SMALL, "conv_activation": "identity"}),
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def initialized(network: ConvNet, seed: int = 0) -> ConvNet:
    network = network.double()
    network.initialize(lambda i: streams.generator(seed, "initial weights", i))
    return network


def reference(shape: Sequence[int], outputs: int, options: dict[str, Any]) -> nn.Sequential:
    """The same architecture out of PyTorch's layers, in float64."""
    channels, kernels = options.get("channels", [32, 64, 128]), options.get("kernels", [5, 3, 3])
    normed = options.get("norm") == "batch"
    function = nn.Tanh if options.get("activation") == "tanh" else nn.ReLU
    of_maps = nn.Identity if options.get("conv_activation") == "identity" else function
    padding, pool = options.get("padding", 0), options.get("pool", 2)
    pools = pool if isinstance(pool, list) else [pool] * len(channels)
    layers: list[nn.Module] = []
    inputs, height, width = shape
    for units, kernel, pool in zip(channels, kernels, pools, strict=True):
        normalization = [nn.BatchNorm2d(units)] if normed else []
        layers += [nn.Conv2d(inputs, units, kernel, padding=padding), *normalization, of_maps(), nn.MaxPool2d(pool)]
        height, width = ((side + 2 * padding - kernel + 1) // pool for side in (height, width))
        inputs = units
    layers.append(nn.Flatten())
    inputs *= height * width
    for units in options.get("hidden", [128, 128]):
        layers += [nn.Linear(inputs, units), *([nn.BatchNorm1d(units)] if normed else []), function()]
        inputs = units
    return nn.Sequential(*layers, nn.Linear(inputs, outputs)).double()


def weight_layers(network: nn.Module) -> list[Any]:
    """Convolutions and linear layers of a reference, from input to output."""
    return [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]


def norm_layers(network: nn.Module) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]


def copied(network: ConvNet, theirs: nn.Sequential) -> nn.Sequential:
    """The reference with the network's parameters and statistics."""
    for mine, other in zip([*network.convolutions, *network.layers], weight_layers(theirs), strict=True):
        other.load_state_dict(mine.state_dict())
    for mine, other in zip(network.norms, norm_layers(theirs), strict=True):
        other.load_state_dict({**other.state_dict(), **mine.state_dict()})
    return theirs


def in_our_order(theirs: nn.Sequential) -> list[Tensor]:
    """Parameters of a reference: those of convolutions and linear layers, then those of normalisations."""
    return [p for layer in [*weight_layers(theirs), *norm_layers(theirs)] for p in layer.parameters()]


def evaluated(theirs: nn.Sequential, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Outputs of the reference, and what follows each pooling, or each activation of a fully connected layer."""
    hidden, flat = [], False
    for module in theirs:
        x = module(x)
        flat = flat or isinstance(module, nn.Flatten)
        if isinstance(module, nn.MaxPool2d) or (flat and isinstance(module, nn.ReLU | nn.Tanh)):
            hidden.append(x)
    return x, hidden


def assert_same(ours: Sequence[Tensor], theirs: Sequence[Tensor], **close: Any) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        torch.testing.assert_close(mine, other, **{**CLOSE, **close})


def test_published_network_has_the_layers_and_parameters_of_the_authors() -> None:
    network = initialized(ConvNet(PUBLISHED, 2))
    named = dict(network.named_parameters())
    assert [tuple(named[name].shape) for name in network.weights()] == [
        (32, 3, 5, 5), (64, 32, 3, 3), (128, 64, 3, 3), (128, 512), (128, 128), (2, 128),
    ]  # fmt: skip
    assert sum(parameter.numel() for parameter in named.values()) == 177_218
    assert not dict(network.named_buffers())
    output, hidden = network(normal(5, 3 * 32 * 32))
    assert output.shape == (5, 2)
    assert [tuple(h.shape) for h in hidden] == [(5, 32, 14, 14), (5, 64, 6, 6), (5, 128, 2, 2), (5, 128), (5, 128)]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_forward_and_gradients_are_pytorchs(name: str, channels_last: bool) -> None:
    shape, options = SHAPES[name]
    ours = initialized(ConvNet(shape, 3, **options))
    ours.channels_last = channels_last
    theirs = copied(ours, reference(shape, 3, options))
    x = normal(4, *shape)
    output, hidden = ours(x.flatten(1))
    expected, expected_hidden = evaluated(theirs, x)
    assert_same([output, *hidden], [expected, *expected_hidden])
    gradients = torch.autograd.grad(output.square().sum(), list(ours.parameters()))
    assert_same(gradients, torch.autograd.grad(expected.square().sum(), in_our_order(theirs)), atol=1e-11)


@pytest.mark.parametrize("name", ["small", "odd_and_oblong", "no_hidden_layer", "tanh"])
def test_batch_norm_is_pytorchs_in_training_and_evaluation(name: str) -> None:
    """Before the activation; per channel over mini-batch and positions. Running statistics, too."""
    shape, options = SHAPES[name][0], {**SHAPES[name][1], "norm": "batch"}
    ours = initialized(ConvNet(shape, 3, **options))
    with torch.no_grad():
        for i, norm in enumerate(ours.norms):
            scale, shift = norm.parameters()
            scale.copy_(0.5 + normal(len(scale), seed=i).abs())
            shift.copy_(normal(len(shift), seed=i + 50))
    theirs = copied(ours, reference(shape, 3, options))
    for seed in range(5):
        x = normal(4, *shape, seed=seed)
        output, hidden = ours(x.flatten(1))
        expected, expected_hidden = evaluated(theirs, x)
        assert_same([output, *hidden], [expected, *expected_hidden], atol=1e-11)
        gradients = torch.autograd.grad(output.square().sum(), list(ours.parameters()))
        assert_same(gradients, torch.autograd.grad(expected.square().sum(), in_our_order(theirs)), atol=1e-9)
    statistics = [value for _, value in ours.named_buffers()]
    theirs_statistics = tuple(
        buffer for norm in norm_layers(theirs) for buffer in (norm.running_mean, norm.running_var)
    )
    assert_same(statistics, theirs_statistics)
    assert all(bool((value != 0).all()) and bool((value != 1).all()) for value in statistics)
    ours.eval()
    theirs.eval()
    before = [value.clone() for value in statistics]
    x = normal(6, *shape, seed=99)
    output, hidden = ours(x.flatten(1))
    expected, expected_hidden = evaluated(theirs, x)
    assert_same([output, *hidden], [expected, *expected_hidden], atol=1e-11)
    assert all(torch.equal(a, b) for a, b in zip(statistics, before, strict=True))


def test_flattening_is_channel_by_channel_then_row_by_row() -> None:
    """Column c * P + r * width + s of the first linear layer reads channel c at row r, column s."""
    shape, options = SHAPES["odd_and_oblong"]
    network = initialized(ConvNet(shape, 3, **options))
    _, hidden = network(normal(1, math.prod(shape)))
    maps = hidden[1][0]
    units, height, width = maps.shape
    assert height > 1
    assert width > 1
    assert height != width
    with torch.no_grad():
        reader = network.get_parameter("layers.0.weight")
        network.get_parameter("layers.0.bias").zero_()
        for c, r, s in ((0, 0, 0), (2, 1, 0), (1, 0, 3), (units - 1, height - 1, width - 1)):
            reader.zero_()
            reader[0, c * height * width + r * width + s] = 1.0
            read = network(normal(1, math.prod(shape)))[1][2][0, 0]
            assert float(read) == float(maps[c, r, s])


# Those of other papers


@pytest.mark.parametrize(
    ("choice", "shapes", "parameters"),
    [
        ("cnn_l2_init", [(16, 3, 5, 5), (16, 16, 5, 5), (100, 400), (100, 100), (10, 100)], 58_842),
        ("cnn_soft_weight_rescaling", [(16, 3, 5, 5), (16, 16, 5, 5), (100, 576), (10, 100)], 66_342),
        ("cnn_upgd", [(6, 3, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)], 62_006),
    ],
)
def test_small_networks_of_other_papers(choice: str, shapes: list[tuple[int, ...]], parameters: int) -> None:
    """Of weights, biases and all, on CIFAR-10; UPGD's is LeNet-5 with ReLU in its last layers alone."""
    node: Any = OmegaConf.to_container(runs.composer().compose([f"network={choice}"])[0].network, resolve=True)
    options = {key: value for key, value in node.items() if key != "_target_"}
    network = initialized(ConvNet(PUBLISHED, 10, **options))
    assert [tuple(network.get_parameter(name).shape) for name in network.weights()] == shapes
    assert sum(p.numel() for p in network.parameters()) == parameters
    _, hidden = network(normal(8, 3 * 32 * 32))
    linear = choice == "cnn_upgd"
    assert [bool((h < 0).any()) for h in hidden] == [linear, linear, *[False] * len(options["hidden"])]
    assert options["init"] == "default"


def test_slopes_belong_to_their_layers_where_other_layers_have_none() -> None:
    network = initialized(ConvNet((2, 14, 14), 3, **SMALL, activation="prelu", conv_activation="relu"))
    slopes = [[name for name, _ in layer.norm] for layer in network.unit_graph()]
    assert slopes == [[], [], ["activations.2.slope"], ["activations.3.slope"]]
    assert [network.get_parameter(names[0]).numel() for names in slopes[2:]] == [7, 6]
    assert {name for name, _ in network.named_parameters() if "slope" in name} == {names[0] for names in slopes[2:]}


@pytest.mark.parametrize("law", ["kaiming", "lecun"])
def test_initial_law_of_linear_convolutions_is_that_of_identity(law: str) -> None:
    network = ConvNet((2, 14, 14), 3, **SMALL, init=law, conv_activation="identity")
    gains = [layer.bound * math.sqrt(layer.fan_in / 3) for layer in network.unit_graph()]
    hidden = 1.0 if law == "lecun" else math.sqrt(2)
    assert gains == pytest.approx([1.0, 1.0, hidden, hidden])


# Initial law


def initial(shape: Sequence[int], seeds: range, **options: Any) -> list[ConvNet]:
    return [initialized(ConvNet(shape, 3, **options), seed) for seed in seeds]


def layers_of(network: ConvNet) -> Iterator[Any]:
    yield from network.convolutions
    yield from network.layers


def test_default_initial_law_is_that_of_pytorchs_layers() -> None:
    """Weights and biases of every layer: same support, same distribution (two-sample Kolmogorov-Smirnov)."""
    shape, options = SHAPES["small"]
    ours = initial(shape, range(60), **options)
    torch.manual_seed(0)
    theirs = [reference(shape, 3, options) for _ in range(60)]
    for i, fan_in in enumerate((2 * 9, 4 * 9, 5 * 4, 7, 6)):
        bound = 1 / math.sqrt(fan_in)
        for part in ("weight", "bias"):
            mine = torch.cat([getattr(list(layers_of(one))[i], part).flatten() for one in ours]).detach().numpy()
            other = torch.cat([getattr(weight_layers(one)[i], part).flatten() for one in theirs]).detach().numpy()
            for values in (mine, other):
                assert 0.97 * bound < np.abs(values).max() <= bound
            assert stats.ks_2samp(mine, other).pvalue > 1e-3
            assert stats.kstest(mine, "uniform", (-bound, 2 * bound)).pvalue > 1e-3
    first, second = (one.get_parameter("convolutions.0.weight") for one in ours[:2])
    assert not torch.isclose(first, second).any()


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("law", ["kaiming", "xavier", "lecun"])
def test_other_initial_laws_are_pytorchs(law: str, activation: str) -> None:
    """For a convolution a fan is kernel area x channels; the output layer has gain 1; biases are 0."""
    shape, options = SHAPES["small"]
    ours = initial(shape, range(60), **options, init=law, activation=activation)
    theirs = reference(shape, 3, options)
    for i, layer in enumerate(weight_layers(theirs)):
        last = layer is theirs[-1]
        nonlinearity: Any = "linear" if law == "lecun" or last else activation
        wide = torch.empty(len(layer.weight) * 1_000, *layer.weight.shape[1:], dtype=torch.float64)
        if law == "xavier":
            small = torch.empty_like(layer.weight)
            parts = [nn.init.xavier_uniform_(small, nn.init.calculate_gain(nonlinearity)).clone() for _ in range(1_000)]
            wide = torch.cat(parts)
        else:
            nn.init.kaiming_uniform_(wide, nonlinearity=nonlinearity)
        bound = float(wide.abs().max())
        mine = torch.cat([list(layers_of(one))[i].weight.flatten() for one in ours]).detach()
        assert 0.97 * bound < float(mine.abs().max()) <= bound * 1.002
        assert stats.ks_2samp(mine.numpy(), wide.flatten()[:20_000].numpy()).pvalue > 1e-3
        assert not any(bool(list(layers_of(one))[i].bias.any()) for one in ours)


def test_initial_weights_are_the_same_in_every_precision() -> None:
    shape, options = SHAPES["small"]
    exact, single = initialized(ConvNet(shape, 3, **options)), ConvNet(shape, 3, **options)
    single.initialize(lambda i: streams.generator(0, "initial weights", i))
    for a, b in zip(exact.parameters(), single.parameters(), strict=True):
        assert b.dtype == torch.float32
        assert torch.equal(a.float(), b)


def test_batch_norm_starts_as_pytorchs() -> None:
    network = initialized(ConvNet((2, 14, 14), 3, **SMALL, norm="batch"))
    for mine, other in zip(
        network.norms, norm_layers(reference((2, 14, 14), 3, {**SMALL, "norm": "batch"})), strict=True
    ):
        expected = {name: value.double() for name, value in other.state_dict().items() if name != "num_batches_tracked"}
        state = mine.state_dict()
        assert set(state) == set(expected)
        assert all(torch.equal(state[name], expected[name]) for name in state)


# Dropout


def test_dropout_scales_what_it_keeps_position_by_position() -> None:
    """After pooling and after each hidden layer; each position of a map has its own draw. Activations are before."""
    shape, options = SHAPES["small"]
    network = initialized(ConvNet(shape, 3, **options, dropout=0.3))
    assert network.draws(4) == ((4, 4, 6, 6), (4, 5, 2, 2), (4, 7), (4, 6))
    draws = [torch.from_numpy(np.random.default_rng(i).random(size)) for i, size in enumerate(network.draws(4))]
    theirs = copied(network, reference(shape, 3, options))
    x = normal(4, *shape)
    output, hidden = network(x.flatten(1), draws)
    expected, index, flat = x, 0, False
    for module in theirs:
        expected = module(expected)
        flat = flat or isinstance(module, nn.Flatten)
        if isinstance(module, nn.MaxPool2d) or (flat and isinstance(module, nn.ReLU)):
            torch.testing.assert_close(hidden[index], expected, **CLOSE)
            expected = torch.where(draws[index] < 0.3, 0.0, expected / 0.7)
            index += 1
    assert index == 4
    torch.testing.assert_close(output, expected, **CLOSE)
    without, _ = network(x.flatten(1))
    torch.testing.assert_close(without, evaluated(theirs, x)[0], **CLOSE)
    assert ConvNet(shape, 3, **options).draws(4) == ()


@pytest.mark.parametrize("name", SHAPES)
def test_draws_have_the_shapes_of_the_hidden_activations(name: str) -> None:
    shape, options = SHAPES[name]
    network = initialized(ConvNet(shape, 3, **options, dropout=0.5))
    hidden = network(normal(2, math.prod(shape)))[1]
    assert network.draws(2) == tuple(tuple(h.shape) for h in hidden)


# Unit graph


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("name", SHAPES)
def test_unit_graph_names_parameters_that_exist_and_fit(name: str, norm: str) -> None:
    shape, options = SHAPES[name]
    network: Network = initialized(ConvNet(shape, 3, **options, norm=norm))
    named = dict(network.named_parameters()) | dict(network.named_buffers())
    _, hidden = network(normal(3, math.prod(shape)))
    graph, mentioned = network.unit_graph(), set()
    assert len(graph) == len(hidden)
    boundary = len(options.get("channels", [32, 64, 128])) - 1
    for i, (layer, h) in enumerate(zip(graph, hidden, strict=True)):
        incoming, outgoing = named[layer.weight], named[layer.next_weight]
        assert layer.units == h.shape[1] == len(incoming) == len(named[layer.bias])
        assert layer.fan_in == incoming[0].numel()
        assert outgoing.shape[1] == layer.units * layer.spread
        assert len(outgoing) == len(named[layer.next_bias])
        assert layer.spread == (h[0, 0].numel() if i == boundary else 1)
        assert incoming.dim() == (4 if i <= boundary else 2)
        assert outgoing.dim() == (4 if i < boundary else 2)
        assert (layer.std, layer.residual, layer.norm_after) == (None, False, False)
        assert all(named[key].shape == (layer.units,) for key, _ in layer.norm)
        assert len(layer.norm) == (4 if norm == "batch" else 0)
        mentioned |= {layer.weight, layer.bias, layer.next_weight, layer.next_bias, *(key for key, _ in layer.norm)}
    assert mentioned == set(named)
    assert network.weights() == (*(layer.weight for layer in graph), graph[-1].next_weight)


def test_published_network_has_four_positions_at_its_boundary() -> None:
    graph = ConvNet(PUBLISHED, 2).unit_graph()
    assert [layer.spread for layer in graph] == [1, 1, 4, 1, 1]
    assert [layer.units for layer in graph] == [32, 64, 128, 128, 128]
    assert [layer.fan_in for layer in graph] == [75, 288, 576, 512, 128]


@pytest.mark.parametrize("law", ["default", "kaiming", "xavier", "lecun"])
def test_new_units_have_the_bound_of_the_initial_weights(law: str) -> None:
    shape, options = SHAPES["small"]
    ours = initial(shape, range(60), **options, init=law)
    for i, layer in enumerate(ours[0].unit_graph()):
        largest = max(float(list(layers_of(one))[i].weight.detach().abs().max()) for one in ours)
        assert 0.97 * layer.bound < largest <= layer.bound


def test_each_norm_belongs_to_the_layer_whose_maps_it_normalises() -> None:
    """Shifting one norm's bias for one unit changes that unit's activations and no other of its layer."""
    shape = (2, 14, 14)
    network = initialized(ConvNet(shape, 3, **SMALL, norm="batch"))
    x = normal(4, math.prod(shape))
    _, before = network(x)
    for i, layer in enumerate(network.unit_graph()):
        shift = network.get_parameter(dict((key.rsplit(".")[-1], key) for key, _ in layer.norm)["bias"])
        with torch.no_grad():
            shift[1] += 5.0
            changed = network(x)[1]
            shift[1] -= 5.0
        different = [not torch.equal(a, b) for a, b in zip(changed[i].unbind(1), before[i].unbind(1), strict=True)]
        assert different == [unit == 1 for unit in range(layer.units)]
        assert all(torch.equal(a, b) for a, b in zip(changed[:i], before[:i], strict=True))


# What it refuses


@pytest.mark.parametrize(
    ("shape", "options", "key", "says"),
    [
        ((3, 32, 32), {"kernels": [5, 3]}, "kernels", "3 convolutions"),
        ((3, 32, 32), {"kernels": [5, 3, 3, 3]}, "kernels", "3 convolutions"),
        ((3, 32, 32), {"kernels": [5, 3, 0]}, "kernels[2]", ">= 1"),
        ((3, 32, 32), {"kernels": 5}, "kernels", "list"),
        ((3, 32, 32), {"channels": [32, -1, 128]}, "channels[1]", ">= 1"),
        ((3, 32, 32), {"channels": [], "kernels": []}, "channels", ""),
        ((3, 21, 32), {}, "kernels", "21 x 32"),
        ((3, 32, 21), {}, "kernels", "32 x 21"),
        ((3, 4, 4), {}, "kernels", "4 x 4"),
        ((3, 32, 32), {"kernels": [33, 1, 1]}, "kernels", "32 x 32"),
        ((3, 32, 32), {"hidden": [128, 0]}, "hidden[1]", ">= 1"),
        ((3, 32, 32), {"padding": -1}, "padding", ">= 0"),
        ((3, 32, 32), {"pool": 0}, "pool", ">= 1"),
        ((3, 32, 32), {"pool": [2, 2]}, "pool", "3 convolutions"),
        ((3, 32, 32), {"pool": [2, 0, 1]}, "pool[1]", ">= 1"),
        ((3, 32, 32), {"pool": [2, 8, 2]}, "kernels", "32 x 32"),
        ((3, 32, 32), {"conv_activation": "none"}, "conv_activation", "identity"),
        ((3, 32, 32), {"activation": "rleu"}, "activation", "relu"),
        ((3, 32, 32), {"init": "orthogonal"}, "init", "default"),
        ((3, 32, 32), {"dropout": 1.0}, "dropout", "< 1"),
        ((3, 32, 32), {"norm": "layer"}, "norm", "batch"),
        ((3, 32, 32), {"norm": "online"}, "norm", "batch"),
    ],
)
def test_wrong_options_name_their_key(shape: Sequence[int], options: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ConvNet(shape, 2, **options)
    assert caught.value.key == key
    assert says in str(caught.value)


def test_smallest_images_that_the_published_network_takes() -> None:
    network = initialized(ConvNet((3, 24, 24), 2))
    assert [tuple(h.shape[2:]) for h in network(normal(2, 3 * 24 * 24))[1]] == [(10, 10), (4, 4), (1, 1), (), ()]
    assert [layer.spread for layer in network.unit_graph()] == [1] * 5
    with pytest.raises(ConfigError, match="23 x 24"):
        ConvNet((3, 23, 24), 2)


def test_batch_norm_refuses_mini_batches_of_one() -> None:
    ConvNet(PUBLISHED, 2).check(1)
    ConvNet(PUBLISHED, 2, norm="batch").check(2)
    with pytest.raises(ConfigError, match="batch_size > 1"):
        ConvNet(PUBLISHED, 2, norm="batch").check(1)
