"""A gymnasium environment with numbered actions, whose state is what led to it.

An episode follows from the generator's state at its beginning and the actions taken since, so these two are saved, and
played again to put the environment back. That is exact for any deterministic environment, also for one whose physics
cannot be written down (Box2D's contacts); an episode of 400 steps takes a few milliseconds.
"""

from __future__ import annotations

import json
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.utils import seeding
from numpy.typing import NDArray

from lop_sweeps.errors import LopError

Floats = NDArray[np.float64]


class ReplayedEnvironment:
    """One environment. It knows no time limit and never resets itself. name, options: what `gymnasium.make` takes."""

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        self.gym: Any = gymnasium.make(name, disable_env_checker=True, **options).unwrapped
        self._begun: dict[str, Any] = {}  # the generator before the episode
        self._taken: list[int] = []

    def reset(self, seed: int | None = None) -> Floats:
        """Begin an episode; the first observation (inputs,). seed: of the generator, from now on."""
        if seed is not None:
            self.gym.np_random = seeding.np_random(seed)[0]
        return self._begin()

    def _begin(self) -> Floats:
        self._begun, self._taken = self.gym.np_random.bit_generator.state, []
        observation, _ = self.gym.reset()
        return np.asarray(observation, np.float64)

    def step(self, action: NDArray[Any]) -> tuple[Floats, float, bool]:
        """Take an action (1,), its number: observation (inputs,), reward, whether the episode has come to its end."""
        number = int(action[0])
        observation, reward, terminated, _, _ = self.gym.step(number)
        self._taken.append(number)
        return np.asarray(observation, np.float64), float(reward), bool(terminated)

    def set_friction(self, friction: float) -> None:
        """Refused: these environments have none, and benchmarks of theirs ask for none."""
        raise LopError(f"{type(self.gym).__name__} has no friction that could be set")

    def state(self) -> dict[str, Any]:
        """How the episode began, and the actions since."""
        return {"generator": json.dumps(self._begun), "taken": torch.tensor(self._taken, dtype=torch.int64)}

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.gym.np_random.bit_generator.state = json.loads(state["generator"])
        self._begin()
        for number in state["taken"].tolist():
            self.gym.step(number)
        self._taken = state["taken"].tolist()
