"""Shrink and perturb: the noise is exactly the run's stream times its standard deviation, after every update."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.counter_random import normals
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner

STILL = SGD(1e-300)  # an optimiser that moves nothing


def make(
    noise: Sequence[float], optimizer: SGD = STILL, seeds: Sequence[int] | None = None, **network: Any
) -> TorchLearner:
    return TorchLearner(
        lambda: MLP(6, 3, **{"hidden": [8, 7], **network}),
        [optimizer] * len(noise),
        [[ShrinkAndPerturb(std) for std in noise]],
        seeds or list(range(len(noise))),
        "cross_entropy",
        torch.float64,
    )


def learn(learner: TorchLearner, steps: range) -> None:
    for t in steps:
        pairs = [np.random.default_rng([seed, t]) for seed in learner.seeds]
        x = torch.from_numpy(np.stack([generator.normal(size=(2, 6)) for generator in pairs]))
        learner.learn(x, torch.zeros(len(pairs), 2, dtype=torch.int64), t)


def noise_of(seed: int, step: int, size: int) -> Tensor:
    out = np.empty(size)
    normals(streams.counter_key(seed, "perturbation"), step, out)
    return torch.from_numpy(out)


def test_noise_is_the_runs_stream_times_its_standard_deviation() -> None:
    learner = make([0.1, 0.0, 2.0], seeds=[5, 6, 7])
    expected = learner.parameters.clone()
    for t in (0, 1, 77):
        learn(learner, range(t, t + 1))
        for run, (seed, std) in enumerate(zip([5, 6, 7], [0.1, 0.0, 2.0], strict=True)):
            expected[run] += std * noise_of(seed, t, expected.shape[1])
        torch.testing.assert_close(learner.parameters, expected, rtol=1e-14, atol=1e-14)


def test_noise_of_a_run_does_not_depend_on_the_pack() -> None:
    together, alone = make([0.1, 0.2, 0.3], seeds=[4, 9, 2]), make([0.2], seeds=[9])
    learn(together, range(5))
    learn(alone, range(5))
    torch.testing.assert_close(together.parameters[1], alone.parameters[0], rtol=1e-14, atol=1e-14)


def test_noise_is_normal_with_that_deviation_and_fresh_at_every_step() -> None:
    learner = make([0.01], hidden=[100, 100])
    before, moves = learner.parameters.clone(), []
    for t in range(20):
        learn(learner, range(t, t + 1))
        moves.append((learner.parameters - before)[0] / 0.01)
        before = learner.parameters.clone()
    every = torch.stack(moves)
    assert stats.kstest(every.flatten()[:100_000].numpy(), "norm").pvalue > 1e-4
    assert float(every.std()) == pytest.approx(1.0, abs=4 / math.sqrt(2 * every.numel()))
    assert np.abs(np.corrcoef(every.numpy()) - np.eye(20)).max() < 5 / math.sqrt(every.shape[1])


def test_noise_is_not_multiplied_by_the_step_size() -> None:
    deviations = []
    for step_size in (1e-8, 1e-4):
        learner = make([0.1], SGD(step_size))
        before = learner.parameters.clone()
        learn(learner, range(1))
        deviations.append(float((learner.parameters - before).std()))
    assert deviations[0] == pytest.approx(deviations[1], rel=1e-2)
    assert deviations[0] == pytest.approx(0.1, rel=0.2)


@pytest.mark.parametrize("norm", ["layer", "batch", "online"])
def test_every_weight_and_bias_is_perturbed_but_no_normalisation(norm: str) -> None:
    """Output layer included (spec/algorithms.md 1)."""
    learner = make([0.1, 0.0], norm=norm)
    before = learner.parameters.clone()
    with torch.no_grad():
        learner.interventions[0].after_update(0)
    named = dict(learner.network.named_parameters())
    for name in named:
        moved = (learner.view(learner.parameters, name) != learner.view(before, name)).flatten(1)
        assert bool(moved[0].all()) == name.startswith("layers.")
        assert not moved[1].any(), "a deviation of 0 changes nothing"
    assert sum(name.startswith("norms.") for name in named) == 4


def test_works_without_hidden_layers() -> None:
    learner = TorchLearner(
        lambda: Linear(6, 3), [STILL], [[ShrinkAndPerturb(0.1)]], [0], "cross_entropy", torch.float64
    )
    before = learner.parameters.clone()
    learn(learner, range(1))
    assert bool((learner.parameters != before).all())


def test_shrink_is_the_optimisers_weight_decay_at_every_step() -> None:
    """theta <- (1 - step_size x weight_decay) theta - step_size x gradient + noise: no shrink of its own."""
    shrinking, plain = make([0.1], SGD(0.05, weight_decay=0.2)), make([0.1], SGD(0.05))
    start = plain.parameters.clone()
    learn(shrinking, range(1))
    learn(plain, range(1))
    torch.testing.assert_close(plain.parameters - shrinking.parameters, 0.05 * 0.2 * start, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("value", [-1e-5, float("inf"), "1e-5", True])
def test_wrong_deviation_names_its_key(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ShrinkAndPerturb(value)
    assert caught.value.key == "noise_std"


NORM = ("norms.0.weight", "norms.0.bias", "norms.1.weight", "norms.1.bias")


def between_tasks(options: ShrinkAndPerturb, task: int, **network: Any) -> tuple[TorchLearner, torch.Tensor]:
    """A learner of two runs, the second of which has come to `task`, and the parameters before that."""
    learner = TorchLearner(
        lambda: MLP(40, 3, [60, 50], norm="layer", **network), [STILL] * 2, [[options] * 2], [4, 9], "cross_entropy",
        torch.float64,
    )  # fmt: skip
    learner.parameters.add_(1.0)  # no longer what the run began with
    before = learner.parameters.clone()
    learner.interventions[0].before_task(1, task)
    return learner, before


@torch.no_grad()
@pytest.mark.parametrize("normalisation", [False, True])
def test_between_tasks_weights_shrink_and_get_noise(normalisation: bool) -> None:
    options = ShrinkAndPerturb(0.01, when="task", shrink=0.4, normalisation=normalisation)
    learner, before = between_tasks(options, 3)
    noise = []
    for name in learner.parameter_names:
        after, value = learner.view(learner.parameters, name), learner.view(before, name)
        assert torch.equal(after[0], value[0])
        if name in NORM and not normalisation:
            assert torch.equal(after[1], value[1])
        else:
            noise.append((after[1] - 0.6 * value[1]).flatten())
    assert stats.kstest(torch.cat(noise).numpy() / 0.01, "norm").pvalue > 1e-4
    again, _ = between_tasks(options, 3)
    other, _ = between_tasks(options, 4)
    assert torch.equal(again.parameters, learner.parameters)
    assert not bool((other.parameters == learner.parameters)[1, :2000].any())


@torch.no_grad()
@pytest.mark.parametrize("law", ["initial", "fresh"])
def test_between_tasks_all_parameters_are_mixed(law: str) -> None:
    learner, before = between_tasks(ShrinkAndPerturb(when="task", law=law, shrink=0.3, perturb_scale=0.2), 2)
    others, _ = learner.redraw(1, "initial weights") if law == "initial" else learner.redraw(
        1, "perturbation between tasks", 2
    )  # fmt: skip
    for name in learner.parameter_names:
        expected = 0.7 * learner.view(before, name)[1] + 0.2 * others[name]
        torch.testing.assert_close(learner.view(learner.parameters, name)[1], expected, rtol=1e-12, atol=1e-14)


@torch.no_grad()
def test_nothing_happens_before_the_first_task() -> None:
    learner, before = between_tasks(ShrinkAndPerturb(0.1, when="task"), 0)
    assert torch.equal(learner.parameters, before)


def test_shrink_of_its_own_at_every_step_comes_before_the_noise() -> None:
    noisy, options = make([0.1]), ShrinkAndPerturb(0.1, shrink=0.25)
    both = TorchLearner(lambda: MLP(6, 3, [8, 7]), [STILL], [[options]], [0], "cross_entropy", torch.float64)
    before = both.parameters.clone()
    with torch.no_grad():
        for one in (noisy, both):
            one.interventions[0].after_update(5)
    torch.testing.assert_close(both.parameters, noisy.parameters - 0.25 * before, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("options", "shares"),
    [
        ({}, (0.0, 0.0)),
        ({"when": "task"}, (0.4, 0.0)),
        ({"when": "task", "law": "initial"}, (0.8, 0.8)),
        ({"law": "fresh"}, (1e-3, 1e-2)),
        ({"law": "fresh", "shrink": 0.1}, (0.1, 0.1)),
        ({"law": "initial", "perturb_scale": 0.5}, (1e-6, 0.5)),
    ],
)
def test_what_is_not_given_is_as_published(options: dict[str, Any], shares: tuple[float, float]) -> None:
    assert ShrinkAndPerturb(**options).shares == shares


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"when": "never"}, "when"),
        ({"law": "uniform"}, "law"),
        ({"shrink": 1.1}, "shrink"),
        ({"perturb_scale": 0.1}, "perturb_scale"),
        ({"law": "fresh", "perturb_scale": -1}, "perturb_scale"),
        ({"noise": "lazy", "when": "task"}, "noise"),
        ({"noise": "lazy", "law": "fresh"}, "noise"),
        ({"noise": "lazy", "shrink": 0.1}, "noise"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ShrinkAndPerturb(**options)
    assert caught.value.key == key
