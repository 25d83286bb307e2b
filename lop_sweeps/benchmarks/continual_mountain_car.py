"""MountainCar: an underpowered car is to leave a valley; -1 for each step until it has."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps.benchmarks.continual_gym import ContinualGym


class ContinualMountainCar(ContinualGym):
    """gymnasium's MountainCar-v0."""

    NAME: ClassVar[str] = "MountainCar-v0"
    SIZES: ClassVar[tuple[int, int]] = (2, 3)
