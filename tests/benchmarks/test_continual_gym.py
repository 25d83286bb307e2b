"""Continual Gym: its offsets, its episodes and levels, and its environments against gymnasium's own."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lop_sweeps.agents.ppo import PPO
from lop_sweeps.algorithms.reset import Reset
from lop_sweeps.benchmarks.continual_acrobot import ContinualAcrobot
from lop_sweeps.benchmarks.continual_cartpole import ContinualCartpole
from lop_sweeps.benchmarks.continual_gym import ContinualGym
from lop_sweeps.benchmarks.continual_lunar_lander import ContinualLunarLander
from lop_sweeps.benchmarks.continual_mountain_car import ContinualMountainCar
from lop_sweeps.errors import ConfigError, DataError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.control import Control, ControlStage
from lop_sweeps.training.environments import Environments
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Member, Position
from tests import runs

Floats = NDArray[np.float64]
THERE = all(importlib.util.find_spec(name) for name in ("Box2D", "pygame"))
needs_box2d = pytest.mark.skipif(not THERE, reason="needs Box2D: pip install 'gymnasium[box2d]'")
KINDS: tuple[type[ContinualGym], ...] = (ContinualCartpole, ContinualAcrobot, ContinualMountainCar)
EACH = pytest.mark.parametrize("kind", [*KINDS, pytest.param(ContinualLunarLander, marks=needs_box2d)])


def members(*seeds: int) -> list[Member]:
    return [Member(Path("nowhere"), seed) for seed in seeds]


def draws(made: ContinualGym, steps: int, seed: int = 0) -> NDArray[np.float32]:
    """Numbers of actions (steps, 1), as a policy's are handed on."""
    return np.random.default_rng(seed).integers(made.outputs, size=(steps, 1)).astype(np.float32)


# --- offsets ---


def test_offsets_are_normal_with_standard_deviation_2_and_zero_at_level_0() -> None:
    made = ContinualAcrobot(1)
    assert made.offset(3, 0).tolist() == [0.0] * 6
    drawn = np.array([[made.offset(seed, level) for level in range(1, 10)] for seed in range(300)])
    assert drawn.shape == (300, 9, 6)
    count = drawn.size
    assert abs(drawn.mean()) < 4 * 2 / count**0.5
    assert abs(drawn.std() - 2) < 4 * 2 / (2 * count) ** 0.5
    assert abs((drawn**4).mean() / 16 - 3) < 0.4  # the fourth moment of a normal law
    flat = drawn.reshape(300, -1)
    correlations = np.corrcoef(flat.T)[np.triu_indices(flat.shape[1], 1)]
    assert np.abs(correlations).max() < 0.3
    assert len(np.unique(drawn)) == count


def test_offsets_follow_from_the_seed_and_the_level_alone() -> None:
    """The same for every method and in every environment of a run, of the same number of inputs at least."""
    one, other = ContinualCartpole(1), ContinualCartpole(99, 8, 5, 16, new_episode_each_rollout=False)
    for level in range(4):
        assert np.array_equal(one.offset(7, level), other.offset(7, level))
    assert not np.array_equal(one.offset(7, 1), one.offset(8, 1))
    assert np.array_equal(ContinualCartpole(1, offset_std=1.0).offset(7, 1) * 2, one.offset(7, 1))


def test_everything_that_is_observed_has_the_offset_of_its_level() -> None:
    """First observations, those after a step, and the last ones of episodes that are cut off."""
    made = ContinualMountainCar(1, max_episode_steps=7, change_every=10)
    environments, plain = Environments(made, members(4), 1), Environments(ContinualMountainCar(1), members(4), 1)
    place = environments.places[0][0]
    assert np.array_equal(environments.observations, plain.observations)
    for t, action in enumerate(draws(made, 40)):
        if t % 10 == 0:
            changed = environments.begin_rollout()
            assert changed == ([0] if t else [])
        level = t // 10
        offset = made.offset(4, level)
        assert environments.change(0) == level
        environments.step(action[None, None], cut=t % 10 == 9)
        state = np.array(place.environment.gym.state, np.float32)  # after a cut that of the new episode
        assert np.array_equal(environments.observations[0, 0], state + offset)
        for last in environments.cut.values():
            assert np.abs(last - offset)[0] < 1.3, "a position, from -1.2 to 0.6"
            assert t % 10 in (6, 9)
    assert [length for _, _, length in environments.finished[0]] == [7, 3] * 4


# --- episodes ---


@pytest.mark.parametrize("kind", [ContinualMountainCar, ContinualAcrobot])
def test_episodes_are_cut_at_400_steps_and_no_other_limit_counts(kind: type[ContinualGym]) -> None:
    """gymnasium's own limit would be 200 steps of MountainCar, and 500 of Acrobot."""
    made = kind(1)
    environments = Environments(made, members(0), 1)
    for _ in range(800):
        environments.step(np.ones((1, 1, 1), np.float32))  # no push, no torque: nothing is ever reached
    assert [(end, length) for end, _, length in environments.finished[0]] == [(400, 400), (800, 400)]
    assert [total for _, total, _ in environments.finished[0]] == [-400.0, -400.0]


def stage_of(
    made: ContinualGym, seeds: Sequence[int], environments: int = 1, interventions: Sequence[Any] = ()
) -> ControlStage:
    agent = PPO(40, 1, 20, environments, time_limit="bootstrap", value_target="return", reward_scale=20.0)
    learner = TorchLearner(
        lambda: ActorCritic(made.inputs, made.outputs, [8], discrete=True),
        [Adam(0.01)] * len(seeds),
        [[one] * len(seeds) for one in interventions],
        seeds,
        "none",
        torch.float64,
    )
    return ControlStage(learner, Control(made, [agent] * len(seeds), members(*seeds)), 0)


@pytest.mark.parametrize("count", [1, 2])
def test_each_rollout_begins_with_new_episodes_and_cuts_off_the_last(count: int) -> None:
    """Whose last state's value counts, as where an episode is too long; levels change between rollouts."""
    made = ContinualCartpole(400, 400, change_every=80)
    stage = stage_of(made, (3, 4), count)
    for update in range(5):
        rollout = stage._collect(update)
        assert rollout.changed == [False, False]
        assert [stage.environments.change(run) for run in range(2)] == [update // 2] * 2
        assert rollout.ends[:, :, -1].all()
        first = rollout.inputs.view(2, -1, count, 4)[:, 0].numpy()
        for run, seed in enumerate((3, 4)):
            begun = first[run] - made.offset(seed, update // 2)
            assert np.abs(begun).max() <= 0.05 + 1e-6, "CartPole begins within 0.05 of the middle"
        last = {(run, i): state for run, i, t, state in rollout.cut if t == 40 // count - 1}
        terminated = stage.environments.terminated
        assert set(last) == {place for place in np.ndindex(2, count) if not terminated[place]}
        experience, _ = stage._judge(rollout)
        for (run, i), state in last.items():
            given = torch.zeros(2, 1, 4, dtype=torch.float64)
            given[run, 0] = state
            value = stage.learner.forward(given)[0][run, 0, -1].item()
            target = experience.target[run].view(-1, count)[-1, i].item()
            assert target == pytest.approx(1 / 20 + 0.99 * value, rel=1e-9)


def test_value_targets_are_discounted_returns_of_scaled_rewards() -> None:
    made = ContinualCartpole(40, 40)
    stage = stage_of(made, (3,))
    rollout = stage._collect(0)
    experience, _ = stage._judge(rollout)
    ends = rollout.ends[0, 0]
    fallen = int(np.flatnonzero(ends)[0])
    assert not any(t == fallen for *_, t, _ in rollout.cut), "the first episode should end by a fall"
    for t in range(fallen + 1):
        expected = sum(0.99**k / 20 for k in range(fallen + 1 - t))
        assert experience.target[0, t].item() == pytest.approx(expected, rel=1e-9)


def test_without_new_episodes_a_level_begins_at_an_end_of_an_episode() -> None:
    made = ContinualCartpole(400, 400, change_every=100, new_episode_each_rollout=False)
    stage = stage_of(made, (3,))
    changes = []
    for update in range(10):
        rollout = stage._collect(update)
        if rollout.changed[0]:
            place = stage.environments.places[0][0]
            changes.append(place.changed)
            assert place.changed in [end for end, *_ in stage.environments.finished[0]]
    assert len(changes) == 3
    assert all(100 <= b - a < 160 for a, b in zip([0, *changes], changes, strict=False))


def test_reset_begins_each_level_from_scratch_and_leaves_the_last_one_trained() -> None:
    made = ContinualCartpole(160, 160, change_every=80)
    stage, plain = (stage_of(made, (3,), interventions=some) for some in ([Reset()], []))
    one, other = Position(sums=stage.begin()), Position(sums=plain.begin())
    begun = stage.learner.parameters.clone()
    for _ in range(2):
        stage.learn(one, 80)
        plain.learn(other, 80)
    assert torch.equal(stage.learner.parameters, plain.learner.parameters)
    trained = stage.learner.parameters.clone()
    stage._ahead = stage._collect(2)
    fresh, _ = stage.learner.redraw(0, "retrained network", 1)
    for name, value in fresh.items():
        assert torch.equal(stage.learner.view(stage.learner.parameters, name)[0], value)
    assert not torch.equal(stage.learner.parameters, begun)
    assert not torch.equal(stage.learner.parameters, trained)
    begins = stage_of(made, (3,)).learner.optimizer.state()
    for name, value in stage.learner.optimizer.state().items():
        assert torch.equal(value, begins[name])
        assert not torch.equal(value, plain.learner.optimizer.state()[name])


# --- environments ---


@EACH
def test_environments_are_gymnasiums_step_by_step(kind: type[ContinualGym]) -> None:
    made = kind(1)
    ours, theirs = made.make_environment(), gymnasium.make(kind.NAME).unwrapped
    assert isinstance(theirs.observation_space, gymnasium.spaces.Box)
    assert isinstance(theirs.action_space, gymnasium.spaces.Discrete)
    assert (made.inputs, made.outputs) == (*theirs.observation_space.shape, int(theirs.action_space.n))
    assert np.array_equal(ours.reset(5), theirs.reset(seed=5)[0])
    ended = 0
    for action in draws(made, 1_500):
        seen, reward, terminated = ours.step(action)
        expected = theirs.step(int(action[0]))
        assert np.array_equal(seen, expected[0])
        assert (reward, terminated) == (expected[1], expected[2])
        if terminated:
            ended += 1
            assert np.array_equal(ours.reset(), theirs.reset()[0])
    assert ended > 2 or kind in (ContinualAcrobot, ContinualMountainCar)


@EACH
@pytest.mark.parametrize("at", [0, 1, 57])
def test_a_restored_environment_goes_on_as_if_nothing_had_happened(kind: type[ContinualGym], at: int) -> None:
    """Also in the next episode: the generator has gone on."""
    made = kind(1)
    taken = draws(made, 400)

    def play(environment: Any, actions: NDArray[np.float32]) -> list[Any]:
        out: list[Any] = []
        for action in actions:
            seen, reward, terminated = environment.step(action)
            out.append((seen.tobytes(), reward, terminated))
            if terminated:
                out.append(environment.reset().tobytes())
        return [*out, environment.reset().tobytes()]

    whole, again = made.make_environment(), made.make_environment()
    whole.reset(11)
    play(whole, taken[:60])
    for action in taken[:at]:
        if whole.step(action)[2]:
            whole.reset()
    file = io.BytesIO()
    torch.save(whole.state(), file)
    file.seek(0)
    again.reset(3)
    play(again, taken[:9])
    again.load(torch.load(file, weights_only=True))
    assert again.state()["taken"].tolist() == whole.state()["taken"].tolist()
    assert play(again, taken[at:]) == play(whole, taken[at:])


def test_without_box2d_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"Box2D and pygame.*pip install 'gymnasium\[box2d\]'"):
        runs.point(tmp_path, "benchmark=continual_lunar_lander", "scale=tiny")


# --- configuration ---


def test_the_published_protocol_is_the_default(tmp_path: Path) -> None:
    composed: Any = runs.composer().compose(["benchmark=continual_cartpole", "scale=paper"])[0]
    made: dict[str, Any] = {**composed.agent, **composed.network, **composed.optimizer}
    expected = {"rollout": 800, "epochs": 5, "batch_size": 32, "discount": 0.99, "gae_lambda": 0.95, "clip": 0.2}
    expected |= {"entropy_coefficient": 0.01, "value_coefficient": 0.5, "reward_scale": 20.0, "value_target": "return"}
    expected |= {"advantage_eps": 1e-5, "hidden": [256] * 3, "activation": "leaky_relu", "leaky_slope": 0.1}
    expected |= {"init": "default", "step_size": 0.001, "time_limit": "bootstrap", "max_gradient_norm": None}
    assert {key: made[key] for key in expected} == expected
    benchmark = composed.benchmark
    assert benchmark.num_steps / benchmark.change_every == 10
    assert benchmark.change_every / composed.agent.rollout == 200


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("benchmark.change_every=0", "benchmark.change_every"),
        ("benchmark.offset_std=-1", "benchmark.offset_std"),
        ("benchmark.new_episode_each_rollout=1", "benchmark.new_episode_each_rollout"),
        ("benchmark.log_every=1000", "benchmark.log_every"),
        ("agent.value_target=td", "agent.value_target"),
        ("agent.reward_scale=0", "agent.reward_scale"),
        ("agent.advantage_eps=-1", "agent.advantage_eps"),
    ],
)
def test_what_cannot_be_run_is_refused_before_it_is(tmp_path: Path, override: str, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        runs.point(tmp_path, "benchmark=continual_cartpole", "scale=tiny", override)
    assert refused.value.key == key
