"""Control: act in an environment, learn from what happened, act again; PPO on the torch engine.

An interval is one rollout and the updates on it, so checkpoints find no half-filled buffer. A row of the log sums up
`benchmark.log_every` environment steps; diagnostics look at the states that the row's first rollout visited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.agents.ppo import PPO, Experience, Loss, Measures, advantages, log_probability, normalised
from lop_sweeps.benchmarks.benchmark import ControlBenchmark
from lop_sweeps.diagnostics.measure import LayerSample, sample
from lop_sweeps.errors import LopError
from lop_sweeps.optimizers.optimizer import per_run
from lop_sweeps.training.environments import Environments
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Member, Position, before_task

PROBE_STATES = 1_000  # the paper's diagnostics look at the last 1,000 states
PLANNED = 1_000  # updates, at most
POLICY, LOG_STD = "policy.", "log_std"  # names of an actor-critic network's parameters


class Control:
    """What a pack has in control besides its learner; it outlasts the rows of the log."""

    def __init__(self, benchmark: ControlBenchmark, agents: Sequence[PPO], members: Sequence[Member]) -> None:
        self.benchmark, self.agents, self.members = benchmark, agents, members
        self.environments = Environments(benchmark, members, agents[0].environments)

    def payload(self, run: int) -> dict[str, Any]:
        """A run's share, for its checkpoint."""
        return self.environments.payload(run)

    def restore(self, run: int, payload: dict[str, Any]) -> None:
        self.environments.restore(run, payload)

    def begin_at(self, run: int, payload: dict[str, Any]) -> None:
        """Go on from where another run's share was, in environments of the run's own."""
        self.environments.begin_at(run, payload)


class Rollout(NamedTuple):
    """What acting left, time before environments.

    inputs (runs, steps + count, inputs): the states acted in, and those that came after the last step. actions (runs,
    steps, actions). rewards (runs, count, steps / count), ends the same: whether an episode ended with the step.
    cut: runs, environments, steps and inputs of the last states of episodes that the time limit ended. changed (runs,):
    whether the environment changed meanwhile.
    """

    inputs: Tensor
    actions: Tensor
    rewards: NDArray[np.float64]
    ends: NDArray[np.bool_]
    cut: list[tuple[int, int, int, Tensor]]
    changed: list[bool]


class ControlStage:
    """One row of the log."""

    def __init__(self, learner: TorchLearner, control: Control, task: int) -> None:
        self.learner, self.control, self.task = learner, control, task
        self.benchmark, self.environments, self.agent = control.benchmark, control.environments, control.agents[0]
        self.seeds = [member.seed for member in control.members]
        self.loss = Loss(control.agents, learner.parameters)
        longest = self.agent.max_gradient_norm
        self.max_norm = None if longest is None else per_run([longest] * len(self.seeds), learner.parameters)
        self.batch_size = self.agent.batch_size
        self.statistics_of: int | None = None
        self._ahead: Rollout | None = None  # collected by `probe`
        self._experience: Experience | None = None  # that is learned from
        self._other_keys = counter_random.Keys(
            [streams.counter_key(seed, "other batch") for seed in self.seeds], learner.device
        )
        learner.source = self
        self._judged: Experience | None = None  # that rollout, where a diagnostic wants its loss

    def probe(self) -> list[LayerSample]:
        """Acting comes before learning, so the first rollout can be collected, and looked at, already."""
        self._ahead = self._collect(self._update_at(0))
        with torch.no_grad(), self.learner.looking():
            return [sample(h) for h in self.learner.forward(self._states()[:, -PROBE_STATES:])[1]]

    def _states(self) -> Tensor:
        """(runs, rollout, inputs): those that the rollout ahead acted in."""
        assert self._ahead is not None, "probe first"
        return self._ahead.inputs[:, : self.agent.rollout]

    def probe_inputs(self, run: int) -> Tensor:
        return self._states()[run, -PROBE_STATES:].clone()

    def probe_loss(self, run: int, output: Tensor, rows: slice) -> Tensor:
        """Of PPO, by the gradient with respect to the outputs, which is what `Loss` has."""
        assert self._ahead is not None, "probe first"
        if self._judged is None:
            self._judged = self._judge(self._ahead)[0]
        batch = Experience(*(each[run : run + 1, -PROBE_STATES:][:, rows] for each in self._judged))
        loss = Loss([self.control.agents[run]], output)
        gradient, _ = loss.gradient(output.detach()[None].contiguous(), batch)
        return (output * gradient[0]).sum()

    def answers(self, run: int, output: Tensor) -> Tensor:
        """The mean actions and the value: the standard deviations do not depend on the state."""
        actions = self.benchmark.outputs
        return torch.cat((output[..., :actions], output[..., -1:]), -1)

    def trial(self, learner: TorchLearner, updates: int) -> Tensor:
        """On random targets for the rollout's states, by the mean squared error of mean actions and value."""
        states, batch = self._states(), self.batch_size
        shape, at = (states.shape[1], self.benchmark.outputs + 1), self._update_at(0)
        draws = [streams.generator(seed, "random targets", at) for seed in self.seeds]
        targets = torch.from_numpy(np.stack([one.standard_normal(shape) for one in draws])).to(states)
        losses: list[Tensor] = []
        while len(losses) < updates:
            orders = torch.from_numpy(np.stack([one.permutation(shape[0]) for one in draws])).to(states.device)
            learner.plan(len(losses), min(PLANNED, shape[0] // batch))
            for rows in orders.split(batch, 1)[: updates - len(losses)]:
                x, y = (each.gather(1, rows[..., None].expand(-1, -1, each.shape[2])) for each in (states, targets))
                output = learner.predict(x, len(losses))
                gradient = torch.zeros_like(output)
                error = self.answers(0, output.detach()) - y
                of_answers = error * (2.0 / error[0].numel())
                gradient[..., : shape[1] - 1], gradient[..., -1] = of_answers[..., :-1], of_answers[..., -1]
                learner.learn_from(output, gradient, len(losses))
                losses.append(error.double().square().mean((1, 2)))
        return torch.stack(losses)

    def begin(self) -> dict[str, Tensor]:
        runs, matrices = len(self.seeds), len(self.learner.weight_names)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("loss", "max_change", "explained", "action_std", *Measures._fields), (runs,)
        )
        shapes |= {"magnitude": (runs, matrices), "change": (runs, matrices)}
        return {
            name: torch.zeros(shape, dtype=torch.float64, device=self.learner.device) for name, shape in shapes.items()
        }

    def learn(self, position: Position, left: int) -> None:
        """One rollout, and the updates on it."""
        position.sums = sums = {name: value.to(self.learner.device) for name, value in position.sums.items()}
        update = self._update_at(position.step)
        rollout, self._ahead = self._ahead or self._collect(update), None
        experience, explained = self._judge(rollout)
        before = [self._weight(name).clone() for name in self.learner.weight_names]
        measures = self._improve(experience, update)
        change = torch.stack(
            [_size(self._weight(n) - w) for n, w in zip(self.learner.weight_names, before, strict=True)], 1
        )
        of_policy = sum(name.startswith(POLICY) for name in self.learner.weight_names)  # which come first
        sums["change"] += change
        sums["max_change"] = torch.maximum(sums["max_change"], change[:, :of_policy].sum(1))
        sums["explained"] += explained
        sums["action_std"] += self._weight(LOG_STD).exp().double().mean(1)  # so that it must be finite, too
        for name, value in zip(Measures._fields, measures, strict=True):
            sums[name] += value
        sums["loss"] += measures.policy_loss + measures.value_loss
        sums["magnitude"] += self.learner.magnitudes()
        position.samples += 1
        position.step += self.agent.rollout
        for run, changed in enumerate(rollout.changed):
            if changed:
                with torch.no_grad():
                    before_task(self.learner, run, self.environments.change(run))

    def _update_at(self, step: int) -> int:
        """The number of the round of learning that comes after the rollout from `step` of this row on."""
        return (self.task * self.benchmark.log_every + step) // self.agent.rollout

    def _weight(self, name: str) -> Tensor:
        """A parameter of all runs."""
        return self.learner.view(self.learner.parameters, name)

    @torch.inference_mode()
    def _collect(self, update: int) -> Rollout:
        """Act for `agent.rollout` steps; which update follows addresses the draws."""
        learner, environments, count = self.learner, self.environments, self.agent.environments
        runs, steps, actions = len(self.seeds), self.agent.rollout // count, self.benchmark.outputs
        inputs = torch.empty(steps + 1, runs, count, self.benchmark.inputs, dtype=learner.dtype)
        taken = torch.empty(steps, runs, count, actions, dtype=learner.dtype)
        rewards = np.empty((runs, count, steps))
        ends = np.empty(rewards.shape, bool)
        cut: list[tuple[int, int, int, Tensor]] = []
        changes = [environments.change(run) for run in range(runs)]
        noise = np.empty((runs, steps * count * actions))
        for row, seed in zip(noise, self.seeds, strict=True):
            counter_random.normals(streams.counter_key(seed, "action noise"), update, row)
        std = self._weight(LOG_STD).exp().double().cpu().numpy()[:, None]
        noise = noise.reshape(runs, steps, count, actions) * std[:, None]
        into, act_with = inputs.numpy(), taken.numpy()
        learner.network.eval()
        for t in range(steps):
            into[t] = environments.observations
            np.add(learner.act(inputs[t]).numpy(), noise[:, t], out=act_with[t], casting="same_kind")
            environments.step(act_with[t])
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

    @torch.no_grad()
    def _judge(self, rollout: Rollout) -> tuple[Experience, Tensor]:
        """What the value network makes of a rollout; the explained variance (runs,) of its targets."""
        learner, samples = self.learner, self.agent.rollout
        with learner.looking():
            output, _ = learner.forward(rollout.inputs)
            values = output[..., -1].double().cpu().numpy().reshape(len(self.seeds), -1, self.agent.environments)
            values = np.ascontiguousarray(values.transpose(0, 2, 1))  # (runs, environments, steps + 1)
            following = np.where(rollout.ends, 0.0, values[:, :, 1:])
            if self.agent.time_limit == "bootstrap" and rollout.cut:
                self._bootstrap(rollout, following)
        estimates = np.empty_like(rollout.rewards)
        for run, agent in enumerate(self.control.agents):
            for i, out in enumerate(estimates[run]):
                place = run, i
                out[:] = advantages(
                    rollout.rewards[place],
                    values[place][:-1],
                    following[place],
                    rollout.ends[place],
                    agent.discount,
                    agent.gae_lambda,
                )
        advantage, target = (
            torch.from_numpy(each.transpose(0, 2, 1).reshape(len(self.seeds), samples)).to(learner.device)
            for each in (estimates, estimates + values[:, :, :-1])
        )
        spread = target.var(1)
        explained = torch.where(spread > 0, 1 - advantage.var(1) / spread.clamp(min=1e-300), 0.0)
        if self.agent.normalise_advantages:
            advantage = normalised(advantage)
        inputs, output = rollout.inputs[:, :samples], output[:, :samples]
        log_probabilities = log_probability(output, rollout.actions)
        advantage, target = advantage.to(learner.dtype), target.to(learner.dtype)
        return Experience(inputs, rollout.actions, log_probabilities, advantage, target), explained

    def _bootstrap(self, rollout: Rollout, following: NDArray[np.float64]) -> None:
        """Where the time limit ended an episode, put the value of its last state into `following`."""
        last = torch.zeros(len(self.seeds), len(rollout.cut), self.benchmark.inputs, dtype=self.learner.dtype)
        for k, (run, _, _, state) in enumerate(rollout.cut):
            last[run, k] = state
        values = self.learner.forward(last.to(self.learner.device))[0][..., -1].double().cpu()
        for k, (run, i, t, _) in enumerate(rollout.cut):
            following[run, i, t] = values[run, k]

    def _improve(self, experience: Experience, update: int) -> Measures:
        """All updates on a rollout; what they measured, averaged over the last epoch."""
        agent, learner = self.agent, self.learner
        batches, first = agent.rollout // agent.batch_size, update * agent.updates
        self._experience = experience
        sums = Measures(
            *(torch.zeros(len(self.seeds), dtype=torch.float64, device=learner.device) for _ in Measures._fields)
        )
        for epoch in range(agent.epochs):
            shuffled = experience.at(self._order(update, epoch))
            for i in range(batches):
                step = first + epoch * batches + i
                if i % PLANNED == 0:
                    learner.plan(step, min(PLANNED, batches - i))
                span = slice(i * agent.batch_size, (i + 1) * agent.batch_size)
                batch = Experience(*(each[:, span] for each in shuffled))
                output = learner.predict(batch.inputs, step)
                gradient, ratio = self.loss.gradient(output.detach(), batch)
                learner.learn_from(output, gradient, step, self.max_norm, targets=batch)
                if epoch == agent.epochs - 1:
                    for total, value in zip(sums, self.loss.measures(output.detach(), batch, ratio), strict=True):
                        total += value / batches
        return sums

    def _order(self, update: int, epoch: int) -> Tensor:
        """The order (runs, samples) in which an epoch goes through the rollout."""
        orders = [
            streams.generator(seed, "rollout order", update, epoch).permutation(self.agent.rollout)
            for seed in self.seeds
        ]
        return torch.from_numpy(np.stack(orders)).to(self.learner.device)

    def other_batch(self, step: int) -> tuple[Tensor, Experience]:
        """States of the rollout, drawn with replacement, and what PPO has of them."""
        assert self._experience is not None
        draws = self._other_keys.uniforms(step, self.agent.batch_size)
        batch = self._experience.at((draws * self.agent.rollout).long())
        return batch.inputs, batch

    def epochs_over(self, step: int) -> int | None:
        passed, left = divmod(step + 1, self.agent.rollout // self.agent.batch_size)
        return None if left else passed

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        raise LopError("in control a task has no data before it is acted in")

    def slope(self, output: Tensor, y: Experience, run: int | None = None) -> Tensor:
        loss = self.loss if run is None else Loss([self.control.agents[run]], output)
        return loss.gradient(output, y)[0]

    def losses(self, output: Tensor, y: Experience) -> Tensor:
        return self.loss.of_policy(output, y)

    def asked(self, output: Tensor) -> Tensor:
        return output

    def ends_round(self, step: int) -> bool:
        return (step + 1) % self.agent.updates == 0

    def end(self, position: Position) -> list[dict[str, Any]]:
        sums = {name: (value / position.samples).tolist() for name, value in position.sums.items()}
        rows = []
        for run in range(len(self.seeds)):
            row: dict[str, Any] = {"examples": (self.task + 1) * self.benchmark.log_every}
            if finished := self.environments.finished[run]:
                ends, returns, lengths = (list(each) for each in zip(*finished, strict=True))
                row |= {"return": float(np.mean(returns)), "episode_length": float(np.mean(lengths))}
                row["episodes"] = {"ends": ends, "returns": returns}
            if (friction := self.benchmark.friction(self.seeds[run], self.environments.change(run))) is not None:
                row["friction"] = friction
            if changes := self.environments.changes[run]:
                row["changes"] = {"steps": [at for at, _ in changes], "frictions": [to for _, to in changes]}
            row |= {name: sums[name][run] for name in Measures._fields}
            row["explained_variance"] = sums["explained"][run]
            row["action_std"] = float(self._weight(LOG_STD)[run].exp().mean())
            row["weight_change"] = sums["change"][run]
            row["weight_change_max"] = float(position.sums["max_change"][run])
            rows.append(row)
        self.environments.clear()
        return rows


def _size(change: Tensor) -> Tensor:
    """Sum of |w| of a change of a weight matrix (runs, ...) -> (runs,)."""
    return change.flatten(1).abs().double().sum(1)
