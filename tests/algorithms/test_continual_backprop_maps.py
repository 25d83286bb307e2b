"""Continual backprop on maps against a naive simulation of its specification on torch.nn's layers; packs of maps.

Channels read by convolutions, channels read position by position by a linear layer, and residual networks with batch
normalisation; the authors' three variants (spec/algorithms.md 3 to 5). And each promise by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor, nn

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import UTILITIES, ContinualBackprop, PackedContinualBackprop
from lop_sweeps.algorithms.replacement_schedule import plan_replacements
from lop_sweeps.counter_random import uniforms
from lop_sweeps.errors import ConfigError
from lop_sweeps.fused.limits import obstacle
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests.networks import test_conv_net, test_resnet18
from tests.replacements import force

Floats = NDArray[np.float64]
OUTPUTS, BATCH = 3, 8  # smaller mini-batches make batch normalisation amplify rounding errors, step by step
CONV: dict[str, Any] = {"channels": [4, 5], "kernels": [3, 3], "hidden": [6, 5]}
# Images, network. "conv" has 2 x 2 maps, hence P = 4, where its linear layers begin; "conv_1x1" has P = 1.
NETWORKS: dict[str, tuple[tuple[int, int, int], Callable[[], Network]]] = {
    "conv": ((2, 14, 14), lambda: ConvNet((2, 14, 14), OUTPUTS, **CONV)),
    "conv_1x1": ((2, 10, 10), lambda: ConvNet((2, 10, 10), OUTPUTS, **CONV)),
    "conv_tanh": ((2, 14, 14), lambda: ConvNet((2, 14, 14), OUTPUTS, **CONV, activation="tanh")),
    "conv_dropout": ((2, 14, 14), lambda: ConvNet((2, 14, 14), OUTPUTS, **CONV, dropout=0.2)),
    "conv_batch": ((2, 14, 14), lambda: ConvNet((2, 14, 14), OUTPUTS, **CONV, norm="batch")),
    "residual": ((2, 9, 7), lambda: ResNet18((2, 9, 7), OUTPUTS, width=2)),
    "residual_dropout": ((2, 9, 7), lambda: ResNet18((2, 9, 7), OUTPUTS, width=2, dropout=0.1)),
}


def make(
    network: str,
    options: Sequence[ContinualBackprop],
    optimizers: Sequence[Any] | None = None,
    seeds: Sequence[int] | None = None,
) -> tuple[TorchLearner, PackedContinualBackprop]:
    runs = len(options)
    interventions: list[list[Any]] = [list(options)]
    learner = TorchLearner(
        NETWORKS[network][1],
        optimizers or [SGD(1e-300)] * runs,  # one that moves nothing
        interventions,
        seeds or list(range(runs)),
        "cross_entropy",
        torch.float64,
    )
    packed = learner.interventions[0]
    assert isinstance(packed, PackedContinualBackprop)
    return learner, packed


def data(network: str, seed: int, step: int) -> tuple[Floats, NDArray[np.int64]]:
    generator = np.random.default_rng([seed, step])
    return generator.normal(size=(BATCH, *NETWORKS[network][0])), generator.integers(0, OUTPUTS, BATCH)


def learn(learner: TorchLearner, network: str, step: int, planned: int = 10) -> None:
    """Step number `step` on each seed's own stream; plans on a grid."""
    if step % planned == 0:
        learner.plan(step, planned)
    pairs = [data(network, seed, step) for seed in learner.seeds]
    x, y = np.stack([x.reshape(BATCH, -1) for x, _ in pairs]), np.stack([y for _, y in pairs])
    learner.learn(torch.from_numpy(x), torch.from_numpy(y), step)


# A naive simulation, for one run: torch.nn's layers give activations and gradients, all else is numpy, unit by unit.


def array(tensor: Tensor) -> Floats:
    """The tensor's own memory."""
    memory: Floats = tensor.detach().numpy()
    return memory


@dataclass
class Junction:
    """A hidden layer: what feeds it, what normalises it, what reads it, and the positions that a reader tells apart."""

    incoming: Any
    norm: Any
    outgoing: Any
    positions: int = 1


def junctions(name: str, theirs: Any) -> list[Junction]:
    if name.startswith("residual"):
        found = []
        for ours, norm, reader, _ in test_resnet18.places():
            modules = [theirs.get_submodule(test_resnet18.names()[one]) for one in (ours, norm, reader)]
            found.append(Junction(*modules))
        return found
    layers = test_conv_net.weight_layers(theirs)
    norms = test_conv_net.norm_layers(theirs) or [None] * (len(layers) - 1)
    found = [Junction(*parts) for parts in zip(layers[:-1], norms, layers[1:], strict=True)]
    found[1].positions = 1 if name == "conv_1x1" else 4
    return found


class Rule:
    """SGD with momentum, or Adam with a step count for each weight, on one tensor."""

    def __init__(self, options: Any, parameter: Floats) -> None:
        self.options, self.parameter = options, parameter
        self.m, self.v, self.t = (np.zeros_like(parameter) for _ in range(3))

    def update(self, gradient: Floats) -> None:
        o = self.options
        gradient = gradient + o.weight_decay * self.parameter
        if isinstance(o, SGD):
            self.m = o.momentum * self.m + gradient
            self.parameter -= o.step_size * self.m
            return
        self.t += 1
        self.m = o.beta1 * self.m + (1 - o.beta1) * gradient
        self.v = o.beta2 * self.v + (1 - o.beta2) * gradient**2
        m, v = self.m / (1 - o.beta1**self.t), self.v / (1 - o.beta2**self.t)
        self.parameter -= o.step_size * m / (np.sqrt(v) + o.eps)

    def reset(self, *where: Any) -> None:
        if isinstance(self.options, Adam) or self.options.reset_momentum:
            self.m[where] = self.v[where] = self.t[where] = 0


class Naive:
    def __init__(self, name: str, network: Any, options: ContinualBackprop, optimizer: Any, seed: int) -> None:
        self.name, self.options, self.seed = name, options, seed
        shape = NETWORKS[name][0]
        if name.startswith("residual"):
            self.model = test_resnet18.copied(network, test_resnet18.Narrow(shape[0], 2, OUTPUTS))
            self.forward: Any = test_resnet18.with_features
        else:
            kind = {**CONV, "norm": network.norm, "activation": network.activation}
            self.model = test_conv_net.copied(network, test_conv_net.reference(shape, OUTPUTS, kind))
            self.forward = test_conv_net.evaluated
        self.layers = junctions(name, self.model)
        self.rules = {parameter: Rule(optimizer, array(parameter)) for parameter in self.model.parameters()}
        units = [len(layer.incoming.weight) for layer in self.layers]
        self.u, self.f = [np.zeros(n) for n in units], [np.zeros(n) for n in units]
        self.age, self.c = [np.zeros(n, np.int64) for n in units], [0.0] * len(units)
        self.replaced = [0] * len(units)

    def step(self, t: int) -> None:
        x, y = data(self.name, self.seed, t)
        output, hidden = self.forward(self.model, torch.from_numpy(x))
        loss = F.cross_entropy(output, torch.from_numpy(y))
        gradients = torch.autograd.grad(loss, list(self.rules))
        for rule, gradient in zip(self.rules.values(), gradients, strict=True):
            rule.update(gradient.numpy())
        chosen = [self.select(t, i, h.detach().numpy()) for i, h in enumerate(hidden)]
        for i, units in enumerate(chosen):
            for unit in units:
                self.replace(t, i, unit)
        for i, units in enumerate(chosen):
            for unit in units:
                self.u[i][unit] = self.age[i][unit] = 0
                if self.options.averaging == "running":
                    self.f[i][unit] = 0
            self.replaced[i] += len(units)

    def utility(self, i: int, unit: int, values: Floats) -> float:
        """Of activations (batch, positions); also one step of the averages."""
        layer, eta = self.layers[i], float(self.options.decay_rate)
        apart, kind = layer.positions, self.options.utility
        self.age[i][unit] += 1
        kappa = 1 - eta ** int(self.age[i][unit])
        w_in = np.abs(array(layer.incoming.weight)[unit]).mean()
        reads = np.abs(array(layer.outgoing.weight)[:, unit * apart : (unit + 1) * apart])
        w_out = reads.mean(0) if apart > 1 else reads.mean()
        if self.options.averaging == "sum":
            self.f[i][unit] += (1 - eta) * np.abs(values).mean()
            return float(np.mean(w_out) * (self.f[i][unit] if kind == "contribution" else 1.0))
        self.f[i][unit] = eta * self.f[i][unit] + (1 - eta) * values.mean()
        centred = values - self.f[i][unit] / kappa
        size, spread = (np.abs(z).mean(0) if apart > 1 else np.abs(z).mean() for z in (values, centred))
        with np.errstate(divide="ignore", invalid="ignore"):  # a unit may have lost all its inputs
            instantaneous = {
                "weight": np.mean(w_out),
                "contribution": np.mean(w_out * size),
                "adaptation": 1 / w_in,
                "zero_contribution": np.mean(w_out * spread),
                "adaptable_contribution": np.mean(w_out * spread) / w_in,
                "feature_by_input": np.mean(spread) / w_in,
                "random": 0.0,
            }[kind]
        self.u[i][unit] = eta * self.u[i][unit] + (1 - eta) * instantaneous
        return float(self.u[i][unit] / kappa)

    def rate(self, i: int) -> float:
        rates = self.options.replacement_rate
        return float(rates[i]) if isinstance(rates, Sequence) else rates

    def select(self, t: int, i: int, h: Floats) -> list[int]:
        worth = np.array([self.utility(i, unit, h[:, unit].reshape(len(h), -1)) for unit in range(h.shape[1])])
        if self.options.utility == "random":
            uniforms(streams.counter_key(self.seed, "random utility", i), t, 0, worth)
        eligible = [unit for unit in range(len(worth)) if self.age[i][unit] > self.options.maturity_threshold]
        if not eligible:
            return []
        self.c[i] += self.rate(i) * len(worth if self.options.rate_of == "all" else eligible)
        number = math.floor(self.c[i])
        self.c[i] -= number
        ranked = sorted(eligible, key=lambda unit: (worth[unit] if worth[unit] >= 1e-30 else 0.0, unit))
        return sorted(ranked[: min(number, len(eligible))])

    def replace(self, t: int, i: int, unit: int) -> None:
        layer = self.layers[i]
        columns = slice(unit * layer.positions, (unit + 1) * layer.positions)
        weight, reads = array(layer.incoming.weight), array(layer.outgoing.weight)
        if self.options.bias_transfer:
            mean = self.f[i][unit] / (1 - float(self.options.decay_rate) ** int(self.age[i][unit]))
            array(layer.outgoing.bias)[:] += reads[:, columns].reshape(len(reads), -1).sum(1) * mean
        fan_in = weight[unit].size
        key = streams.counter_key(self.seed, "new units", i)
        if self.name.startswith("residual"):
            draws = np.empty((fan_in, 2))
            uniforms(key, t, unit * 2 * fan_in, draws.reshape(-1))
            fresh = np.sqrt(-2 * np.log(1 - draws[:, 0])) * np.cos(2 * np.pi * draws[:, 1]) * np.sqrt(2 / fan_in)
        else:
            draws = np.empty(fan_in)
            uniforms(key, t, unit * fan_in, draws)
            fresh = (2 * draws - 1) / np.sqrt(fan_in)
        weight[unit], array(layer.incoming.bias)[unit] = fresh.reshape(weight[unit].shape), 0
        reads[:, columns] = 0
        self.rules[layer.incoming.weight].reset(unit)
        self.rules[layer.incoming.bias].reset(unit)
        self.rules[layer.outgoing.weight].reset(slice(None), columns)
        if layer.norm is not None:
            for parameter, value in ((layer.norm.weight, 1.0), (layer.norm.bias, 0.0)):
                array(parameter)[unit] = value
                self.rules[parameter].reset(unit)
            layer.norm.running_mean[unit], layer.norm.running_var[unit] = 0.0, 1.0

    def everything(self) -> dict[str, Floats]:
        """Parameters and statistics under the names that ours have."""
        if self.name.startswith("residual"):
            names = test_resnet18.names()
        else:
            kinds = ["convolutions.0", "convolutions.1", "layers.0", "layers.1", "layers.2"]
            modules = {id(module): name for name, module in self.model.named_modules()}
            theirs = [modules[id(module)] for module in test_conv_net.weight_layers(self.model)]
            norms = [modules[id(module)] for module in test_conv_net.norm_layers(self.model)]
            names = dict(zip(kinds, theirs, strict=True)) | {f"norms.{i}": name for i, name in enumerate(norms)}
        found = {}
        for ours, other in names.items():
            for key, value in self.model.get_submodule(other).state_dict().items():
                if key != "num_batches_tracked":
                    found[f"{ours}.{key}"] = array(value)
        return found


def initial_network(name: str, seed: int) -> Network:
    network = NETWORKS[name][1]().double()
    network.initialize(lambda i: streams.generator(seed, "initial weights", i))
    return network


def check_against_naive(name: str, options: Sequence[ContinualBackprop], optimizers: Sequence[Any], steps: int) -> None:
    """`steps` must be a multiple of what is planned at a time."""
    seeds = [4, 0, 9][: len(options)]
    learner, packed = make(name, options, optimizers, seeds)
    everyone = []
    for one, optimizer, seed in zip(options, optimizers, seeds, strict=True):
        everyone.append(Naive(name, initial_network(name, seed), one, optimizer, seed))
    for t in range(steps):
        learn(learner, name, t)
        for run, naive in enumerate(everyone):
            naive.step(t)
            for i, layer in enumerate(packed.layers):
                np.testing.assert_array_equal(layer.age[run], naive.age[i], err_msg=f"step {t} run {run} layer {i}")
    close: dict[str, Any] = {"rtol": 1e-8, "atol": 1e-9}
    for run, naive in enumerate(everyone):
        for key, value in naive.everything().items():
            owner = learner.buffers[key] if key in learner.buffers else learner.view(learner.parameters, key)
            np.testing.assert_allclose(owner[run], value, **close, err_msg=f"run {run} {key}")
        for i, layer in enumerate(packed.layers):
            if naive.options.utility not in ("random", "weight") or naive.options.averaging == "running":
                np.testing.assert_allclose(layer.mean_activation[run], naive.f[i], **close)
            if naive.options.utility != "random":
                np.testing.assert_allclose(layer.utility[run], naive.u[i], **close)
            assert float(layer.accumulated[run]) == naive.c[i]
        assert packed.report(run)["replaced_units"] == naive.replaced
        assert min(naive.replaced) > 0, "the comparison needs replacements in every layer"


def three(utility: str, rates: Sequence[Any] = (0.03, 0.05, 0.08), **options: Any) -> list[ContinualBackprop]:
    """Runs with rates, thresholds and decays of their own."""
    thresholds, decays = (10, 4, 1), (0.99, 0.9, 0.5)
    return [
        ContinualBackprop(rate, m, eta, utility, **options)
        for rate, m, eta in zip(rates, thresholds, decays, strict=True)
    ]


MOMENTUM = [SGD(0.01, 0.9), SGD(0.02, 0.5, 0.01), SGD(0.02)]
FORGETFUL = [SGD(0.02, 0.9, reset_momentum=True), SGD(0.05, 0.5, reset_momentum=True), SGD(0.01, reset_momentum=True)]
# A bias before a batch norm has no gradient but rounding errors, which a small eps would blow up.
ADAM = [Adam(0.003, eps=1e-4), Adam(0.01, 0.8, 0.99, eps=1e-4), Adam(0.001, eps=1e-4, weight_decay=0.01)]


@pytest.mark.parametrize("rate_of", ["all", "mature"])
@pytest.mark.parametrize("utility", UTILITIES)
def test_convolutional_network_equals_a_naive_simulation(utility: str, rate_of: str) -> None:
    """Three runs of their own settings; channels read by a convolution, and by a linear layer at 4 positions."""
    name = "conv" if rate_of == "all" else "conv_tanh"
    check_against_naive(name, three(utility, rate_of=rate_of), MOMENTUM, steps=30)


LAYERWISE = ([0.03, 0.04, 0.05, 0.06], 0.05, [0.2, 0.1, 0.05, 0.04])
CASES: dict[str, tuple[str, list[ContinualBackprop], Sequence[Any], int]] = {
    "adam": ("conv", three("contribution", rate_of="all"), ADAM, 40),
    "adam_batch": ("conv_batch", three("adaptable_contribution", rate_of="all"), ADAM, 40),
    "momentum_reset": ("conv", three("zero_contribution"), FORGETFUL, 40),
    "one_position": ("conv_1x1", three("adaptable_contribution", rate_of="all"), MOMENTUM, 40),
    "batch": ("conv_batch", three("contribution", LAYERWISE, rate_of="all"), MOMENTUM, 40),
    "sum": ("conv", three("contribution", rate_of="all", averaging="sum"), MOMENTUM, 40),
    "sum_weight": ("conv_batch", three("weight", averaging="sum"), MOMENTUM, 40),
    "transfer": ("conv_tanh", three("contribution", rate_of="all", bias_transfer=True), MOMENTUM, 40),
    "transfer_weight": ("conv", three("weight", bias_transfer=True), ADAM, 40),
    "residual_as_coded": ("residual", three("contribution", rate_of="all", averaging="sum"), MOMENTUM, 30),
    "residual_weight": ("residual", three("weight", rate_of="all", averaging="sum"), MOMENTUM, 30),
    "residual_adam": ("residual", three("adaptable_contribution"), ADAM, 30),
}


# What is special about them is in others, too.
LONGER = {"momentum_reset", "sum_weight", "transfer_weight", "residual_as_coded", "residual_weight"}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case in LONGER else []) for case in CASES]
)
def test_variant_equals_a_naive_simulation(case: str) -> None:
    check_against_naive(*CASES[case])


def test_one_run_equals_a_naive_simulation() -> None:
    """Alone, with its channels last in memory, and rates of layers that never replace."""
    options = [ContinualBackprop([0.0, 0.1, 0.0, 0.0], 3, 0.9, "contribution", rate_of="all")]
    learner, packed = make("conv", options, [SGD(0.05)])
    assert learner.network.channels_last
    naive = Naive("conv", initial_network("conv", 0), options[0], SGD(0.05), 0)
    for t in range(40):
        learn(learner, "conv", t)
        naive.step(t)
    for key, value in naive.everything().items():
        np.testing.assert_allclose(learner.view(learner.parameters, key)[0], value, rtol=1e-9, atol=1e-10)
    assert packed.report(0)["replaced_units"] == naive.replaced
    assert [number > 0 for number in naive.replaced] == [False, True, False, False]


# Packs


PACKS: dict[str, tuple[str, dict[str, Any], Sequence[Any]]] = {
    "contribution": ("conv", {"utility": "contribution", "rate_of": "all"}, MOMENTUM),
    "weight": ("conv", {"utility": "weight"}, ADAM),
    "adaptation": ("conv", {"utility": "adaptation"}, MOMENTUM),
    "zero_contribution": ("conv", {"utility": "zero_contribution", "rate_of": "all"}, ADAM),
    "adaptable_contribution": ("conv", {"utility": "adaptable_contribution"}, ADAM),
    "feature_by_input": ("conv", {"utility": "feature_by_input", "rate_of": "all"}, MOMENTUM),
    "random": ("conv", {"utility": "random", "rate_of": "all"}, ADAM),
    "bernoulli": ("conv", {"utility": "contribution", "rate_of": "all", "fractional": "bernoulli"}, MOMENTUM),
    "dropout": ("conv_dropout", {"utility": "contribution", "rate_of": "all"}, MOMENTUM),
    "dropout_sum": ("conv_dropout", {"utility": "contribution", "averaging": "sum"}, ADAM),
    "batch": ("conv_batch", {"utility": "contribution"}, ADAM),
    "batch_sum": ("conv_batch", {"utility": "weight", "rate_of": "all", "averaging": "sum"}, MOMENTUM),
    "residual": ("residual", {"utility": "contribution", "rate_of": "all", "averaging": "sum"}, MOMENTUM),
    "residual_adam": ("residual", {"utility": "zero_contribution"}, ADAM),
    "residual_dropout": ("residual_dropout", {"utility": "contribution", "rate_of": "all"}, ADAM),
}


LONG = {"residual", "residual_dropout", "batch", "bernoulli", "dropout_sum"}  # others have what is special about them


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] if case in LONG else []) for case in PACKS]
)
def test_pack_equals_each_run_alone(case: str) -> None:
    """Everything that learning changes, buffers included; runs differ in all that may differ in a pack."""
    name, options, optimizers = PACKS[case]
    everyone, seeds, steps = three(**options), [3, 8, 5], 30
    together, packed = make(name, everyone, optimizers, seeds)
    for t in range(steps):
        learn(together, name, t)
    state = together.state()
    assert any("running_var" in key for key in state) == (name.startswith("residual") or name == "conv_batch")
    for run, seed in enumerate(seeds):
        assert sum(packed.report(run)["replaced_units"]) >= len(packed.layers)
        alone, own = make(name, [everyone[run]], [optimizers[run]], [seed])
        for t in range(steps):
            learn(alone, name, t)
        assert own.report(0) == packed.report(run)
        mine = alone.state()
        for key, value in state.items():
            if key == "optimizer/momentum" and key not in mine:  # a run without momentum needs no buffer when alone
                continue
            torch.testing.assert_close(mine[key][0], value[run], rtol=1e-9, atol=1e-9, msg=f"run {run}: {key}")


@pytest.mark.parametrize("name", ["conv_batch", "residual"])
def test_state_is_complete(name: str) -> None:
    """Copied into a new pack of other initial weights, it continues exactly: statistics and sums included."""
    options = three("contribution", rate_of="all", averaging="sum")
    first, second = (make(name, options, ADAM)[0] for _ in range(2))
    for t in range(10):
        learn(first, name, t)
    second.parameters.mul_(0.5)
    for key, value in second.state().items():
        value.copy_(first.state()[key])
    for t in range(10, 20):
        learn(first, name, t)
        learn(second, name, t)
    for key, value in second.state().items():
        assert torch.equal(value, first.state()[key]), key


# What a replacement touches, by hand: (network, hidden layer, convolution or layer, normalisation, reader, positions)


PLACES: dict[str, tuple[str, int, str, str | None, str, int]] = {
    "conv_to_conv": ("conv_tanh", 0, "convolutions.0", None, "convolutions.1", 1),
    "conv_to_linear": ("conv_tanh", 1, "convolutions.1", None, "layers.0", 4),
    "linear_to_linear": ("conv_tanh", 2, "layers.0", None, "layers.1", 1),
    "one_position": ("conv_1x1", 1, "convolutions.1", None, "layers.0", 1),
    "normed_conv": ("conv_batch", 0, "convolutions.0", "norms.0", "convolutions.1", 1),
    "normed_boundary": ("conv_batch", 1, "convolutions.1", "norms.1", "layers.0", 4),
    "normed_linear": ("conv_batch", 3, "layers.1", "norms.3", "layers.2", 1),
    "stem": ("residual", 0, "stem", "stem_norm", "blocks.0.conv1", 1),
    "in_a_block": ("residual", 5, "blocks.2.conv1", "blocks.2.norm1", "blocks.2.conv2", 1),
    "before_a_shortcut": ("residual", 4, "blocks.1.conv2", "blocks.1.norm2", "blocks.2.conv1", 1),
    "after_a_shortcut": ("residual", 6, "blocks.2.conv2", "blocks.2.norm2", "blocks.3.conv1", 1),
    "last_block": ("residual", 16, "blocks.7.conv2", "blocks.7.norm2", "outputs", 1),
}


def entries(
    learner: TorchLearner, flat: Tensor, place: str, run: int, units: list[int], what: Literal["row", "all"] = "all"
) -> Tensor:
    """Which entries of `flat` are the units': incoming row, bias and normalisation; and the outgoing columns."""
    _, _, incoming, norm, reader, positions = PLACES[place]
    mine = torch.zeros_like(flat, dtype=torch.bool)
    names = [f"{incoming}.weight", f"{incoming}.bias", *([f"{norm}.weight", f"{norm}.bias"] if norm else [])]
    for name in names:
        learner.view(mine, name)[run, units] = True
    if what == "all":
        columns = [unit * positions + p for unit in units for p in range(positions)]
        learner.view(mine, f"{reader}.weight")[run][:, columns] = True
    return mine


@pytest.mark.parametrize("kind", ["adam", "momentum", "momentum_reset"])
@pytest.mark.parametrize("place", PLACES)
def test_replacement_touches_the_units_own_and_nothing_else(place: str, kind: str) -> None:
    """Bit by bit: parameters, statistics and the optimiser's state, in the run that replaces and in its neighbour."""
    name, i, incoming, norm, reader, _ = PLACES[place]
    optimizer: dict[str, Any] = {"adam": Adam(0.01), "momentum": SGD(0.01, 0.9)}
    reset = SGD(0.01, 0.9, reset_momentum=True)
    learner, packed = make(name, [ContinualBackprop(1e-9, 2)] * 2, [optimizer.get(kind, reset)] * 2)
    for t in range(2):
        learn(learner, name, t)
    learner.parameters += 0.01  # no bias, shift or column is 0 by chance
    before = {key: value.clone() for key, value in learner.state().items()}
    force(packed, 2, {(i, 1): 1})
    units = torch.nonzero(packed.layers[i].age[1] == 0).flatten().tolist()
    assert len(units) == 1
    after = learner.state()
    parameters, old = after["parameters"], before["parameters"]
    mine = entries(learner, parameters, place, 1, units)
    assert torch.equal(parameters[~mine], old[~mine])
    assert bool((parameters[mine] != old[mine]).all())
    changed = learner.view(parameters, f"{incoming}.weight")[1, units].flatten()
    assert len(changed.unique()) == len(changed)
    assert not learner.view(parameters, f"{incoming}.bias")[1, units].any()
    outgoing = entries(learner, parameters, place, 1, units) & ~entries(learner, parameters, place, 1, units, "row")
    assert int(outgoing.sum()) == learner.view(parameters, f"{reader}.weight")[1].numel() // learner.graph[i].units
    assert not parameters[outgoing].any()
    if norm:
        assert bool((learner.view(parameters, f"{norm}.weight")[1, units] == 1).all())
        assert not learner.view(parameters, f"{norm}.bias")[1, units].any()
    for key, value in after.items():
        if key.startswith("buffers/"):
            expected = before[key].clone()
            if key.removeprefix("buffers/").rpartition(".")[0] == norm:
                expected[1, units] = 1.0 if key.endswith("running_var") else 0.0
                assert not torch.equal(expected, before[key])
            assert torch.equal(value, expected), key
        if key.startswith("optimizer/"):
            expected = before[key].clone()
            if kind != "momentum":
                expected[mine] = 1.0 if "power" in key else 0.0
                assert not torch.equal(expected, before[key])
            assert torch.equal(value, expected), key
    for j, layer in enumerate(packed.layers):
        born = torch.nonzero(layer.age == 0).tolist()
        assert born == ([[1, unit] for unit in units] if j == i else [])


@pytest.mark.parametrize("place", ["conv_to_linear", "normed_boundary"])
def test_several_units_lose_their_own_columns_at_the_boundary(place: str) -> None:
    """Units 0, 2 and 4 of five: columns 0-3, 8-11 and 16-19."""
    name, i, _, _, reader, _ = PLACES[place]
    learner, packed = make(name, [ContinualBackprop(1e-9, 2)])
    learner.parameters.abs_().add_(0.01)
    with torch.no_grad():
        packed._replace(0, i, 0, torch.tensor([0, 2, 4]))
    columns = torch.nonzero(~learner.view(learner.parameters, f"{reader}.weight")[0].any(0)).flatten()
    assert columns.tolist() == [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]


# New weights


@pytest.mark.parametrize("name", ["conv", "residual"])
def test_new_weights_have_the_initial_law(name: str) -> None:
    """Uniform within 1 / sqrt(fan_in), PyTorch's default; N(0, 2 / fan_in) in the residual network."""
    learner, packed = make(name, [ContinualBackprop(0.01)])
    for i in range(len(packed.layers)):
        weight = learner.view(learner.parameters, learner.graph[i].weight)[0]
        fan_in = weight[0].numel()
        units = torch.arange(len(weight))
        draws = torch.cat([packed.draw_incoming(step, i, 0, units) for step in range(4_000 // weight.numel() + 2)])
        assert draws.shape[1] == fan_in
        values = draws.flatten().numpy()
        if name == "conv":
            bound = 1 / math.sqrt(fan_in)
            assert 0.98 * bound < np.abs(values).max() <= bound
            assert stats.kstest(values, "uniform", (-bound, 2 * bound)).pvalue > 1e-4
        else:
            assert stats.kstest(values, "norm", (0, math.sqrt(2 / fan_in))).pvalue > 1e-4
        assert len(np.unique(values)) == len(values)  # no draw is used twice, between units or steps


def test_new_weights_are_finite_normal_numbers_whatever_the_uniforms() -> None:
    """A uniform of 0 gives a radius of 0, and the largest one a finite radius."""
    _, packed = make("residual", [ContinualBackprop(0.01)])
    draws = torch.cat([packed.draw_incoming(step, 16, 0, torch.arange(16)) for step in range(60)])
    assert bool(torch.isfinite(draws).all())
    neighbours = torch.corrcoef(torch.stack([draws.flatten()[:-1], draws.flatten()[1:]]))[0, 1]
    assert abs(float(neighbours)) < 4 / math.sqrt(draws.numel())


def test_new_weights_of_normal_law_depend_on_seed_step_layer_and_unit_alone() -> None:
    _, alone = make("residual", [ContinualBackprop(0.01)], seeds=[7])
    _, packed = make("residual", [ContinualBackprop(0.5, 3)] * 3, seeds=[2, 7, 5])
    one = alone.draw_incoming(40, 7, 0, torch.tensor([3]))
    assert torch.equal(packed.draw_incoming(40, 7, 1, torch.tensor([0, 3]))[1:], one)
    for other in ((41, 7, 1, 3), (40, 7, 2, 3), (40, 7, 1, 2), (40, 8, 1, 3)):
        different = packed.draw_incoming(*other[:3], torch.tensor(other[3:]))
        assert not torch.isclose(one[:, : different.shape[1]], different[:, : one.shape[1]]).any()


# The sum that never decays, and bias transfer


def test_sum_of_activities_never_decays_and_outlives_its_unit() -> None:
    """q = 0.01 x the total of all mean magnitudes; a replaced unit keeps it, loses its age, and is safe again."""
    options = ContinualBackprop(0.5, 3, 0.99, "contribution", rate_of="all", averaging="sum")
    learner, packed = make("conv", [options])
    total = [torch.zeros(layer.utility.shape[1], dtype=torch.float64) for layer in packed.layers]
    for t in range(12):
        learner.plan(t, 1)
        learn(learner, "conv", t, planned=1_000)
        for i, h in enumerate(learner.activations):
            total[i] += h[0].abs().transpose(0, 1).flatten(1).mean(1)
            torch.testing.assert_close(packed.layers[i].mean_activation[0], 0.01 * total[i], rtol=1e-12, atol=0)
            assert not packed.layers[i].utility.any()
    assert all(number > 0 for number in packed.report(0)["replaced_units"])


@pytest.mark.parametrize("place", ["conv_to_conv", "conv_to_linear"])
@pytest.mark.parametrize("transfer", [True, False])
def test_bias_transfer_leaves_the_outputs_on_a_uniform_image_alone(transfer: bool, place: str) -> None:
    """There a channel's mean is its activity everywhere; without the transfer the outputs do change."""
    name, i, *_ = PLACES[place]
    options = ContinualBackprop(1e-9, 3, 0.9, "contribution", bias_transfer=transfer)
    learner, packed = make(name, [options])
    shape = NETWORKS[name][0]
    pixels = np.array([0.7, -0.4])[:, None, None] * np.ones(shape)
    x = torch.from_numpy(pixels.reshape(1, 1, -1).repeat(BATCH, 1))
    for t in range(5):
        learner.plan(t, 1)
        learner.learn(x, torch.zeros(1, BATCH, dtype=torch.int64), t)
    before = learner.forward(x)[0]
    with torch.no_grad():
        packed._replace(5, i, 0, torch.tensor([1, 3]))
    assert torch.allclose(learner.forward(x)[0], before, rtol=0, atol=1e-12) == transfer


def test_networks_and_options_it_refuses() -> None:
    residual, conv = NETWORKS["residual"][1](), NETWORKS["conv"][1]()
    ContinualBackprop().check(residual)
    ContinualBackprop([1e-5] * 17).check(residual)
    ContinualBackprop(bias_transfer=True).check(conv)
    with pytest.raises(ConfigError, match="shortcuts") as caught:
        ContinualBackprop(bias_transfer=True).check(residual)
    assert caught.value.key == "bias_transfer"
    with pytest.raises(ConfigError, match="17 here"):
        ContinualBackprop([1e-5] * 18).check(residual)
    for utility in UTILITIES:
        if utility not in ("weight", "contribution"):
            with pytest.raises(ConfigError, match="averaging"):
                ContinualBackprop(utility=utility, averaging="sum")
    for key, value in (("rate_of", "total"), ("averaging", "mean")):
        wrong: dict[str, Any] = {key: value}
        with pytest.raises(ConfigError) as caught:
            ContinualBackprop(**wrong)
        assert caught.value.key == key
    with pytest.raises(ConfigError, match="bias_transfer"):
        ContinualBackprop(averaging="sum", bias_transfer=True)


@pytest.mark.parametrize(
    "options",
    [{"rate_of": "all"}, {"averaging": "sum"}, {"rate_of": "all", "averaging": "sum"}],
)
def test_fused_engine_leaves_the_other_variants_to_torch(options: dict[str, Any]) -> None:
    """It knows neither: taking them would silently train another method."""
    network = MLP(4, 2, [3])
    sgd: Any = SGD()
    usual: Any = ContinualBackprop()
    variant: Any = ContinualBackprop(**options)
    assert obstacle(network, sgd, [usual]) is None
    assert "rate_of=mature" in str(obstacle(network, sgd, [variant]))


# The schedule of a rate that is a share of all units


def plan_of_all(
    ages: NDArray[np.int64], threshold: int, rate: float, steps: int, accumulated: float = 0.0
) -> tuple[NDArray[np.int64], float]:
    counts = np.full(steps, -1, np.int64)
    key = streams.counter_key(0, "replacement rounding", 0)
    left = plan_replacements(ages, threshold, rate, False, accumulated, key, 0, counts, True)
    return counts, left


@pytest.mark.parametrize(("units", "period"), [(64, 1563), (128, 782), (256, 391), (512, 196)])
def test_period_in_the_published_residual_network(units: int, period: int) -> None:
    """Rate 1e-5, maturity 1,000: units accrue from the 1,001st step on, one for every 1 / (rate x units) steps."""
    steps, c, expected = 20_000, 0.0, []
    counts, _ = plan_of_all(np.zeros(units, np.int64), 1_000, 1e-5, steps)
    for step in range(1_000, steps):
        c += 1e-5 * units
        if c >= 1:
            expected.append(step)
            c -= 1
    at = np.flatnonzero(counts)
    assert at.tolist() == expected
    assert counts.max() == 1
    assert at[0] == 1_000 + period - 1
    assert len(at) == math.floor((steps - 1_000) * 1e-5 * units)


def test_one_mature_unit_makes_all_units_count() -> None:
    """8 units at a rate of 1/16: half a unit per step from the first mature one on, exactly."""
    ages = np.array([0, 0, 0, 0, 0, 0, 0, 7])  # older than 9 at the third step
    counts, left = plan_of_all(ages, 9, 1 / 16, 5)
    assert counts.tolist() == [0, 0, 0, 1, 0]
    assert left == 0.0  # the fifth step has no mature unit, so nothing accrues
    of_mature = np.full(5, -1, np.int64)
    plan_replacements(ages, 9, 1 / 16, False, 0.0, np.uint64(0), 0, of_mature, False)
    assert of_mature.tolist() == [0] * 5


def test_never_more_than_the_mature_units() -> None:
    counts, _ = plan_of_all(np.array([50, 50, 0, 0, 0, 0]), 10, 1.0, 8)
    assert counts.tolist() == [2] + [0] * 7
    counts, _ = plan_of_all(np.zeros(6, np.int64), 10, 1.0, 30)
    assert np.flatnonzero(counts).tolist() == [10, 21]
    assert counts.max() == 6


def test_share_of_all_units_equals_a_simulation_unit_by_unit() -> None:
    """Random settings, in chunks of random lengths; which of the mature units goes is drawn, and must not matter."""
    generator = np.random.default_rng(0)
    busy = 0
    for _ in range(100):
        units, threshold = int(generator.integers(1, 30)), int(generator.choice([0, 1, 3, 20]))
        rate = float(generator.choice([0.0, 0.003, 0.01, 0.1, 0.4, 1.0]))
        ages = generator.integers(0, 2 * threshold + 3, units) * int(generator.integers(0, 2))
        mine, left, c = ages.copy(), 0.0, 0.0
        for chunk in generator.integers(1, 40, 4).tolist():
            counts, left = plan_of_all(mine.copy(), threshold, rate, chunk, left)
            for planned in counts.tolist():
                mine += 1
                eligible = np.flatnonzero(mine > threshold)
                number = 0
                if len(eligible):
                    c += rate * units
                    number = math.floor(c)
                    c -= number
                    number = min(number, len(eligible))
                mine[generator.permutation(eligible)[:number]] = 0
                assert planned == number
                busy += number > 0
            assert left == c  # to the last bit
    assert busy > 1_000


def test_schedule_of_a_pack_follows_each_runs_own_rate() -> None:
    """Counts per step, hidden layer and run, of the ages that the replacements themselves set back."""
    options = three("contribution", rate_of="all")
    learner, packed = make("conv", options)
    counts = []
    for t in range(40):
        learn(learner, "conv", t, planned=10)
        counts.append(packed.counts[t % 10].copy())
    for run, one in enumerate(options):
        for i, units in enumerate((4, 5, 6, 5)):
            expected, _ = plan_of_all(
                np.zeros(units, np.int64), one.maturity_threshold, float(np.asarray(one.replacement_rate)), 40
            )
            assert [int(at[i, run]) for at in counts] == expected.tolist()


def test_nn_layers_are_what_the_oracle_is_made_of() -> None:
    """The simulation shares no layer with the code under test."""
    naive = Naive("conv_batch", initial_network("conv_batch", 0), ContinualBackprop(), SGD(), 0)
    kinds = {type(module) for module in naive.model.modules()}
    assert kinds == {
        nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Flatten, nn.Linear, nn.BatchNorm1d,
    }  # fmt: skip
