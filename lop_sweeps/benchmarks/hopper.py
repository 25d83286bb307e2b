"""Hopper: one leg, three torques (Nature 632, Extended Data Fig. 5)."""

from __future__ import annotations

from typing import ClassVar

from lop_sweeps.benchmarks.locomotion import Locomotion


class Hopper(Locomotion):
    """See `Locomotion`."""

    NAME: ClassVar[str] = "Hopper-v5"
    SIZES: ClassVar[dict[str, tuple[int, int]]] = {"v5": (11, 3), "paper": (11, 3)}
