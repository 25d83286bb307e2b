"""My optimiser, to begin with Signum: the sign of a running mean (Bernstein et al. 2018, arXiv 1802.04434)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.optimizers.optimizer import Optimizer, PackedOptimizer, per_run


@dataclass(frozen=True)
class MyOptimizer(Optimizer):
    """m <- momentum m + (1 - momentum) (g + weight_decay theta), theta <- theta - step_size sign(m)."""

    PER_RUN = frozenset({"step_size", "momentum", "weight_decay"})  # in which runs trained side by side may differ

    step_size: float = 1e-4
    momentum: float = 0.9
    weight_decay: float = 0.0  # algorithm=l2 sets it

    def __post_init__(self) -> None:
        checks.number("step_size", self.step_size, 0.0, above=True)
        checks.number("momentum", self.momentum, 0.0, 1.0, below=True)
        checks.number("weight_decay", self.weight_decay, 0.0)

    def pack(self, peers: Sequence[MyOptimizer], parameters: Tensor, *, resets_units: bool) -> PackedMyOptimizer:
        return PackedMyOptimizer(peers, parameters)


class PackedMyOptimizer(PackedOptimizer):
    """The same for all runs of a pack at once: parameters and gradient are (runs, parameters)."""

    def __init__(self, runs: Sequence[MyOptimizer], parameters: Tensor) -> None:
        self.step_size = per_run([run.step_size for run in runs], parameters)  # (runs, 1)
        self.momentum = per_run([run.momentum for run in runs], parameters)
        self.weight_decay = per_run([run.weight_decay for run in runs], parameters)
        self.mean = torch.zeros_like(parameters)

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        gradient += self.weight_decay * parameters
        self.mean += (1 - self.momentum) * (gradient - self.mean)
        parameters -= self.step_size * self.mean.sign()

    def state(self) -> dict[str, Tensor]:
        """What checkpoints are to hold."""
        return {"mean": self.mean}

    def fresh(self) -> dict[str, float]:
        """What a unit that continual backprop or another method replaces begins with."""
        return {"mean": 0.0}
