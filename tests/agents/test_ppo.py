"""PPO's formulas against slow ones written straight from the papers, and its gradient against automatic ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import Normal

from lop_sweeps.agents.ppo import PPO, Experience, Loss, advantages, log_probability, normalised, parts
from lop_sweeps.errors import ConfigError

Floats = NDArray[np.float64]

# --- generalised advantage estimation ---


def summed_advantages(
    rewards: Floats, values: Floats, following: Floats, ends: Any, gamma: float, lam: float
) -> Floats:
    """Schulman et al. 2016, eq. 16: the sum of all later (gamma lambda)^l delta_{t+l} of the same episode."""
    delta = [float(r) + gamma * float(n) - float(v) for r, v, n in zip(rewards, values, following, strict=True)]
    out = []
    for t in range(len(rewards)):
        total = 0.0
        for later in range(t, len(rewards)):
            total += (gamma * lam) ** (later - t) * delta[later]
            if ends[later]:
                break
        out.append(total)
    return np.array(out)


ENDS = {"never": [], "middle": [4], "last": [11], "first": [0], "twice_running": [3, 4, 8], "always": range(12)}


@pytest.mark.parametrize("last_value", ["dropped", "kept"])
@pytest.mark.parametrize("discounts", [(0.99, 0.95), (0.5, 1.0), (1.0, 0.0), (0.0, 0.9), (1.0, 1.0)])
@pytest.mark.parametrize("places", ENDS.values(), ids=ENDS)
def test_advantages_are_discounted_sums_within_an_episode(
    places: list[int], discounts: tuple[float, float], last_value: str
) -> None:
    """Nothing leaks from the next episode; where one was cut off (kept), the value of its last state still counts."""
    rng = np.random.default_rng(len(places))
    rewards, values, following = rng.normal(size=(3, 12))
    ends = np.isin(np.arange(12), list(places))
    if last_value == "dropped":
        following[ends] = 0.0
    ours = advantages(rewards, values, following, ends, *discounts)
    expected = summed_advantages(rewards, values, following, ends, *discounts)
    np.testing.assert_allclose(ours, expected, rtol=1e-12, atol=1e-12)


def test_advantages_with_lambda_1_are_returns_minus_values() -> None:
    """By hand: rewards 1, 2, 3, an end after the second, 10 still to come after the third."""
    rewards, values, following = np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0]), np.array([6.0, 0.0, 10.0])
    ours = advantages(rewards, values, following, np.array([False, True, False]), 0.5, 1.0)
    np.testing.assert_allclose(ours, [1 + 0.5 * 2 - 5, 2 - 6, 3 + 0.5 * 10 - 7], rtol=1e-15)


def test_normalised_by_the_standard_deviation_of_a_sample_each_run_for_itself() -> None:
    raw = np.random.default_rng(0).normal(3.0, 5.0, size=(3, 7)) * np.array([[1.0], [100.0], [1e-9]])
    ours = normalised(torch.from_numpy(raw)).numpy()
    for row, given in zip(ours, raw, strict=True):
        np.testing.assert_allclose(row, (given - given.mean()) / given.std(ddof=1), rtol=1e-9)
    assert np.abs(ours.std(1, ddof=1) - 1.0).max() < 1e-12


@pytest.mark.parametrize("size", [1, 2, 16])
def test_advantages_that_are_all_equal_become_0(size: int) -> None:
    """Dividing by a spread of 0 would make the run diverge; the other runs of the pack are as they would be."""
    both = torch.stack([torch.full((size,), 0.1, dtype=torch.float64), torch.arange(size, dtype=torch.float64)])
    ours = normalised(both)
    assert (ours[0] == 0).all()
    torch.testing.assert_close(ours[1], normalised(both[1:])[0], rtol=0, atol=0)
    assert torch.isfinite(ours).all()


@pytest.mark.parametrize("size", [3, 48])
def test_advantages_that_are_all_equal_become_0_however_their_mean_is_rounded(size: int) -> None:
    ours = normalised(torch.full((1, size), 0.1, dtype=torch.float64))
    assert ours.abs().max() < 1e-6


# --- the policy ---


def drawn(runs: int, samples: int, actions: int, dtype: torch.dtype, spread: float = 0.2) -> tuple[Tensor, Experience]:
    """Outputs now, and what was done under somewhat different ones; advantages of both signs."""
    rng = torch.Generator().manual_seed(runs * 100 + samples + actions)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    output = normal(runs, samples, 2 * actions + 1)
    output[..., actions:-1] *= 0.5
    acted = output + spread * normal(*output.shape)
    mean, log_std, _ = parts(acted)
    taken = mean + log_std.exp() * normal(*mean.shape)
    old = Normal(mean, log_std.exp()).log_prob(taken).sum(-1)
    experience = Experience(normal(runs, samples, 5), taken, old, normal(runs, samples), normal(runs, samples))
    return output.to(dtype), Experience(*(each.to(dtype) for each in experience))


def test_parts_are_means_log_standard_deviations_and_value() -> None:
    mean, log_std, value = parts(torch.arange(7.0).expand(2, 3, 7))
    assert mean[0, 0].tolist() == [0, 1, 2]
    assert log_std[0, 0].tolist() == [3, 4, 5]
    assert value.tolist() == [[6.0] * 3] * 2


@pytest.mark.parametrize("actions", [1, 3, 8])
def test_log_probability_is_that_of_a_diagonal_gaussian(actions: int) -> None:
    output, batch = drawn(2, 9, actions, torch.float64)
    mean, log_std, _ = parts(output)
    expected = Normal(mean, log_std.exp()).log_prob(batch.actions).sum(-1)
    torch.testing.assert_close(log_probability(output, batch.actions), expected, rtol=1e-12, atol=1e-12)


# --- the loss ---

AGENTS = (
    PPO(clip=0.2, value_coefficient=1.0, entropy_coefficient=0.0),
    PPO(clip=0.1, value_coefficient=0.5, entropy_coefficient=0.01),
    PPO(clip=0.5, value_coefficient=0.0, entropy_coefficient=0.3),
    PPO(clip=1.5, value_coefficient=3.0, entropy_coefficient=0.0),
)


def plain_loss(output: Tensor, batch: Experience, agent: PPO) -> Tensor:
    """spec/algorithms.md 9.2 for one run: outputs (batch, ...), with the entropy of the policy on top."""
    actions = batch.actions.shape[-1]
    policy = Normal(output[:, :actions], output[:, actions:-1].exp())
    ratio = torch.exp(policy.log_prob(batch.actions).sum(1) - batch.log_probability)
    clipped = torch.clamp(ratio, 1 - agent.clip, 1 + agent.clip)
    policy_loss = torch.max(-ratio * batch.advantage, -clipped * batch.advantage).mean()
    value_loss = (batch.target - output[:, -1]).square().mean()
    entropy = policy.entropy().sum(1).mean()
    total: Tensor = policy_loss + agent.value_coefficient * value_loss - agent.entropy_coefficient * entropy
    return total


def of_run(batch: Experience, run: int) -> Experience:
    return Experience(*(each[run] for each in batch))


@pytest.mark.parametrize("way", ["compiled", "tensors"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
@pytest.mark.parametrize("runs", [1, 4])
def test_gradient_is_the_automatic_one_of_the_plain_loss(runs: int, dtype: torch.dtype, way: str) -> None:
    """Each run with its own coefficients; samples on both sides of both ends of the clipping range, of both signs."""
    output, batch = drawn(runs, 256, 3, dtype)
    agents = AGENTS[-runs:] if runs > 1 else AGENTS[1:2]
    loss = Loss(agents, output)
    gradient, ratio = (loss.gradient if way == "compiled" else loss.gradient_on_gpu)(output, batch)
    assert gradient.dtype == ratio.dtype == dtype
    tolerance = 1e-12 if dtype == torch.float64 else 2e-5
    for run, agent in enumerate(agents):
        leaf = output[run].double().requires_grad_()
        plain = plain_loss(leaf, Experience(*(each.double() for each in of_run(batch, run))), agent)
        (expected,) = torch.autograd.grad(plain, leaf)
        torch.testing.assert_close(gradient[run].double(), expected, rtol=tolerance, atol=tolerance / 10)
        policy = Normal(output[run, :, :3].double(), output[run, :, 3:-1].double().exp())
        now = policy.log_prob(batch.actions[run].double()).sum(1)
        torch.testing.assert_close(
            ratio[run].double(), (now - batch.log_probability[run].double()).exp(), rtol=1e-4, atol=0
        )
        where = (ratio[run] > 1 + agent.clip).int() - (ratio[run] < 1 - agent.clip).int()
        seen = {(int(w), bool(a > 0)) for w, a in zip(where, batch.advantage[run], strict=True)}
        assert seen >= {(w, sign) for w in (0, 1) for sign in (True, False)}
        assert agent.clip > 1 or seen >= {(-1, True), (-1, False)}


@pytest.mark.parametrize("way", ["compiled", "tensors"])
def test_gradient_of_rows_that_are_no_block_of_memory(way: str) -> None:
    """Mini-batches are slices of a shuffled rollout, and outputs may be views."""
    output, batch = drawn(4, 64, 2, torch.float64)
    span = slice(16, 48)
    loss = Loss(AGENTS, output)
    act = loss.gradient if way == "compiled" else loss.gradient_on_gpu
    sliced = act(output[:, span], Experience(*(each[:, span] for each in batch)))
    copied = act(output[:, span].contiguous(), Experience(*(each[:, span].contiguous() for each in batch)))
    for one, other in zip(sliced, copied, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-15, atol=0)


@pytest.mark.parametrize("way", ["compiled", "tensors"])
def test_what_the_policy_likes_much_better_by_now_is_not_pushed_further(way: str) -> None:
    """A ratio that overflows is clipped where the action was good; 0 times infinity must not get into the gradient."""
    output, taken = torch.zeros(1, 1, 3), torch.zeros(1, 1, 1)
    batch = Experience(taken, taken, torch.full((1, 1), -200.0), torch.ones(1, 1), torch.zeros(1, 1))
    loss = Loss(AGENTS[:1], output)
    gradient, ratio = (loss.gradient if way == "compiled" else loss.gradient_on_gpu)(output, batch)
    assert ratio.item() == math.inf
    assert (gradient == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_measures_are_means_over_the_batch(dtype: torch.dtype) -> None:
    output, batch = drawn(4, 256, 3, dtype)
    loss = Loss(AGENTS, output)
    _, ratio = loss.gradient(output, batch)
    policy_loss, value_loss, clipped, divergence = loss.measures(output, batch, ratio)
    for run, agent in enumerate(AGENTS):
        r, a = ratio[run].double().numpy(), batch.advantage[run].double().numpy()
        gain = np.minimum(r * a, np.clip(r, 1 - agent.clip, 1 + agent.clip) * a)
        error = output[run, :, -1].double().numpy() - batch.target[run].double().numpy()
        outside = [not 1 - agent.clip <= x <= 1 + agent.clip for x in r]
        assert policy_loss[run].item() == pytest.approx(-gain.mean(), rel=1e-5, abs=1e-6)
        assert value_loss[run].item() == pytest.approx((error**2).mean(), rel=1e-5)
        assert clipped[run].item() == np.mean(outside)
        assert 0 < clipped[run].item() < 1
        assert divergence[run].item() == pytest.approx((r - 1 - np.log(r)).mean(), rel=1e-4)
    plain = AGENTS[0]
    total = plain_loss(output[0].double(), Experience(*(each.double() for each in of_run(batch, 0))), plain)
    assert (policy_loss + value_loss)[0].item() == pytest.approx(total.item(), rel=1e-5)


@pytest.mark.parametrize("log_ratio", [-112.0, -800.0, 200.0])
def test_an_action_that_has_become_very_unlikely_or_likely_leaves_the_measures_finite(log_ratio: float) -> None:
    """Its gradient is 0: learning goes on. But measures that are not finite would end the run as diverged."""
    output, taken = torch.zeros(1, 2, 3), torch.zeros(1, 2, 1)
    old = log_probability(output, taken) - torch.tensor([[0.0, log_ratio]])
    batch = Experience(taken, taken, old, torch.ones(1, 2), torch.zeros(1, 2))
    loss = Loss(AGENTS[:1], output)
    gradient, ratio = loss.gradient(output, batch)
    assert torch.isfinite(gradient).all()
    for measure in loss.measures(output, batch, ratio):
        assert torch.isfinite(measure).all()


@pytest.mark.parametrize("runs", [1, 3])
def test_samples_of_a_mini_batch_belong_together(runs: int) -> None:
    """Every run has its own order; inputs, actions and the rest of a sample move together."""
    numbers = torch.arange(10.0) + 100 * torch.arange(runs).unsqueeze(1)
    wide = numbers.unsqueeze(-1)
    whole = Experience(wide.expand(-1, -1, 4), wide + 0.25, numbers + 0.5, numbers + 0.75, -numbers)
    rows = torch.stack([torch.randperm(10, generator=torch.Generator().manual_seed(run))[:6] for run in range(runs)])
    picked = whole.at(rows)
    for run in range(runs):
        for i, row in enumerate(rows[run].tolist()):
            number = row + 100.0 * run
            assert picked.inputs[run, i].tolist() == [number] * 4
            assert picked.actions[run, i].tolist() == [number + 0.25]
            rest = [each[run, i].item() for each in picked[2:]]
            assert rest == [number + 0.5, number + 0.75, -number]


# --- options ---


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("rollout", [0, -1, 2.5, "many", True]),
        ("epochs", [0, 1.5, None]),
        ("batch_size", [0, 100, 4096]),
        ("environments", [0, 3]),
        ("discount", [-0.1, 1.01, math.nan]),
        ("gae_lambda", [-0.1, 1.01, "high"]),
        ("clip", [0.0, -0.2, math.inf]),
        ("value_coefficient", [-1.0, math.nan]),
        ("entropy_coefficient", [-0.01, None]),
        ("normalise_advantages", [1, "yes", None]),
        ("max_gradient_norm", [0.0, -1.0, math.inf]),
        ("time_limit", ["ignore", None, True]),
    ],
)
def test_options_out_of_range_are_refused_by_name(key: str, values: list[Any]) -> None:
    for value in values:
        options: dict[str, Any] = {key: value}
        with pytest.raises(ConfigError) as refused:
            PPO(**options)
        assert refused.value.key == key


def test_ends_of_the_ranges_are_allowed_and_the_defaults_are_the_papers() -> None:
    for discount in (0.0, 1.0):
        PPO(discount=discount, gae_lambda=discount, value_coefficient=0.0, rollout=1, batch_size=1)
    paper = PPO()
    assert (paper.rollout, paper.epochs, paper.batch_size, paper.discount, paper.gae_lambda, paper.clip) == (
        *(2048, 10, 128),
        *(0.99, 0.95, 0.2),
    )
    assert (paper.value_coefficient, paper.entropy_coefficient, paper.max_gradient_norm) == (1.0, 0.0, None)
    assert (paper.updates, paper.time_limit, paper.normalise_advantages) == (160, "terminal", True)
    assert PPO(rollout=48, epochs=3, batch_size=16).updates == 9


def test_a_whole_number_written_with_a_point_is_that_number() -> None:
    options: dict[str, Any] = {"rollout": 64.0, "epochs": 2.0, "batch_size": 16.0, "environments": 2.0}
    made = PPO(**options)
    for value in (made.rollout, made.epochs, made.batch_size, made.environments, made.updates):
        assert isinstance(value, int)
