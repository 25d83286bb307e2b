"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), as Dohare et al. 2024 use it (ppo.py).

Pure functions on arrays with a leading run dimension; acting and the loop over mini-batches are in
`lop_sweeps.training.control`. The gradient of the loss with respect to the network's outputs is written out: automatic
differentiation of its forty small operations costs as much as that of the network. What is written here for actions
is of a diagonal Gaussian; where they are numbered, `agents.categorical` has the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.agents import categorical
from lop_sweeps.compiling import njit
from lop_sweeps.errors import ConfigError
from lop_sweeps.optimizers.optimizer import per_run

Floats = NDArray[np.float64]
Array = NDArray[Any]
_LOG_ROOT_TAU = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class PPO:
    """Collect `rollout` steps, then learn from them in `epochs` passes of mini-batches of `batch_size`.

    environments: how many a run acts in side by side; each gives an equal share of the rollout. discount, gae_lambda:
        of generalised advantage estimation (Schulman et al. 2016, arXiv 1506.02438). clip: the probability ratio
        counts within 1 +- clip. value_coefficient, entropy_coefficient: of the value loss, and of the policy's
        entropy, which is maximised.
    normalise_advantages: over the rollout, to mean 0 and standard deviation 1. advantage_eps: added to the standard
        deviation by which that divides.
    value_target: what the value network learns: gae = the advantage estimate plus the value; return = the discounted
        sum of rewards until the end of the episode or rollout, and the value of the state there if it goes on.
    reward_scale: rewards are divided by it for learning; the log has them as they are.
    max_gradient_norm: cut longer gradients to this length; null = never.
    time_limit: what an episode's end by the time limit means: terminal = as if the robot had fallen, what the authors'
        code does; bootstrap = the value of the last state goes on counting, since that the clock ran out is no
        property of the state (Pardo et al. 2018, arXiv 1712.00378).
    """

    version: ClassVar[int] = 1
    PER_RUN: ClassVar[frozenset[str]] = frozenset(
        {"discount", "gae_lambda", "clip", "value_coefficient", "entropy_coefficient", "reward_scale"}
    )

    rollout: int = 2_048
    epochs: int = 10
    batch_size: int = 128
    environments: int = 1
    discount: float = 0.99
    gae_lambda: float = 0.95
    clip: float = 0.2
    value_coefficient: float = 1.0
    entropy_coefficient: float = 0.0
    normalise_advantages: bool = True
    max_gradient_norm: float | None = None
    time_limit: str = "terminal"
    value_target: str = "gae"
    reward_scale: float = 1.0
    advantage_eps: float = 0.0

    def __post_init__(self) -> None:
        for key in ("rollout", "epochs", "batch_size", "environments"):
            object.__setattr__(self, key, checks.integer(key, getattr(self, key), 1))  # 2e3 is a number of steps, too
        if self.rollout % self.batch_size:
            raise ConfigError("batch_size", self.batch_size, f"must divide rollout ({self.rollout})")
        if self.rollout % self.environments:
            raise ConfigError("environments", self.environments, f"must divide rollout ({self.rollout})")
        checks.number("discount", self.discount, 0.0, 1.0)
        checks.number("gae_lambda", self.gae_lambda, 0.0, 1.0)
        checks.number("clip", self.clip, 0.0, above=True)
        checks.number("value_coefficient", self.value_coefficient, 0.0)
        checks.number("entropy_coefficient", self.entropy_coefficient, 0.0)
        checks.flag("normalise_advantages", self.normalise_advantages)
        if self.max_gradient_norm is not None:
            checks.number("max_gradient_norm", self.max_gradient_norm, 0.0, above=True)
        checks.choice("time_limit", self.time_limit, ("terminal", "bootstrap"))
        checks.choice("value_target", self.value_target, ("gae", "return"))
        checks.number("reward_scale", self.reward_scale, 0.0, above=True)
        checks.number("advantage_eps", self.advantage_eps, 0.0)

    @property
    def updates(self) -> int:
        """Mini-batch updates for one rollout."""
        return self.epochs * (self.rollout // self.batch_size)


class Experience(NamedTuple):
    """What updates learn from, each tensor (runs, samples, ...).

    inputs; actions (..., actions), or (..., 1), their numbers; log_probability of the actions when they were taken;
    advantage; target: what the value of the state should have been.
    """

    inputs: Tensor
    actions: Tensor
    log_probability: Tensor
    advantage: Tensor
    target: Tensor

    def at(self, rows: Tensor) -> Experience:
        """The samples `rows` (runs, batch) of each run."""
        if len(rows) == 1:
            return Experience(*(each[:, rows[0]] for each in self))
        runs = torch.arange(len(rows), device=rows.device).unsqueeze(1)
        return Experience(*(each[runs, rows] for each in self))


@njit(nogil=True)
def advantages(
    rewards: Floats, values: Floats, next_values: Floats, ends: NDArray[np.bool_], discount: float, gae_lambda: float
) -> Floats:
    """Generalised advantage estimates (steps,) of one environment's consecutive steps.

    values: of the states acted in. next_values: of the states that followed, 0 where nothing was to follow.
    ends: whether an episode ended with the step.
    """
    out = np.empty_like(rewards)
    running = 0.0
    for t in range(len(rewards) - 1, -1, -1):
        if ends[t]:
            running = 0.0
        running = rewards[t] + discount * next_values[t] - values[t] + discount * gae_lambda * running
        out[t] = running
    return out


@njit(nogil=True)
def returns(rewards: Floats, next_values: Floats, ends: NDArray[np.bool_], discount: float) -> Floats:
    """Discounted sums (steps,) of the rewards until an episode's end; `next_values` count there, and at the last step.

    The arguments are those of `advantages`.
    """
    out = np.empty_like(rewards)
    running = next_values[-1]
    for t in range(len(rewards) - 1, -1, -1):
        if ends[t]:
            running = next_values[t]
        running = rewards[t] + discount * running
        out[t] = running
    return out


def estimates(
    agent: PPO, rewards: Floats, values: Floats, following: Floats, ends: NDArray[np.bool_]
) -> tuple[Floats, Floats]:
    """Advantages and value targets, (environments, steps) each, of what one run did.

    rewards, following, ends (environments, steps), as in `advantages`; values (environments, steps + 1).
    """
    advantage, target = np.empty_like(rewards), np.empty_like(rewards)
    for i in range(len(rewards)):
        scaled, before = rewards[i] / agent.reward_scale, values[i, :-1]
        advantage[i] = advantages(scaled, before, following[i], ends[i], agent.discount, agent.gae_lambda)
        if agent.value_target == "return":
            target[i] = returns(scaled, following[i], ends[i], agent.discount)
        else:
            target[i] = advantage[i] + before
    return advantage, target


def normalised(advantage: Tensor, eps: float = 0.0) -> Tensor:
    """(runs, samples) with mean 0 and standard deviation 1 (that of a sample); 0 where they are all equal.

    eps: is added to the standard deviation first.
    """
    centred = advantage - advantage.mean(1, keepdim=True)
    spread = centred.square().sum(1, keepdim=True).div(max(advantage.shape[1] - 1, 1)).sqrt()
    equal = advantage.amax(1, keepdim=True) == advantage.amin(1, keepdim=True)  # their mean may be rounded
    return torch.where(equal, 0.0, centred / (spread + eps))


def log_probability(output: Tensor, actions: Tensor) -> Tensor:
    """Log-probability (runs, samples) of actions (runs, samples, actions) under the network's outputs."""
    mean, log_std, _ = parts(output)
    z = (actions - mean) * torch.exp(-log_std)
    return (-0.5 * z * z - log_std - _LOG_ROOT_TAU).sum(-1)


def entropy(output: Tensor) -> Tensor:
    """Of the policy in each state, (runs, samples), in nats."""
    return (parts(output)[1] + (0.5 + _LOG_ROOT_TAU)).sum(-1)


def parts(output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means (..., actions), log standard deviations (..., actions) and values (...) of outputs."""
    actions = (output.shape[-1] - 1) // 2
    return output[..., :actions], output[..., actions:-1], output[..., -1]


class Measures(NamedTuple):
    """Of one mini-batch, (runs,) each, before the update on it.

    clip_fraction: share of samples whose ratio is clipped. approximate_kl: divergence of the policy from the one that
    acted, estimated as the mean of r - 1 - log r (Schulman, "Approximating KL Divergence", 2020).
    """

    policy_loss: Tensor
    value_loss: Tensor
    clip_fraction: Tensor
    approximate_kl: Tensor


class Loss:
    """The loss of a pack's runs, which may differ in their coefficients. discrete: whether actions are numbered."""

    def __init__(self, runs: Sequence[PPO], like: Tensor, *, discrete: bool = False) -> None:
        self.discrete = discrete
        self.log_probability = categorical.log_probability if discrete else log_probability
        self.entropy = categorical.entropy if discrete else entropy
        self.clip = per_run([run.clip for run in runs], like)
        self.value_coefficient = per_run([run.value_coefficient for run in runs], like)
        self.entropy_coefficient = per_run([run.entropy_coefficient for run in runs], like)

    def gradient(self, output: Tensor, batch: Experience) -> tuple[Tensor, Tensor]:
        """Gradient of the mean loss with respect to outputs (runs, batch, outputs); the probability ratio.

        Where clipping makes the loss higher, its gradient is 0.
        """
        if output.is_cuda:
            return self.gradient_on_gpu(output, batch)
        gradient, ratio = torch.empty_like(output), torch.empty_like(batch.advantage)
        samples = [each.numpy() for each in (output, *batch[1:])]
        options = [each.numpy() for each in (self.clip, self.value_coefficient, self.entropy_coefficient)]
        fill = categorical.fill_gradient if self.discrete else _gradient
        fill(*samples, *options, gradient.numpy(), ratio.numpy())
        return gradient, ratio

    def gradient_on_gpu(self, output: Tensor, batch: Experience) -> tuple[Tensor, Tensor]:
        """The same in tensor operations, which take fifteen times as long on a CPU."""
        if self.discrete:
            return self._gradient_of_numbered(output, batch)
        mean, log_std, value = parts(output)
        inverse = torch.exp(-log_std)
        z = (batch.actions - mean).mul_(inverse)
        ratio = torch.exp((-0.5 * z * z).sub_(log_std).sub_(_LOG_ROOT_TAU).sum(-1).sub_(batch.log_probability))
        gain = ratio * batch.advantage
        unclipped = gain <= ratio.clamp(1 - self.clip, 1 + self.clip).mul_(batch.advantage)
        weight = torch.where(unclipped, gain, 0).div_(-output.shape[1]).unsqueeze(-1)
        gradient = torch.empty_like(output)
        of_mean, of_log_std, of_value = parts(gradient)
        torch.mul(weight, z * inverse, out=of_mean)
        torch.mul(weight, z.square().sub_(1.0), out=of_log_std)
        of_log_std -= (self.entropy_coefficient / output.shape[1]).unsqueeze(-1)
        torch.mul(value - batch.target, self.value_coefficient * (2.0 / output.shape[1]), out=of_value)
        return gradient, ratio

    def _gradient_of_numbered(self, output: Tensor, batch: Experience) -> tuple[Tensor, Tensor]:
        size = output.shape[1]
        ratio = torch.exp(self.log_probability(output, batch.actions) - batch.log_probability)
        gain = ratio * batch.advantage
        unclipped = gain <= ratio.clamp(1 - self.clip, 1 + self.clip) * batch.advantage
        weight, gradient = torch.where(unclipped, gain, 0).div_(-size), torch.empty_like(output)
        categorical.gradient_in_tensors(output, weight, batch.actions, self.entropy_coefficient / size, gradient)
        torch.mul(output[..., -1] - batch.target, self.value_coefficient * (2.0 / size), out=gradient[..., -1])
        return gradient, ratio

    def of_policy(self, output: Tensor, batch: Experience) -> Tensor:
        """Mean losses (runs,) of the policy, minus its entropy times the coefficient."""
        ratio = (self.log_probability(output, batch.actions) - batch.log_probability).exp()
        gain = torch.minimum(ratio * batch.advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * batch.advantage)
        return -(gain + self.entropy_coefficient * self.entropy(output)).mean(1)

    def measures(self, output: Tensor, batch: Experience, ratio: Tensor) -> Measures:
        low, high = 1 - self.clip, 1 + self.clip
        limits = torch.finfo(ratio.dtype)
        wide = ratio.double().clamp(limits.tiny, limits.max)  # a ratio that has become 0 or infinite is no failure
        advantage = batch.advantage.double()
        gain = torch.minimum(wide * advantage, wide.clamp(low, high) * advantage)
        return Measures(
            -gain.mean(1),
            (output[..., -1] - batch.target).double().square().mean(1),
            ((ratio < low) | (ratio > high)).double().mean(1),
            (wide - 1 - wide.log()).mean(1),
        )


@njit(nogil=True, error_model="numpy")
def _gradient(
    output: Array,
    actions: Array,
    log_probability: Array,
    advantage: Array,
    target: Array,
    clip: Array,
    value_coefficient: Array,
    entropy_coefficient: Array,
    gradient: Array,
    ratio: Array,
) -> None:
    """Fill gradient (runs, batch, 2 * actions + 1) and ratio (runs, batch); the coefficients are columns (runs, 1)."""
    size = actions.shape[2]
    for run in range(output.shape[0]):
        share, low, high = 1.0 / output.shape[1], 1.0 - clip[run, 0], 1.0 + clip[run, 0]
        for i in range(output.shape[1]):
            out, into, act = output[run, i], gradient[run, i], actions[run, i]
            now = 0.0
            for k in range(size):
                z = (act[k] - out[k]) * math.exp(-out[size + k])
                now -= 0.5 * z * z + out[size + k] + _LOG_ROOT_TAU
            r, gain = math.exp(now - log_probability[run, i]), advantage[run, i]
            ratio[run, i] = r
            weight = -share * r * gain if r * gain <= min(max(r, low), high) * gain else 0.0
            for k in range(size):
                inverse = math.exp(-out[size + k])
                z = (act[k] - out[k]) * inverse
                into[k] = weight * z * inverse
                into[size + k] = weight * (z * z - 1.0) - entropy_coefficient[run, 0] * share
            into[2 * size] = 2.0 * share * value_coefficient[run, 0] * (out[2 * size] - target[run, i])
