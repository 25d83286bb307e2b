"""LunarLander: a lander is to come down between two flags. It needs Box2D, which is not installed with this package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import ClassVar

from lop_sweeps.benchmarks.continual_gym import ContinualGym
from lop_sweeps.errors import DataError


class ContinualLunarLander(ContinualGym):
    """gymnasium's LunarLander-v3, with its four numbered actions; the papers had v2, which had a fault in `reset`."""

    NAME: ClassVar[str] = "LunarLander-v3"
    SIZES: ClassVar[tuple[int, int]] = (8, 4)

    def check_data(self, root: Path) -> None:
        """Raise `DataError` if there is no Box2D."""
        if importlib.util.find_spec("Box2D") is None:
            raise DataError("continual_lunar_lander needs Box2D, which is not installed: pip install box2d")
