"""LunarLander: a lander is to come down between two flags. It needs gymnasium's extra `box2d`."""

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
        """Raise `DataError` if Box2D is not installed, or pygame, which gymnasium imports with it."""
        lacking = [name for name in ("Box2D", "pygame") if importlib.util.find_spec(name) is None]
        if lacking:
            what = " and ".join(lacking)
            raise DataError(f"continual_lunar_lander needs {what}, not installed here: pip install 'gymnasium[box2d]'")
