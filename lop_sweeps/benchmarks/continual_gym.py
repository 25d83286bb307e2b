"""Continual Gym: small control problems that are observed with another offset again and again.

Source: Muppidi et al. 2024 (TRAC, arXiv 2405.16642) and Tang et al. 2025 (C-CHAIN, arXiv 2506.00592), whose Table 1 is
the published one. Levels of 200 iterations; an iteration is a rollout of 800 steps, which begins with a new episode,
and the updates on it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lop_sweeps import checks, streams
from lop_sweeps.benchmarks.benchmark import ControlBenchmark
from lop_sweeps.benchmarks.replayed_environment import Floats, ReplayedEnvironment


class ContinualGym(ControlBenchmark):
    """At each level a vector, drawn from N(0, offset_std^2), is added to every observation; at level 0 it is zero.

    Subclasses name the environment. Its own time limit is ignored.

    num_steps: environment steps of the run, rounded up to full rows of the log. log_every: environment steps that one
        row of the log summarises. max_episode_steps: an episode that lasts as long is cut off. change_every: steps of a
        level. offset_std: of each number of an observation's offset.
    new_episode_each_rollout: a rollout begins with a new episode and cuts off its last one, and levels change between
        rollouts. Otherwise a level changes at the first end of an episode that is due.
    """

    version: ClassVar[int] = 1
    discrete: ClassVar[bool] = True
    BIN_TASKS: ClassVar[int] = 20  # rows of 800 steps: ten points for each published level
    PERFORMANCE: ClassVar[str] = "return"
    NAME: ClassVar[str]  # of the environment in gymnasium
    SIZES: ClassVar[tuple[int, int]]  # numbers in an observation, and actions
    loss = "none"  # the agent has its own

    def __init__(
        self,
        num_steps: int,
        log_every: int = 800,
        max_episode_steps: int = 400,
        change_every: int = 160_000,
        offset_std: float = 2.0,
        new_episode_each_rollout: bool = True,
    ) -> None:
        self.num_steps = checks.integer("num_steps", num_steps, 1)
        self.log_every = checks.integer("log_every", log_every, 1)
        self.max_episode_steps = checks.integer("max_episode_steps", max_episode_steps, 1)
        self.change_every = checks.integer("change_every", change_every, 1)
        self.offset_std = checks.number("offset_std", offset_std, 0.0)
        self.new_episode_each_rollout = checks.flag("new_episode_each_rollout", new_episode_each_rollout)
        self.num_tasks = -(-self.num_steps // self.log_every)
        self.inputs, self.outputs = self.SIZES

    def make_environment(self, render: str | None = None) -> ReplayedEnvironment:
        """A new environment; render: gymnasium's render_mode."""
        options: dict[str, Any] = {} if render is None else {"render_mode": render}
        return ReplayedEnvironment(self.NAME, options)

    def friction(self, seed: int, change: int) -> float | None:
        """There is none."""
        return None

    def change_due(self, steps: int) -> bool:
        """Whether the next level begins, `steps` steps of the run after the last one did."""
        return steps >= self.change_every

    def offset(self, seed: int, change: int) -> Floats:
        """What is added to observations at level `change`, (inputs,)."""
        drawn = self.offset_std * streams.generator(seed, "offset", change).standard_normal(self.inputs)
        return drawn * float(change > 0)

    def level(self, change: int) -> int:
        """Levels are numbered from 0."""
        return change
