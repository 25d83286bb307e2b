"""Every activation against its formula, on layers of every kind of network; their parameters, draws and features."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import erf
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.activation_layers import BASES
from lop_sweeps.networks.activations import ACTIVATIONS, Activation, Layer, choose, initialize
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.graph_check import check_graph
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner

CLOSE: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}
NEW = sorted(set(ACTIVATIONS) - {"relu", "tanh", "sigmoid", "elu", "selu", "swish", "identity"})
every = pytest.mark.parametrize("name", NEW)

# Of one pre-activation: (z, uniform number or None, parameters of its unit) -> a feature or two, in plain Python.
Formula = Callable[[float, float | None, list[list[float]]], list[float]]


def phi(z: float) -> float:
    return 0.5 * (1 + float(erf(z / math.sqrt(2))))


def slope_of(u: float | None) -> float:
    return 0.3 if u is None else 0.2 + 0.2 * u


def smooth(z: float, alpha: float) -> float:
    return alpha * z + (1 - alpha) * z / (1 + math.exp(-4.0 * z / 2.5))


def aid(z: float, u: float | None) -> float:
    if u is None:
        return 0.7 * z if z > 0 else 0.3 * z
    return max(z, 0.0) if u < 0.7 else min(z, 0.0)


def rational(z: float, numerator: list[float], denominator: list[float]) -> float:
    above = sum(a * z**k for k, a in enumerate(numerator))
    return above / (1 + sum(abs(b * z**k) for k, b in enumerate(denominator, 1)))


OPTIONS: dict[str, Any] = {
    "leaky_slope": 0.6,
    "slope_bounds": [0.2, 0.4],
    "smooth_leaky": [0.15, 2.5, 4.0],
    "aid_p": 0.7,
}
FORMULAS: dict[str, Formula] = {
    "gelu": lambda z, u, p: [z * phi(z)],
    "leaky_relu": lambda z, u, p: [z if z > 0 else 0.6 * z],
    "crelu": lambda z, u, p: [max(z, 0.0), max(-z, 0.0)],
    "fourier": lambda z, u, p: [math.sin(z), math.cos(z)],
    "prelu": lambda z, u, p: [z if z > 0 else p[0][0] * z],
    "rrelu": lambda z, u, p: [z if z > 0 else slope_of(u) * z],
    "smooth_leaky": lambda z, u, p: [smooth(z, 0.15)],
    "randomized_smooth_leaky": lambda z, u, p: [smooth(z, slope_of(u))],
    "adalin": lambda z, u, p: [max(z, 0.0) + p[0][0] * z * (0.0 if z > 0 else 1.0)],
    "aid": lambda z, u, p: [aid(z, u)],
    "rational": lambda z, u, p: [rational(z, *p)],
}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random(shape))


def made(name: str, units: int, *, maps: bool = False, runs: int | None = None) -> tuple[Any, dict[str, Tensor]]:
    """A layer's function with parameters near their initial values, those of stacked runs if runs are given."""
    function: Any = choose(name, channels=True, **OPTIONS).layer(units, maps=maps)
    if not isinstance(function, Layer):
        return function, {}
    function.double()
    function.initialize()
    found = {}
    for key, parameter in list(function.named_parameters()):
        shape = parameter.shape if runs is None else (runs, *parameter.shape)
        value = (parameter.detach() + 0.1 * normal(*shape, seed=len(key))).requires_grad_()
        setattr(function, key, torch.nn.Parameter(value.detach()))
        found[key] = getattr(function, key)
    return function, found


def of_units(values: Tensor, unit: int, units: int) -> list[float]:
    """A parameter's numbers for a unit."""
    numbers: list[float] = values.detach().tolist()
    return [numbers[unit]] if len(numbers) == units else numbers


@every
@pytest.mark.parametrize("training", [False, True])
def test_values_and_gradients_are_those_of_the_formula(name: str, training: bool) -> None:
    """Gradients by differences of the formula: of z, and of the parameters."""
    batch, units, step, formula = 6, 3, 1e-6, FORMULAS[name]
    function, parameters = made(name, units)
    draws = choose(name, channels=True).draws
    if training and not draws:
        return
    z, u = normal(batch, units).requires_grad_(), uniform(batch, units)
    h = function(z, u) if training else function(z)
    features = choose(name, channels=True).features
    assert h.shape == (batch, features * units)
    along = normal(*h.shape, seed=5)
    wanted = [z, *parameters.values()]
    gradients = torch.autograd.grad(h, wanted, along)

    def total(where: Tensor, moved: dict[str, Tensor]) -> Tensor:
        """The formula on all pre-activations, (batch, features x units)."""
        result = torch.empty(batch, features * units, dtype=torch.float64)
        for b in range(batch):
            for i in range(units):
                p = [of_units(value, i, units) for value in moved.values()]
                one = formula(float(where[b, i]), float(u[b, i]) if training else None, p)
                result[b, i::units] = torch.tensor(one, dtype=torch.float64)
        return result

    tensors = {"z": z.detach(), **{key: value.detach() for key, value in parameters.items()}}
    torch.testing.assert_close(h, total(z.detach(), {k: v for k, v in tensors.items() if k != "z"}), **CLOSE)
    for (key, value), gradient in zip(tensors.items(), gradients, strict=True):
        for index in np.ndindex(*value.shape):
            sides = []
            for sign in (1, -1):
                moved = {k: v.clone() for k, v in tensors.items()}
                moved[key][index] += sign * step
                sides.append(float((total(moved.pop("z"), moved) * along).sum()))
            assert float(gradient[index]) == pytest.approx((sides[0] - sides[1]) / (2 * step), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("name", ["leaky_relu", "prelu", "rrelu", "adalin", "aid"])
def test_a_derivative_at_zero_is_that_of_the_negative_side(name: str) -> None:
    function, _ = made(name, 4)
    found = []
    for at in (0.0, -1.0):
        z = torch.full((1, 4), at, dtype=torch.float64, requires_grad=True)
        found.append(torch.autograd.grad(function(z).sum(), z)[0])
    torch.testing.assert_close(found[0], found[1], **CLOSE)


@pytest.mark.parametrize("base", BASES)
def test_adalin_adds_a_line_where_its_base_saturates(base: str) -> None:
    """Against autograd's derivative of the base, whose largest value is found on a grid; the gate has no gradient."""
    function: Any = choose("adalin", channels=False, adalin_of=base).layer(3).double()
    a = torch.tensor([0.3, -0.2, 0.0], dtype=torch.float64)
    function.linearity = torch.nn.Parameter(a)
    phi = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid, "gelu": F.gelu}[base]

    def derivative(z: Tensor) -> Tensor:
        z = z.detach().requires_grad_()
        return torch.autograd.grad(phi(z).sum(), z)[0]

    largest = derivative(torch.linspace(-6, 6, 200_001, dtype=torch.float64)).abs().max()
    z = 2 * normal(40, 3).requires_grad_()
    gate = torch.cos(math.pi / 2 * derivative(z).abs() / largest)
    h = function(z)
    torch.testing.assert_close(h, phi(z) + a * z * gate, rtol=1e-8, atol=1e-8)
    (gradient,) = torch.autograd.grad(h.sum(), z)
    torch.testing.assert_close(gradient, derivative(z) + a * gate, rtol=1e-8, atol=1e-8)


def test_adalin_of_relu_is_a_prelu_of_each_unit() -> None:
    z, a = normal(9, 4), normal(4, seed=1)
    adalin, prelu = (choose(name, channels=False).layer(4).double() for name in ("adalin", "prelu"))  # type: ignore[attr-defined]
    adalin.linearity, prelu.slope = torch.nn.Parameter(a), torch.nn.Parameter(a)
    torch.testing.assert_close(adalin(z), prelu(z), **CLOSE)


def test_rational_begins_as_an_imitation_of_leaky_relu() -> None:
    function: Any = choose("rational", channels=False).layer(1).double()
    function.initialize()
    z = torch.linspace(-3, 3, 601, dtype=torch.float64).unsqueeze(1)
    torch.testing.assert_close(function(z), F.leaky_relu(z), rtol=0, atol=0.035)
    assert float(function(torch.zeros(1, 1, dtype=torch.float64)).detach()) == 0.0


@pytest.mark.parametrize("name", ["rrelu", "randomized_smooth_leaky"])
def test_evaluation_takes_the_middle_of_the_bounds(name: str) -> None:
    function, _ = made(name, 5)
    z = normal(7, 5)
    torch.testing.assert_close(function(z), function(z, torch.full_like(z, 0.5)), **CLOSE)


def test_evaluation_of_aid_is_the_mean_of_training() -> None:
    function, _ = made("aid", 4)
    z, u = normal(1, 4), uniform(200_000, 4)
    torch.testing.assert_close(function(z.expand(200_000, 4), u).mean(0, keepdim=True), function(z), rtol=0.02, atol=0)


@every
@pytest.mark.parametrize("maps", [False, True])
def test_stacked_runs_are_each_as_alone_and_maps_as_their_positions(name: str, maps: bool) -> None:
    """Layers of runs side by side, with parameters and draws of their own; a map's position is an example more."""
    runs, batch, units = 3, 4, 2
    sides = (3, 2) if maps else ()
    stacked, parameters = made(name, units, maps=maps, runs=runs)
    z, u = normal(runs, batch, units, *sides), uniform(runs, batch, units, *sides)
    draws = choose(name, channels=True).draws
    if maps:  # as `on_maps` lays them side by side
        h = stacked(z.transpose(0, 1), *([u.transpose(0, 1)] if draws else [])).transpose(0, 1)
    else:
        h = stacked(z, *([u] if draws else []))
    alone, _ = made(name, units)
    for run in range(runs):
        for key, parameter in parameters.items():
            setattr(alone, key, torch.nn.Parameter(parameter[run].detach()))
        flat = [t[run].movedim(1, -1).reshape(-1, units) for t in (z, u)]
        expected = alone(flat[0], *([flat[1]] if draws else []))
        torch.testing.assert_close(h[run].movedim(1, -1).reshape(len(flat[0]), -1), expected, **CLOSE)


# In networks

MAKE: dict[str, tuple[Callable[..., Network], int, int]] = {
    "mlp": (lambda name, **o: MLP(6, 3, [5, 4], name, norm="layer", norm_after=True, **o), 6, 3),
    "conv_net": (lambda name, **o: ConvNet((1, 10, 10), 3, [4, 2], [3, 3], [5], name, norm="batch", **o), 100, 3),
    "resnet18": (lambda name, **o: ResNet18((1, 8, 8), 3, 2, activation=name, **o), 64, 3),
    "actor_critic": (lambda name, **o: ActorCritic(6, 2, [5, 4], name, **o), 6, 2),
}


@every
@pytest.mark.parametrize("network", ["mlp", "conv_net", "actor_critic"])
def test_unit_graphs_are_true(network: str, name: str) -> None:
    make, inputs, outputs = MAKE[network]
    check_graph(make(name), inputs, outputs)


@pytest.mark.parametrize("name", ["crelu", "prelu", "aid"])
def test_unit_graphs_of_residual_networks_are_true(name: str) -> None:
    make, inputs, outputs = MAKE["resnet18"]
    check_graph(make(name), inputs, outputs)


@pytest.mark.parametrize("name", ["crelu", "fourier"])
@pytest.mark.parametrize("network", MAKE)
def test_the_next_layer_reads_two_features_of_each_unit(network: str, name: str) -> None:
    with torch.device("meta"):
        plain, double = (MAKE[network][0](one) for one in ("relu", name))
    for one, two in zip(plain.unit_graph(), double.unit_graph(), strict=True):
        assert (two.units, two.num_features) == (one.units, 2 * one.units)
        assert two.features_of_units()[0] == (0, two.units)
        assert double.get_parameter(two.readers[0].weight).shape[1] == 2 * plain.get_parameter(one.next_weight).shape[1]


@pytest.mark.parametrize(("network", "per", "owned"), [
    ("mlp", "unit", [True] * 2),
    ("mlp", "layer", [False] * 2),
    ("conv_net", "unit", [True] * 3),
    ("conv_net", "channel", [True, True, False]),
    ("resnet18", "channel", [True] * 17),
    ("resnet18", "layer", [False] * 17),
    ("actor_critic", "unit", [True] * 4),
])  # fmt: skip
def test_slopes_of_prelu_belong_to_their_units(network: str, per: str, owned: list[bool]) -> None:
    with torch.device("meta"):
        made = MAKE[network][0]("prelu", prelu_per=per)
    slopes = {name: tuple(p.shape) for name, p in made.named_parameters() if name.endswith(".slope")}
    assert len(slopes) == len(owned)
    graph = made.unit_graph()
    found = [[(name, value) for name, value in layer.norm if name in slopes] for layer in graph]
    assert [bool(mine) for mine in found] == owned
    for layer, mine, shape in zip(graph, found, slopes.values(), strict=True):
        assert shape == ((layer.units,) if mine else (1,))
        assert all(value == 0.25 for _, value in mine)
    assert not set(slopes) & set(made.weights())


@pytest.mark.parametrize("name", ["adalin", "prelu", "rational"])
@pytest.mark.parametrize("network", MAKE)
def test_initial_parameters_are_those_of_a_new_unit(network: str, name: str) -> None:
    made = MAKE[network][0](name)
    made.initialize(lambda i: streams.generator(0, "initial weights", i))
    layers = [module for module in made.modules() if isinstance(module, Layer)]
    assert len(layers) == len(made.unit_graph())
    for layer in layers:
        for key, value in layer.initial.items():
            assert torch.equal(layer.get_parameter(key), torch.tensor(value).expand_as(layer.get_parameter(key)))
    for one in made.unit_graph():
        for key, fresh in one.norm:
            if key.startswith("activations") or ".activations" in key:
                assert (made.get_parameter(key) == fresh).all()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", ["aid", "crelu", "rrelu"])
@pytest.mark.parametrize("network", MAKE)
def test_draws_are_for_pre_activations_and_then_for_dropped_features(network: str, name: str, dropout: float) -> None:
    """Each uniform number has its place: with none dropped and aid's ReLU everywhere it is the ReLU network."""
    make, inputs, _ = MAKE[network]
    made = make(name, dropout=dropout)
    made.initialize(lambda i: streams.generator(0, "initial weights", i))
    shapes = made.draws(2)
    layers, random = len(made.unit_graph()), choose(name, channels=True).draws
    assert len(shapes) == layers * (random + (dropout > 0))
    if not shapes:
        return
    x = normal(2, inputs).float()
    values = [0.0 if random and (not dropout or i % 2 == 0) else 0.99 for i in range(len(shapes))]
    output, hidden = made(x, [torch.full(shape, value) for shape, value in zip(shapes, values, strict=True)])
    if dropout:
        for shape, h in zip(shapes[random :: 1 + random], hidden, strict=True):
            assert shape == tuple(h.shape)
    if name == "aid":
        relu = make("relu", dropout=dropout)
        relu.load_state_dict(made.state_dict())
        theirs = relu(x, [torch.full(shape, 0.99) for shape in relu.draws(2)] or None)
        torch.testing.assert_close(output, theirs[0])


@pytest.mark.parametrize("name", [*NEW, "relu"])
def test_a_pack_is_each_run_alone(name: str) -> None:
    """Steps of a fully connected network, draws, slopes and dropout included."""
    check_pack(lambda: MLP(6, 3, [5, 4], name, dropout=0.2).double(), 6)


@pytest.mark.parametrize("name", ["crelu", "prelu", "aid", "rational"])
def test_a_pack_of_convolutional_networks_is_each_run_alone(name: str) -> None:
    check_pack(lambda: ConvNet((1, 8, 8), 3, [3], [3], [4], name, dropout=0.2).double(), 64)


@pytest.mark.parametrize("name", ["crelu", "prelu", "aid"])
def test_a_pack_of_residual_networks_is_each_run_alone(name: str) -> None:
    check_pack(lambda: ResNet18((1, 4, 4), 3, 1, activation=name).double(), 16, steps=2)


def check_pack(make: Callable[[], Network], inputs: int, steps: int = 5) -> None:
    seeds, optimizer = (3, 0, 8), SGD(0.02, 0.9)
    pack = TorchLearner(make, [optimizer] * 3, [], seeds, "cross_entropy", torch.float64)
    alone = [TorchLearner(make, [optimizer], [], [seed], "cross_entropy", torch.float64) for seed in seeds]
    for learner in (pack, *alone):
        learner.plan(0, steps)
    for step in range(steps):
        x, y = normal(3, 4, inputs, seed=step), torch.from_numpy(np.random.default_rng(step).integers(0, 3, (3, 4)))
        pack.learn(x, y, step)
        for run, one in enumerate(alone):
            one.learn(x[run : run + 1], y[run : run + 1], step)
    for run, one in enumerate(alone):
        torch.testing.assert_close(pack.parameters[run], one.parameters[0], rtol=1e-9, atol=1e-10)
        assert not torch.equal(one.parameters[0], alone[run - 1].parameters[0])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("rleu", {}, "smooth_leaky"),
        ("prelu", {"prelu_per": "neuron"}, "unit, layer, channel"),
        ("prelu", {"prelu_per": "channel"}, "no convolutions"),
        ("rrelu", {"slope_bounds": [0.3, 0.2]}, "a lower bound and an upper one"),
        ("rrelu", {"slope_bounds": 0.3}, "a list of 2 numbers: lower, upper"),
        ("smooth_leaky", {"smooth_leaky": [0.1, 0, 5]}, "p above 0"),
        ("aid", {"aid_p": 1.5}, "<= 1"),
        ("adalin", {"adalin_of": "swish"}, "relu, tanh, sigmoid, gelu"),
        ("leaky_relu", {"leaky_slope": "much"}, "finite number"),
    ],
)
def test_what_is_refused(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        MLP(6, 3, [5], name, **options)


@every
def test_pre_activations_keep_their_size_from_layer_to_layer(name: str) -> None:
    """Under the law with gains, of a deep network; what `Activation.variance` is for."""
    network = MLP(100, 5, [200] * 6, name).double()
    network.initialize(lambda i: streams.generator(0, "initial weights", i))
    x = normal(50, 100)
    shapes = network.draws(50)
    sizes = []
    for layer in network.layers[:-1]:
        layer.register_forward_hook(lambda _, __, z: sizes.append(float(z.detach().square().mean())))
    network(x, [uniform(*shape, seed=i) for i, shape in enumerate(shapes)] or None)
    growth = (sizes[-1] / sizes[1]) ** (1 / 4)
    assert 0.7 < growth < 1.2


def test_options_reach_the_gain() -> None:
    def gain(name: str, **options: Any) -> float:
        return math.sqrt(choose(name, channels=False, **options).variance)

    assert gain("leaky_relu", leaky_slope=0.6) == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.6))
    assert gain("prelu") == pytest.approx(torch.nn.init.calculate_gain("leaky_relu", 0.25))
    assert gain("adalin", adalin_of="tanh") == pytest.approx(5 / 3)


def test_a_module_may_be_initialized_apart() -> None:
    chosen: Activation = choose("prelu", channels=False)
    layer: Any = chosen.layer(3)
    initialize(layer)
    assert layer.slope.tolist() == [0.25] * 3
