"""Acrobot: two links are to be swung up; -1 for each step until they are."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps.benchmarks.continual_gym import ContinualGym


class ContinualAcrobot(ContinualGym):
    """gymnasium's Acrobot-v1."""

    NAME: ClassVar[str] = "Acrobot-v1"
    SIZES: ClassVar[tuple[int, int]] = (6, 3)
