"""CartPole: a pole is to be kept upright on a cart; 1 for each step until it falls, at most 400 an episode."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps.benchmarks.continual_gym import ContinualGym


class ContinualCartpole(ContinualGym):
    """gymnasium's CartPole-v1."""

    NAME: ClassVar[str] = "CartPole-v1"
    SIZES: ClassVar[tuple[int, int]] = (4, 2)
