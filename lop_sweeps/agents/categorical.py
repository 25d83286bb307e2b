"""A policy over numbered actions: the softmax of an actor's outputs, as PPO needs it.

Outputs are (runs, samples, actions + 1): logits, then the value. Actions are (runs, samples, 1): their numbers, in the
outputs' own type. `agents.ppo` has the same for a Gaussian policy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.compiling import njit

Array = NDArray[Any]


@njit(nogil=True, error_model="numpy")
def choose(logits: Array, uniforms: Array, out: Array) -> None:
    """Fill out (runs, samples, 1) with actions: the first whose share and those before it exceed the uniform number.

    logits (runs, samples, actions); uniforms (runs, samples) on [0, 1). Where a logit is no number it is the last one.
    """
    actions = logits.shape[2]
    shares = np.empty(actions)
    for run in range(logits.shape[0]):
        for i in range(logits.shape[1]):
            largest = -math.inf
            for k in range(actions):
                largest = max(largest, np.float64(logits[run, i, k]))
            total = 0.0
            for k in range(actions):
                shares[k] = math.exp(np.float64(logits[run, i, k]) - largest)
                total += shares[k]
            chosen, passed = actions - 1, 0.0
            for k in range(actions - 1):
                passed += shares[k]
                if uniforms[run, i] * total < passed:
                    chosen = k
                    break
            out[run, i, 0] = chosen


def log_probability(output: Tensor, actions: Tensor) -> Tensor:
    """Log-probability (runs, samples) of actions under the network's outputs."""
    return output[..., :-1].log_softmax(-1).gather(-1, actions.long()).squeeze(-1)


def entropy(output: Tensor) -> Tensor:
    """Of the policy in each state, (runs, samples), in nats."""
    logs = output[..., :-1].log_softmax(-1)
    return -(logs.exp() * logs).sum(-1)


def gradient_in_tensors(
    output: Tensor, weight: Tensor, actions: Tensor, entropy_share: Tensor, gradient: Tensor
) -> None:
    """Fill the logits' part of `gradient` (runs, samples, actions + 1), in tensor operations.

    weight (runs, samples): the derivative of the loss by the log-probability of the action taken. entropy_share
    (runs, 1): the loss falls by so much for each nat of a sample's entropy.
    """
    logs = output[..., :-1].log_softmax(-1)
    shares = logs.exp()
    taken = torch.zeros_like(shares).scatter_(-1, actions.long(), 1.0)
    excess = logs - (shares * logs).sum(-1, keepdim=True)
    gradient[..., :-1] = weight.unsqueeze(-1) * (taken - shares) + entropy_share.unsqueeze(-1) * shares * excess


@njit(nogil=True, error_model="numpy")
def fill_gradient(
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
    """Fill gradient (runs, batch, actions + 1) and ratio (runs, batch); the coefficients are columns (runs, 1).

    By a logit, log p(a) has the slope [k = a] - p_k, and the entropy H the slope -p_k (log p_k + H).
    """
    size = output.shape[2] - 1
    logs = np.empty(size)
    for run in range(output.shape[0]):
        share, low, high = 1.0 / output.shape[1], 1.0 - clip[run, 0], 1.0 + clip[run, 0]
        for i in range(output.shape[1]):
            out, into, chosen = output[run, i], gradient[run, i], int(actions[run, i, 0])
            largest = -math.inf
            for k in range(size):
                largest = max(largest, np.float64(out[k]))
            total = 0.0
            for k in range(size):
                logs[k] = np.float64(out[k]) - largest
                total += math.exp(logs[k])
            total, spread = math.log(total), 0.0
            for k in range(size):
                logs[k] -= total
                spread -= math.exp(logs[k]) * logs[k]
            r, gain = math.exp(logs[chosen] - log_probability[run, i]), advantage[run, i]
            ratio[run, i] = r
            weight = -share * r * gain if r * gain <= min(max(r, low), high) * gain else 0.0
            for k in range(size):
                p = math.exp(logs[k])
                taken = 1.0 if k == chosen else 0.0
                into[k] = weight * (taken - p) + entropy_coefficient[run, 0] * share * p * (logs[k] + spread)
            into[size] = 2.0 * share * value_coefficient[run, 0] * (out[size] - target[run, i])
