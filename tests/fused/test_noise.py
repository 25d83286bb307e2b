"""The noise of shrink and perturb in the fused engine: its draws, and that drawing lazily changes no distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from lop_sweeps import streams
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.fused.noise import draw_normals
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from tests.fused.engines import DenseTask, Floats, fused, image_task

LEVEL = 1e-4  # of each statistical test; the draws are fixed, so a test that passes once passes always


def draw(keys: list[int], half: int) -> NDArray[np.float32]:
    """The draws of each key, (keys, 2 * half): the first halves of its pairs, then the second ones."""
    draws = np.full((2, len(keys) * half + 3), np.nan, np.float32)
    draw_normals(np.array(keys, np.uint64), half, draws)
    assert np.isnan(draws[:, -3:]).all(), "nothing is written beyond"
    return draws[:, :-3].reshape(2, len(keys), half).swapaxes(0, 1).reshape(len(keys), -1)


@pytest.fixture(scope="module")
def many() -> NDArray[np.float64]:
    """A million draws: a thousand of each of a thousand keys, as unlike as those of neighbouring rows."""
    return draw([int(streams.counter_key(7, "perturbation")) + i for i in range(1_000)], 500).astype(np.float64)


def test_draws_are_standard_normal(many: Floats) -> None:
    n = many.size
    assert np.isfinite(many).all()
    for half in np.split(many, 2, axis=1):
        assert stats.kstest(half.ravel(), "norm").pvalue > LEVEL
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)]:
        assert abs((many**power).mean() - moment) < 4 * math.sqrt(variance / n)


@pytest.mark.parametrize("bound", [2.0, 3.0, 4.0, 4.5])
def test_tails(many: Floats, bound: float) -> None:
    expected = many.size * stats.norm.sf(bound)
    for sign in (1, -1):
        assert abs((sign * many > bound).sum() - expected) < 4 * math.sqrt(expected) + 1
    assert np.abs(many).max() < 5.9


def test_draws_are_independent(many: Floats) -> None:
    """Of the two halves, which share a radius; of neighbours; of keys; and of their squares."""
    for values in (many, many**2 - 1):
        first, second = np.split(values, 2, axis=1)
        for one, other in [(first, second), (values[:, 1:], values[:, :-1]), (values[1:], values[:-1])]:
            assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 4 / math.sqrt(one.size)
    between = np.atleast_2d(np.corrcoef(many[:200]))[np.triu_indices(200, 1)]
    assert np.abs(between).max() < 5.5 / math.sqrt(many.shape[1])
    assert between.std() == pytest.approx(1 / math.sqrt(many.shape[1]), rel=0.03)


def test_draws_belong_to_their_key() -> None:
    keys = [5, 2**63, 2**64 - 1, 0]
    together = draw(keys, 21)
    for key, row in zip(keys, together, strict=True):
        np.testing.assert_allclose(draw([key], 21)[0], row, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(draw([key], 4)[0][:4], row[:4], rtol=1e-5, atol=1e-6)
    assert len(np.unique(together)) == together.size


# What a linear network with one output sees of its weights at every step of an interval, and has at its end, is
# jointly normal with a known covariance: all that lazy noise promises.

PATTERN = [0, 1, 0, 0, 2, 1, 0, 2, 0, 0, 0, 1, 3, 0, 1, 0]  # the one input that is on; the last input never is
INPUTS, STD, TARGET, PERIODS = 5, 0.01, 1_000.0, 4_000


def observe(shrink: float) -> Floats:
    """(periods, seen at each step and at the end of each weight and the bias), less what no noise would give."""
    task = DenseTask(np.eye(INPUTS)[PATTERN], np.full((len(PATTERN), 1), TARGET))
    optimizer: Any = SGD(1e-14, weight_decay=shrink / 1e-14)  # it shrinks, and learns nothing
    noise: Any = ShrinkAndPerturb(STD, "lazy")
    learner = FusedLearner(lambda: MLP(INPUTS, 1, hidden=()), optimizer, [noise], 1, "squared_error", torch.float64)
    steps, keep, seen = len(PATTERN), 1 - shrink, []
    powers = keep ** np.arange(steps)
    for period in range(PERIODS):
        before = learner.state()["parameters"][0].numpy()
        losses = learner.run([task], 1, period * steps, 0, steps, steps)[0][:, 0].numpy()
        outputs = TARGET - np.sqrt(losses) - (before[PATTERN] + before[-1]) * powers
        seen.append(np.concatenate([outputs, learner.state()["parameters"][0].numpy() - before * keep**steps]))
    return np.array(seen)


def covariance(shrink: float) -> Floats:
    """Of weights w <- (1 - shrink) w + noise, each for itself, as linear maps of every step's noise on each."""
    steps, keep, weights = len(PATTERN), 1 - shrink, INPUTS + 1
    maps = np.zeros((steps + weights, steps, weights))  # observation, step of the noise, weight
    for t, i in enumerate(PATTERN):
        for s in range(t):  # the noise of step s comes after its update
            maps[t, s, [i, -1]] = keep ** (t - 1 - s)
    for j in range(weights):
        maps[steps + j, :, j] = keep ** np.arange(steps - 1, -1, -1)
    flat = maps.reshape(len(maps), -1)
    result: Floats = STD**2 * flat @ flat.T
    return result


@pytest.mark.parametrize("shrink", [0.0, 0.05, 0.4], ids=["no decay", "decay", "decay that is folded on the way"])
def test_lazy_noise_has_the_joint_distribution_of_noise_at_every_step(shrink: float) -> None:
    seen, expected = observe(shrink)[:, 1:], covariance(shrink)[1:, 1:]  # the first step has had no noise
    deviation = np.sqrt(np.diag(expected))
    standard = seen / deviation
    assert np.abs(standard.mean(0)).max() < 4.5 / math.sqrt(PERIODS)
    correlation = expected / np.outer(deviation, deviation)
    error = np.sqrt((1 + correlation**2) / PERIODS)  # of the product of two correlated normal variables
    assert (np.abs(standard.T @ standard / PERIODS - correlation) / error).max() < 4.5
    assert min(stats.kstest(column, "norm").pvalue for column in standard.T) > LEVEL
    assert np.abs(standard[1:].T @ standard[:-1] / (PERIODS - 1)).max() < 4.5 / math.sqrt(PERIODS), "periods"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("batch", [1, 4])
def test_every_weight_and_bias_drifts_alike_and_padding_does_not(batch: int, dtype: torch.dtype) -> None:
    """Rows that are active often, seldom and never; a second layer of rectified units, some of which are dead."""
    steps, std, interval = 240, 0.01, 60
    generator = np.random.default_rng(0)
    x = (generator.random((steps * batch, 20)) < np.repeat([1.0, 0.3, 0.01, 0.0], 5)).astype(np.float64)
    learner = fused("squared_error", SGD(1e-30), [ShrinkAndPerturb(std, "lazy")], dtype=dtype, hidden=(133, 45, 30))
    names, periods = list(dict(learner.network.named_parameters())), []
    with torch.no_grad():
        learner.view(learner.parameters, "layers.0.bias")[0, ::2] = -1e3
    for first in range(0, steps, interval):
        before = learner.parameters.clone()
        learner.run([DenseTask(x, np.zeros((len(x), 2)))], batch, first, first, interval, interval)
        periods.append((learner.parameters - before).double() / (std * math.sqrt(interval)))
    padding = torch.ones_like(learner.parameters)
    for name in names:
        learner.view(padding, name)[...] = 0
    assert int(padding.sum()) > 0
    assert not learner.parameters[padding == 1].any()
    drift = sum(periods) / math.sqrt(len(periods))
    assert isinstance(drift, torch.Tensor)
    parts = {name: learner.view(drift, name)[0].numpy() for name in names}
    first_layer = parts["layers.0.weight"]
    samples = {**parts, **{f"inputs {i}": first_layer[:, i : i + 5] for i in range(0, 20, 5)}}
    for name, values in samples.items():
        if values.size > 50:
            assert stats.kstest(values.ravel(), "norm").pvalue > LEVEL, name
            assert values.std() == pytest.approx(1.0, abs=4.5 / math.sqrt(2 * values.size)), name
        assert np.abs(values).max() < 5, name
    rows = np.corrcoef(first_layer.T)[np.triu_indices(20, 1)]
    assert np.abs(rows).max() < 4.5 / math.sqrt(len(first_layer))
    between = np.corrcoef(torch.cat(periods)[:, padding[0] == 0].numpy())[np.triu_indices(len(periods), 1)]
    assert np.abs(between).max() < 4.5 / math.sqrt(int((padding == 0).sum()))


def mean_losses(std: float, noise: str, decay: float) -> Floats:
    """Mean loss of the last half of a short training, for many seeds."""
    result, steps = [], 200
    for seed in range(200):
        parts = SGD(0.02, weight_decay=decay), [ShrinkAndPerturb(std, noise)]
        learner = fused("cross_entropy", *parts, seed, hidden=(17, 12))
        losses = learner.run([image_task(seed % 5)], 1, 0, 0, steps, 50)[0]
        result.append(float(losses[steps // 2 :].mean()))
    return np.array(result)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_training_with_lazy_noise_is_distributed_alike(decay: float) -> None:
    """Seeds share weights and examples, so differences of means are taken seed by seed."""
    lazy, per_step = (mean_losses(0.04, noise, decay) for noise in ("lazy", "per_step"))
    without = mean_losses(0.0, "per_step", decay)
    assert stats.ttest_rel(lazy, per_step).pvalue > 0.01
    assert stats.levene(lazy, per_step).pvalue > 0.01
    assert stats.ks_2samp(lazy, per_step).pvalue > 0.01
    assert stats.ttest_rel(without, per_step).pvalue < 1e-12, "noise matters here"


def test_lazy_without_noise_is_no_noise() -> None:
    learners = [
        fused("cross_entropy", SGD(0.01), interventions) for interventions in ([], [ShrinkAndPerturb(0.0, "lazy")])
    ]
    for learner in learners:
        learner.run([image_task(0)], 1, 0, 0, 100, 50)
    assert torch.equal(learners[0].parameters, learners[1].parameters)
