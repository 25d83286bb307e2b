"""Continual backprop against a naive simulation of its specification, and each of its promises by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import UTILITIES, ContinualBackprop, PackedContinualBackprop
from lop_sweeps.counter_random import uniforms
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests.replacements import force

Floats = NDArray[np.float64]
SIZES = [6, 8, 7, 3]
STILL = SGD(1e-300)  # an optimiser that moves nothing


def make(
    options: Sequence[ContinualBackprop],
    optimizers: Sequence[Optimizer] | None = None,
    seeds: Sequence[int] | None = None,
    **network: Any,
) -> tuple[TorchLearner, PackedContinualBackprop]:
    runs = len(options)
    learner = TorchLearner(
        lambda: MLP(SIZES[0], SIZES[-1], **{"hidden": SIZES[1:-1], **network}),
        optimizers or [STILL] * runs,
        [list(options)],
        seeds or list(range(runs)),
        "cross_entropy",
        torch.float64,
    )
    packed = learner.interventions[0]
    assert isinstance(packed, PackedContinualBackprop)
    return learner, packed


def data(seed: int, step: int, batch: int) -> tuple[Floats, NDArray[np.int64]]:
    generator = np.random.default_rng([seed, step])
    return generator.normal(size=(batch, SIZES[0])), generator.integers(0, SIZES[-1], batch)


def learn(learner: TorchLearner, step: int, batch: int = 2, planned: int = 40) -> None:
    """Step number `step` on each seed's own stream; plans on a grid."""
    if step % planned == 0:
        learner.plan(step, planned)
    pairs = [data(seed, step, batch) for seed in learner.seeds]
    x, y = np.stack([x for x, _ in pairs]), np.stack([y for _, y in pairs])
    learner.learn(torch.from_numpy(x), torch.from_numpy(y), step)


# A naive simulation of spec/algorithms.md 3, for one run, by hand: no autograd, no torch, unit by unit.


@dataclass
class Naive:
    options: ContinualBackprop
    seed: int
    step_size: float
    weights: list[Floats]
    biases: list[Floats]
    tanh: bool
    u: list[Floats] = field(default_factory=list)
    f: list[Floats] = field(default_factory=list)
    age: list[NDArray[np.int64]] = field(default_factory=list)
    c: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        for units in SIZES[1:-1]:
            self.u.append(np.zeros(units))
            self.f.append(np.zeros(units))
            self.age.append(np.zeros(units, np.int64))
            self.c.append(0.0)

    def step(self, t: int, x: Floats, y: NDArray[np.int64]) -> None:
        h = [x]
        for w, b in zip(self.weights, self.biases, strict=True):
            z = h[-1] @ w.T + b
            h.append(np.tanh(z) if self.tanh else np.maximum(z, 0.0))
        h[-1] = z  # the last layer is linear
        exponentials = np.exp(z - z.max(1, keepdims=True))
        delta = exponentials / exponentials.sum(1, keepdims=True)
        delta[np.arange(len(y)), y] -= 1
        delta /= len(y)
        for i in reversed(range(len(self.weights))):
            down = delta @ self.weights[i]
            self.weights[i] = self.weights[i] - self.step_size * delta.T @ h[i]
            self.biases[i] = self.biases[i] - self.step_size * delta.sum(0)
            if i:
                delta = down * (1 - h[i] ** 2 if self.tanh else (h[i] > 0))
        self.generate_and_test(t, h[1:-1])

    def generate_and_test(self, t: int, hidden: list[Floats]) -> None:
        chosen = [self.select(t, i, h) for i, h in enumerate(hidden)]
        for i, units in enumerate(chosen):
            for unit in units:
                self.replace(t, i, unit)
        for i, units in enumerate(chosen):
            for unit in units:
                self.u[i][unit] = self.f[i][unit] = self.age[i][unit] = 0

    def rate(self, i: int) -> float:
        rates = self.options.replacement_rate
        return float(rates[i]) if isinstance(rates, Sequence) else rates

    def select(self, t: int, i: int, h: Floats) -> list[int]:
        if self.rate(i) == 0:
            return []
        eta, corrected = self.options.decay_rate, np.empty(len(self.u[i]))
        for unit in range(len(self.u[i])):
            self.age[i][unit] += 1
            kappa = 1 - eta ** int(self.age[i][unit])
            values = h[:, unit]
            self.f[i][unit] = eta * self.f[i][unit] + (1 - eta) * np.mean(values)
            f_hat = self.f[i][unit] / kappa
            w_out, w_in = np.abs(self.weights[i + 1][:, unit]).mean(), np.abs(self.weights[i][unit]).mean()
            size, spread = np.abs(values).mean(), np.abs(values - f_hat).mean()
            with np.errstate(divide="ignore", invalid="ignore"):  # a unit may have lost all its inputs
                y = {
                    "weight": w_out,
                    "contribution": w_out * size,
                    "adaptation": 1 / w_in,
                    "zero_contribution": w_out * spread,
                    "adaptable_contribution": w_out * spread / w_in,
                    "feature_by_input": spread / w_in,
                    "random": 0.0,
                }[self.options.utility]
            self.u[i][unit] = eta * self.u[i][unit] + (1 - eta) * y
            corrected[unit] = self.u[i][unit] / kappa
        if self.options.utility == "random":
            uniforms(streams.counter_key(self.seed, "random utility", i), t, 0, corrected)
        eligible = [unit for unit in range(len(corrected)) if self.age[i][unit] > self.options.maturity_threshold]
        if not eligible:
            return []
        x = self.rate(i) * len(eligible)
        if self.options.fractional == "accumulate":
            self.c[i] += x
            number = math.floor(self.c[i])
            self.c[i] -= number
        else:
            draw = np.empty(1)
            uniforms(streams.counter_key(self.seed, "replacement rounding", i), t, 0, draw)
            number = math.floor(x) if x >= 1 else int(draw[0] < x)
        ranked = sorted(eligible, key=lambda unit: (corrected[unit] if corrected[unit] >= 1e-30 else 0.0, unit))
        return sorted(ranked[:number])

    def replace(self, t: int, i: int, unit: int) -> None:
        fan_in = SIZES[i]
        draws = np.empty(fan_in)
        uniforms(streams.counter_key(self.seed, "new units", i), t, unit * fan_in, draws)
        bound = (5 / 3 if self.tanh else math.sqrt(2)) * math.sqrt(3 / fan_in)
        if self.options.bias_transfer:
            kappa = 1 - self.options.decay_rate ** int(self.age[i][unit])
            self.biases[i + 1] = self.biases[i + 1] + self.weights[i + 1][:, unit] * self.f[i][unit] / kappa
        self.weights[i][unit] = (2 * draws - 1) * bound
        self.biases[i][unit] = 0
        self.weights[i + 1][:, unit] = 0


def check_against_naive(options: Sequence[ContinualBackprop], batch: int, steps: int, activation: str) -> None:
    sizes = [0.05, 0.02, 0.1][: len(options)]
    seeds = [4, 0, 9][: len(options)]
    learner, packed = make(options, [SGD(size) for size in sizes], seeds, activation=activation)
    everyone = [
        Naive(
            options[run],
            seeds[run],
            sizes[run],
            [learner.view(learner.parameters, f"layers.{i}.weight")[run].numpy().copy() for i in range(3)],
            [learner.view(learner.parameters, f"layers.{i}.bias")[run].numpy().copy() for i in range(3)],
            activation == "tanh",
        )
        for run in range(len(options))
    ]
    replaced = np.zeros((len(options), 2), int)
    for t in range(steps):
        learn(learner, t, batch, planned=25)
        for run, naive in enumerate(everyone):
            naive.step(t, *data(naive.seed, t, batch))
            for i, layer in enumerate(packed.layers):
                if naive.rate(i) > 0:
                    np.testing.assert_array_equal(layer.age[run], naive.age[i], err_msg=f"step {t} run {run} layer {i}")
                    replaced[run, i] += int((naive.age[i] == 0).sum())
    close: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-10}
    for run, naive in enumerate(everyone):
        for i in range(3):
            ours = learner.view(learner.parameters, f"layers.{i}.weight")[run]
            np.testing.assert_allclose(ours, naive.weights[i], **close)
            np.testing.assert_allclose(
                learner.view(learner.parameters, f"layers.{i}.bias")[run], naive.biases[i], **close
            )
        for i, layer in enumerate(packed.layers):
            if naive.rate(i) > 0:
                np.testing.assert_allclose(layer.mean_activation[run], naive.f[i], **close)
                if naive.options.utility != "random":
                    np.testing.assert_allclose(layer.utility[run], naive.u[i], **close)
            assert packed.report(run)["replaced_units"][i] == replaced[run, i]
            assert (replaced[run, i] > 3) == (naive.rate(i) > 0), "the comparison needs replacements"


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("utility", UTILITIES)
def test_equals_a_naive_simulation(utility: str, activation: str) -> None:
    """Three runs with their own rates, thresholds and decays, and replacements in all layers."""
    options = [
        ContinualBackprop(0.01, 10, 0.9, utility),
        ContinualBackprop(0.03, 25, 0.99, utility),
        ContinualBackprop([0.02, 0.05], 3, 0.5, utility),
    ]
    check_against_naive(options, batch=3, steps=150, activation=activation)


@pytest.mark.parametrize("utility", ["contribution", "adaptable_contribution"])
def test_equals_a_naive_simulation_with_bernoulli_rounding_and_bias_transfer(utility: str) -> None:
    options = [
        ContinualBackprop(0.02, 10, 0.9, utility, "bernoulli", True),
        ContinualBackprop([0.03, 0.0], 5, 0.99, utility, "bernoulli", True),
        ContinualBackprop(0.3, 20, 0.0, utility, "bernoulli", True),  # more than one unit at a time
    ]
    check_against_naive(options, batch=1, steps=150, activation="tanh")


def test_equals_a_naive_simulation_for_one_run_and_single_examples() -> None:
    check_against_naive([ContinualBackprop(0.02, 10, 0.99, "adaptable_contribution")], 1, 400, "relu")


def hand_made(
    utility: str = "contribution", runs: int = 1, threshold: int = 5, **network: Any
) -> tuple[TorchLearner, PackedContinualBackprop]:
    """A learner whose units are all mature, with utilities to be set by hand."""
    learner, packed = make([ContinualBackprop(0.01, threshold, 0.5, utility)] * runs, **network)
    for layer in packed.layers:
        layer.age.fill_(1_000)  # far enough for a correction of 1
    return learner, packed


def test_lowest_utility_is_chosen_and_ties_go_to_the_lowest_index() -> None:
    _, packed = hand_made()
    packed.layers[0].utility[0] = torch.tensor([3.0, 2.0, 5.0, 2.0, 9.0, 2.0, 7.0, 1.0])
    for number, units in ((1, [7]), (2, [1, 7]), (3, [1, 3, 7]), (4, [1, 3, 5, 7]), (8, list(range(8)))):
        assert packed.choose(0, 0, 0, number).tolist() == units


def test_utility_below_1e_30_counts_as_zero() -> None:
    """Dead units hang at different denormals in float32; which of them goes must not depend on those."""
    _, packed = hand_made()
    packed.layers[0].utility[0] = torch.tensor([1.0, 9e-31, 1e-44, 0.0, 1e-38, 1.1e-30, 1.0, 1.0])
    assert packed.choose(0, 0, 0, 1).tolist() == [1]
    assert packed.choose(0, 0, 0, 3).tolist() == [1, 2, 3]
    assert packed.choose(0, 0, 0, 5).tolist() == [1, 2, 3, 4, 5]


def test_only_mature_units_are_chosen() -> None:
    """Older than the threshold, not as old; an infinite or undefined utility is no reason to take a young unit.

    1 / 0 and 0 / 0 are utilities of a unit whose incoming weights are all zero, since all its inputs were replaced.
    """
    _, packed = hand_made(threshold=5)
    layer = packed.layers[0]
    layer.age[0] = torch.tensor([5, 5, 6, 100, 6, 1, 0, 6])
    layer.utility[0] = torch.tensor([0.0, 0.0, 3.0, 2.0, 1.0, 0.0, 0.0, 4.0])
    assert packed.choose(0, 0, 0, 1).tolist() == [4]
    assert packed.choose(0, 0, 0, 4).tolist() == [2, 3, 4, 7]
    layer.utility[0] = torch.tensor([0.0, 0.0, torch.inf, 2.0, 1.0, 0.0, 0.0, torch.inf])
    assert packed.choose(0, 0, 0, 3).tolist() == [2, 3, 4]
    assert packed.choose(0, 0, 0, 4).tolist() == [2, 3, 4, 7]
    layer.utility[0] = torch.tensor([0.0, 0.0, 3.0, 0.0, 1.0, 0.0, 0.0, torch.nan])
    assert packed.choose(0, 0, 0, 1).tolist() == [3]  # 0 / 0 is 0, and a tie
    assert packed.choose(0, 0, 0, 3).tolist() == [3, 4, 7]


def test_utility_is_divided_by_how_much_of_its_average_is_filled() -> None:
    """1 - decay^age: a unit of age 1 with the running utility 0.5 has the same worth as an old one with 1."""
    _, packed = hand_made(threshold=0)
    layer = packed.layers[0]
    layer.age[0] = torch.tensor([1, 2, 3, 1000, 1, 1, 1, 1])
    layer.utility[0] = torch.tensor([0.5, 0.75, 0.875, 1.0, 0.49, 0.6, 0.7, 0.8])
    corrected = packed.corrected_utility(0, 0)[0]
    torch.testing.assert_close(corrected[:5], torch.tensor([1.0, 1.0, 1.0, 1.0, 0.98], dtype=torch.float64))
    assert packed.choose(0, 0, 0, 1).tolist() == [4]


def test_choices_of_a_step_see_no_replacement_of_that_step() -> None:
    """First every layer chooses, then all are replaced: zeroed outgoing weights of layer 0 do not lower layer 1."""
    learner, packed = hand_made("weight")
    learner.activations = [torch.ones(1, 1, 8, dtype=torch.float64), torch.ones(1, 1, 7, dtype=torch.float64)]
    outgoing = [learner.view(learner.parameters, f"layers.{i + 1}.weight")[0].abs().mean(0) for i in (0, 1)]
    force(packed, 3, {(0, 0): 2, (1, 0): 2})
    for layer, magnitude in zip(packed.layers, outgoing, strict=True):
        assert torch.nonzero(layer.age[0] == 0).flatten().tolist() == magnitude.argsort()[:2].sort().values.tolist()


def test_replaced_unit_has_new_incoming_zero_outgoing_weights_and_nothing_else_changes() -> None:
    learner, packed = hand_made(runs=2)
    for name in ("layers.0.bias", "layers.1.bias", "layers.2.bias"):
        learner.view(learner.parameters, name).fill_(0.7)
    before = learner.parameters.clone()
    packed.layers[0].utility[1] = torch.tensor([9.0, 1, 9, 9, 0, 9, 9, 9])  # what makes units 1 and 4 the lowest
    packed.layers[0].utility[0] = 1.0
    learner.activations = [torch.zeros(2, 1, 8, dtype=torch.float64), torch.zeros(2, 1, 7, dtype=torch.float64)]
    force(packed, 11, {(0, 1): 2})
    expected = before.clone()
    learner.view(expected, "layers.0.weight")[1, [1, 4]] = packed.draw_incoming(11, 0, 1, torch.tensor([1, 4]))
    learner.view(expected, "layers.0.bias")[1, [1, 4]] = 0
    learner.view(expected, "layers.1.weight")[1][:, [1, 4]] = 0
    assert torch.equal(learner.parameters, expected)
    assert bool((learner.parameters != before).any(1)[1])
    state = packed.layers[0]
    assert state.age[1, [1, 4]].tolist() == [0, 0]
    assert state.age[1, [0, 2, 3, 5, 6, 7]].tolist() == [1_001] * 6
    assert state.age[0].tolist() == [1_001] * 8
    assert state.utility[1, [1, 4]].tolist() == [0, 0]
    assert state.mean_activation[1, [1, 4]].tolist() == [0, 0]
    assert bool((state.utility[1, [0, 2, 3, 5, 6, 7]] > 0).all())


def test_unit_replaced_after_its_readers_column_has_fresh_weights_on_all_inputs() -> None:
    """Layers in order: a new unit of layer 1 also gets random weights on the new units of layer 0 (spec 3.4)."""
    learner, packed = hand_made()
    learner.activations = [torch.ones(1, 1, 8, dtype=torch.float64), torch.ones(1, 1, 7, dtype=torch.float64)]
    force(packed, 0, {(0, 0): 3, (1, 0): 2})
    lower = torch.nonzero(packed.layers[0].age[0] == 0).flatten()
    upper = torch.nonzero(packed.layers[1].age[0] == 0).flatten()
    weight = learner.view(learner.parameters, "layers.1.weight")[0]
    assert bool((weight[upper] != 0).all())
    others = [unit for unit in range(7) if unit not in upper.tolist()]
    assert not weight[others][:, lower].any()


@pytest.mark.parametrize("optimizer", [SGD(0.05), Adam(0.01)])
def test_bias_transfer_keeps_the_next_layers_expected_input(optimizer: Optimizer) -> None:
    """W h + b, averaged with the running average's weights, is the same before and after a removal."""
    decay = 0.8
    options = ContinualBackprop(1e-6, 5, decay, "contribution", bias_transfer=True)
    learner, packed = make([options], [optimizer])
    seen: list[list[Tensor]] = []
    for t in range(25):
        learn(learner, t, batch=3)
        seen.append([h[0].mean(0) for h in learner.activations])
    weights = torch.tensor([decay ** (24 - t) for t in range(25)], dtype=torch.float64)
    weights /= weights.sum()
    before = learner.parameters.clone()
    average = [sum(w * h[i] for w, h in zip(weights, seen, strict=True)) for i in (0, 1)]
    chosen = [packed.choose(24, 0, 0, 3), packed.choose(24, 1, 0, 2)]
    with torch.no_grad():
        packed._replace(24, 0, 0, chosen[0])
    for name in ("layers.1.weight", "layers.1.bias"):
        assert not torch.equal(learner.view(before, name), learner.view(learner.parameters, name))

    def expected_input(parameters: Tensor) -> Tensor:
        weight, bias = learner.view(parameters, "layers.1.weight")[0], learner.view(parameters, "layers.1.bias")[0]
        return weight @ average[0] + bias

    torch.testing.assert_close(expected_input(learner.parameters), expected_input(before), rtol=0, atol=1e-12)
    middle = learner.parameters.clone()
    with torch.no_grad():
        packed._replace(24, 1, 0, chosen[1])
    moved = learner.view(learner.parameters, "layers.2.bias")[0] - learner.view(middle, "layers.2.bias")[0]
    outgoing = learner.view(middle, "layers.2.weight")[0][:, chosen[1]]
    torch.testing.assert_close(moved, outgoing @ average[1][chosen[1]], rtol=0, atol=1e-12)


def test_bias_transfer_leaves_the_outputs_on_a_constant_input_alone() -> None:
    """There the mean activation is the activation; without the transfer the outputs do change."""
    x = torch.from_numpy(data(0, 0, 1)[0])[None]
    for transfer in (True, False):
        learner, packed = make([ContinualBackprop(0.5, 3, 0.99, "random", bias_transfer=transfer)], [STILL])
        outputs = []
        for t in range(5):
            learner.plan(t, 1)
            outputs.append(learner.network(x[0])[0].detach().clone())
            learner.learn(x, torch.zeros(1, 1, dtype=torch.int64), t)
            if t < 4:
                packed.layers[1].age.fill_(0)  # layer 0 alone is replaced: units of layer 1 would take the bias along
        assert packed.report(0)["replaced_units"][0] > 0
        outputs.append(learner.network(x[0])[0].detach())
        same = torch.allclose(outputs[0], outputs[-1], rtol=0, atol=1e-12)
        assert same == transfer


def test_layer_with_rate_zero_is_never_replaced() -> None:
    learner, packed = make([ContinualBackprop([0.0, 0.1], 2), ContinualBackprop([0.1, 0.0], 2)], [SGD(0.01)] * 2)
    fresh = learner.parameters.clone()
    for t in range(120):
        learn(learner, t)
    assert [packed.report(run)["replaced_units"] for run in (0, 1)] == [
        [0, pytest.approx(80, abs=15)],
        [pytest.approx(90, abs=15), 0],
    ]
    assert not torch.equal(fresh, learner.parameters)


def test_all_rates_zero_is_backprop() -> None:
    with_cbp, _ = make([ContinualBackprop(0.0, 0, fractional="bernoulli")], [SGD(0.05)])
    without = TorchLearner(
        lambda: MLP(SIZES[0], SIZES[-1], SIZES[1:-1]), [SGD(0.05)], [], [0], "cross_entropy", torch.float64
    )
    for t in range(50):
        learn(with_cbp, t)
        learn(without, t)
    assert torch.equal(with_cbp.parameters, without.parameters)


def rows_of(learner: TorchLearner, flat: Tensor, run: int, lower: list[int]) -> Tensor:
    """Which entries of `flat` belong to units `lower` of hidden layer 0: incoming row, bias, outgoing column, norm."""
    mine = torch.zeros_like(flat, dtype=torch.bool)
    learner.view(mine, "layers.0.weight")[run, lower] = True
    learner.view(mine, "layers.0.bias")[run, lower] = True
    learner.view(mine, "layers.1.weight")[run][:, lower] = True
    for name, _ in learner.graph[0].norm:
        if name in dict(learner.network.named_parameters()):
            learner.view(mine, name)[run, lower] = True
    return mine


@pytest.mark.parametrize("norm", ["none", "layer", "online"])
@pytest.mark.parametrize("kind", ["adam", "momentum"])
def test_newborn_unit_has_fresh_optimiser_state_and_no_other_weight_does(kind: str, norm: str) -> None:
    """Moments and step counts of the incoming row, the bias, the outgoing column and the unit's normalisation."""
    optimizer: Optimizer = Adam(0.01) if kind == "adam" else SGD(0.01, 0.9, reset_momentum=True)
    learner, packed = make([ContinualBackprop(1e-6, 5)] * 2, [optimizer] * 2, norm=norm)
    for t in range(30):
        learn(learner, t, batch=1)
    before = {name: value.clone() for name, value in learner.optimizer.state().items()}
    assert all(bool((value != learner.optimizer.fresh()[name]).any()) for name, value in before.items())
    force(packed, 30, {(0, 1): 2})
    units = torch.nonzero(packed.layers[0].age[1] == 0).flatten().tolist()
    assert len(units) == 2
    for name, value in learner.optimizer.state().items():
        mine = rows_of(learner, value, 1, units)
        fresh = learner.optimizer.fresh()[name]
        assert bool((value[mine] == fresh).all()), name
        assert torch.equal(value[~mine], before[name][~mine]), name
        assert bool((before[name][mine] != fresh).any()), name


def test_adam_restarts_its_bias_correction_with_the_new_unit() -> None:
    """The first step of every weight of a new unit is step_size x sign(gradient), as of a new Adam."""
    learner, packed = make([ContinualBackprop(1e-6, 5)], [Adam(0.01)], activation="tanh")
    for t in range(30):
        learn(learner, t)
    units = packed.choose(30, 1, 0, 1)
    force(packed, 30, {(1, 0): 1})
    assert units.tolist() == torch.nonzero(packed.layers[1].age[0] == 0).flatten().tolist()
    before = learner.parameters.clone()
    learner.plan(31, 1)
    learn(learner, 31)
    step = (learner.parameters - before)[0]
    column = learner.view(step[None], "layers.2.weight")[0][:, units].flatten()  # the row has no gradient yet
    torch.testing.assert_close(column.abs(), torch.full_like(column, 0.01), rtol=1e-4, atol=0)


@pytest.mark.parametrize("norm", ["layer", "batch", "online"])
def test_normalisation_of_a_replaced_unit_is_fresh(norm: str) -> None:
    learner, packed = make([ContinualBackprop(1e-6, 5)] * 2, [SGD(0.05)] * 2, norm=norm)
    for t in range(30):
        learn(learner, t, batch=1 if norm == "online" else 4)

    def everything() -> dict[str, Tensor]:
        named = {name: learner.view(learner.parameters, name) for name, _ in learner.graph[0].norm[:2]}
        return {name: value.clone() for name, value in (named | learner.buffers).items()}

    before = everything()
    force(packed, 30, {(0, 1): 2})
    units = torch.nonzero(packed.layers[0].age[1] == 0).flatten().tolist()
    assert len(units) == 2
    after = everything()
    values = dict(learner.graph[0].norm)
    assert set(values) <= set(after)
    for name, value in after.items():
        expected = before[name].clone()
        if name in values:
            expected[1, units] = values[name]
            assert not torch.equal(expected, before[name]), name
        assert torch.equal(value, expected), name


def test_new_weights_lie_within_the_initial_bounds() -> None:
    _, packed = make([ContinualBackprop(0.01)], init="xavier", activation="tanh")
    for i in (0, 1):
        bound = 5 / 3 * math.sqrt(6 / (SIZES[i] + SIZES[i + 1]))
        units = torch.arange(SIZES[i + 1])
        draws = torch.cat([packed.draw_incoming(step, i, 0, units).flatten() for step in range(300)])
        assert draws.abs().max() <= bound
        assert stats.kstest(draws.numpy(), "uniform", (-bound, 2 * bound)).pvalue > 1e-4


def test_new_weights_depend_on_seed_step_layer_and_unit_alone() -> None:
    """Not on the pack, nor on which other units are replaced with it."""
    _, alone = make([ContinualBackprop(0.01)], seeds=[7])
    _, packed = make([ContinualBackprop(0.5, 3)] * 3, seeds=[2, 7, 5])
    one = alone.draw_incoming(40, 0, 0, torch.tensor([3]))
    assert torch.equal(packed.draw_incoming(40, 0, 1, torch.tensor([0, 3, 6]))[1:2], one)
    different = [
        packed.draw_incoming(41, 0, 1, torch.tensor([3])),
        packed.draw_incoming(40, 0, 2, torch.tensor([3])),
        packed.draw_incoming(40, 0, 1, torch.tensor([4])),
        packed.draw_incoming(40, 1, 1, torch.tensor([3]))[:, :6],
    ]
    assert all(not torch.isclose(one, other).any() for other in different)


def test_random_utility_is_fresh_at_every_step_and_the_runs_own() -> None:
    _, packed = make([ContinualBackprop(0.01, utility="random")] * 2, seeds=[1, 2])
    _, alone = make([ContinualBackprop(0.01, utility="random")], seeds=[2])
    first, second = packed.corrected_utility(0, 0), packed.corrected_utility(1, 0)
    assert not torch.isclose(first, second).any()
    assert not torch.isclose(first[0], first[1]).any()
    assert torch.equal(first[1], alone.corrected_utility(0, 0)[0])
    draws = torch.stack([packed.corrected_utility(t, 1)[0] for t in range(2_000)])
    assert stats.kstest(draws.flatten().numpy(), "uniform").pvalue > 1e-4


def test_report_counts_since_the_last_report() -> None:
    learner, packed = hand_made(runs=2)
    learner.activations = [torch.ones(2, 1, 8, dtype=torch.float64), torch.ones(2, 1, 7, dtype=torch.float64)]
    force(packed, 0, {(0, 0): 2, (1, 1): 1})
    assert [packed.report(run) for run in (0, 1)] == [{"replaced_units": [2, 0]}, {"replaced_units": [0, 1]}]
    packed.clear_report()
    assert packed.report(0) == {"replaced_units": [0, 0]}


def test_state_is_complete() -> None:
    """Copied into a new pack of other initial weights, it continues exactly (schedule included)."""
    utility = "adaptable_contribution"
    options = [ContinualBackprop(0.03, 10, 0.9, utility), ContinualBackprop(0.02, 30, 0.99, utility)]
    first, _ = make(options, [Adam(0.01)] * 2)
    for t in range(80):
        learn(first, t)
    second, _ = make(options, [Adam(0.01)] * 2)
    for name, value in second.state().items():
        assert len(value) == 2
        value.copy_(first.state()[name])
    for t in range(80, 160):
        learn(first, t)
        learn(second, t)
    for name, value in second.state().items():
        assert torch.equal(value, first.state()[name]), name


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"replacement_rate": -1e-4}, "replacement_rate"),
        ({"replacement_rate": 1.1}, "replacement_rate"),
        ({"replacement_rate": "1e-4"}, "replacement_rate"),
        ({"replacement_rate": [0.1, 2]}, "replacement_rate[1]"),
        ({"maturity_threshold": -1}, "maturity_threshold"),
        ({"maturity_threshold": 0.5}, "maturity_threshold"),
        ({"decay_rate": 1.0}, "decay_rate"),
        ({"utility": "contributions"}, "utility"),
        ({"fractional": "round"}, "fractional"),
        ({"bias_transfer": 1}, "bias_transfer"),
    ],
)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ContinualBackprop(**options)
    assert caught.value.key == key


def test_networks_it_cannot_act_on() -> None:
    with pytest.raises(ConfigError, match="hidden units"):
        ContinualBackprop().check(Linear(4, 2))
    with pytest.raises(ConfigError, match="2 here"):
        ContinualBackprop([0.1, 0.1, 0.1]).check(MLP(4, 2, [3, 3]))
    ContinualBackprop([0.1, 0.1]).check(MLP(4, 2, [3, 3]))
    transfer = ContinualBackprop(bias_transfer=True)
    transfer.check(MLP(4, 2, [3], norm="layer"))
    with pytest.raises(ConfigError, match="normalisation follows"):
        transfer.check(MLP(4, 2, [3], norm="layer", norm_after=True))
