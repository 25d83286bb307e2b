"""Walker2d: two legs, six torques (Nature 632, Extended Data Fig. 5)."""

from __future__ import annotations

from typing import Any, ClassVar

from lop_sweeps.benchmarks.locomotion import Locomotion


class Walker2d(Locomotion):
    """With physics=paper, one foot has the lower friction that it had in v3 (0.9, the other 1.9)."""

    NAME: ClassVar[str] = "Walker2d-v5"
    SIZES: ClassVar[dict[str, tuple[int, int]]] = {"v5": (17, 6), "paper": (17, 6)}
    PAPER: ClassVar[dict[str, Any]] = {"xml_file": "walker2d.xml"}
