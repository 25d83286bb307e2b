"""The policy over numbered actions: its draws, and its formulas against torch.distributions and automatic gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import Categorical

from lop_sweeps.agents import categorical
from lop_sweeps.agents.ppo import PPO, Experience, Loss, estimates, normalised, returns

RUNS, SAMPLES, ACTIONS = 3, 7, 4


def case(seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Experience]:
    """Outputs, and samples whose ratios are on both sides of the clip's ends."""
    rng = np.random.default_rng(seed)
    output = torch.from_numpy(rng.normal(0.0, 2.0, size=(RUNS, SAMPLES, ACTIONS + 1)))
    actions = torch.from_numpy(rng.integers(ACTIONS, size=(RUNS, SAMPLES, 1))).double()
    now = Categorical(logits=output[..., :-1]).log_prob(actions[..., 0])
    before = now + torch.from_numpy(rng.normal(0.0, 0.5, size=now.shape))
    advantage, target = torch.from_numpy(rng.normal(size=(2, RUNS, SAMPLES)))
    inputs = torch.zeros(RUNS, SAMPLES, 1)
    return output.to(dtype), Experience(inputs, *(each.to(dtype) for each in (actions, before, advantage, target)))


def test_log_probability_and_entropy_are_those_of_the_distribution() -> None:
    output, batch = case(0)
    expected = Categorical(logits=output[..., :-1])
    actual = categorical.log_probability(output, batch.actions)
    torch.testing.assert_close(actual, expected.log_prob(batch.actions[..., 0]), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(categorical.entropy(output), expected.entropy(), rtol=1e-12, atol=1e-12)


AGENTS = [
    PPO(clip=0.2, value_coefficient=0.5, entropy_coefficient=0.01),
    PPO(clip=0.05, value_coefficient=1.0, entropy_coefficient=0.0),
    PPO(clip=0.5, value_coefficient=0.0, entropy_coefficient=2.0),
]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", ["compiled", "tensors"])
def test_gradient_equals_the_automatic_one(seed: int, way: str) -> None:
    output, batch = case(seed)
    loss = Loss(AGENTS, output, discrete=True)
    gradient, ratio = (loss.gradient if way == "compiled" else loss.gradient_on_gpu)(output, batch)
    leaf = output.clone().requires_grad_()
    policy = Categorical(logits=leaf[..., :-1])
    expected_ratio = (policy.log_prob(batch.actions[..., 0]) - batch.log_probability).exp()
    clip, value, entropy = (
        torch.tensor([[getattr(agent, name)] for agent in AGENTS], dtype=torch.float64)
        for name in ("clip", "value_coefficient", "entropy_coefficient")
    )
    clipped = torch.maximum(torch.minimum(expected_ratio, 1 + clip), 1 - clip)
    assert bool((clipped != expected_ratio).any()), "some should be clipped"
    gain = torch.minimum(expected_ratio * batch.advantage, clipped * batch.advantage)
    of_policy = -(gain + entropy * policy.entropy()).mean(1)
    total = of_policy + value[:, 0] * (leaf[..., -1] - batch.target).square().mean(1)
    (expected,) = torch.autograd.grad(total.sum(), leaf)
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(ratio, expected_ratio.detach(), rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(loss.of_policy(output, batch), of_policy.detach(), rtol=1e-9, atol=1e-12)


def test_gradient_in_float32_with_logits_far_apart() -> None:
    output, batch = case(1, torch.float32)
    output[0, 0, :-1] = torch.tensor([500.0, -500.0, 0.0, 1.0])
    gradient, ratio = Loss(AGENTS, output, discrete=True).gradient(output, batch)
    assert torch.isfinite(gradient).all()
    assert gradient.dtype == ratio.dtype == torch.float32


def test_actions_are_drawn_by_their_probabilities() -> None:
    logits = np.log([[[0.5, 0.2, 0.25, 0.05]]]).repeat(4_000, 1)
    uniforms = (np.arange(4_000)[None] + 0.5) / 4_000
    out = np.empty((1, 4_000, 1), np.float32)
    categorical.choose(logits, uniforms, out)
    assert np.bincount(out[0, :, 0].astype(int)).tolist() == [2_000, 800, 1_000, 200]
    assert (np.diff(out[0, :, 0]) >= 0).all(), "the action is monotone in the draw"


def test_logits_that_are_no_numbers_still_choose_an_action() -> None:
    """The run ends when its losses are looked at, and takes none of its pack with it."""
    logits = np.full((1, 3, 2), np.nan, np.float32)
    out = np.full((1, 3, 1), -1.0, np.float32)
    categorical.choose(logits, np.full((1, 3), 0.3), out)
    assert out.ravel().tolist() == [1.0, 1.0, 1.0]


def test_returns_by_hand() -> None:
    """An end after the second step, where 4 is still to come; the value 10 follows the last one."""
    rewards, following = np.array([1.0, 2.0, 3.0]), np.array([9.0, 4.0, 10.0])
    found = returns(rewards, following, np.array([False, True, False]), 0.5)
    np.testing.assert_allclose(found, [1 + 0.5 * (2 + 0.5 * 4), 2 + 0.5 * 4, 3 + 0.5 * 10], rtol=1e-15)


def test_estimates_are_of_scaled_rewards() -> None:
    rng = np.random.default_rng(0)
    rewards, following = rng.normal(size=(2, 2, 6))
    values, ends = rng.normal(size=(2, 7)), rng.random((2, 6)) < 0.3
    scaled, _ = estimates(PPO(reward_scale=4.0), rewards, values, following, ends)
    plain, target = estimates(PPO(), rewards / 4, values, following, ends)
    np.testing.assert_array_equal(scaled, plain)
    np.testing.assert_array_equal(target, plain + values[:, :-1])
    following[:, :-1] = np.where(ends[:, :-1], following[:, :-1], values[:, 1:-1])
    advantage, sums = estimates(PPO(value_target="return", gae_lambda=1.0), rewards, values, following, ends)
    np.testing.assert_allclose(sums, advantage + values[:, :-1], rtol=1e-12)


def test_an_eps_is_added_to_the_standard_deviation() -> None:
    raw = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    expected = (raw - raw.mean()) / (raw.std() + 0.5)
    torch.testing.assert_close(normalised(raw, 0.5), expected)
