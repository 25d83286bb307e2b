"""Normalisation layers: equal to PyTorch's, and online normalisation to a step-by-step rendering of its paper."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lop_sweeps.networks.normalization import NORMALIZATIONS, BatchNorm, LayerNorm, Normalization, OnlineNorm

Floats = NDArray[np.float64]
UNITS = 7
CLOSE: dict[str, Any] = {"rtol": 1e-11, "atol": 1e-12}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def filled(norm: Normalization, seed: int = 1) -> Normalization:
    """A layer in float64 whose scale and shift are not their fresh ones."""
    norm = norm.double()
    norm.initialize()
    with torch.no_grad():
        norm.weight.copy_(torch.from_numpy(rng(seed).uniform(0.5, 2.0, UNITS)))
        norm.bias.copy_(torch.from_numpy(rng(seed + 100).normal(size=UNITS)))
    return norm


def mini_batch(seed: int, examples: int) -> Tensor:
    """Inputs whose units differ in mean and spread, one of them almost constant."""
    spread = np.array([1e-4, 0.1, 1, 1, 2, 5, 30])
    return torch.from_numpy(rng(seed).normal(size=(examples, UNITS)) * spread + np.arange(UNITS))


def backward(module: nn.Module, x: Tensor, upstream: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The output, and the gradients of x, weight and bias for an upstream gradient."""
    x = x.clone().requires_grad_()
    y = module(x)
    return y.detach(), list(torch.autograd.grad(y, [x, module.weight, module.bias], upstream))


@pytest.mark.parametrize("examples", [1, 2, 10])
def test_layer_norm_is_pytorchs(examples: int) -> None:
    ours, theirs = filled(LayerNorm(UNITS)), nn.LayerNorm(UNITS).double()
    theirs.load_state_dict(ours.state_dict())
    x, upstream = mini_batch(1, examples), mini_batch(2, examples)
    y, gradients = backward(ours, x, upstream)
    expected, expected_gradients = backward(theirs, x, upstream)
    torch.testing.assert_close(y, expected, **CLOSE)
    for a, b in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


@pytest.mark.parametrize("examples", [2, 3, 10])
def test_batch_norm_is_pytorchs_in_training_and_evaluation(examples: int) -> None:
    ours, theirs = filled(BatchNorm(UNITS)), nn.BatchNorm1d(UNITS).double()
    theirs.load_state_dict(ours.state_dict(), strict=False)
    for step in range(30):
        x, upstream = mini_batch(step, examples), mini_batch(step + 1_000, examples)
        y, gradients = backward(ours, x, upstream)
        expected, expected_gradients = backward(theirs, x, upstream)
        torch.testing.assert_close(y, expected, **CLOSE)
        for a, b in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)  # 1/std is 300 for the almost constant unit
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, **CLOSE)
        torch.testing.assert_close(ours.running_var, theirs.running_var, **CLOSE)
    ours.eval()
    theirs.eval()
    state = {name: value.clone() for name, value in ours.state_dict().items()}
    x, upstream = mini_batch(77, examples), mini_batch(78, examples)
    y, gradients = backward(ours, x, upstream)
    expected, expected_gradients = backward(theirs, x, upstream)
    torch.testing.assert_close(y, expected, **CLOSE)
    for a, b in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    assert all(torch.equal(state[name], value) for name, value in ours.state_dict().items())


@dataclass
class ChileyNorm:
    """Online normalisation of one layer, example by example and by hand: Chiley et al. 2019, Eqs. 8-12.

    Eq. 8: y = (x - mu) / sigma with statistics of earlier examples, then mu <- a mu + (1 - a) x and
    sigma^2 <- a sigma^2 + a (1 - a) (x - mu)^2 with the old mu. Eqs. 10, 11: y' <- y' - (1 - b) e_y y and
    e_y <- e_y + y' y, then x' <- y' / sigma - (1 - b) e_1 and e_1 <- e_1 + x'. Layer scaling divides by the layer's
    root mean square. Agrees with the authors' numpy_on (github.com/Cerebras/online-normalization).
    """

    weight: Floats
    bias: Floats
    mu: Floats = field(default_factory=lambda: np.zeros(UNITS))
    var: Floats = field(default_factory=lambda: np.ones(UNITS))
    e_y: Floats = field(default_factory=lambda: np.zeros(UNITS))
    e_1: Floats = field(default_factory=lambda: np.zeros(UNITS))

    def forward(self, x: Floats) -> Floats:
        out = np.empty(UNITS)
        self.sigma, self.y, self.z = np.empty(UNITS), np.empty(UNITS), np.empty(UNITS)
        for u in range(UNITS):
            self.sigma[u] = np.sqrt(self.var[u] + 1e-5)
            self.y[u] = (x[u] - self.mu[u]) / self.sigma[u]
            self.var[u] = 0.999 * self.var[u] + 0.999 * (1 - 0.999) * (x[u] - self.mu[u]) ** 2
            self.mu[u] = 0.999 * self.mu[u] + (1 - 0.999) * x[u]
            self.z[u] = self.weight[u] * self.y[u] + self.bias[u]
        self.zeta = np.sqrt(sum(self.z**2) / UNITS + 1e-5)
        for u in range(UNITS):
            out[u] = self.z[u] / self.zeta
        return out

    def backward(self, upstream: Floats) -> tuple[Floats, Floats, Floats]:
        """Gradients of x, weight and bias."""
        x_prime = np.empty(UNITS)
        along = sum(upstream * self.z) / UNITS / self.zeta**2
        z_prime = (upstream - along * self.z) / self.zeta
        for u in range(UNITS):
            y_prime = self.weight[u] * z_prime[u]
            y_prime -= (1 - 0.99) * self.e_y[u] * self.y[u]
            self.e_y[u] += y_prime * self.y[u]
            x_prime[u] = y_prime / self.sigma[u] - (1 - 0.99) * self.e_1[u]
            self.e_1[u] += x_prime[u]
        return x_prime, z_prime * self.y, z_prime


def test_online_norm_is_the_papers_forward_and_backward_pass() -> None:
    """300 examples, the statistics of inputs and of gradients drifting; the scale and shift change meanwhile."""
    ours = filled(OnlineNorm(UNITS))
    assert isinstance(ours, OnlineNorm)
    theirs = ChileyNorm(ours.weight.detach().numpy().copy(), ours.bias.detach().numpy().copy())
    generator = rng(5)
    for step in range(300):
        x = generator.normal(size=UNITS) * np.linspace(0.1, 3, UNITS) + step / 100
        upstream = generator.normal(size=UNITS) + np.linspace(-1, 1, UNITS)  # a mean to be controlled away
        y, gradients = backward(ours, torch.from_numpy(x[None]), torch.from_numpy(upstream[None]))
        np.testing.assert_allclose(y[0], theirs.forward(x), rtol=0, atol=1e-11)
        expected = theirs.backward(upstream)
        for a, b in zip(gradients, expected, strict=True):
            np.testing.assert_allclose(a.reshape(UNITS), b, rtol=0, atol=1e-11)
        for a, b in (("running_mean", "mu"), ("running_var", "var"), ("control_y", "e_y"), ("control_1", "e_1")):
            np.testing.assert_allclose(getattr(ours, a), getattr(theirs, b), rtol=0, atol=1e-10)
        with torch.no_grad():
            ours.weight.sub_(0.01 * gradients[1])
            ours.bias.sub_(0.01 * gradients[2])
        theirs.weight = theirs.weight - 0.01 * expected[1]
        theirs.bias = theirs.bias - 0.01 * expected[2]


def test_online_norm_in_evaluation_changes_nothing() -> None:
    ours = filled(OnlineNorm(UNITS))
    for step in range(20):
        ours(mini_batch(step, 1))
    ours.eval()
    state = {name: value.clone() for name, value in ours.state_dict().items()}
    x = mini_batch(50, 40)
    together = ours(x)
    assert all(torch.equal(state[name], value) for name, value in ours.state_dict().items())
    alone = torch.cat([ours(row) for row in x.split(1)])  # many examples are allowed, each by itself
    torch.testing.assert_close(together, alone, **CLOSE)
    y = (x - state["running_mean"]) / (state["running_var"] + 1e-5).sqrt() * state["weight"] + state["bias"]
    torch.testing.assert_close(together, y / (y.square().mean(1, keepdim=True) + 1e-5).sqrt(), **CLOSE)


def test_online_norm_controls_the_gradients_mean_and_projection() -> None:
    """Over a long stationary stream x' has mean zero in time, as the exact gradient of a normalisation has."""
    ours = filled(OnlineNorm(UNITS))
    generator, total, size = rng(9), torch.zeros(UNITS, dtype=torch.float64), 3_000
    for _ in range(size):
        x = torch.from_numpy(generator.normal(size=(1, UNITS)))
        _, gradients = backward(ours, x, torch.from_numpy(generator.normal(size=(1, UNITS)) + 1.0))
        total += gradients[0][0]
    assert (total / size).abs().max() < 0.05


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_stacked_over_runs_equals_run_by_run(name: str) -> None:
    runs, examples = 3, 1 if name == "online" else 4
    singles = [filled(NORMALIZATIONS[name](UNITS), seed) for seed in range(runs)]
    stacked = NORMALIZATIONS[name](UNITS).double()
    for key in [key for key, _ in stacked.named_parameters()]:
        setattr(stacked, key, nn.Parameter(torch.stack([getattr(norm, key).detach() for norm in singles])))
    for key in [key for key, _ in stacked.named_buffers()]:
        setattr(stacked, key, torch.stack([getattr(norm, key) for norm in singles]))
    for step in range(6):
        training = step < 5
        for norm in (stacked, *singles):
            norm.train(training)
        x = torch.stack([mini_batch(10 * step + run, examples) for run in range(runs)])
        upstream = torch.stack([mini_batch(500 + 10 * step + run, examples) for run in range(runs)])
        y, gradients = backward(stacked, x, upstream)
        for run, norm in enumerate(singles):
            expected, expected_gradients = backward(norm, x[run], upstream[run])
            torch.testing.assert_close(y[run], expected, **CLOSE)
            for a, b in zip(gradients, expected_gradients, strict=True):
                torch.testing.assert_close(a[run], b, rtol=1e-9, atol=1e-9)
            for key, value in norm.named_buffers():
                torch.testing.assert_close(getattr(stacked, key)[run], value, **CLOSE)


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_fresh_values_are_those_of_a_new_layer(name: str) -> None:
    """What a replaced unit is set to is what `initialize` sets, for every parameter and buffer."""
    norm = NORMALIZATIONS[name](UNITS)
    norm.initialize()
    everything = dict(norm.named_parameters()) | dict(norm.named_buffers())
    assert set(everything) == set(norm.fresh)
    for key, value in everything.items():
        assert value.shape == (UNITS,)
        assert bool((value == norm.fresh[key]).all())
    if name == "batch":
        theirs = nn.BatchNorm1d(UNITS).state_dict()
        assert all(torch.equal(value, theirs[key]) for key, value in everything.items())
