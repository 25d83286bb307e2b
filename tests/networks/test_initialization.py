"""Initial weights: the bounds of the authors' code (spec: networks.md 1-4, 7, 8) and what is drawn within them."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from lop_sweeps import streams
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.activations import ACTIVATIONS, choose
from lop_sweeps.networks.initialization import LAWS, bias_bound, weight_bound
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP

# law, activation, fan-in, fan-out, is output layer, bound: numbers from the specification, not from the formula.
SPECIFIED = [
    ("kaiming", "relu", 784, 100, False, math.sqrt(6 / 784)),
    ("kaiming", "relu", 2000, 10, True, math.sqrt(3 / 2000)),
    ("kaiming", "tanh", 784, 100, False, 5 / 3 * math.sqrt(3 / 784)),
    ("kaiming", "leaky_relu", 784, 100, False, math.sqrt(2 / 1.0001) * math.sqrt(3 / 784)),
    ("kaiming", "sigmoid", 784, 100, False, math.sqrt(3 / 784)),
    ("kaiming", "identity", 784, 100, False, math.sqrt(3 / 784)),
    ("kaiming", "swish", 784, 100, False, math.sqrt(6 / 784)),
    ("kaiming", "elu", 784, 100, False, math.sqrt(6 / 784)),
    ("kaiming", "selu", 784, 100, False, math.sqrt(3 / 784)),  # gnt.py forces lecun for selu
    ("kaiming_ffnn", "relu", 20, 5, False, 0.5477225575051661),
    ("kaiming_ffnn", "leaky_relu", 20, 5, False, 0.5477225575051661),
    ("kaiming_ffnn", "swish", 20, 5, False, 0.5477225575051661),
    ("kaiming_ffnn", "elu", 20, 5, False, 0.5477225575051661),
    ("kaiming_ffnn", "tanh", 20, 5, False, 0.6454972243679028),
    ("kaiming_ffnn", "sigmoid", 20, 5, False, 0.3872983346207417),
    ("kaiming_ffnn", "selu", 20, 5, False, 0.22360679774997896),  # PyTorch's default
    ("kaiming_ffnn", "relu", 5, 1, True, 0.7745966692414834),
    ("kaiming_ffnn", "selu", 5, 1, True, 0.7745966692414834),
    ("kaiming_ffnn", "leaky_relu", 5, 1, True, 0.7745966692414834),
    ("lecun", "relu", 111, 256, False, 0.16439898730535730),
    ("lecun", "relu", 27, 256, False, 1 / 3),
    ("lecun", "relu", 256, 8, True, 0.10825317547305482),
    ("xavier", "relu", 30, 20, False, math.sqrt(2) * math.sqrt(6 / 50)),
    ("xavier", "tanh", 30, 20, False, 5 / 3 * math.sqrt(6 / 50)),
    ("xavier", "relu", 30, 20, True, math.sqrt(6 / 50)),
    ("default", "relu", 512, 128, False, math.sqrt(1 / 512)),
    ("default", "tanh", 512, 128, True, math.sqrt(1 / 512)),
]


@pytest.mark.parametrize(("law", "activation", "fan_in", "fan_out", "output", "bound"), SPECIFIED)
def test_bound_of_the_specification(
    law: str, activation: str, fan_in: int, fan_out: int, output: bool, bound: float
) -> None:
    assert bound_of(law, activation, fan_in, fan_out, output=output) == pytest.approx(bound, rel=1e-14)


def bound_of(law: str, activation: str, fan_in: int, fan_out: int, *, output: bool = False) -> float:
    return weight_bound(law, choose(activation, channels=False), fan_in, fan_out, output=output)


def widest(weight: torch.Tensor) -> float:
    return float(weight.detach().abs().max())


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "leaky_relu"])
def test_agrees_with_pytorchs_initialisers(activation: str) -> None:
    """The largest of 200,000 draws is within 1e-4 of the bound, so that PyTorch's own draws reveal its bound."""
    torch.manual_seed(0)
    weight = torch.empty(400, 500, dtype=torch.float64)
    slope = 0.01 if activation == "leaky_relu" else 0.0
    nn.init.kaiming_uniform_(weight, a=slope, nonlinearity=activation)  # type: ignore[arg-type]
    assert widest(weight) == pytest.approx(bound_of("kaiming", activation, 500, 400), rel=1e-4)
    nn.init.xavier_uniform_(weight, gain=nn.init.calculate_gain(activation, slope))  # type: ignore[arg-type]
    assert widest(weight) == pytest.approx(bound_of("xavier", activation, 500, 400), rel=1e-4)


def test_default_is_pytorchs_linear_layer() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(50, 20_000)
    assert widest(layer.weight) == pytest.approx(bound_of("default", "relu", 50, 20_000), rel=1e-4)
    assert widest(layer.bias) == pytest.approx(bias_bound("default", 50), rel=1e-3)


def test_every_activation_has_a_gain_and_every_law_a_bound() -> None:
    for law, activation, output in itertools.product(LAWS, ACTIVATIONS, (False, True)):
        assert 0 < bound_of(law, activation, 10, 20, output=output) < 2


def test_unknown_law_is_an_error_that_lists_the_laws() -> None:
    with pytest.raises(ConfigError, match="kaiming_ffnn"):
        bound_of("he", "relu", 10, 10)


def initialized(network: MLP, seed: int = 3) -> MLP:
    network.initialize(lambda i: streams.generator(seed, "initial weights", i))
    return network


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("activation", ["relu", "tanh", "selu"])
def test_drawn_weights_fill_their_bounds_evenly(law: str, activation: str) -> None:
    network = initialized(MLP(150, 90, [120, 110], activation, init=law).double())
    sizes = [150, 120, 110, 90]
    for i, layer in enumerate(network.layers):
        bound = bound_of(law, activation, sizes[i], sizes[i + 1], output=i == 2)
        weight, n = layer.weight.detach(), layer.weight.numel()
        assert bound * (1 - 2e-3) < widest(weight) <= bound
        assert abs(float(weight.mean())) < 5 * bound / math.sqrt(3 * n)
        assert float(weight.square().mean()) == pytest.approx(bound**2 / 3, rel=5 * math.sqrt(0.8 / n))
        assert widest(layer.bias) <= bias_bound(law, sizes[i])
    biases = torch.cat([layer.bias.detach() for layer in network.layers])
    if law == "default":
        assert len(biases.unique()) == len(biases)
    else:
        assert not biases.any()


def test_replaced_units_follow_the_initial_law() -> None:
    """The bound that continual backprop draws new weights with is the one that drew the initial weights."""
    for law, activation in itertools.product(LAWS, ACTIVATIONS):
        network = MLP(30, 10, [40, 50], activation, init=law)
        for i, unit_layer in enumerate(network.unit_graph()):
            fan_in, fan_out = [(30, 40), (40 * network.kind.features, 50)][i]
            assert unit_layer.bound == bound_of(law, activation, fan_in, fan_out)


def test_seed_decides_and_precision_only_rounds() -> None:
    one, same, other = (initialized(MLP(20, 3, [7, 5]).double(), seed) for seed in (1, 1, 2))
    single = initialized(MLP(20, 3, [7, 5]).float(), 1)
    for a, b, c, d in zip(*(n.layers for n in (one, same, other, single)), strict=True):
        assert torch.equal(a.weight, b.weight)
        assert not torch.isclose(a.weight, c.weight).any()
        assert torch.equal(a.weight.float(), d.weight)


def test_weight_matrices_are_drawn_independently() -> None:
    """Equal shapes do not get equal weights, and the width of one layer does not change the draws of another."""
    network = initialized(MLP(6, 6, [6, 6]).double())
    scaled = [layer.weight.detach() / layer.weight.detach().abs().max() for layer in network.layers]
    assert all(not torch.allclose(a, b, atol=0.01) for a, b in itertools.combinations(scaled, 2))
    wider = initialized(MLP(6, 9, [6, 6]).double())
    assert torch.equal(network.layers[0].weight, wider.layers[0].weight)
    assert torch.equal(network.layers[1].weight, wider.layers[1].weight)


def test_linear_baseline() -> None:
    """The authors' MyLinear: Kaiming uniform with gain 1, zero bias."""
    layer = initialized(Linear(784, 10).double()).layers[0]
    bound = math.sqrt(3 / 784)
    assert bound * (1 - 2e-3) < widest(layer.weight) <= bound
    assert not layer.bias.any()


def test_mean_magnitude_of_the_papers_ant_network_at_its_start() -> None:
    """0.0541, where the weight-magnitude plot of the authors' README starts."""
    assert bound_of("lecun", "relu", 256, 256) / 2 == pytest.approx(0.0541, abs=5e-5)
