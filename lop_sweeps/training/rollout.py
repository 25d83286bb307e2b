"""Acting: what a pack's policies do in their environments until they learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.agents import categorical
from lop_sweeps.training.environments import Environments
from lop_sweeps.training.learner import TorchLearner


class Rollout(NamedTuple):
    """What acting left, time before environments.

    inputs (runs, steps + count, inputs): the states acted in, and those that came after the last step. actions (runs,
    steps, actions); of numbered actions, (runs, steps, 1). rewards (runs, count, steps / count), ends the same: whether
    an episode ended with the step. cut: runs, environments, steps and inputs of the last states of episodes that were
    cut off. changed (runs,): whether the environment changed meanwhile.
    """

    inputs: Tensor
    actions: Tensor
    rewards: NDArray[np.float64]
    ends: NDArray[np.bool_]
    cut: list[tuple[int, int, int, Tensor]]
    changed: list[bool]


@torch.inference_mode()
def act(
    learner: TorchLearner,
    environments: Environments,
    seeds: Sequence[int],
    steps: int,
    update: int,
    std: Tensor | None,
    *,
    cut_last: bool,
) -> Rollout:
    """Act for `steps` steps in each of a run's environments; which update follows addresses the draws.

    std (runs, actions): of a Gaussian policy; None: actions are numbered. cut_last: no episode goes on after this.
    """
    runs, count, benchmark = len(seeds), environments.count, environments.benchmark
    width = 1 if std is None else benchmark.outputs
    inputs = torch.empty(steps + 1, runs, count, benchmark.inputs, dtype=learner.dtype)
    taken = torch.empty(steps, runs, count, width, dtype=learner.dtype)
    rewards = np.empty((runs, count, steps))
    ends = np.empty(rewards.shape, bool)
    cut: list[tuple[int, int, int, Tensor]] = []
    changes = [environments.change(run) for run in range(runs)]
    flat = np.empty((runs, steps * count * width))
    for row, seed in zip(flat, seeds, strict=True):
        if std is None:
            counter_random.uniforms(streams.counter_key(seed, "action choice"), update, 0, row)
        else:
            counter_random.normals(streams.counter_key(seed, "action noise"), update, row)
    draws = flat.reshape(runs, steps, count, width)
    if std is not None:
        draws = draws * std.double().cpu().numpy()[:, None, None]
    into, act_with = inputs.numpy(), taken.numpy()
    learner.network.eval()
    for t in range(steps):
        into[t] = environments.observations
        output = learner.act(inputs[t]).numpy()
        if std is None:
            categorical.choose(output, draws[:, t, :, 0], act_with[t])
        else:
            np.add(output, draws[:, t], out=act_with[t], casting="same_kind")
        environments.step(act_with[t], cut=cut_last and t == steps - 1)
        rewards[:, :, t] = environments.rewards
        np.logical_or(environments.terminated, environments.truncated, out=ends[:, :, t])
        for (run, i), observation in environments.cut.items():
            cut.append((run, i, t, torch.from_numpy(observation).to(learner.dtype)))
    into[steps] = environments.observations
    return Rollout(
        inputs.transpose(0, 1).flatten(1, 2).to(learner.device),
        taken.transpose(0, 1).flatten(1, 2).to(learner.device),
        rewards,
        ends,
        cut,
        [environments.change(run) > before for run, before in enumerate(changes)],
    )
