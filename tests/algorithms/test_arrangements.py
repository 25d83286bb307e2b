"""Continual backprop and ReDo on units with several rows, features and readers, against a naive simulation.

CReLU, feature maps that are read in two ways, a trunk read by two heads, maxout and gates, transformer blocks
(tests/networks/arrangements.py). What a unit owns is written down here once more, weight by weight; the simulation
goes through it unit by unit and knows no unit graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import UTILITIES, ContinualBackprop, PackedContinualBackprop
from lop_sweeps.algorithms.redo import PackedReDo, ReDo
from lop_sweeps.counter_random import uniforms
from lop_sweeps.diagnostics.measure import sample
from lop_sweeps.diagnostics.rank import numerical_rank, singular_values
from lop_sweeps.diagnostics.units import dead_fraction
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import draw_network
from lop_sweeps.networks.unit_graph import Reader, Rows, UnitLayer
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests.algorithms.test_continual_backprop_maps import Rule, array
from tests.networks.arrangements import NETWORKS

Floats = NDArray[np.float64]
OUTPUTS, BATCH = 3, 4
ADAM: list[Any] = [Adam(0.003, eps=1e-4), Adam(0.01, 0.8, 0.99, eps=1e-4), Adam(0.001, eps=1e-4, weight_decay=0.01)]
FORGETFUL: list[Any] = [SGD(0.02, 0.9, reset_momentum=True), SGD(0.05, 0.5, reset_momentum=True), SGD(0.02)]


@dataclass
class Unit:
    """What one unit owns.

    rows: of weights and biases, (layer, row); columns: (layer, column, feature, position; None: all of them);
    features: their places in the activations; others: (parameter, index, value of a new unit).
    """

    rows: list[tuple[str, int]]
    columns: list[tuple[str, int, int, int | None]]
    features: list[int]
    others: list[tuple[str, int, float]] = field(default_factory=list)


def units_of(name: str) -> list[list[Unit]]:
    """The units of each hidden layer."""
    if name == "crelu":
        return [
            [Unit([(here, i)], [(after, i, i, None), (after, i + n, i + n, None)], [i, i + n]) for i in range(n)]
            for here, after, n in (("first", "second", 5), ("second", "third", 4))
        ]
    if name == "maps":
        waves = []
        for i in range(3):
            both = [2 * i, 2 * i + 1]
            waves.append(Unit([("first", i)], [("second", j, j, None) for j in both], both))
        crelu = []
        for i in range(4):
            columns: list[tuple[str, int, int, int | None]] = []
            for feature in (i, i + 4):
                columns += [("flat", 4 * feature + position, feature, position) for position in range(4)]
                columns += [("pooled", feature, feature, None)]
            scales = [("norm.weight", feature, 1.0) for feature in (i, i + 4)]
            crelu.append(Unit([("second", i)], columns, [i, i + 4], scales))
        return [waves, crelu]
    if name == "shared trunk":
        return [
            [Unit([("first", i)], [("second", i, i, None)], [i]) for i in range(7)],
            [Unit([("second", i)], [("policy", i, i, None), ("between", 6 + i, i, None)], [i]) for i in range(6)],
            [Unit([("between", i)], [("value", i, i, None)], [i]) for i in range(5)],
        ]
    if name == "gated":
        maxout = [
            Unit([("first", i), ("first", 5 + i)], [("gate", i, i, None), ("up", i, i, None)], [i]) for i in range(5)
        ]
        return [maxout, [Unit([("gate", i), ("up", i)], [("down", i, i, None)], [i]) for i in range(6)]]
    if name.startswith("conv "):
        places = (3, "convolutions.0", "layers.0", 4), (4, "layers.0", "layers.1", 1)
        return [convolutional_units(name, layer, *place) for layer, place in enumerate(places)]
    heads = {"transformer": [[0], [1], [2], [3]], "grouped transformer": [[0, 1], [2, 3]]}[name]
    values = []
    for i in range(2 * len(heads)):
        columns = [("projection", 2 * head + i % 2, i, None) for head in heads[i // 2]]
        values.append(Unit([("qkv", 8 + 2 * len(heads) + i)], columns, [i]))
    return [values, [Unit([("up", i)], [("down", i, i, None)], [i]) for i in range(12)]]


def convolutional_units(name: str, layer: int, n: int, here: str, after: str, positions: int) -> list[Unit]:
    """Of one layer of a convolutional network; its readers read each position."""
    found = []
    for i in range(n):
        features = [i, i + n] if name == "conv crelu" else [i]
        columns = [
            (after, j * positions + p, j, p if positions > 1 else None) for j in features for p in range(positions)
        ]
        slopes = [(f"activations.{layer}.slope", i, 0.25)] if name == "conv prelu" else []
        found.append(Unit([(here, i)], columns, features, slopes))
    return found


class Naive:
    """One run: the network gives activations and gradients, all else is numpy, unit by unit."""

    def __init__(self, name: str, options: Any, optimizer: Any, seed: int) -> None:
        self.options, self.seed = options, seed
        make, self.inputs = NETWORKS[name]
        self.network = draw_network(lambda: make(self.inputs, OUTPUTS), torch.float64, seed, "initial weights")
        self.named = {key: array(parameter) for key, parameter in self.network.named_parameters()}
        self.rules = {key: Rule(optimizer, value) for key, value in self.named.items()}
        self.layers = units_of(name)
        self.u = [np.zeros(len(units)) for units in self.layers]
        self.f = [np.zeros((len(units), len(units[0].features))) for units in self.layers]
        self.age = [np.zeros(len(units), np.int64) for units in self.layers]
        self.c, self.replaced = [0.0] * len(self.layers), [0] * len(self.layers)

    def step(self, t: int) -> None:
        x, y = data(self.seed, t, self.inputs)
        output, hidden = self.network(torch.from_numpy(x))
        loss = F.cross_entropy(output, torch.from_numpy(y))
        gradients = torch.autograd.grad(loss, list(self.network.parameters()))
        for rule, gradient in zip(self.rules.values(), gradients, strict=True):
            rule.update(gradient.numpy())
        values = [h.detach().flatten(2).numpy() if h.dim() > 2 else h.detach().numpy()[:, :, None] for h in hidden]
        choose = self.dormant if isinstance(self.options, ReDo) else self.least_useful
        chosen = [choose(t, i, h) for i, h in enumerate(values)]
        for i, units in enumerate(chosen):
            for unit in units:
                self.replace(t, i, unit)
        for i, units in enumerate(chosen):
            self.u[i][units] = self.age[i][units] = 0
            if isinstance(self.options, ContinualBackprop) and self.options.averaging == "running":
                self.f[i][units] = 0
            self.replaced[i] += len(units)

    def dormant(self, t: int, i: int, h: Floats) -> list[int]:
        if (t + 1) % self.options.period:
            return []
        scores = [float(np.mean([np.abs(h[:, j]).mean() for j in unit.features])) for unit in self.layers[i]]
        return [k for k, score in enumerate(scores) if score / np.mean(scores) <= self.options.threshold]

    def least_useful(self, t: int, i: int, h: Floats) -> list[int]:
        worth = np.array([self.utility(i, k, h) for k in range(len(self.layers[i]))])
        if self.options.utility == "random":
            uniforms(streams.counter_key(self.seed, "random utility", i), t, 0, worth)
        eligible = [k for k in range(len(worth)) if self.age[i][k] > self.options.maturity_threshold]
        if not eligible:
            return []
        self.c[i] += self.options.replacement_rate * len(eligible)
        number = math.floor(self.c[i])
        self.c[i] -= number
        return sorted(sorted(eligible, key=lambda k: (worth[k] if worth[k] >= 1e-30 else 0.0, k))[:number])

    def utility(self, i: int, k: int, h: Floats) -> float:
        """Of unit k; h (batch, features, positions). Each outgoing weight counts, with what it reads."""
        unit, kind, eta = self.layers[i][k], self.options.utility, float(self.options.decay_rate)
        self.age[i][k] += 1
        kappa = 1 - eta ** int(self.age[i][k])
        row_weights = np.concatenate([self.named[f"{layer}.weight"][row].ravel() for layer, row in unit.rows])
        read = [(np.abs(self.named[f"{layer}.weight"][:, c]), j, p) for layer, c, j, p in unit.columns]
        weights = sum(w.size for w, _, _ in read)
        if self.options.averaging == "sum":
            self.f[i][k] += [(1 - eta) * np.abs(h[:, j]).mean() for j in unit.features]
            of_features = []
            for at, feature in enumerate(unit.features):
                mine = [w.ravel() for w, j, _ in read if j == feature]
                of_features.append(np.concatenate(mine).mean() * (self.f[i][k, at] if kind == "contribution" else 1.0))
            return float(np.mean(of_features))
        self.f[i][k] = [eta * f + (1 - eta) * h[:, j].mean() for f, j in zip(self.f[i][k], unit.features, strict=True)]
        centred = {j: h[:, j] - f / kappa for f, j in zip(self.f[i][k], unit.features, strict=True)}

        def of_weights(activity: Callable[[int], Floats]) -> float:
            """Mean of |w| x activity, (batch, positions) of a feature, over outgoing weights."""
            terms = [w.sum() * np.abs(activity(j) if p is None else activity(j)[:, p]).mean() for w, j, p in read]
            return float(sum(terms) / weights)

        w_in, spread = np.abs(row_weights).mean(), np.mean([np.abs(z).mean() for z in centred.values()])
        instantaneous = {
            "weight": sum(w.sum() for w, _, _ in read) / weights,
            "contribution": of_weights(lambda j: h[:, j]),
            "adaptation": 1 / w_in,
            "zero_contribution": of_weights(lambda j: centred[j]),
            "adaptable_contribution": of_weights(lambda j: centred[j]) / w_in,
            "feature_by_input": spread / w_in,
            "random": 0.0,
        }[kind]
        self.u[i][k] = eta * self.u[i][k] + (1 - eta) * instantaneous
        return float(self.u[i][k] / kappa)

    def replace(self, t: int, i: int, k: int) -> None:
        unit = self.layers[i][k]
        redo = isinstance(self.options, ReDo)
        if not redo and self.options.bias_transfer:
            kappa = 1 - float(self.options.decay_rate) ** int(self.age[i][k])
            means = dict(zip(unit.features, self.f[i][k] / kappa, strict=True))
            for layer, column, j, _ in unit.columns:
                reads = self.named[f"{layer}.weight"][:, column]
                self.named[f"{layer}.bias"] += reads.reshape(len(reads), -1).sum(1) * means[j]
        normal = [f"{layer}.weight" in getattr(self.network, "normal", ()) for layer, _ in unit.rows]
        sizes = [self.named[f"{layer}.weight"][row].size for layer, row in unit.rows]
        needed = [size * (2 if n else 1) for size, n in zip(sizes, normal, strict=True)]
        key = streams.counter_key(self.seed, "recycled units" if redo else "new units", i)
        draws = np.empty(sum(needed))
        uniforms(key, t, k * sum(needed), draws)
        for (layer, row), size, n, mine in zip(
            unit.rows, sizes, normal, np.split(draws, np.cumsum(needed)[:-1]), strict=True
        ):
            weight = self.named[f"{layer}.weight"]
            if n:
                pairs = mine.reshape(-1, 2)
                fresh = np.sqrt(-2 * np.log(1 - pairs[:, 0])) * np.cos(2 * np.pi * pairs[:, 1]) / math.sqrt(size)
            else:
                fresh = (2 * mine - 1) * math.sqrt(3 / size)
            weight[row] = fresh.reshape(weight[row].shape)
            self.reset(f"{layer}.weight", row)
            if f"{layer}.bias" in self.named:
                self.named[f"{layer}.bias"][row] = 0
                self.reset(f"{layer}.bias", row)
        for layer, column, _, _ in unit.columns:
            self.named[f"{layer}.weight"][:, column] = 0
            self.reset(f"{layer}.weight", slice(None), column)
        for name, index, value in unit.others:
            self.named[name][index] = value
            self.reset(name, index)

    def reset(self, name: str, *where: Any) -> None:
        if self.options.reset_optimizer:
            self.rules[name].reset(*where)


def data(seed: int, step: int, inputs: int) -> tuple[Floats, NDArray[np.int64]]:
    generator = np.random.default_rng([seed, step])
    return generator.normal(size=(BATCH, inputs)), generator.integers(0, OUTPUTS, BATCH)


def make(
    name: str, options: Sequence[Any], optimizers: Sequence[Any] | None = None, seeds: Sequence[int] = (4, 0, 9)
) -> TorchLearner:
    network, inputs = NETWORKS[name]
    runs = len(options)
    still: Any = SGD(1e-300)  # an optimiser that moves nothing
    return TorchLearner(
        lambda: network(inputs, OUTPUTS),
        (optimizers or [still] * runs)[:runs],
        [options],
        seeds[:runs],
        "cross_entropy",
        torch.float64,
    )


def learn(learner: TorchLearner, name: str, step: int) -> None:
    if step % 10 == 0:
        learner.plan(step, 10)
    pairs = [data(seed, step, NETWORKS[name][1]) for seed in learner.seeds]
    x, y = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
    learner.learn(x, y, step)


def check_against_naive(name: str, options: Sequence[Any], optimizers: Sequence[Any], steps: int) -> None:
    learner = make(name, options, optimizers)
    packed: Any = learner.interventions[0]
    everyone = [Naive(name, *each) for each in zip(options, optimizers, learner.seeds, strict=False)]
    for t in range(steps):
        learn(learner, name, t)
        for run, naive in enumerate(everyone):
            naive.step(t)
            assert packed.report(run)["replaced_units"] == naive.replaced, f"step {t} run {run}"
    close: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-9}
    for run, naive in enumerate(everyone):
        for key, value in naive.named.items():
            ours = learner.view(learner.parameters, key)[run]
            np.testing.assert_allclose(ours, value, **close, err_msg=f"run {run} {key}")
        assert min(naive.replaced) > 0, "the comparison needs replacements in every layer"
        if isinstance(packed, PackedContinualBackprop):
            for i, layer in enumerate(packed.layers):
                np.testing.assert_array_equal(layer.age[run], naive.age[i])
                mean = layer.mean_activation[run].reshape(naive.f[i].shape)
                if naive.options.utility not in ("random", "weight") or naive.options.averaging == "running":
                    np.testing.assert_allclose(mean, naive.f[i], **close)
                if naive.options.utility != "random":
                    np.testing.assert_allclose(layer.utility[run], naive.u[i], **close)


def three(utility: str, **options: Any) -> list[ContinualBackprop]:
    settings = ((0.1, 8, 0.99), (0.06, 4, 0.9), (0.08, 1, 0.5))
    return [ContinualBackprop(rate, m, eta, utility, **options) for rate, m, eta in settings]


CASES = [(name, utility) for name in ("crelu", "maps") for utility in UTILITIES]
CASES += [(name, "adaptable_contribution") for name in NETWORKS if name not in ("crelu", "maps")]


@pytest.mark.parametrize(("name", "utility"), CASES)
def test_continual_backprop_equals_a_naive_simulation(name: str, utility: str) -> None:
    """Three runs with their own rates, thresholds and decays; Adam's state of a new unit is new, too."""
    check_against_naive(name, three(utility), ADAM, steps=20)


@pytest.mark.parametrize("name", NETWORKS)
def test_one_run_equals_a_naive_simulation(name: str) -> None:
    options = [ContinualBackprop(0.05, 4, 0.9, "adaptable_contribution")]
    check_against_naive(name, options, FORGETFUL, steps=20)


@pytest.mark.parametrize("utility", ["weight", "contribution"])
@pytest.mark.parametrize("name", ["crelu", "maps", "grouped transformer"])
def test_sums_equal_a_naive_simulation(name: str, utility: str) -> None:
    check_against_naive(name, three(utility, averaging="sum"), FORGETFUL, steps=20)


TRANSFER = ["crelu", "shared trunk", "transformer", "grouped transformer"]


@pytest.mark.parametrize("name", TRANSFER)
def test_bias_transfer_equals_a_naive_simulation(name: str) -> None:
    check_against_naive(name, three("contribution", bias_transfer=True), FORGETFUL, steps=20)


@pytest.mark.parametrize("reset_optimizer", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_redo_equals_a_naive_simulation(name: str, reset_optimizer: bool) -> None:
    options = [ReDo(threshold, 5, reset_optimizer) for threshold in (1.0, 1.02, 1.05)]  # of some units, not of all
    check_against_naive(name, options, ADAM, steps=20)


class InGeneral(MLP):
    """An MLP that says of its units, one by one, what the short form leaves unsaid."""

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        graph = []
        for layer in super().unit_graph():
            numbers, pairs = range(layer.units), [(i,) for i in range(layer.units)]
            rows = Rows(layer.weight, layer.bias, layer.fan_in, layer.bound, rows=numbers)
            reader = Reader(layer.next_weight, layer.next_bias, columns=pairs)
            graph.append(
                UnitLayer(units=layer.units, incoming=[rows], readers=[reader], features=pairs, norm=layer.norm)
            )
        return tuple(graph)


@pytest.mark.parametrize("intervention", [*three("zero_contribution", bias_transfer=True)[:1], ReDo(1.0, 5)])
def test_the_general_form_of_a_plain_layer_means_the_same_to_the_byte(intervention: Any) -> None:
    learners = []
    for network in (MLP, InGeneral):
        make_network = partial(network, 6, OUTPUTS, [8, 7], norm="layer")
        optimizers: list[Any] = [Adam(0.01), Adam(0.02)]
        learners.append(
            TorchLearner(make_network, optimizers, [[intervention] * 2], [3, 4], "cross_entropy", torch.float64)
        )
    for t in range(30):
        for learner in learners:
            learn(learner, "crelu", t)
    short, general = (learner.state() for learner in learners)
    for name, value in short.items():
        assert torch.equal(value, general[name]), name
    assert sum(learners[0].interventions[0].report(0)["replaced_units"]) > 0


def test_bias_transfer_is_refused_where_nothing_could_take_a_units_place() -> None:
    transfer = ContinualBackprop(bias_transfer=True)
    for name in TRANSFER:
        transfer.check(NETWORKS[name][0](NETWORKS[name][1], OUTPUTS))
    for name, words in (("gated", "a layer that reads units has no bias"), ("maps", "a normalisation follows")):
        with pytest.raises(ConfigError, match=words) as caught:
            transfer.check(NETWORKS[name][0](NETWORKS[name][1], OUTPUTS))
        assert caught.value.key == "bias_transfer"


@pytest.mark.parametrize("transfer", [True, False])
@pytest.mark.parametrize("name", ["crelu", "shared trunk"])
def test_bias_transfer_leaves_the_outputs_on_a_constant_input_alone(name: str, transfer: bool) -> None:
    """There each feature's mean is the feature; without the transfer the outputs do change."""
    learner = make(name, [ContinualBackprop(1e-9, 3, 0.9, bias_transfer=transfer)])
    packed: Any = learner.interventions[0]
    x = torch.full((1, BATCH, NETWORKS[name][1]), 0.7, dtype=torch.float64)
    for t in range(5):
        learner.plan(t, 1)
        learner.learn(x, torch.zeros(1, BATCH, dtype=torch.int64), t)
    before = learner.forward(x)[0]
    with torch.no_grad():
        packed._replace(5, 1, 0, torch.tensor([0, 2]))
    assert torch.allclose(learner.forward(x)[0], before, rtol=0, atol=1e-12) == transfer


@pytest.mark.parametrize("name", ["crelu", "maps"])
def test_state_is_complete(name: str) -> None:
    """Copied into a new pack of other initial weights, it continues exactly: means of single features included."""
    options = three("adaptable_contribution")
    first, second = (make(name, options, ADAM) for _ in range(2))
    for t in range(10):
        learn(first, name, t)
    second.parameters.mul_(0.5)
    for key, value in second.state().items():
        assert len(value) == 3
        value.copy_(first.state()[key])
    for t in range(10, 20):
        for learner in (first, second):
            learn(learner, name, t)
    for key, value in second.state().items():
        assert torch.equal(value, first.state()[key]), key


@pytest.mark.parametrize("intervention", [ContinualBackprop(0.2, 2, 0.9), ReDo(3.0, 3)])
@pytest.mark.parametrize("name", NETWORKS)
def test_run_taken_out_of_the_pack_disturbs_no_other(name: str, intervention: Any) -> None:
    whole, masked = (make(name, [intervention] * 3, ADAM) for _ in range(2))
    for learner in (whole, masked):
        for t in range(4):
            learn(learner, name, t)
    masked.parameters[1] = torch.nan  # it diverged
    masked.mask(1)
    for learner in (whole, masked):
        for t in range(4, 10):
            learn(learner, name, t)
    state = masked.state()
    for key, value in whole.state().items():
        assert torch.equal(value[[0, 2]], state[key][[0, 2]]), key


@pytest.mark.parametrize("name", NETWORKS)
def test_redo_by_mask_as_on_a_gpu_is_redo_unit_by_unit(name: str) -> None:
    """All units drawn and a mask that chooses, against single runs' units: the same state to the byte."""
    by_mask, by_unit = (make(name, [ReDo(0.5, 3)] * 3, ADAM) for _ in range(2))
    for learner in (by_mask, by_unit):
        for t in range(2):
            learn(learner, name, t)
    generator = np.random.default_rng(0)
    for i, layer in enumerate(by_mask.graph):
        mask = torch.from_numpy(generator.random((3, layer.units)) < 0.5)
        masked, single = by_mask.interventions[0], by_unit.interventions[0]
        assert isinstance(masked, PackedReDo)
        assert isinstance(single, PackedReDo)
        masked.resets._by_mask(7, i, mask)
        for run in range(3):
            single.resets._one_run(7, i, run, torch.nonzero(mask[run]).flatten())
    for key, value in by_mask.state().items():
        assert torch.equal(value, by_unit.state()[key]), key


def test_diagnostics_are_of_the_features_that_are_read() -> None:
    """Five CReLU units give ten features, of rank up to ten; a unit whose z is never negative has one dead feature."""
    learner = make("crelu", [ContinualBackprop()])
    with torch.no_grad():
        learner.view(learner.parameters, "first.bias")[0, 0] = 100.0
        learner.view(learner.parameters, "first.bias")[0, 1] = -100.0
    x = np.concatenate([data(0, step, 6)[0] for step in range(40)])
    h = learner.forward(torch.from_numpy(x)[None])[1][0].detach()
    assert h.shape == (1, 160, 10)
    statistics, pooled = sample(h)
    expected = np.linalg.matrix_rank(h[0].numpy())
    assert expected == 8
    assert numerical_rank(singular_values(pooled)).tolist() == [expected]
    assert dead_fraction(statistics).tolist() == [2 / 10]
