"""Ant: four legs, eight torques (Nature 632, Fig. 4)."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from lop_sweeps.benchmarks.environment import Floats
from lop_sweeps.benchmarks.locomotion import Locomotion

NO_FORCES = np.zeros(84)


class Ant(Locomotion):
    """With physics=paper, contact forces are neither observed nor paid for: in v3 with MuJoCo 2 they were always 0.

    As there, 84 inputs that are 0 stand in their place: weights are initialised for 111 inputs.
    """

    NAME: ClassVar[str] = "Ant-v5"
    SIZES: ClassVar[dict[str, tuple[int, int]]] = {"v5": (105, 8), "paper": (111, 8)}
    PAPER: ClassVar[dict[str, Any]] = {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.0}

    @classmethod
    def adapt(cls, observation: Floats, reward: float, terminated: bool) -> tuple[Floats, float]:
        observation, reward = super().adapt(observation, reward, terminated)
        return np.concatenate((observation, NO_FORCES)), reward
