"""Control: acting, judging, learning, and what a row says, in environments that tell which step they are at."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.agents.ppo import PPO, Experience, Measures, log_probability
from lop_sweeps.benchmarks.environment import Environment
from lop_sweeps.benchmarks.hopper import Hopper
from lop_sweeps.benchmarks.locomotion import Locomotion
from lop_sweeps.benchmarks.slippery_ant import SlipperyAnt
from lop_sweeps.errors import ConfigError, Interrupted
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training import checkpoint, control, session
from lop_sweeps.training.acting import actors
from lop_sweeps.training.control import Control, ControlStage, Rollout
from lop_sweeps.training.environments import Environments
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.metrics_log import MetricsLog
from lop_sweeps.training.session import Clock, Member, Position
from lop_sweeps.training.train import train
from tests import runs as whole_runs

Floats = NDArray[np.float64]
INPUTS, ACTIONS = 4, 2


class Counter:
    """Its observations: (which environment it is, episode, step in the episode, first number of the last action).

    The reward is 100 x episode + step after the action + first number of the action / 1000. It falls after `lives`
    steps, which depends on the episode.
    """

    def __init__(self) -> None:
        self.first = self.episode = self.step_count = self.steps_in_all = 0
        self.last = 0.0
        self.friction: float | None = None
        self.seeds: list[int | None] = []

    def observe(self) -> Floats:
        return np.array([self.first % 97 / 97, float(self.episode), float(self.step_count), self.last])

    def lives(self) -> int:
        return 3 + (self.first + 2 * self.episode) % 5

    def reset(self, seed: int | None = None) -> Floats:
        self.seeds.append(seed)
        if seed is not None:
            self.first = seed
        else:
            self.episode += 1
        self.step_count, self.last = 0, 0.0
        return self.observe()

    def step(self, action: NDArray[Any]) -> tuple[Floats, float, bool]:
        self.step_count += 1
        self.steps_in_all += 1
        self.last = float(action[0])
        reward = 100.0 * self.episode + self.step_count + self.last / 1000
        return self.observe(), reward, self.step_count == self.lives()

    def set_friction(self, friction: float) -> None:
        self.friction = friction

    def state(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "seeds"}

    def load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


class Constant(Counter):
    """Nothing that one does makes a difference: reward 1 in every step, and always the same state."""

    def observe(self) -> Floats:
        return np.zeros(INPUTS)

    def step(self, action: NDArray[Any]) -> tuple[Floats, float, bool]:
        observation, _, terminated = super().step(np.zeros(ACTIONS))
        return observation, 1.0, terminated


class Counting(Locomotion):
    """Environments that count. made: all of them, in the order in which they were asked for."""

    NAME = "Counter"
    SIZES = {"v5": (INPUTS, ACTIONS)}  # noqa: RUF012

    def __init__(self, num_steps: int, kind: type[Counter] = Counter, **options: Any) -> None:
        self.change_every = options.pop("change_every", None)
        self.frictions: bool = options.pop("frictions", True)
        super().__init__(num_steps, **options)
        self.kind = kind
        self.made: list[Counter] = []

    def make_environment(self, render: str | None = None) -> Environment:
        self.made.append(self.kind())
        return cast(Environment, self.made[-1])

    def friction(self, seed: int, change: int) -> float | None:
        return 10.0 * seed + change if self.change_every and self.frictions else None

    def change_due(self, steps: int) -> bool:
        return self.change_every is not None and steps > self.change_every


class Pack(NamedTuple):
    learner: TorchLearner
    control: Control
    members: list[Member]

    def stage(self, task: int = 0) -> ControlStage:
        return ControlStage(self.learner, self.control, task)


def pack(
    benchmark: Any,
    agents: Sequence[PPO],
    seeds: Sequence[int] = (0,),
    folder: Path | None = None,
    optimizers: Sequence[Any] | None = None,
    dtype: torch.dtype = torch.float64,
    **network: Any,
) -> Pack:
    """Runs of these agents and seeds; with `folder`, they write logs there, from their checkpoints on."""
    optimizers = optimizers or [Adam(0.01)] * len(seeds)
    options = {"hidden": [8, 8], **network}
    learner = TorchLearner(
        lambda: ActorCritic(benchmark.inputs, benchmark.outputs, **options), optimizers, [], seeds, "none", dtype
    )
    members = []
    for run, seed in enumerate(seeds):
        directory = (folder or Path("nowhere")) / f"run{run}"
        if folder is not None:
            directory.mkdir(parents=True, exist_ok=True)
        saved = checkpoint.load_all(directory)
        size, checksum = saved[0]["metrics"] if saved else (0, 0)
        members.append(Member(directory, seed, MetricsLog(directory, (size, checksum)) if folder else None))
    return Pack(learner, Control(benchmark, agents, members), members)


@torch.no_grad()
def outputs(the: Pack, x: Tensor) -> Tensor:
    """By the network's ordinary forward pass, without dropout."""
    the.learner.network.eval()
    return the.learner.forward(x)[0]


def train_all(the: Pack, position: Position | None = None, should_stop: Callable[[], bool] = lambda: False) -> None:
    def nothing(task: int, step: int) -> None:
        """Nobody watches."""

    clock = Clock(math.inf, math.inf)
    train(
        *(the.learner, the.control.benchmark, the.members, position or Position(), clock, nothing, should_stop),
        control=the.control,
    )


def logged(member: Member) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (member.directory / MetricsLog.NAME).read_text().splitlines()]


def assert_same_rows(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], tolerance: float) -> None:
    log, other = ("\n".join(json.dumps(row) for row in rows).encode() for rows in (ours, theirs))
    assert log
    whole_runs.assert_close(log, other, tolerance)


def through_a_file(payload: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(payload, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


# --- environments ---


def members_of(*seeds: int, inactive: Sequence[int] = ()) -> list[Member]:
    return [Member(Path("nowhere"), seed, active=run not in inactive) for run, seed in enumerate(seeds)]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("limit", [4, 1_000])
def test_episodes_are_added_up_and_written_down_with_the_steps_of_the_run(count: int, limit: int) -> None:
    """Steps are counted over all of a run's environments; the limit cuts off only what has not fallen just then."""
    benchmark = Counting(1, max_episode_steps=limit)
    environments = Environments(benchmark, members_of(3, 4), count)
    rng = np.random.default_rng(0)
    total, length = np.zeros((2, count)), np.zeros((2, count), int)
    expected: list[list[tuple[int, float, int]]] = [[], []]
    cuts = falls = 0
    for t in range(23):
        actions = rng.normal(size=(2, count, ACTIONS))
        before = environments.observations.copy()
        environments.step(actions)
        for (run, i), _ in np.ndenumerate(total):
            made = benchmark.made[run * count + i]
            observed, reward = environments.observations[run, i], environments.rewards[run, i]
            assert reward == 100 * before[run, i, 1] + before[run, i, 2] + 1 + actions[run, i, 0] / 1000
            total[run, i] += reward
            length[run, i] += 1
            fallen = length[run, i] == 3 + (made.first + 2 * int(before[run, i, 1])) % 5
            cut = not fallen and length[run, i] == limit
            assert (environments.terminated[run, i], environments.truncated[run, i]) == (fallen, cut)
            assert ((run, i) in environments.cut) == cut
            if cut:
                last = environments.cut[run, i]
                assert last.tolist() == [before[run, i, 0], before[run, i, 1], limit, actions[run, i, 0]]
            if fallen or cut:
                expected[run].append((t * count + i + 1, float(total[run, i]), int(length[run, i])))
                total[run, i], length[run, i] = 0.0, 0
                assert observed.tolist() == [before[run, i, 0], before[run, i, 1] + 1, 0, 0]
            else:
                assert observed.tolist() == [*before[run, i, :2], before[run, i, 2] + 1, actions[run, i, 0]]
            cuts, falls = cuts + cut, falls + fallen
    assert environments.steps == 23 * count
    for run in range(2):
        assert [event[0] for event in environments.finished[run]] == [event[0] for event in expected[run]]
        np.testing.assert_allclose(environments.finished[run], expected[run], rtol=1e-12)
    assert falls > 0
    assert (cuts > 0) == (limit == 4)
    environments.clear()
    assert environments.finished == [[], []]


def test_every_environment_begins_with_its_own_seed() -> None:
    """A function of the run's seed and its number: neighbours do not change it."""
    benchmark, alone = Counting(1), Counting(1)
    Environments(benchmark, members_of(0, 1), 3)
    Environments(alone, members_of(1), 5)
    first = [made.seeds for made in benchmark.made]
    assert all(len(seeds) == 1 and seeds[0] is not None for seeds in first)
    assert len({seeds[0] for seeds in first}) == 6
    assert [made.seeds for made in alone.made[:3]] == first[3:]


def test_inactive_runs_stand_still() -> None:
    benchmark = Counting(1, change_every=2)
    members = members_of(0, 1, 2, inactive=[1])
    environments = Environments(benchmark, members, 2)
    assert len(benchmark.made) == 4
    for t in range(6):
        members[2].active = t < 3  # it diverges
        environments.step(np.full((3, 2, ACTIONS), np.nan))
    assert [made.steps_in_all for made in benchmark.made] == [6, 6, 3, 3]
    for values in (environments.observations, environments.rewards, environments.terminated, environments.truncated):
        assert not values[1:].any()
    assert environments.change(1) == 0
    assert environments.finished[1] == environments.changes[1] == []


def test_the_environment_changes_at_the_first_end_of_an_episode_after_more_than_so_many_steps() -> None:
    """Each of a run's environments for itself, with frictions in the same order; the first one is written down."""
    benchmark = Counting(1, change_every=10)
    environments = Environments(benchmark, members_of(3, 5), 2)
    assert [made.friction for made in benchmark.made] == [30, 30, 50, 50]
    changed, change = np.zeros((2, 2), int), np.zeros((2, 2), int)
    seen: list[list[tuple[float, ...]]] = [[], []]
    for t in range(40):
        environments.step(np.zeros((2, 2, ACTIONS)))
        ended = environments.terminated | environments.truncated
        for (run, i), end in np.ndenumerate(ended):
            steps = 2 * t + i + 1
            if end and steps - changed[run, i] > 10:
                changed[run, i], change[run, i] = steps, change[run, i] + 1
                if i == 0:
                    seen[run].append((steps, 10.0 * (3, 5)[run] + int(change[run, i])))
            assert benchmark.made[2 * run + i].friction == 10.0 * (3, 5)[run] + change[run, i]
    assert environments.changes == seen
    assert [environments.change(run) for run in range(2)] == change[:, 0].tolist()
    assert change.min() >= 3
    assert len({tuple(row) for row in changed.tolist()}) == 2, "runs should change at steps of their own"


def test_a_run_of_another_seed_begins_where_its_parent_was_in_an_environment_of_its_own() -> None:
    """After as many steps and changes, with the friction that its own seed has then, in a fresh episode."""
    benchmark = Counting(1, change_every=10)
    parent, child, twin = (Environments(benchmark, members_of(seed), 2) for seed in (3, 5, 5))
    for _ in range(40):
        parent.step(np.zeros((1, 2, ACTIONS)))
    child.begin_at(0, parent.payload(0))
    changes = [place.change for place in parent.places[0]]
    assert min(changes) >= 3
    assert child.steps == parent.steps
    assert [made.friction for made in benchmark.made[2:4]] == [50.0 + change for change in changes]
    assert [(place.length, place.episode_return) for place in child.places[0]] == [(0, 0.0)] * 2
    assert np.array_equal(child.observations, twin.observations)
    assert [(p.change, p.changed) for p in child.places[0]] == [(p.change, p.changed) for p in parent.places[0]]


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "benchmark",
    [
        pytest.param(lambda: SlipperyAnt(1, max_episode_steps=9, change_every=15), id="slippery_ant"),
        pytest.param(lambda: Hopper(1, physics="paper", max_episode_steps=20), id="hopper"),
        pytest.param(lambda: Counting(1, max_episode_steps=5, change_every=11), id="counter"),
    ],
)
def test_restored_environments_go_on_as_if_nothing_had_happened(benchmark: Callable[[], Any], count: int) -> None:
    """In the middle of episodes and between changes: friction, when it changed, returns so far, and the generator."""
    actions = np.random.default_rng(0).normal(size=(70, 2, count, benchmark().outputs)).astype(np.float32)

    def play(environments: Environments, at: slice) -> list[Any]:
        out = []
        for action in actions[at]:
            environments.step(action)
            ends = environments.terminated, environments.truncated
            shown = environments.observations, environments.rewards, *ends, *environments.cut.values()
            out.append([value.tobytes() for value in shown])
        return [*out, environments.steps, environments.finished, environments.changes, environments.change(1)]

    whole = Environments(benchmark(), members_of(7, 8), count)
    play(whole, slice(0, 31))
    at = 31
    while not all(place.length for places in whole.places for place in places):  # until all are within an episode
        play(whole, slice(at, at + 1))
        at += 1
    saved, at_saving = [through_a_file(whole.payload(run)) for run in range(2)], whole.observations.tobytes()
    again = Environments(benchmark(), members_of(7, 8), count)
    play(again, slice(40, 44))  # it may have done other things before
    again.clear()
    expected = play(whole, slice(at, 70))
    for run in range(2):
        again.restore(run, saved[run])
    assert again.observations.tobytes() == at_saving
    assert play(again, slice(at, 70)) == expected
    assert all(len(of_run) > 2 for of_run in whole.finished)
    if not isinstance(whole.benchmark, Hopper):
        assert all(len(of_run) > 1 for of_run in whole.changes)


# --- acting ---


def noise_of(seed: int, update: int, size: int) -> Floats:
    drawn = np.empty(size)
    counter_random.normals(streams.counter_key(seed, "action noise"), update, drawn)
    return drawn


@pytest.mark.parametrize("network", [{}, {"norm": "layer"}, {"activation": "tanh", "hidden": [5]}], ids=str)
@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("seeds", [(2,), (2, 5)], ids=["alone", "pack"])
def test_a_rollout_is_in_step_with_what_the_environments_say(
    count: int, seeds: tuple[int, ...], network: dict[str, Any]
) -> None:
    """States, actions, rewards and ends of one moment are in one place: the counters say which moment it was."""
    agent = PPO(rollout=48, batch_size=16, environments=count)
    benchmark = Counting(96, log_every=96, max_episode_steps=5)
    the = pack(benchmark, [agent] * len(seeds), seeds, **network)
    stage, steps = the.stage(), 48 // count
    with torch.no_grad():
        the.learner.view(the.learner.parameters, "log_std").copy_(torch.tensor([-0.5, 0.25]))
    last = None
    for update in range(2):
        rollout = stage._collect(update)
        inputs = rollout.inputs.view(len(seeds), steps + 1, count, INPUTS)
        actions = rollout.actions.view(len(seeds), steps, count, ACTIONS)
        if last is not None:
            assert torch.equal(inputs[:, 0], last)
        last = inputs[:, -1].clone()
        mean = outputs(the, rollout.inputs[:, :-count])[..., :ACTIONS]
        cuts = {(run, i, t): state for run, i, t, state in rollout.cut}
        assert len(cuts) == len(rollout.cut) > 0
        for run, seed in enumerate(seeds):
            noise = noise_of(seed, update, 48 * ACTIONS).reshape(48, ACTIONS)
            drawn = mean[run].numpy() + np.exp([-0.5, 0.25]) * noise
            np.testing.assert_allclose(rollout.actions[run], drawn, rtol=1e-9, atol=1e-12)
            for t, i in itertools.product(range(steps), range(count)):
                who, episode, step, _ = inputs[run, t, i].tolist()
                action = actions[run, t, i, 0].item()
                assert rollout.rewards[run, i, t] == 100 * episode + step + 1 + action / 1000
                first = the.control.environments.places[run][i].environment
                fallen = step + 1 == 3 + (cast(Any, first).first + 2 * int(episode)) % 5
                cut = not fallen and step + 1 == 5
                assert rollout.ends[run, i, t] == (fallen or cut)
                assert ((run, i, t) in cuts) == cut
                if cut:
                    assert cuts[run, i, t].tolist() == [who, episode, step + 1, action]
                following = [who, episode + 1, 0, 0] if fallen or cut else [who, episode, step + 1, action]
                assert inputs[run, t + 1, i].tolist() == following
        assert rollout.changed == [False] * len(seeds)


def test_action_noise_depends_on_seed_and_update_only() -> None:
    """Not on the algorithm, nor on who is trained beside; and it is standard normal."""

    def residuals(benchmark: Any, seeds: Sequence[int], update: int, **network: Any) -> Floats:
        the = pack(benchmark, [PPO(rollout=512, batch_size=16)] * len(seeds), seeds, **network)
        rollout = the.stage()._collect(update)
        mean = outputs(the, rollout.inputs[:, :-1])[..., :ACTIONS]
        return cast(Floats, (rollout.actions - mean).numpy())

    one = residuals(Counting(1), (3, 4, 5), 7)
    other = residuals(Counting(1, Constant, max_episode_steps=2), (4,), 7, activation="tanh", init="default")
    np.testing.assert_allclose(other[0], one[1], atol=1e-9)
    assert np.abs(residuals(Counting(1), (4,), 8)[0] - one[1]).mean() > 0.5
    assert np.abs(one[0] - one[1]).mean() > 0.5
    assert np.abs(one.mean(1)).max() < 4 / math.sqrt(512)
    assert np.abs(one.std(1) - 1).max() < 4 / math.sqrt(2 * 512)
    for run in one:
        assert abs(np.corrcoef(run[:, 0], run[:, 1])[0, 1]) < 4 / math.sqrt(512)
        assert abs(np.corrcoef(run[:-1, 0], run[1:, 0])[0, 1]) < 4 / math.sqrt(512)


def test_a_policy_may_have_more_actions_than_inputs_and_units() -> None:
    adam: Any = Adam()
    learner = TorchLearner(lambda: ActorCritic(1, 5, [2]), [adam], [], [0], "none", torch.float64)
    x = torch.linspace(-1, 1, 4, dtype=torch.float64).view(1, 4, 1)
    torch.testing.assert_close(learner.act(x), learner.forward(x)[0][..., :5].detach(), rtol=1e-9, atol=1e-12)


# --- judging ---


def given_rollout(stage: ControlStage, runs: int, count: int, steps: int) -> Rollout:
    """Random states, actions and rewards; falls and cuts, among them at the first and at the last step."""
    rng = np.random.default_rng(count)
    terminated, truncated = np.zeros((2, runs, count, steps), bool)
    terminated[:, 0, 3] = terminated[0, -1, -1] = terminated[-1, 0, 0] = True
    truncated[:, 0, 5] = truncated[-1, -1, -1] = truncated[0, -1, 0] = truncated[0, 0, 6] = True
    cut = [
        (int(run), int(i), int(t), torch.from_numpy(rng.normal(size=INPUTS)))
        for t, run, i in np.argwhere(truncated.transpose(2, 0, 1))
    ]
    inputs = torch.from_numpy(rng.normal(size=(runs, (steps + 1) * count, INPUTS)))
    actions = torch.from_numpy(rng.normal(size=(runs, steps * count, ACTIONS)))
    rewards = rng.normal(size=(runs, count, steps))
    return Rollout(inputs, actions, rewards, terminated | truncated, cut, [False] * runs)


@pytest.mark.parametrize("time_limit", ["terminal", "bootstrap"])
@pytest.mark.parametrize("normalise", [True, False])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("runs", [1, 2])
def test_advantages_and_targets_follow_from_the_networks_values(
    count: int, runs: int, normalise: bool, time_limit: str
) -> None:
    """The value of the state that was cut off, not of the next episode's first; targets of the plain advantages."""
    discounts = [(0.9, 0.8), (0.99, 0.5)][:runs]
    agents = [
        PPO(
            *(8 * count, 1, 8, count, discount, gae_lambda),
            normalise_advantages=normalise,
            time_limit=time_limit,
        )
        for discount, gae_lambda in discounts
    ]
    the = pack(Counting(24, log_every=24), agents, range(runs))
    stage = the.stage()
    rollout = given_rollout(stage, runs, count, 8)
    experience, explained = stage._judge(rollout)

    def value(run: int, state: Tensor) -> float:
        states = torch.zeros(runs, 1, INPUTS, dtype=torch.float64)
        states[run, 0] = state
        return outputs(the, states)[run, 0, -1].item()

    cuts = {(run, i, t): state for run, i, t, state in rollout.cut}
    for run, (discount, gae_lambda) in enumerate(discounts):
        advantage, target = np.empty((2, 8, count))
        for i in range(count):
            states = rollout.inputs[run].view(9, count, INPUTS)[:, i]
            later = 0.0
            for t in reversed(range(8)):
                following = value(run, states[t + 1])
                if rollout.ends[run, i, t]:
                    later = following = 0.0
                    if time_limit == "bootstrap" and (run, i, t) in cuts:
                        following = value(run, cuts[run, i, t])
                now = value(run, states[t])
                later = rollout.rewards[run, i, t] + discount * following - now + discount * gae_lambda * later
                advantage[t, i], target[t, i] = later, later + now
        plain, target = advantage.reshape(-1), target.reshape(-1)
        np.testing.assert_allclose(experience.target[run], target, rtol=1e-9, atol=1e-12)
        scaled = (plain - plain.mean()) / plain.std(ddof=1) if normalise else plain
        np.testing.assert_allclose(experience.advantage[run], scaled, rtol=1e-9, atol=1e-12)
        assert explained[run].item() == pytest.approx(1 - plain.var() / target.var(), rel=1e-9)
    samples = 8 * count
    assert torch.equal(experience.inputs, rollout.inputs[:, :samples])
    expected = log_probability(outputs(the, experience.inputs), rollout.actions)
    torch.testing.assert_close(experience.log_probability, expected, rtol=1e-12, atol=1e-12)


def test_targets_that_do_not_vary_explain_nothing() -> None:
    """0, not a number that is none: that would end the run."""
    the = pack(Counting(16, log_every=16), [PPO(rollout=8, batch_size=8, discount=0.0)])
    stage = the.stage()
    rollout = given_rollout(stage, 1, 1, 8)._replace(rewards=np.ones((1, 1, 8)))
    _, explained = stage._judge(rollout)
    assert explained.tolist() == [0.0]


# --- learning ---


def test_an_epoch_goes_through_the_whole_rollout_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sample once, with what belongs to it; orders depend on seed, update and epoch only. Updates are counted on
    through the rows of the log: interventions go by their numbers.
    """
    agent = PPO(rollout=32, epochs=3, batch_size=8)
    the = pack(Counting(128, log_every=64), [agent, agent], (4, 9))
    shown: list[tuple[int, Tensor]] = []
    batches: list[Experience] = []
    judged: list[Experience] = []
    plans: list[tuple[int, int]] = []

    def watch(target: Any, name: str, see: Callable[..., object]) -> None:
        act = getattr(target, name)

        def watched(*arguments: Any) -> Any:
            out = act(*arguments)
            see(out, *arguments)
            return out

        monkeypatch.setattr(target, name, watched)

    watch(the.learner, "predict", lambda _, x, step: shown.append((step, x.clone())))
    watch(the.learner, "plan", lambda _, step, steps: plans.append((step, steps)))
    for task in range(2):
        stage = the.stage(task)
        watch(stage, "_judge", lambda out, _: judged.append(out[0]))
        watch(stage.loss, "gradient", lambda _, __, batch: batches.append(Experience(*(b.clone() for b in batch))))
        position = Position(task)
        stage.probe()
        position.sums = stage.begin()
        while position.step < 64:
            stage.learn(position, 64 - position.step)
    assert [step for step, _ in shown] == list(range(4 * 12))
    assert sorted({step for first, count in plans for step in range(first, first + count)}) == list(range(4 * 12))
    assert sum(count for _, count in plans) == 4 * 12
    orders: dict[tuple[int, int, int], tuple[int, ...]] = {}
    for update, experience in enumerate(judged):
        for run, seed in enumerate((4, 9)):
            samples = [tuple(row) for row in experience.inputs[run].tolist()]
            assert len(set(samples)) == 32
            for epoch in range(3):
                span = slice(12 * update + 4 * epoch, 12 * update + 4 * epoch + 4)
                order: list[int] = []
                for (_, x), batch in zip(shown[span], batches[span], strict=True):
                    assert torch.equal(x, batch.inputs)
                    rows = [samples.index(tuple(row)) for row in x[run].tolist()]
                    order += rows
                    for ours, theirs in zip(batch, experience, strict=True):
                        assert torch.equal(ours[run], theirs[run, rows])
                assert sorted(order) == list(range(32))
                orders[seed, update, epoch] = tuple(order)
    assert len(set(orders.values())) == len(orders) == 2 * 4 * 3
    alone = pack(Counting(1), [agent], (9,)).stage()
    assert tuple(alone._order(2, 1)[0].tolist()) == orders[9, 2, 1]


def test_what_is_measured_is_the_mean_over_the_last_epochs_mini_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each before the update on it; the first epoch would say little about how far the policy moves."""
    the = pack(Counting(1), [PPO(rollout=32, epochs=3, batch_size=8)] * 2, (0, 1))
    stage = the.stage()
    experience, _ = stage._judge(stage._collect(0))
    seen: list[Measures] = []
    gradient = stage.loss.gradient

    def watched(output: Tensor, batch: Experience) -> tuple[Tensor, Tensor]:
        out = gradient(output, batch)
        seen.append(stage.loss.measures(output, batch, out[1]))
        return out

    monkeypatch.setattr(stage.loss, "gradient", watched)
    measured = stage._improve(experience, 0)
    assert len(seen) == 12
    for ours, *each in zip(measured, *seen[-4:], strict=True):
        torch.testing.assert_close(ours, torch.stack(each).mean(0), rtol=1e-12, atol=1e-15)


def test_long_gradients_are_cut_each_run_for_itself() -> None:
    """One update by SGD with step size 1 moves the parameters by as much as the gradient is long."""
    moved = {}
    for longest in (None, 1e-3):
        agent = PPO(rollout=16, epochs=1, batch_size=16, max_gradient_norm=longest)
        the = pack(Counting(1), [agent] * 2, (0, 1), optimizers=[SGD(1.0)] * 2)
        before = the.learner.parameters.clone()
        stage = the.stage()
        stage._improve(stage._judge(stage._collect(0))[0], 0)
        moved[longest] = the.learner.parameters - before
    plain, cut = moved[None], moved[1e-3]
    assert plain.norm(dim=1).min() > 1e-2
    torch.testing.assert_close(cut, plain * (1e-3 / plain.norm(dim=1, keepdim=True)), rtol=1e-6, atol=1e-12)


VARIED = (
    (PPO(16, 2, 8, 2, 0.99, 0.95, 0.2, 1.0, 0.0), Adam(0.01)),
    (PPO(16, 2, 8, 2, 0.9, 0.5, 0.05, 0.3, 0.02), Adam(0.003, 0.99, 0.99, weight_decay=1e-3)),
    (PPO(16, 2, 8, 2, 0.5, 1.0, 0.5, 2.0, 0.1), Adam(0.02)),
)


@pytest.mark.parametrize("kind", ["counter", "hopper"])
@pytest.mark.parametrize("network", [{}, {"norm": "layer"}], ids=["explicit", "autograd"])
def test_a_pack_of_three_equals_its_runs_alone(tmp_path: Path, kind: str, network: dict[str, Any]) -> None:
    """Runs that differ in what they may differ in; on episodes of different lengths."""

    def benchmark() -> Any:
        return (Hopper if kind == "hopper" else Counting)(96, log_every=48, max_episode_steps=20)

    agents, optimizers = [agent for agent, _ in VARIED], [optimizer for _, optimizer in VARIED]
    together = pack(benchmark(), agents, (3, 4, 5), tmp_path / "together", optimizers, **network)
    train_all(together)
    for run, seed in enumerate((3, 4, 5)):
        alone = pack(benchmark(), [agents[run]], [seed], tmp_path / f"alone{run}", [optimizers[run]], **network)
        train_all(alone)
        assert_same_rows(logged(together.members[run]), logged(alone.members[0]), 1e-9)
        torch.testing.assert_close(together.learner.parameters[run], alone.learner.parameters[0], rtol=1e-9, atol=1e-9)


# --- rows ---


def test_a_row_says_what_happened_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Returns of the episodes that ended in the row; measures as means over its rollouts, and the largest change."""
    agent = PPO(rollout=16, epochs=2, batch_size=8, environments=2)
    the = pack(Counting(144, log_every=48, max_episode_steps=6), [agent] * 2, (0, 1), tmp_path)
    measured: list[list[list[float]]] = []
    explained: list[list[float]] = []
    weights: list[list[Tensor]] = []
    finished: list[list[tuple[float, ...]]] = [[], []]

    def of_policy_and_value() -> list[Tensor]:
        return [the.learner.view(the.learner.parameters, name).clone() for name in the.learner.weight_names]

    def watched(self: ControlStage, *arguments: Any) -> Any:
        weights.append(of_policy_and_value())
        out = improve(self, *arguments)
        weights.append(of_policy_and_value())
        measured.append([value.tolist() for value in out])
        return out

    def judged(self: ControlStage, *arguments: Any) -> Any:
        out = judge(self, *arguments)
        explained.append(out[1].tolist())
        return out

    def cleared(self: Environments) -> None:
        for run, events in enumerate(self.finished):
            finished[run] += events
        clear(self)

    improve, judge, clear = ControlStage._improve, ControlStage._judge, Environments.clear
    monkeypatch.setattr(ControlStage, "_improve", watched)
    monkeypatch.setattr(ControlStage, "_judge", judged)
    monkeypatch.setattr(Environments, "clear", cleared)
    train_all(the)
    assert len(measured) == 9
    for run, member in enumerate(the.members):
        of_run = logged(member)
        assert [row["task"] for row in of_run] == [0, 1, 2]
        for task, row in enumerate(of_run):
            rollouts = range(3 * task, 3 * task + 3)
            for k, name in enumerate(Measures._fields):
                assert row[name] == pytest.approx(np.mean([measured[i][k][run] for i in rollouts]), rel=1e-9)
            assert row["explained_variance"] == pytest.approx(np.mean([explained[i][run] for i in rollouts]), rel=1e-9)
            moved = np.array(
                [
                    [float((b[run] - a[run]).abs().sum()) for a, b in zip(*weights[2 * i : 2 * i + 2], strict=True)]
                    for i in rollouts
                ]
            )
            np.testing.assert_allclose(row["weight_change"], moved.mean(0), rtol=1e-9)
            assert row["weight_change_max"] == pytest.approx(moved[:, :3].sum(1).max(), rel=1e-9)
            sizes = [[float(w[run].abs().mean()) for w in weights[2 * i + 1]] for i in rollouts]
            np.testing.assert_allclose(row["weight_magnitude_task"], np.mean(sizes, 0), rtol=1e-9)
            ended = [event for event in finished[run] if 48 * task < event[0] <= 48 * task + 48]
            assert len(ended) > 5
            assert row["return"] == pytest.approx(np.mean([event[1] for event in ended]), rel=1e-12)
            assert row["episode_length"] == pytest.approx(np.mean([event[2] for event in ended]), rel=1e-12)
            assert row["episodes"]["ends"] == [event[0] for event in ended]
            assert row["episodes"]["returns"] == [event[1] for event in ended]
            assert "friction" not in row
            assert "changes" not in row
        std = float(the.learner.view(the.learner.parameters, "log_std")[run].exp().mean())
        assert of_run[-1]["action_std"] == pytest.approx(std, rel=1e-12)


def test_a_row_in_which_no_episode_ended_has_no_return(tmp_path: Path) -> None:
    """Neither 0 nor that of the row before; the episode counts, whole, where it ends."""

    class Long(Counter):
        def lives(self) -> int:
            return 40

    the = pack(Counting(64, Long, log_every=16), [PPO(rollout=16, batch_size=16)], folder=tmp_path)
    train_all(the)
    of_run = logged(the.members[0])
    assert ["return" in row for row in of_run] == ["episodes" in row for row in of_run] == [False, False, True, False]
    assert ["episode_length" in row for row in of_run] == [False, False, True, False]
    assert of_run[2]["episode_length"] == 40
    assert of_run[2]["return"] == pytest.approx(sum(range(1, 41)), abs=1)
    assert of_run[2]["episodes"]["ends"] == [40]


def test_a_row_says_how_friction_changed_in_it(tmp_path: Path) -> None:
    the = pack(Counting(96, log_every=32, change_every=20), [PPO(rollout=16, batch_size=16)], (6,), tmp_path)
    train_all(the)
    of_run = logged(the.members[0])
    frictions = [60.0]
    for task, row in enumerate(of_run):
        if "changes" in row:
            assert all(32 * task < at <= 32 * task + 32 for at in row["changes"]["steps"])
            ends = row["episodes"]["ends"]
            assert set(row["changes"]["steps"]) <= set(ends)
            frictions += row["changes"]["frictions"]
        assert row["friction"] == frictions[-1]
    assert frictions == [60.0 + change for change in range(len(frictions))]
    assert len(frictions) > 3


def test_an_environment_may_change_in_something_else_than_friction(tmp_path: Path) -> None:
    the = pack(
        Counting(32, log_every=32, change_every=8, frictions=False), [PPO(rollout=16, batch_size=16)], (6,), tmp_path
    )
    train_all(the)
    assert len(logged(the.members[0])) == 1


def test_diagnostics_look_at_the_last_states_of_the_rows_first_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    """And acting for them is not done twice."""
    monkeypatch.setattr(control, "PROBE_STATES", 10)
    the = pack(Counting(32, log_every=32), [PPO(rollout=16, batch_size=16)] * 2, (0, 1))
    stage = the.stage()
    layers = stage.probe()
    assert the.control.environments.steps == 16
    assert stage._ahead is not None
    with torch.no_grad():
        activations = the.learner.forward(stage._ahead.inputs[:, 6:16])[1]
    assert len(layers) == len(activations) == 4
    for layer, expected in zip(layers, activations, strict=True):
        torch.testing.assert_close(layer.pooled, expected, rtol=1e-12, atol=1e-12)
    ahead = stage._ahead
    seen: list[Rollout] = []
    judge = stage._judge

    def judged(rollout: Rollout) -> tuple[Experience, Tensor]:
        seen.append(rollout)
        return judge(rollout)

    monkeypatch.setattr(stage, "_judge", judged)
    position = Position(sums=stage.begin())
    stage.learn(position, 32)
    assert the.control.environments.steps == 16
    stage.learn(position, 16)
    assert the.control.environments.steps == 32
    assert seen[0] is ahead
    assert seen[1] is not ahead


# --- changes of the environment ---


class Witness:
    """An intervention that writes down when it is called."""

    def __init__(self, events: list[Any]) -> None:
        self.events = events

    def plan(self, step: int, steps: int) -> None: ...

    def after_update(self, step: int) -> None:
        self.events.append(("update", step))

    def state(self) -> dict[str, Tensor]:
        return {}

    def report(self, run: int) -> dict[str, list[float]]:
        return {}

    def clear_report(self) -> None: ...

    def before_task(self, run: int, task: int) -> None:
        assert not torch.is_grad_enabled()
        self.events.append(("before_task", run, task))


def test_interventions_between_tasks_act_once_for_each_change_of_each_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the updates on the rollout in which it changed, whose log-probabilities are the old network's, and before
    the next rollout; in the last rollout of a row, too.
    """
    agent = PPO(rollout=16, epochs=1, batch_size=16)
    the = pack(Counting(256, log_every=32, change_every=20), [agent] * 2, (3, 4), tmp_path)
    events: list[Any] = []
    witness = Witness(events)
    cast(Any, the.learner).interventions.append(witness)
    cast(Any, the.learner)._actors += actors([object()], [witness])
    collect = ControlStage._collect

    def watched(self: ControlStage, update: int) -> Rollout:
        events.append(("act", update))
        return collect(self, update)

    monkeypatch.setattr(ControlStage, "_collect", watched)
    train_all(the)
    changes: dict[tuple[int, int], int] = {}
    for run, member in enumerate(the.members):
        steps = [at for row in logged(member) if "changes" in row for at in row["changes"]["steps"]]
        changes |= {(run, at): change for change, at in enumerate(steps, 1)}
    expected: list[Any] = []
    for update in range(16):
        expected += [("act", update), ("update", update)]
        of_rollout = [(run, at) for run, at in sorted(changes) if 16 * update < at <= 16 * update + 16]
        expected += [("before_task", run, changes[run, at]) for run, at in of_rollout]
    assert events == expected
    assert {(at - 1) // 16 % 2 for _, at in changes} == {0, 1}, "in the last rollout of a row, and in another"
    assert all(sum(of == run for of, _ in changes) > 3 for run in range(2))
    assert {at for run, at in changes if run == 0} != {at for run, at in changes if run == 1}


# --- divergence ---


@pytest.mark.parametrize("epochs", [1, 4])
def test_a_run_that_diverges_leaves_the_others_as_they_are(tmp_path: Path, epochs: int) -> None:
    """It writes no row of what is not a number, stays in its slot, and its environments stand still."""
    agents = [PPO(rollout=16, epochs=epochs, batch_size=8, environments=2)] * 3
    optimizers = [Adam(0.01), Adam(1e200), Adam(0.01)]
    benchmark = Counting(96, log_every=32, change_every=20, max_episode_steps=9)
    together = pack(benchmark, agents, (3, 4, 5), tmp_path / "together", optimizers)
    train_all(together)
    assert [member.active for member in together.members] == [True, False, True]
    assert together.members[1].diverged is not None
    assert (together.learner.parameters[1] == 0).all()
    ahead = 64 if epochs == 1 else 32
    assert benchmark.made[2].steps_in_all * 2 <= ahead
    assert len(logged(together.members[1])) <= 1
    for run, seed in ((0, 3), (2, 5)):
        fresh = Counting(96, log_every=32, change_every=20, max_episode_steps=9)
        alone = pack(fresh, agents[:1], [seed], tmp_path / f"alone{run}")
        train_all(alone)
        assert_same_rows(logged(together.members[run]), logged(alone.members[0]), 1e-9)
        assert len(logged(together.members[run])) == 3


def test_a_run_whose_actions_are_no_numbers_diverges_in_mujoco_too(tmp_path: Path) -> None:
    agents = [PPO(rollout=16, epochs=2, batch_size=8)] * 2
    the = pack(Hopper(64, log_every=32), agents, (0, 1), tmp_path, [Adam(0.01), Adam(1e30)], torch.float32)
    train_all(the)
    assert [member.active for member in the.members] == [True, False]
    assert len(logged(the.members[0])) == 2
    assert logged(the.members[1]) == []


def test_a_run_whose_policy_moves_far_within_a_rollout_has_not_diverged(tmp_path: Path) -> None:
    """Its parameters, losses and gradients are fine, and its returns rise: to end it here would be a wrong result."""
    agent = PPO(rollout=512, epochs=10, batch_size=32)
    the = pack(Hopper(1_024, log_every=512), [agent], (0,), tmp_path, [Adam(0.03)], torch.float32, hidden=[16, 16])
    train_all(the)
    assert the.members[0].active
    assert len(logged(the.members[0])) == 2


def test_a_run_whose_action_std_overflows_diverges_instead_of_failing(tmp_path: Path) -> None:
    """At the last update of a row: an error would take its whole pack with it."""
    agent = PPO(rollout=16, epochs=1, batch_size=16, entropy_coefficient=1.0)
    the = pack(Counting(16, Constant, log_every=16), [agent], (0,), tmp_path, [Adam(1000.0)])
    train_all(the)
    assert the.members[0].diverged is not None


# --- stopped and continued ---


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("stop_after", [1, 2, 3, 5])
def test_a_pack_that_is_stopped_and_restored_logs_the_same_bytes(tmp_path: Path, stop_after: int, count: int) -> None:
    """Within a row (whose sums go on), at its end (before the next rollout is collected), over changes of friction."""

    def make(folder: str) -> Pack:
        benchmark = SlipperyAnt(96, log_every=48, max_episode_steps=11, change_every=30)
        agents = [PPO(rollout=16, epochs=2, batch_size=8, environments=count)] * 2
        return pack(benchmark, agents, (1, 2), tmp_path / folder, dtype=torch.float32)

    whole = make("whole")
    train_all(whole)
    stopped = make("stopped")
    asked = itertools.count(1)
    with pytest.raises(Interrupted):
        train_all(stopped, should_stop=lambda: next(asked) == stop_after)
    again = make("stopped")
    payloads = [checkpoint.load_all(member.directory)[0] for member in again.members]
    session.restore(again.learner, payloads, again.control)
    train_all(again, Position.restore(payloads))
    for ours, theirs in zip(again.members, whole.members, strict=True):
        assert (ours.directory / MetricsLog.NAME).read_bytes() == (theirs.directory / MetricsLog.NAME).read_bytes()
        changes = [row.get("changes") for row in logged(theirs)]
        assert all(changes), "friction should have changed in both rows"


# --- options ---


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("benchmark.log_every=4000", "benchmark.log_every"),
        ("agent.rollout=1000", "agent.batch_size"),
        ("agent.environments=3", "agent.environments"),
        ("agent.clip=0", "agent.clip"),
        ("agent.time_limit=never", "agent.time_limit"),
        ("network=mlp", "network._target_"),
        ("benchmark.physics=v4", "benchmark.physics"),
        ("benchmark.frictions=[2.0,0.02]", "benchmark.frictions[1]"),
        ("benchmark.change_every=0", "benchmark.change_every"),
    ],
)
def test_what_cannot_be_run_is_refused_before_it_is(tmp_path: Path, override: str, key: str) -> None:
    """By the key that was typed."""
    with pytest.raises(ConfigError) as refused:
        whole_runs.point(tmp_path, "benchmark=slippery_ant", "scale=tiny", override)
    assert refused.value.key == key
    assert not any(tmp_path.iterdir())
