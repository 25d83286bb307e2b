"""Control: act in an environment, learn from what happened, act again; PPO on the torch engine.

An interval is one rollout and the updates on it, so checkpoints find no half-filled buffer. A row of the log sums up
`benchmark.log_every` environment steps; diagnostics look at the states that the row's first rollout visited.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.agents.ppo import PPO, Experience, Loss, Measures, estimates, normalised
from lop_sweeps.benchmarks.benchmark import ControlBenchmark
from lop_sweeps.diagnostics.measure import LayerSample, sample
from lop_sweeps.errors import LopError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.optimizers.optimizer import per_run
from lop_sweeps.training.environments import Environments
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.rollout import Rollout, act
from lop_sweeps.training.session import Follow, Member, Position, before_task

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


class ControlStage:
    """One row of the log."""

    def __init__(self, learner: TorchLearner, control: Control, task: int) -> None:
        self.learner, self.control, self.task = learner, control, task
        self.benchmark, self.environments, self.agent = control.benchmark, control.environments, control.agents[0]
        self.seeds = [member.seed for member in control.members]
        self.discrete: bool = cast(ActorCritic, learner.network).discrete
        self.loss = Loss(control.agents, learner.parameters, discrete=self.discrete)
        self._spread = "policy_entropy" if self.discrete else "action_std"
        longest = self.agent.max_gradient_norm
        self.max_norm = None if longest is None else per_run([longest] * len(self.seeds), learner.parameters)
        self.batch_size = self.agent.batch_size
        self.statistics_of: int | None = None
        self._ahead: Rollout | None = None  # collected by `probe`
        self._experience: Experience | None = None  # that is learned from
        self._entropy = torch.zeros(len(self.seeds))  # of the policy that made it
        self._other_keys = counter_random.Keys(
            [streams.counter_key(seed, "other batch") for seed in self.seeds], learner.device
        )
        self.follow: Follow | None = None
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
        loss = Loss([self.control.agents[run]], output, discrete=self.discrete)
        gradient, _ = loss.gradient(output.detach()[None].contiguous(), batch)
        return (output * gradient[0]).sum()

    def answers(self, run: int, output: Tensor) -> Tensor:
        """The mean actions, or logits, and the value: standard deviations do not depend on the state."""
        actions = self.benchmark.outputs
        return torch.cat((output[..., :actions], output[..., -1:]), -1)

    def trial(self, learner: TorchLearner, updates: int) -> Tensor:
        """On random targets for the rollout's states, by the mean squared error of `answers`."""
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
            ("loss", "max_change", "explained", self._spread, *Measures._fields), (runs,)
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
        # So that a standard deviation must be finite, too.
        sums[self._spread] += self._entropy if self.discrete else self._weight(LOG_STD).exp().double().mean(1)
        for name, value in zip(Measures._fields, measures, strict=True):
            sums[name] += value
        sums["loss"] += measures.policy_loss + measures.value_loss
        sums["magnitude"] += self.learner.magnitudes()
        position.samples += 1
        position.step += self.agent.rollout
        for run, changed in enumerate(rollout.changed):
            if changed:
                self._change(run)

    def _update_at(self, step: int) -> int:
        """The number of the round of learning that comes after the rollout from `step` of this row on."""
        return (self.task * self.benchmark.log_every + step) // self.agent.rollout

    def _weight(self, name: str) -> Tensor:
        """A parameter of all runs."""
        return self.learner.view(self.learner.parameters, name)

    def _collect(self, update: int) -> Rollout:
        """Act for `agent.rollout` steps, in what the environments have become by now; an update follows, number this.

        Where each rollout begins with new episodes, changes come between rollouts, and interventions act on them.
        """
        anew = self.benchmark.new_episode_each_rollout
        for run in self.environments.begin_rollout() if anew else ():
            self._change(run)
        steps = self.agent.rollout // self.agent.environments
        std = None if self.discrete else self._weight(LOG_STD).exp()
        return act(self.learner, self.environments, self.seeds, steps, update, std, cut_last=anew)

    @torch.no_grad()
    def _change(self, run: int) -> None:
        before_task(self.learner, run, self.environments.change(run))

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
        advantages, targets = np.empty_like(rollout.rewards), np.empty_like(rollout.rewards)
        for run, agent in enumerate(self.control.agents):
            of_run = (rollout.rewards[run], values[run], following[run], rollout.ends[run])
            advantages[run], targets[run] = estimates(agent, *of_run)
        advantage, target, value = (
            torch.from_numpy(each.transpose(0, 2, 1).reshape(len(self.seeds), samples)).to(learner.device)
            for each in (advantages, targets, values[:, :, :-1])
        )
        spread = target.var(1)
        errors = advantage if self.agent.value_target == "gae" else target - value
        explained = torch.where(spread > 0, 1 - errors.var(1) / spread.clamp(min=1e-300), 0.0)
        if self.agent.normalise_advantages:
            advantage = normalised(advantage, self.agent.advantage_eps)
        inputs, output = rollout.inputs[:, :samples], output[:, :samples]
        log_probabilities = self.loss.log_probability(output, rollout.actions)
        if self.discrete:
            self._entropy = self.loss.entropy(output).double().mean(1)
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
        loss = self.loss if run is None else Loss([self.control.agents[run]], output, discrete=self.discrete)
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
            if (level := self.benchmark.level(self.environments.change(run))) is not None:
                row["level"] = level
            row |= {name: sums[name][run] for name in Measures._fields}
            row["explained_variance"] = sums["explained"][run]
            if self.discrete:
                row["policy_entropy"] = sums["policy_entropy"][run]
            else:
                row["action_std"] = float(self._weight(LOG_STD)[run].exp().mean())
            row["weight_change"] = sums["change"][run]
            row["weight_change_max"] = float(position.sums["max_change"][run])
            rows.append(row)
        self.environments.clear()
        return rows


def _size(change: Tensor) -> Tensor:
    """Sum of |w| of a change of a weight matrix (runs, ...) -> (runs,)."""
    return change.flatten(1).abs().double().sum(1)
