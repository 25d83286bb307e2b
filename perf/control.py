"""Ours against a plain PyTorch PPO, and against the bare environment: one environment step of Ant, on one thread.

python perf/control.py [--quick] [--json FILE]

The plain program is written as one would normally write it: one call of the policy for each step with
torch.distributions, a loop over mini-batches with autograd and torch.optim.Adam; continual backprop as a few lines
after each step. The bare environment is gymnasium's, stepped with ready-made actions. All three do 2,048 steps (and
160 updates on them) by turns; figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read at import

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps.agents.ppo import PPO
from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.benchmarks.ant import Ant
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.control import Control, ControlStage
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Member, Position

AGENT = PPO()
STEPS = AGENT.rollout
RATE, MATURITY_THRESHOLD, DECAY_RATE = 1e-4, 10_000, 0.99
REPEATS = (5, 15)  # quick, and otherwise


@dataclass(frozen=True)
class Method:
    """One line of the table."""

    name: str
    adam: Adam
    continual_backprop: bool = False


METHODS = (
    Method("standard", Adam()),
    Method("L2", Adam(beta1=0.99, beta2=0.99, weight_decay=1e-3)),
    Method("continual backprop + L2", Adam(beta1=0.99, beta2=0.99, weight_decay=1e-4), continual_backprop=True),
)


class Ours:
    """One run in the control protocol."""

    def __init__(self, method: Method) -> None:
        cbp = ContinualBackprop(
            RATE, MATURITY_THRESHOLD, DECAY_RATE, "contribution", fractional="bernoulli", reset_optimizer=False
        )
        benchmark = Ant(num_steps=10**9, log_every=STEPS * 1_000)
        self.learner = TorchLearner(
            lambda: ActorCritic(benchmark.inputs, benchmark.outputs),
            [method.adam],
            [[cbp]] if method.continual_backprop else [],
            [0],
            "none",
            torch.float32,
        )
        control = Control(benchmark, [AGENT], [Member(Path(), 0)])
        self.stage = ControlStage(self.learner, control, 0)
        self.position = Position(sums=self.stage.begin())

    def run(self) -> None:
        self.stage.learn(self.position, STEPS)


class Bare:
    """The environment alone."""

    def __init__(self) -> None:
        self.environment = gymnasium.make("Ant-v5", disable_env_checker=True).unwrapped
        self.environment.reset(seed=0)
        self.actions = np.random.default_rng(0).normal(size=(STEPS, 8)).astype(np.float32)

    def run(self) -> None:
        for action in self.actions:
            if self.environment.step(action)[2]:
                self.environment.reset()


def mlp(inputs: int, outputs: int) -> nn.ModuleList:
    sizes = (inputs, 256, 256, outputs)
    layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
    for layer in layers:
        nn.init.kaiming_uniform_(layer.weight, nonlinearity="linear")  # type: ignore[arg-type]
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layers


def forward(layers: nn.ModuleList, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    hidden = []
    for layer in layers[:-1]:
        x = torch.relu(layer(x))
        hidden.append(x)
    return layers[-1](x), hidden


class PlainReplacement:
    """Continual backprop for one network, as a few lines after each step."""

    def __init__(self, layers: nn.ModuleList) -> None:
        self.layers = layers
        self.utility = [torch.zeros(256) for _ in layers[:-1]]
        self.age = [torch.zeros(256) for _ in layers[:-1]]

    @torch.no_grad()
    def step(self, hidden: list[Tensor]) -> None:
        for i, h in enumerate(hidden):
            layer, reader = self.layers[i], self.layers[i + 1]
            self.age[i] += 1
            contribution = reader.weight.abs().mean(0) * h.abs().mean(0)
            self.utility[i].mul_(DECAY_RATE).add_((1 - DECAY_RATE) * contribution)
            eligible = torch.where(self.age[i] > MATURITY_THRESHOLD)[0]
            if len(eligible) == 0 or torch.rand(()) >= RATE * len(eligible):
                continue
            corrected = self.utility[i] / (1 - DECAY_RATE ** self.age[i])
            unit = eligible[corrected[eligible].argmin()]
            bound = (3 / layer.weight.shape[1]) ** 0.5
            layer.weight[unit] = torch.empty(layer.weight.shape[1]).uniform_(-bound, bound)
            layer.bias[unit] = 0
            reader.weight[:, unit] = 0
            self.utility[i][unit] = 0
            self.age[i][unit] = 0


class Plain:
    """PPO as one would normally write it."""

    def __init__(self, method: Method) -> None:
        torch.manual_seed(0)
        self.environment = gymnasium.make("Ant-v5")
        self.observation, _ = self.environment.reset(seed=0)
        self.policy, self.value = mlp(105, 8), mlp(105, 1)
        self.log_std = nn.Parameter(torch.zeros(8))
        parameters = [*self.policy.parameters(), *self.value.parameters(), self.log_std]
        betas = (method.adam.beta1, method.adam.beta2)
        self.optimizer = torch.optim.Adam(parameters, 1e-4, betas, weight_decay=method.adam.weight_decay)
        self.replacement = [PlainReplacement(net) for net in (self.policy, self.value) if method.continual_backprop]

    def distribution(self, x: Tensor) -> tuple[torch.distributions.Normal, list[Tensor]]:
        mean, hidden = forward(self.policy, x)
        return torch.distributions.Normal(mean, self.log_std.exp().expand_as(mean)), hidden

    def run(self) -> None:
        observations, actions, log_probabilities, rewards, ends = self.act()
        with torch.no_grad():
            values = forward(self.value, observations)[0].squeeze(1)
        advantage = torch.zeros(STEPS)
        running = 0.0
        for t in reversed(range(STEPS)):
            go_on = 1.0 - float(ends[t])
            delta = rewards[t] + AGENT.discount * values[t + 1].item() * go_on - values[t].item()
            running = delta + AGENT.discount * AGENT.gae_lambda * go_on * running
            advantage[t] = running
        targets = advantage + values[:-1]
        advantage = (advantage - advantage.mean()) / advantage.std()
        for _ in range(AGENT.epochs):
            order = torch.randperm(STEPS)
            for rows in order.split(AGENT.batch_size):
                distribution, of_policy = self.distribution(observations[rows])
                value, of_value = forward(self.value, observations[rows])
                ratio = (distribution.log_prob(actions[rows]).sum(1) - log_probabilities[rows]).exp()
                clipped = ratio.clamp(1 - AGENT.clip, 1 + AGENT.clip)
                loss = torch.max(-ratio * advantage[rows], -clipped * advantage[rows]).mean()
                loss = loss + (targets[rows] - value.squeeze(1)).square().mean()
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()
                for replacement, hidden in zip(self.replacement, (of_policy, of_value), strict=False):
                    replacement.step(hidden)

    def act(self) -> tuple[Tensor, Tensor, Tensor, list[float], list[bool]]:
        observations, actions, log_probabilities, rewards, ends = [], [], [], [], []
        for _ in range(STEPS):
            x = torch.as_tensor(self.observation, dtype=torch.float32)
            with torch.no_grad():
                distribution, _ = self.distribution(x)
                action = distribution.sample()
                log_probabilities.append(distribution.log_prob(action).sum())
            observations.append(x)
            actions.append(action)
            self.observation, reward, terminated, truncated, _ = self.environment.step(action.numpy())
            rewards.append(float(reward))
            ends.append(terminated or truncated)
            if ends[-1]:
                self.observation, _ = self.environment.reset()
        observations.append(torch.as_tensor(self.observation, dtype=torch.float32))
        return torch.stack(observations), torch.stack(actions), torch.stack(log_probabilities), rewards, ends


def seconds(program: Any) -> float:
    start = time.perf_counter()
    program.run()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute, with less certainty")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| method | bare environment, µs | ours, µs | plain, µs | plain / ours | bare / ours |")
    print("|---|---|---|---|---|---|")
    results = []
    for method in METHODS[:1] if options.quick else METHODS:
        programs = Bare(), Ours(method), Plain(method)
        for program in programs:
            program.run()
        rounds = [[seconds(program) for program in programs] for _ in range(REPEATS[not options.quick])]
        bare, ours, plain = (1e6 * median(times) / STEPS for times in zip(*rounds, strict=True))
        ratio, share = median(c / b for _, b, c in rounds), median(a / b for a, b, _ in rounds)
        results.append(
            {"method": method.name, "bare": bare, "ours": ours, "plain": plain, "ratio": ratio, "share": share}
        )
        print(
            f"| {method.name} | {bare:.0f} | {ours:.0f} | {plain:.0f} | {ratio:.2f} | {100 * share:.0f} % |", flush=True
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
