"""The MuJoCo environments: what a saved one does next, what `physics=paper` changes, which geoms get which friction."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lop_sweeps.benchmarks.ant import Ant
from lop_sweeps.benchmarks.environment import Environment
from lop_sweeps.benchmarks.hopper import Hopper
from lop_sweeps.benchmarks.locomotion import Locomotion
from lop_sweeps.benchmarks.mujoco_library import mujoco
from lop_sweeps.benchmarks.slippery_ant import SlipperyAnt
from lop_sweeps.benchmarks.walker2d import Walker2d
from lop_sweeps.errors import ConfigError

Floats = NDArray[np.float64]
Step = tuple[bytes, float, bool]
ROBOTS: tuple[type[Locomotion], ...] = (Ant, Hopper, Walker2d)
EACH = pytest.mark.parametrize("robot", ROBOTS, ids=lambda robot: robot.__name__)
BOTH = pytest.mark.parametrize("physics", ["v5", "paper"])


def actions(made: Locomotion, steps: int, seed: int = 0) -> NDArray[np.float32]:
    """As an untrained policy draws them: beyond the range of the motors now and then."""
    return np.random.default_rng(seed).normal(size=(steps, made.outputs)).astype(np.float32)


def play(environment: Environment, taken: NDArray[Any], length: int = 10_000) -> list[Step]:
    """Every step; where the robot falls, or after `length` steps, the next episode's first observation follows."""
    out: list[Step] = []
    since = 0
    for action in taken:
        observation, reward, terminated = environment.step(action)
        out.append((observation.tobytes(), reward, terminated))
        since += 1
        if terminated or since == length:
            out.append((environment.reset().tobytes(), 0.0, False))
            since = 0
    return out


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    """As a checkpoint keeps it."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    loaded: dict[str, Any] = torch.load(file, weights_only=True)
    return loaded


# --- saved and put back ---


@EACH
@BOTH
@pytest.mark.parametrize("at", [0, 1, 37])
def test_a_saved_environment_goes_on_to_the_bit(robot: type[Locomotion], physics: str, at: int) -> None:
    """In another environment that has done other things, over falls and resets (whose draws go on, too)."""
    made = robot(1, physics=physics)
    length = 60 if robot is Ant else 10_000
    before, after = actions(made, at, seed=1), actions(made, 150, seed=2)
    one, other = made.make_environment(), made.make_environment()
    one.reset(5)
    play(one, before)
    saved = through_a_file(one.state())
    expected = play(one, after, length)
    assert len(expected) >= len(after) + 2, "it should see the ends of some episodes"
    other.reset(6)
    other.set_friction(0.03)
    play(other, actions(made, 21, seed=3))
    for environment in (other, one):
        environment.load(saved)
        assert play(environment, after, length) == expected


def test_an_ant_that_falls_is_put_back_as_well() -> None:
    made = Ant(1)
    taken = actions(made, 600, seed=4)
    environment = made.make_environment()
    environment.reset(0)
    play(environment, taken[:50])
    saved = environment.state()
    expected = play(environment, taken[50:])
    assert any(terminated for _, _, terminated in expected)
    environment.load(saved)
    assert play(environment, taken[50:]) == expected


def test_a_saved_state_does_not_move_with_its_environment() -> None:
    environment = Ant(1).make_environment()
    environment.reset(0)
    saved = environment.state()
    copies = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in saved.items()}
    environment.set_friction(0.1)
    play(environment, actions(Ant(1), 5), length=3)
    for key, value in saved.items():
        assert torch.equal(value, copies[key]) if isinstance(value, torch.Tensor) else value == copies[key], key


def test_restoring_through_mj_forward_would_give_another_reward() -> None:
    """A mistake others made: the integrator leaves the bodies' positions a little behind the joints' ones."""
    made = Ant(1, physics="paper")
    environment, naive = made.make_environment(), made.make_environment()
    environment.reset(0)
    naive.reset(0)
    play(environment, actions(made, 20))
    state, action = environment.state(), actions(made, 1, seed=1)[0]
    model, data = naive.gym.model, naive.gym.data
    mujoco.mj_setState(model, data, state["physics"].numpy(), mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(model, data)
    rewards = [each.step(action)[1] for each in (environment, naive)]
    assert abs(rewards[0] - rewards[1]) > 1e-5
    environment.load(state)
    assert environment.step(action)[1] == rewards[0]


@EACH
def test_a_seed_decides_how_an_environment_begins(robot: type[Locomotion]) -> None:
    environment, other = robot(1).make_environment(), robot(1).make_environment()
    first = environment.reset(3)
    second = environment.reset()
    assert not np.array_equal(first, second)
    assert np.array_equal(other.reset(3), first)
    assert np.array_equal(other.reset(), second)
    assert not np.array_equal(other.reset(4), first)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_an_action_that_is_no_number_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MuJoCo writes MUJOCO_LOG.TXT where the sweep was started, for every run that diverges."""
    monkeypatch.chdir(tmp_path)
    for robot in ROBOTS:
        made = robot(1)
        environment = made.make_environment()
        environment.reset(0)
        environment.step(np.full(made.outputs, np.nan, np.float32))
        for value in (1e30, np.inf):
            environment.step(np.full(made.outputs, value, np.float32))
    assert list(tmp_path.iterdir()) == []


# --- what they are ---


@BOTH
@pytest.mark.parametrize(
    ("robot", "sizes"),
    [
        (Ant, {"v5": (105, 8), "paper": (111, 8)}),
        (SlipperyAnt, {"v5": (105, 8), "paper": (111, 8)}),
        (Hopper, {"v5": (11, 3), "paper": (11, 3)}),
        (Walker2d, {"v5": (17, 6), "paper": (17, 6)}),
    ],
)
def test_sizes_of_observations_and_actions(
    robot: type[Locomotion], physics: str, sizes: dict[str, tuple[int, int]]
) -> None:
    made = robot(1, physics=physics)
    environment = made.make_environment()
    assert (made.inputs, made.outputs) == sizes[physics]
    assert environment.reset(0).shape == (made.inputs,)
    observation, _, _ = environment.step(np.zeros(made.outputs))
    assert observation.shape == (made.inputs,)
    assert environment.gym.action_space.shape == (made.outputs,)


def test_paper_ant_neither_sees_contact_forces_nor_pays_for_them() -> None:
    """84 zeros in their place; the step in which it falls is paid for as healthy; otherwise it is v5 to the bit."""
    taken = actions(Ant(1), 600, seed=4)
    new, old = Ant(1).make_environment(), Ant(1, physics="paper").make_environment()
    assert np.array_equal(old.reset(0)[:27], new.reset(0)[:27])
    costs, falls = [], 0
    for action in taken:
        (seen, reward, terminated), (seen_v3, reward_v3, terminated_v3) = new.step(action), old.step(action)
        assert np.array_equal(seen[:27], seen_v3[:27])
        assert (seen_v3[27:] == 0).all()
        costs.append(float(getattr(new.gym, "contact_cost")))  # noqa: B009 (the base class has none)
        assert reward_v3 - reward == pytest.approx(costs[-1] + (1.0 if terminated else 0.0), abs=1e-12)
        assert terminated_v3 == terminated
        if terminated:
            falls += 1
            assert np.array_equal(old.reset()[:27], new.reset()[:27])
    assert falls > 0
    assert max(costs) > 1e-3


def test_paper_ant_is_rewarded_as_the_spec_says() -> None:
    """Torso displacement over 0.05 s + 1 - half the squared (unclamped) torques; it falls outside [0.2, 1.0]."""
    made = Ant(1, physics="paper")
    environment = made.make_environment()
    environment.reset(0)
    data, falls = environment.gym.data, 0
    for action in actions(made, 600, seed=4).astype(float) * 1.5:
        x = float(data.body("torso").xpos[0])
        observation, reward, terminated = environment.step(action)
        expected = (float(data.body("torso").xpos[0]) - x) / 0.05 + 1.0 - 0.5 * float((action**2).sum())
        assert reward == pytest.approx(expected, abs=1e-9)
        assert terminated == (not 0.2 <= observation[0] <= 1.0)
        if terminated:
            falls += 1
            environment.reset()
    assert falls > 0


def test_paper_hopper_differs_in_the_step_in_which_it_falls_only() -> None:
    taken = actions(Hopper(1), 200)
    new, old = Hopper(1).make_environment(), Hopper(1, physics="paper").make_environment()
    new.reset(0)
    old.reset(0)
    falls = 0
    for (seen, reward, fell), (seen_v3, reward_v3, fell_v3) in zip(play(new, taken), play(old, taken), strict=True):
        assert (seen_v3, fell_v3) == (seen, fell)
        assert reward_v3 == (reward + 1.0 if fell else reward)
        falls += fell
    assert falls > 1


def test_paper_walker_has_one_foot_that_slips() -> None:
    model = Walker2d(1).make_environment().gym.model
    model_v3 = Walker2d(1, physics="paper").make_environment().gym.model

    def feet(of: Any) -> list[float]:
        return [float(of.geom(name).friction[0]) for name in ("foot_geom", "foot_left_geom")]

    assert feet(model) == [1.9, 1.9]
    assert feet(model_v3) == [0.9, 1.9]


def test_an_environment_knows_no_time_limit_of_its_own() -> None:
    """gymnasium's would cut episodes off unseen: time limits are counted in one place."""
    made = Ant(1, max_episode_steps=5)
    environment = made.make_environment()
    environment.reset(0)
    assert not any(environment.step(np.zeros(made.outputs))[2] for _ in range(1_005))
    assert environment.gym.data.time == pytest.approx(1_005 * 0.05)


@pytest.mark.parametrize(("steps", "rows"), [(1, 1), (100, 1), (101, 2), (1_000, 10)])
def test_steps_are_rounded_up_to_full_rows(steps: int, rows: int) -> None:
    assert Hopper(steps, log_every=100).num_tasks == rows


# --- friction ---


def test_frictions_are_log_uniform_between_their_bounds() -> None:
    made = SlipperyAnt(1, frictions=[0.02, 2.0])
    drawn = np.array([made.friction(seed, change) for seed in range(40) for change in range(50)])
    share = np.sort(np.log(drawn / 0.02) / math.log(100.0))
    assert share[0] >= 0
    assert share[-1] <= 1
    rank = np.arange(1, len(share) + 1) / len(share)
    assert np.abs(share - rank).max() < 1.95 / math.sqrt(len(share))  # Kolmogorov and Smirnov, p = 0.001
    by_seed = np.log(drawn.reshape(40, 50))
    assert abs(np.corrcoef(by_seed[:, :-1].ravel(), by_seed[:, 1:].ravel())[0, 1]) < 4 / math.sqrt(1_960)


def test_friction_is_a_function_of_seed_and_change_only() -> None:
    one, other = SlipperyAnt(1), SlipperyAnt(10**6, change_every=7, physics="paper", max_episode_steps=3)
    forwards = {(seed, change): one.friction(seed, change) for seed in range(4) for change in range(5)}
    for (seed, change), friction in reversed(forwards.items()):
        assert other.friction(seed, change) == friction
    assert len(set(forwards.values())) == len(forwards)


def test_friction_follows_the_bounds() -> None:
    assert SlipperyAnt(1, frictions=[0.7, 0.7]).friction(0, 3) == pytest.approx(0.7, rel=1e-15)
    narrow, wide = SlipperyAnt(1, frictions=(0.1, 1.0)), SlipperyAnt(1, frictions=(0.01, 1.0))
    assert math.log(wide.friction(3, 2)) == pytest.approx(2 * math.log(narrow.friction(3, 2)), rel=1e-12)
    assert Ant(1).friction(0, 0) is None
    assert not Ant(1).change_due(10**9)


def test_the_change_is_due_after_more_than_so_many_steps() -> None:
    made = SlipperyAnt(1, change_every=100)
    assert [made.change_due(steps) for steps in (1, 99, 100, 101, 1_000)] == [False, False, False, True, True]


def test_every_geom_gets_the_friction_the_floor_too() -> None:
    environment = SlipperyAnt(1).make_environment()
    stock = environment.gym.model.geom_friction.copy()
    assert (stock[:, 0] == 1.0).all()
    environment.set_friction(0.25)
    now = environment.gym.model.geom_friction
    floor = environment.gym.model.geom("floor").id
    assert now[floor, 0] == 0.25
    assert (now[:, 0] == 0.25).all()
    assert np.array_equal(now[:, 1:], stock[:, 1:])
    environment.reset()
    assert (environment.gym.model.geom_friction[:, 0] == 0.25).all()


@pytest.mark.parametrize(("friction", "same"), [(1.0, True), (0.02, False), (0.9, False), (2.0, False)])
def test_friction_changes_the_physics(friction: float, same: bool) -> None:
    """Same start, same actions: 1 is what an Ant has in any case."""
    taken = actions(Ant(1), 60, seed=7)
    plain, slippery = Ant(1).make_environment(), SlipperyAnt(1).make_environment()
    slippery.set_friction(friction)
    plain.reset(0)
    slippery.reset(0)
    assert (play(plain, taken) == play(slippery, taken)) is same


# --- options ---


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 1.5}, "num_steps"),
        ({"log_every": 0}, "log_every"),
        ({"max_episode_steps": 0}, "max_episode_steps"),
        ({"physics": "v3"}, "physics"),
        ({"physics": 5}, "physics"),
        ({"change_every": 0}, "change_every"),
        ({"frictions": 0.5}, "frictions"),
        ({"frictions": "02"}, "frictions"),
        ({"frictions": [0.1]}, "frictions"),
        ({"frictions": [0.1, 0.2, 0.3]}, "frictions"),
        ({"frictions": [0.0, 0.2]}, "frictions[0]"),
        ({"frictions": [-0.1, 0.2]}, "frictions[0]"),
        ({"frictions": [0.2, 0.1]}, "frictions[1]"),
        ({"frictions": [0.2, math.inf]}, "frictions[1]"),
        ({"frictions": [0.2, None]}, "frictions[1]"),
    ],
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        SlipperyAnt(**{"num_steps": 1, **options})
    assert refused.value.key == key
