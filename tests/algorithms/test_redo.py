"""ReDo against simulations of its specification, on every kind of network; what continual backprop shares with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import ContinualBackprop, PackedContinualBackprop
from lop_sweeps.algorithms.redo import PackedReDo, ReDo
from lop_sweeps.counter_random import uniforms
from lop_sweeps.errors import ConfigError
from lop_sweeps.fused.limits import obstacle
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training import engine
from lop_sweeps.training.learner import TorchLearner
from tests.replacements import force

Floats = NDArray[np.float64]
State = dict[str, Tensor]
SIZES, BATCH = [6, 8, 7, 3], 4
CLASSES, SEEDS = SIZES[-1], [4, 0, 9]
STILL: Any = SGD(1e-300)  # an optimiser that moves nothing
ADAM: Any = Adam(0.02)
MOMENTUM: Any = SGD(0.05, 0.9)
RESET_MOMENTUM: Any = SGD(0.05, 0.9, reset_momentum=True)


def make(
    network: Callable[[], Network],
    interventions: Sequence[Any],
    optimizers: Sequence[Any],
    seeds: Sequence[int],
) -> TorchLearner:
    return TorchLearner(network, optimizers, interventions, seeds, "cross_entropy", torch.float64)


def mlp(**options: Any) -> Callable[[], MLP]:
    return lambda: MLP(SIZES[0], CLASSES, **{"hidden": SIZES[1:-1], **options})


def with_redo(
    options: Sequence[ReDo],
    optimizers: Sequence[Any] | None = None,
    seeds: Sequence[int] = SEEDS,
    network: Callable[[], Network] | None = None,
) -> tuple[TorchLearner, PackedReDo]:
    runs = len(options)
    learner = make(network or mlp(), [options], optimizers or [STILL] * runs, seeds[:runs])
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReDo)
    return learner, packed


def data(seed: int, step: int, inputs: int) -> tuple[Floats, NDArray[np.int64]]:
    generator = np.random.default_rng([seed, step])
    return generator.normal(size=(BATCH, inputs)), generator.integers(0, CLASSES, BATCH)


def learn(learner: TorchLearner, step: int, inputs: int = SIZES[0]) -> None:
    """Step number `step` on each seed's own stream; an actor-critic network learns as PPO makes it learn."""
    learner.plan(step, 1)
    pairs = [data(seed, step, inputs) for seed in learner.seeds]
    x, y = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
    if not isinstance(learner.network, ActorCritic):
        learner.learn(x, y, step)
        return
    output = learner.predict(x, step)
    learner.learn_from(output, (output - y.unsqueeze(2)).detach(), step)


def kept(learner: TorchLearner) -> State:
    return {name: value.clone() for name, value in learner.state().items()}


# A naive simulation of spec/algorithms.md 7, for one run, by hand: no autograd, no torch, unit by unit.


@dataclass
class Naive:
    options: ReDo
    optimizer: Any
    seed: int
    weights: list[Floats]
    biases: list[Floats]
    tanh: bool
    replaced: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        self.m, self.v, self.t = ([np.zeros_like(p) for p in (*self.weights, *self.biases)] for _ in range(3))

    def step(self, number: int, x: Floats, y: NDArray[np.int64]) -> None:
        h = [x]
        for w, b in zip(self.weights, self.biases, strict=True):
            z = h[-1] @ w.T + b
            h.append(np.tanh(z) if self.tanh else np.maximum(z, 0.0))
        exponentials = np.exp(z - z.max(1, keepdims=True))  # the last layer is linear
        delta = exponentials / exponentials.sum(1, keepdims=True)
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        gradients: list[Floats] = [np.zeros(0)] * 6
        for i in (2, 1, 0):
            gradients[i], gradients[3 + i] = delta.T @ h[i], delta.sum(0)
            if i:
                delta = (delta @ self.weights[i]) * (1 - h[i] ** 2 if self.tanh else (h[i] > 0))
        self.descend(gradients)
        if (number + 1) % self.options.period == 0:
            for i in (0, 1):
                scores = [np.abs(h[i + 1][:, unit]).mean() for unit in range(SIZES[i + 1])]
                average = sum(scores) / len(scores)
                for unit, score in enumerate(scores):
                    if average > 0 and score / average <= self.options.threshold:
                        self.replace(number, i, unit)

    def descend(self, gradients: list[Floats]) -> None:
        o = self.optimizer
        for k, (p, g) in enumerate(zip((*self.weights, *self.biases), gradients, strict=True)):
            g = g + o.weight_decay * p
            if isinstance(o, SGD):
                self.m[k] = o.momentum * self.m[k] + g
                p -= o.step_size * self.m[k]
                continue
            self.t[k] += 1
            self.m[k] = o.beta1 * self.m[k] + (1 - o.beta1) * g
            self.v[k] = o.beta2 * self.v[k] + (1 - o.beta2) * g * g
            corrected = self.m[k] / (1 - o.beta1 ** self.t[k])
            p -= o.step_size * corrected / (np.sqrt(self.v[k] / (1 - o.beta2 ** self.t[k])) + o.eps)

    def replace(self, number: int, i: int, unit: int) -> None:
        draws = np.empty(SIZES[i])
        uniforms(streams.counter_key(self.seed, "recycled units", i), number, unit * SIZES[i], draws)
        self.weights[i][unit] = (2 * draws - 1) * (5 / 3 if self.tanh else math.sqrt(2)) * math.sqrt(3 / SIZES[i])
        self.biases[i][unit] = 0
        self.weights[i + 1][:, unit] = 0
        self.replaced[i] += 1
        if self.options.reset_optimizer and (isinstance(self.optimizer, Adam) or self.optimizer.reset_momentum):
            for state in (self.m, self.v, self.t):
                state[i][unit] = state[3 + i][unit] = 0
                state[i + 1][:, unit] = 0


@pytest.mark.parametrize("reset_optimizer", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize(
    "optimizers",
    [
        [SGD(0.1), SGD(0.05, weight_decay=0.1), SGD(0.2)],
        [MOMENTUM, SGD(0.03, 0.5), SGD(0.02, 0.9, 0.1)],
        [RESET_MOMENTUM, SGD(0.03, 0.5, reset_momentum=True), SGD(0.02, 0.9, 0.1, reset_momentum=True)],
        [ADAM, Adam(0.01, 0.5, 0.99), Adam(0.03, 0.99, 0.99, weight_decay=0.1)],
    ],
    ids=["sgd", "momentum", "reset_momentum", "adam"],
)
@pytest.mark.parametrize("runs", [1, 3])
def test_equals_a_naive_simulation(runs: int, optimizers: list[Any], activation: str, reset_optimizer: bool) -> None:
    """Alone and in a pack of three thresholds, one of them 0: same units, at the same steps, with the same draws."""
    thresholds = {"relu": (0.5, 0.0, 0.9), "tanh": (0.9, 0.0, 0.95)}[activation]
    options = [ReDo(threshold, 5, reset_optimizer) for threshold in thresholds[:runs]]
    learner, packed = with_redo(options, optimizers[:runs], SEEDS, mlp(activation=activation))
    names = [f"layers.{i}.{part}" for part in ("weight", "bias") for i in range(3)]
    everyone = []
    for run in range(runs):
        own = [learner.view(learner.parameters, name)[run].numpy().copy() for name in names]
        everyone.append(Naive(options[run], optimizers[run], SEEDS[run], own[:3], own[3:], activation == "tanh"))
    for step in range(41):
        learn(learner, step)
        for run, naive in enumerate(everyone):
            naive.step(step, *data(naive.seed, step, SIZES[0]))
            assert packed.report(run)["replaced_units"] == naive.replaced, f"step {step} run {run}"
    for run, naive in enumerate(everyone):
        for name, expected in zip(names, (*naive.weights, *naive.biases), strict=True):
            ours = learner.view(learner.parameters, name)[run]
            np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-10, err_msg=name)
        if options[run].threshold:
            assert min(naive.replaced) > 3, "the comparison needs replacements"


# Any network: which state a step leaves, from that of a learner which takes the same step and replaces nothing.


@dataclass(frozen=True)
class Layer:
    """A hidden layer as a test writes it down: names, and the law of new incoming weights."""

    weight: str
    next_weight: str
    bound: float
    norm: str = ""
    spread: int = 1

    @property
    def bias(self) -> str:
        return self.weight.removesuffix("weight") + "bias"


IMAGE = (2, 14, 14)


def conv(**options: Any) -> Callable[[], Network]:
    """Maps of 6 x 6 and 2 x 2 after pooling; the linear layer reads channel c at columns 4 c, ..., 4 c + 3."""
    return lambda: ConvNet(IMAGE, CLASSES, [4, 5], [3, 3], [6], **options)


def mlp_layers(norm: bool = False, gain: float = math.sqrt(2), prefix: str = "") -> list[Layer]:
    return [
        Layer(
            f"{prefix}layers.{i}.weight",
            f"{prefix}layers.{i + 1}.weight",
            gain * math.sqrt(3 / SIZES[i]),
            f"{prefix}norms.{i}" if norm else "",
        )
        for i in (0, 1)
    ]


def conv_layers(norm: bool = False) -> list[Layer]:
    names = ["convolutions.0.weight", "convolutions.1.weight", "layers.0.weight", "layers.1.weight"]
    fans = [2 * 9, 4 * 9, 5 * 4]
    return [
        Layer(names[i], names[i + 1], 1 / math.sqrt(fans[i]), f"norms.{i}" if norm else "", 4 if i == 1 else 1)
        for i in range(3)
    ]


FRESH = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
NETWORKS: dict[str, tuple[Callable[[], Network], int, list[Layer]]] = {
    "mlp": (mlp(), 6, mlp_layers()),
    "dropout": (mlp(dropout=0.3), 6, mlp_layers()),
    "layer": (mlp(norm="layer"), 6, mlp_layers(True)),
    "batch": (mlp(norm="batch"), 6, mlp_layers(True)),
    "batch_after": (mlp(norm="batch", norm_after=True), 6, mlp_layers(True)),
    "conv": (conv(), 392, conv_layers()),
    "conv_tanh_dropout": (conv(activation="tanh", dropout=0.2), 392, conv_layers()),
    "conv_batch": (conv(norm="batch"), 392, conv_layers(True)),
    "actor_critic": (
        lambda: ActorCritic(SIZES[0], 2, SIZES[1:-1]),
        6,
        mlp_layers(gain=1.0, prefix="policy.") + mlp_layers(gain=1.0, prefix="value."),
    ),
    "actor_critic_layer": (
        lambda: ActorCritic(SIZES[0], 2, SIZES[1:-1], norm="layer"),
        6,
        mlp_layers(True, 1.0, "policy.") + mlp_layers(True, 1.0, "value."),
    ),
}


def dormant(activation: Tensor, threshold: float) -> list[int]:
    """Units of one run's activations (batch, units, *positions), one number after the other."""
    each = [float(activation[:, unit].abs().sum()) / activation[:, unit].numel() for unit in range(activation.shape[1])]
    average = sum(each) / len(each)
    return [unit for unit, value in enumerate(each) if average > 0 and value / average <= threshold]


def replace(learner: TorchLearner, state: State, layer: Layer, i: int, run: int, unit: int, step: int) -> None:
    """One unit's replacement in a copy of the state."""

    def reset(flat: Tensor, value: float) -> None:
        learner.view(flat, layer.weight)[run, unit] = value
        learner.view(flat, layer.bias)[run, unit] = value
        for column in range(unit * layer.spread, (unit + 1) * layer.spread):
            learner.view(flat, layer.next_weight)[run][:, column] = value
        if layer.norm:
            learner.view(flat, f"{layer.norm}.weight")[run, unit] = value
            learner.view(flat, f"{layer.norm}.bias")[run, unit] = value

    options = learner.interventions[0]
    assert isinstance(options, PackedReDo)
    if options.optimizer:
        for name, value in learner.optimizer.fresh().items():
            reset(state[f"optimizer/{name}"], value)
    reset(state["parameters"], 0.0)
    row = learner.view(state["parameters"], layer.weight)[run, unit]
    draws = np.empty(row.numel())
    uniforms(streams.counter_key(learner.seeds[run], "recycled units", i), step, unit * row.numel(), draws)
    row.copy_(torch.from_numpy((2 * draws - 1) * layer.bound).view(row.shape))
    if layer.norm:
        learner.view(state["parameters"], f"{layer.norm}.weight")[run, unit] = 1.0
        for name, value in FRESH.items():
            if f"buffers/{layer.norm}.{name}" in state:
                state[f"buffers/{layer.norm}.{name}"][run, unit] = value
    state[f"interventions/0/{i}.replaced"][run] += 1


@pytest.mark.parametrize("reset_optimizer", [True, False])
@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("network", NETWORKS)
def test_replaces_dormant_units_and_changes_nothing_else(network: str, runs: int, reset_optimizer: bool) -> None:
    """Every number of the state, after every step: weights, norms, running statistics, moments and step counts."""
    make_network, inputs, layers = NETWORKS[network]
    thresholds = [0.93, 0.0, 1.0][:runs]
    adams = [ADAM, Adam(0.01, 0.5, 0.9), Adam(0.03, weight_decay=0.01)][:runs]
    options = [ReDo(threshold, 3, reset_optimizer) for threshold in thresholds]
    never = [ReDo(threshold, 10**9, reset_optimizer) for threshold in thresholds]
    learner, packed = with_redo(options, adams, SEEDS, make_network)
    still, _ = with_redo(never, adams, SEEDS, make_network)
    total = np.zeros((runs, len(layers)), int)
    for step in range(9):
        for name, value in still.state().items():
            value.copy_(learner.state()[name])
        learn(learner, step, inputs)
        learn(still, step, inputs)
        expected = kept(still)
        if (step + 1) % 3 == 0:
            chosen = [[dormant(h[run], thresholds[run]) for run in range(runs)] for h in still.activations]
            for i, layer in enumerate(layers):
                for run in range(runs):
                    total[run, i] += len(chosen[i][run])
                    for unit in chosen[i][run]:
                        replace(learner, expected, layer, i, run, unit, step)
        for name, value in learner.state().items():
            torch.testing.assert_close(value, expected[name], rtol=1e-13, atol=1e-16, msg=name)
    assert [packed.report(run)["replaced_units"] for run in range(runs)] == total.tolist()
    assert bool((total[np.array(thresholds) > 0] > 0).all()), "the comparison needs replacements"
    assert total.max() < 3 * max(SIZES), "it needs units that stay, too"


def test_residual_network() -> None:
    """New weights are normal there, and shortcuts carry the units past the weights that are set to 0."""
    learner, packed = with_redo([ReDo(0.3, 1)] * 2, [ADAM] * 2, [3, 4], lambda: ResNet18((1, 8, 8), CLASSES, width=2))
    learner.activations = [torch.ones(2, 2, layer.units, 2, 2, dtype=torch.float64) for layer in learner.graph]
    layer = learner.graph[3]
    learner.activations[3][1, :, 1] = 0.0
    before = kept(learner)
    with torch.no_grad():
        packed.after_update(6)
    assert packed.report(0)["replaced_units"] == [0] * len(learner.graph)
    assert packed.report(1)["replaced_units"] == [int(i == 3) for i in range(len(learner.graph))]
    assert layer.std is not None
    draws = np.empty(2 * layer.fan_in)
    uniforms(streams.counter_key(4, "recycled units", 3), 6, 1 * 2 * layer.fan_in, draws)
    new = layer.std * np.sqrt(-2 * np.log(1 - draws[::2])) * np.cos(2 * np.pi * draws[1::2])
    row = learner.view(learner.parameters, layer.weight)[1, 1]
    np.testing.assert_allclose(row.flatten(), new, rtol=1e-12)
    changed = torch.zeros_like(learner.parameters, dtype=torch.bool)
    learner.view(changed, layer.weight)[1, 1] = True
    learner.view(changed, layer.bias)[1, 1] = True
    learner.view(changed, layer.next_weight)[1][:, 1] = True
    for name, _ in layer.norm:
        if name not in learner.buffers:
            learner.view(changed, name)[1, 1] = True
    assert torch.equal(learner.parameters[~changed], before["parameters"][~changed])


# Which units, by activations made by hand


def ask(activations: Sequence[Floats], thresholds: Sequence[float], step: int = 0, period: int = 1) -> list[list[int]]:
    """Indices of the units of hidden layer 0 that are replaced in each run; activations (batch, 8) of each."""
    learner, packed = with_redo([ReDo(threshold, period) for threshold in thresholds])
    h = torch.from_numpy(np.stack(activations))
    learner.activations = [h, torch.ones(len(h), h.shape[1], 7, dtype=torch.float64)]
    before = learner.parameters.clone()
    with torch.no_grad():
        packed.after_update(step)
    changed = (learner.view(learner.parameters, "layers.0.weight") != learner.view(before, "layers.0.weight")).any(2)
    units = [torch.nonzero(row).flatten().tolist() for row in changed]
    assert [packed.report(run)["replaced_units"][0] for run in range(len(units))] == [len(each) for each in units]
    return units


BASE = np.array([[1.0, 2, 3, 4, 0, 2, 2, 2]])  # mean 2


@pytest.mark.parametrize(
    ("activation", "threshold", "units"),
    [
        (BASE, 0.0, [4]),
        (BASE, 0.5, [0, 4]),  # a score of just the threshold is dormant
        (BASE, 0.4999999, [4]),
        (BASE, 1.0, [0, 1, 4, 5, 6, 7]),
        (BASE, 2.0, list(range(8))),
        (-BASE, 0.5, [0, 4]),  # magnitudes count
        (np.concatenate([BASE, -BASE]), 0.5, [0, 4]),  # those of each example, though the means are 0
        (np.concatenate([4 * BASE, 0 * BASE]), 0.5, [0, 4]),
        (np.concatenate([BASE, BASE[:, ::-1]]), 0.8, [0, 7]),  # the mean over the mini-batch, no single example
        (1e-30 * BASE, 0.5, [0, 4]),  # relative to its layer, however faint that is
        (1e30 * BASE, 0.5, [0, 4]),
        (0 * BASE, 0.0, []),  # 0 / 0
        (0 * BASE, 0.5, []),
        (BASE * np.nan, 0.5, []),
    ],
)
def test_dormant_is_a_score_of_at_most_the_threshold(activation: Floats, threshold: float, units: list[int]) -> None:
    assert ask([activation], [threshold]) == [units]


def test_each_run_has_its_own_activations_and_threshold() -> None:
    """One silent run and one that is not a number do not stop the third, nor do they lose a unit."""
    assert ask([0 * BASE, BASE, np.nan * BASE], [0.5, 0.5, 0.5]) == [[], [0, 4], []]
    assert ask([BASE, BASE, BASE[:, ::-1]], [0.5, 0.0, 0.5]) == [[0, 4], [4], [3, 7]]


@pytest.mark.parametrize("period", [1, 4, 4.0])
def test_acts_after_updates_number_period_and_its_multiples(period: Any) -> None:
    redo = ReDo(0.5, period)
    acts = [step for step in range(12) if redo.next_step(step) == step]
    assert acts == [step for step in range(12) if (step + 1) in range(int(period), 13, int(period))]
    assert all(redo.next_step(step) in acts for step in range(acts[-1] + 1))


def test_a_layer_is_judged_by_its_own_mean() -> None:
    """A layer a thousand times fainter than the other one loses no unit for that, and a silent one stops no other."""
    learner, packed = with_redo([ReDo(0.5, 1)])
    second = torch.ones(1, 2, 7, dtype=torch.float64)
    second[..., 5] = 0
    for scale, replaced in ((1e-3, [0, 1]), (1e3, [0, 1]), (0.0, [0, 1])):
        learner.activations = [torch.full((1, 2, 8), scale, dtype=torch.float64), second]
        packed.clear_report()
        with torch.no_grad():
            packed.after_update(0)
        assert packed.report(0)["replaced_units"] == replaced


def test_units_of_neighbouring_layers_replaced_together() -> None:
    """Layers in order: a new upper unit has fresh weights on all units, an old one none on a new lower unit."""
    learner, packed = with_redo([ReDo(0.5, 1)])
    first, second = torch.ones(1, 2, 8, dtype=torch.float64), torch.ones(1, 2, 7, dtype=torch.float64)
    first[..., 2] = second[..., 3] = 0
    learner.activations = [first, second]
    with torch.no_grad():
        packed.after_update(0)
    weight = learner.view(learner.parameters, "layers.1.weight")[0]
    assert bool((weight[3] != 0).all())
    assert torch.nonzero(weight[:, 2]).flatten().tolist() == [3]
    assert packed.report(0)["replaced_units"] == [1, 1]


def new_rows(options: Sequence[ReDo], seeds: Sequence[int], step: int, units: Iterable[int], layer: int = 0) -> Tensor:
    """Incoming weights (runs, units, inputs) of a hidden layer after the given units were replaced."""
    learner, packed = with_redo(options, None, seeds)
    runs = len(options)
    learner.activations = [torch.ones(runs, 1, size, dtype=torch.float64) for size in SIZES[1:-1]]
    learner.activations[layer][..., list(units)] = 0
    with torch.no_grad():
        packed.after_update(step)
    return learner.view(learner.parameters, f"layers.{layer}.weight")


def test_draws_depend_on_seed_layer_step_and_unit_alone() -> None:
    """Not on the pack, nor on which other units are replaced with it."""
    one = new_rows([ReDo(0.5, 1)], [7], 40, [3])[0, 3]
    others = new_rows([ReDo(0.2, 1), ReDo(0.5, 1), ReDo(0.0, 1)], [2, 7, 5], 40, [0, 3, 6])
    assert torch.equal(others[1, 3], one)
    different = [
        others[0, 3],
        others[1, 0],
        new_rows([ReDo(0.5, 1)], [7], 41, [3])[0, 3],
        new_rows([ReDo(0.5, 1)], [7], 40, [3], layer=1)[0, 3, :6],
    ]
    for other in different:
        assert not torch.isclose(one / one.abs().max(), other / other.abs().max()).any()


def test_draws_are_not_those_of_the_start_nor_of_continual_backprop() -> None:
    """A replacement that gave back initial weights, or continual backprop's new ones, would be no new draw."""
    new = new_rows([ReDo(0.5, 1)], [7], 0, [0, 1, 2])[0, :3]
    still, _ = with_redo([ReDo(0.5, 1)], [STILL], [7])
    initial = still.view(still.parameters, "layers.0.weight")[0, :3]
    cbp = make(mlp(), [[ContinualBackprop()]], [STILL], [7]).interventions[0]
    assert isinstance(cbp, PackedContinualBackprop)
    for other in (initial, cbp.draw_incoming(0, 0, 0, torch.arange(3))):
        assert not torch.isclose(new, other).any()


def test_new_weights_have_the_initial_law() -> None:
    rows = [new_rows([ReDo(0.5, 1)], [7], step, range(1, 8))[0, 1:] for step in range(40)]
    draws, bound = torch.cat(rows).flatten(), math.sqrt(6 / SIZES[0])
    assert draws.abs().max() <= bound
    assert stats.kstest(draws.numpy(), "uniform", (-bound, 2 * bound)).pvalue > 1e-4


def test_float32_replaces_with_the_same_draws_rounded() -> None:
    exact = new_rows([ReDo(0.5, 1)], [7], 3, [1, 5])[0, [1, 5]]
    learner = TorchLearner(mlp(), [ADAM], [[cast(Any, ReDo(0.5, 1))]], [7], "cross_entropy", torch.float32)
    learner.activations = [torch.ones(1, 1, size) for size in SIZES[1:-1]]
    learner.activations[0][..., [1, 5]] = 0
    with torch.no_grad():
        learner.interventions[0].after_update(3)
    assert torch.equal(learner.view(learner.parameters, "layers.0.weight")[0, [1, 5]], exact.float())


@pytest.mark.parametrize("network", ["mlp", "batch", "conv", "actor_critic"])
def test_a_runs_result_does_not_depend_on_its_pack(network: str) -> None:
    """The same units at the same steps; numbers up to rounding."""
    make_network, inputs, _ = NETWORKS[network]
    options = [ReDo(0.9, 3), ReDo(0.0, 3), ReDo(0.97, 3)]
    together, packed = with_redo(options, [ADAM] * 3, SEEDS, make_network)
    alone = [with_redo([one], [ADAM], [seed], make_network) for one, seed in zip(options, SEEDS, strict=True)]
    for step in range(12):
        learn(together, step, inputs)
        for learner, _ in alone:
            learn(learner, step, inputs)
    for run, (learner, own) in enumerate(alone):
        assert packed.report(run) == own.report(0)
        torch.testing.assert_close(together.parameters[run], learner.parameters[0], rtol=1e-9, atol=1e-9)
    assert sum(packed.report(0)["replaced_units"]) > 0


@pytest.mark.parametrize("network", ["mlp", "conv", "actor_critic"])
@pytest.mark.parametrize("threshold", [0.0, 0.7, 3.0])
def test_run_taken_out_of_the_pack_stays_silent_and_disturbs_no_other(threshold: float, network: str) -> None:
    """All its units look dormant: they must get no new weights, which would bring the run back to life."""
    make_network, inputs, layers = NETWORKS[network]
    whole, masked = (with_redo([ReDo(threshold, 3)] * 3, [ADAM] * 3, SEEDS, make_network) for _ in range(2))
    for learner, _ in (whole, masked):
        for step in range(4):
            learn(learner, step, inputs)
    masked[0].parameters[1] = torch.nan  # it diverged
    masked[0].mask(1)
    for learner, _ in (whole, masked):
        for step in range(4, 12):
            learn(learner, step, inputs)
    state = masked[0].state()
    for name, value in whole[0].state().items():
        assert torch.equal(value[[0, 2]], state[name][[0, 2]]), name
    assert not any(masked[1].report(1)["replaced_units"])
    for layer in layers:
        for name in (layer.weight, layer.bias, layer.next_weight):
            assert not masked[0].view(masked[0].parameters, name)[1].any(), name


def test_report_counts_since_the_last_report() -> None:
    learner, packed = with_redo([ReDo(0.5, 1), ReDo(0.0, 1)])
    first, second = torch.ones(2, 1, 8, dtype=torch.float64), torch.ones(2, 1, 7, dtype=torch.float64)
    first[:, :, [1, 2]], second[0, 0, 4], first[:, :, 5] = 0.0, 0.0, 0.1
    learner.activations = [first, second]
    with torch.no_grad():
        packed.after_update(0)
    assert [packed.report(run) for run in (0, 1)] == [{"replaced_units": [3, 1]}, {"replaced_units": [2, 0]}]
    with torch.no_grad():
        packed.after_update(1)
    assert packed.report(0) == {"replaced_units": [6, 2]}
    assert all(type(number) is int for number in packed.report(0)["replaced_units"])
    packed.clear_report()
    assert [packed.report(run) for run in (0, 1)] == [{"replaced_units": [0, 0]}] * 2
    assert {name: value.tolist() for name, value in packed.state().items()} == {
        "0.replaced": [0, 0],
        "1.replaced": [0, 0],
    }


def test_state_is_complete() -> None:
    """Copied into a new pack of other initial weights, it continues exactly; counts for the next report included."""
    options, adams = [ReDo(0.7, 4), ReDo(0.9, 4)], [ADAM, Adam(0.01)]
    first, packed = with_redo(options, adams)
    for step in range(10):
        learn(first, step)
    second, other = with_redo(options, adams, SEEDS)
    second.parameters.normal_()
    for run in (0, 1):
        second.load(run, {name: value[run].clone() for name, value in first.state().items()})
    for learner in (first, second):
        for step in range(10, 30):
            learn(learner, step)
    for name, value in second.state().items():
        assert torch.equal(value, first.state()[name]), name
    assert packed.report(0) == other.report(0)
    assert sum(packed.report(0)["replaced_units"]) > 0


def test_nothing_dormant_is_backprop() -> None:
    """Up to rounding, which a step count for every weight changes."""
    learner, packed = with_redo([ReDo(0.0, 1)] * 2, [Adam(0.01)] * 2, SEEDS, mlp(activation="tanh"))
    plain = make(mlp(activation="tanh"), [], [Adam(0.01)] * 2, SEEDS[:2])
    for step in range(20):
        learn(learner, step)
        learn(plain, step)
    assert packed.report(0)["replaced_units"] == [0, 0]
    torch.testing.assert_close(learner.parameters, plain.parameters, rtol=1e-12, atol=1e-14)


def test_two_interventions_reset_the_optimizer_as_each_was_told() -> None:
    """With a step count per weight there, because ReDo needs it, continual backprop still leaves it alone."""
    cbp, redo = ContinualBackprop(1e-9, 1, reset_optimizer=False), ReDo(0.5, 1)
    learner = make(mlp(activation="tanh"), [[cbp], [redo]], [ADAM], [3])
    for step in range(5):
        learn(learner, step)
    before = kept(learner)
    first, second = learner.interventions
    assert isinstance(first, PackedContinualBackprop)
    force(first, 5, {(0, 0): 2})
    for name in ("moment1", "moment2", "power1", "power2"):
        assert torch.equal(learner.optimizer.state()[name], before[f"optimizer/{name}"])
    assert not torch.equal(learner.parameters, before["parameters"])
    learner.activations = [torch.ones(1, 1, size, dtype=torch.float64) for size in SIZES[1:-1]]
    learner.activations[1][..., 2] = 0
    with torch.no_grad():
        second.after_update(6)
    for name, fresh in {"moment1": 0.0, "moment2": 0.0, "power1": 1.0, "power2": 1.0}.items():
        state, old = learner.optimizer.state()[name], before[f"optimizer/{name}"]
        assert bool((learner.view(state, "layers.1.weight")[0, 2] == fresh).all())
        assert bool((learner.view(state, "layers.2.weight")[0][:, 2] == fresh).all())
        assert torch.equal(learner.view(state, "layers.0.weight"), learner.view(old, "layers.0.weight"))


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"threshold": -0.1}, "threshold"),
        ({"threshold": math.inf}, "threshold"),
        ({"threshold": "0.1"}, "threshold"),
        ({"period": 0}, "period"),
        ({"period": 1.5}, "period"),
        ({"reset_optimizer": 1}, "reset_optimizer"),
    ],
)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ReDo(**options)
    assert caught.value.key == key


def test_networks_it_cannot_act_on() -> None:
    for network in (Linear(4, 2), ActorCritic(4, 2, [])):
        with pytest.raises(ConfigError, match="hidden units"):
            ReDo().check(network)
    ReDo().check(MLP(4, 2, [3]))
    ReDo().check(ActorCritic(4, 2, [3]))


@pytest.mark.parametrize(("period", "found"), [(100, "fused"), (2, "fused"), (1, "torch")])
def test_the_fused_engine_takes_it_unless_it_acts_at_every_step(period: int, found: str) -> None:
    network, redo = MLP(4, 2, [3]), ReDo(period=period)
    assert (obstacle(network, STILL, [redo]) is None) == (found == "fused")
    assert engine.choose("auto", network, STILL, [redo], "online", 1)[0] == found


# Continual backprop with reset_optimizer=false


def cbp_learner(
    reset: bool | None, optimizer: Any, network: str = "mlp"
) -> tuple[TorchLearner, PackedContinualBackprop]:
    given: dict[str, Any] = {} if reset is None else {"reset_optimizer": reset}
    one = ContinualBackprop(0.02, 3, 0.9, **given)
    learner = make(NETWORKS[network][0], [[one] * 2], [optimizer] * 2, SEEDS[:2])
    packed = learner.interventions[0]
    assert isinstance(packed, PackedContinualBackprop)
    return learner, packed


@pytest.mark.parametrize("optimizer", [ADAM, RESET_MOMENTUM])
@pytest.mark.parametrize("network", ["mlp", "batch", "conv", "actor_critic"])
def test_continual_backprop_can_keep_the_optimizers_state_of_a_replaced_unit(network: str, optimizer: Any) -> None:
    """Weights, norms and utilities as with the default, to the bit; moments and step counts stay."""
    inputs = NETWORKS[network][1]
    keeping, resetting = cbp_learner(False, optimizer, network), cbp_learner(True, optimizer, network)
    for learner, packed in (keeping, resetting):
        for layer in packed.layers:
            layer.age.fill_(-(10**6))  # no replacements of their own
        for step in range(4):
            learn(learner, step, inputs)
    if isinstance(optimizer, Adam):
        assert keeping[0].optimizer.fresh() == {}
        assert keeping[0].optimizer.state()["power1"].shape == (2, 1)
    before = kept(keeping[0])
    for name, value in keeping[0].state().items():  # step counts are per run in one, per weight in the other
        if "power" not in name:
            resetting[0].state()[name].copy_(value)
    for learner, packed in (keeping, resetting):
        for layer in packed.layers:
            layer.age.fill_(100)
        learner.activations = [h.clone() for h in keeping[0].activations]
        force(packed, 4, {(0, 1): 2, (1, 0): 1})
    after, other = keeping[0].state(), resetting[0].state()
    for name, value in after.items():
        if name.startswith("optimizer/"):
            assert torch.equal(value, before[name]), name
            assert not torch.equal(value.expand_as(other[name]), other[name]), name
        else:
            assert torch.equal(value, other[name]), name
    assert not torch.equal(after["parameters"], before["parameters"])


def test_continual_backprops_default_resets_the_state_and_sgd_has_none() -> None:
    for optimizer, differs in ((ADAM, True), (SGD(0.05), False)):
        default, resetting, keeping = (cbp_learner(reset, optimizer)[0] for reset in (None, True, False))
        for step in range(60):
            for learner in (default, resetting, keeping):
                learn(learner, step)
        assert default.interventions[0].report(0)["replaced_units"] != [0, 0]
        assert torch.equal(default.parameters, resetting.parameters)
        assert torch.equal(default.parameters, keeping.parameters) != differs


def test_continual_backprop_that_keeps_the_state_is_not_for_the_fused_engine() -> None:
    network = MLP(4, 2, [3])
    resetting, keeping = (cast(Any, ContinualBackprop(reset_optimizer=reset)) for reset in (True, False))
    for optimizer in (ADAM, MOMENTUM):
        assert obstacle(network, optimizer, [resetting]) is None
        reason = obstacle(network, optimizer, [keeping])
        assert reason is not None
        assert engine.choose("auto", network, optimizer, [keeping], "online", 1) == ("torch", reason)
        assert engine.choose("auto", network, optimizer, [resetting], "online", 1)[0] == "fused"
        with pytest.raises(ConfigError, match="use engine=auto"):
            engine.choose("fused", network, optimizer, [keeping], "online", 1)


def test_continual_backprops_option_is_a_flag() -> None:
    wrong: dict[str, Any] = {"reset_optimizer": 0}
    with pytest.raises(ConfigError) as caught:
        ContinualBackprop(**wrong)
    assert caught.value.key == "reset_optimizer"
