"""A gymnasium MuJoCo environment whose state can be saved and put back exactly.

What the next step reads is the integration state (positions, velocities, warm start of the solver, time ...), the
derived positions of the bodies (rewards are differences of those), the friction in the model and the generator.
MuJoCo's `mj_forward` would compute the derived positions anew from rounded ones, and the next reward would be off by
8e-3, so it is not called.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.benchmarks.mujoco_library import MujocoEnv, mujoco

Floats = NDArray[np.float64]
Adapt = Callable[[Floats, float, bool], tuple[Floats, float]]
_STATE = mujoco.mjtState.mjSTATE_INTEGRATION


def _unchanged(observation: Floats, reward: float, terminated: bool) -> tuple[Floats, float]:
    return observation, reward


class Environment:
    """One environment. It knows no time limit and never resets itself.

    name, options: what `gymnasium.make` takes. adapt: what becomes of an observation and its reward.
    """

    def __init__(self, name: str, options: dict[str, Any], adapt: Adapt = _unchanged) -> None:
        made = gymnasium.make(name, disable_env_checker=True, **options).unwrapped
        assert isinstance(made, MujocoEnv)
        self.gym, self._adapt = made, adapt
        self.stock_friction: Floats = made.model.geom_friction.copy()
        mujoco.set_mju_user_warning(_ignore)  # it would write a file; what is not finite ends a run in any case

    def reset(self, seed: int | None = None) -> Floats:
        """Begin an episode; the first observation (inputs,). seed: of the generator, from now on."""
        observation, _ = self.gym.reset(seed=seed)
        return self._adapt(observation, 0.0, False)[0]

    def step(self, action: NDArray[Any]) -> tuple[Floats, float, bool]:
        """Take an action (actions,): observation (inputs,), reward, whether the episode has come to its end."""
        observation, reward, terminated, _, _ = self.gym.step(action)
        return *self._adapt(observation, float(reward), bool(terminated)), bool(terminated)

    def set_friction(self, friction: float) -> None:
        """The sliding friction of every geom, the floor's included (stock: 1 in Ant)."""
        self.gym.model.geom_friction[:, 0] = friction

    def state(self) -> dict[str, Any]:
        """Everything that later steps depend on."""
        model, data = self.gym.model, self.gym.data
        physics = np.empty(mujoco.mj_stateSize(model, _STATE))
        mujoco.mj_getState(model, data, physics, _STATE)
        return {
            "physics": torch.from_numpy(physics),
            "positions": torch.from_numpy(data.xpos.copy()),
            "friction": torch.from_numpy(model.geom_friction.copy()),
            "generator": json.dumps(self.gym.np_random.bit_generator.state),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        model, data = self.gym.model, self.gym.data
        mujoco.mj_setState(model, data, _numpy(state["physics"]), _STATE)
        data.xpos[:] = _numpy(state["positions"])
        model.geom_friction[:] = _numpy(state["friction"])
        self.gym.np_random.bit_generator.state = json.loads(state["generator"])


def _numpy(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.numpy(), np.float64)


def _ignore(message: str) -> None:
    """A warning of MuJoCo's."""
