"""A method that makes the fused engine use all that it has for those who are not compiled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every


@dataclass(frozen=True)
class Looking(Intervention):
    """Halves the gradient every `period` steps."""

    period: int = 5

    def next_step(self, step: int) -> int:
        return every(self.period, step)

    def pack(self, peers: Sequence[Any], learner: Learner) -> PackedLooking:
        return PackedLooking(peers, learner)


class PackedLooking(PackedIntervention[Any]):
    def before_update(self, gradient: Tensor, step: int) -> None:
        gradient *= 0.5

    def after_update(self, step: int) -> None:
        """Nothing."""
