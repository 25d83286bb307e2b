"""Legged robots that are rewarded for running: the control benchmarks of Dohare et al. 2024 (Nature 632, Figs. 3, 4).

Gymnasium's current MuJoCo environments (v5). The paper used v3 of Gym 0.23 with mujoco-py; `physics=paper` comes as
near to those as the current packages allow (docs/benchmarks.md lists what differs).
"""

from __future__ import annotations

from typing import Any, ClassVar

from lop_sweeps import checks
from lop_sweeps.benchmarks.benchmark import ControlBenchmark
from lop_sweeps.benchmarks.environment import Environment, Floats

PHYSICS = ("v5", "paper")
HEALTHY = 1.0  # reward of every step in which the robot has not fallen


class Locomotion(ControlBenchmark):
    """A stationary environment; subclasses name it.

    num_steps: environment steps of the run, rounded up to full rows of the log. log_every: environment steps that one
        row of the log summarises. max_episode_steps: an episode that lasts as long is cut off. physics: v5, or paper =
        as near to v3 as can be.
    """

    BIN_TASKS: ClassVar[int] = 12  # rows of 20,480 steps: about 250,000, as in the paper's figures
    PERFORMANCE: ClassVar[str] = "return"
    NAME: ClassVar[str]  # of the environment in gymnasium
    SIZES: ClassVar[dict[str, tuple[int, int]]]  # numbers in an observation, and in an action, by physics
    PAPER: ClassVar[dict[str, Any]] = {}  # what gymnasium.make takes with physics=paper
    loss = "none"  # the agent has its own

    def __init__(
        self,
        num_steps: int,
        log_every: int = 20_480,
        max_episode_steps: int = 1_000,
        physics: str = "v5",
    ) -> None:
        self.num_steps = checks.integer("num_steps", num_steps, 1)
        self.log_every = checks.integer("log_every", log_every, 1)
        self.max_episode_steps = checks.integer("max_episode_steps", max_episode_steps, 1)
        self.physics = checks.choice("physics", physics, PHYSICS)
        self.num_tasks = -(-self.num_steps // self.log_every)
        self.inputs, self.outputs = self.SIZES[self.physics]

    def make_environment(self, render: str | None = None) -> Environment:
        """A new environment; render: gymnasium's render_mode."""
        options: dict[str, Any] = {} if render is None else {"render_mode": render}
        if self.physics == "v5":
            return Environment(self.NAME, options)
        return Environment(self.NAME, self.PAPER | options, self.adapt)

    def friction(self, seed: int, change: int) -> float | None:
        """The friction after `change` changes; None = the model's own, which stays."""
        return None

    def change_due(self, steps: int) -> bool:
        """Whether the environment changes at the end of an episode, `steps` steps of the run after the last change."""
        return False

    @classmethod
    def adapt(cls, observation: Floats, reward: float, terminated: bool) -> tuple[Floats, float]:
        """physics=paper: v3 gave the reward for standing also in the step in which the robot falls."""
        return observation, reward + HEALTHY if terminated else reward
