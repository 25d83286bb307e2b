"""Stochastic gradient descent with momentum and L2, as PyTorch's SGD (no Nesterov, no dampening)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.optimizers.optimizer import Optimizer, PackedOptimizer, check_decay, decayed, per_run


@dataclass(frozen=True)
class SGD(Optimizer):
    """theta <- theta - step_size * b,  b <- momentum * b + g + weight_decay * theta.

    weight_decay: coefficient of the L2 term, on every parameter (biases and normalisation included).
    A new unit's momentum is not reset (as in the authors' code) unless `reset_momentum`.
    decay_at: in training by epochs, shares of each task's epochs after which the step size is multiplied by decay_by.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"step_size", "momentum", "weight_decay", "decay_at", "decay_by"})

    step_size: float = 0.01
    momentum: float = 0.0
    weight_decay: float = 0.0
    reset_momentum: bool = False
    decay_at: Sequence[float] = ()
    decay_by: float = 0.1

    def __post_init__(self) -> None:
        checks.number("step_size", self.step_size, 0.0, above=True)
        checks.number("momentum", self.momentum, 0.0, 1.0, below=True)
        checks.number("weight_decay", self.weight_decay, 0.0)
        checks.flag("reset_momentum", self.reset_momentum)
        check_decay(self.decay_at, self.decay_by)

    def pack(self, peers: Sequence[SGD], parameters: Tensor, *, resets_units: bool) -> PackedSGD:
        return PackedSGD(peers, parameters)


class PackedSGD(PackedOptimizer):
    """SGD on parameters (runs, parameters)."""

    def __init__(self, runs: Sequence[SGD], parameters: Tensor) -> None:
        self.step_size = self.undecayed = per_run([run.step_size for run in runs], parameters)
        self.negative_step_size = -self.step_size
        self.decay = [(run.decay_at, run.decay_by) for run in runs]
        self.weight_decay = per_run([run.weight_decay for run in runs], parameters)
        self.momentum = per_run([run.momentum for run in runs], parameters)
        self.decays = any(run.weight_decay for run in runs)
        self.buffer = torch.zeros_like(parameters) if any(run.momentum for run in runs) else None
        self.reset_momentum = runs[0].reset_momentum

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        if self.decays:
            gradient.addcmul_(parameters, self.weight_decay)
        if self.buffer is not None:
            gradient = self.buffer.mul_(self.momentum).add_(gradient)
        parameters.addcmul_(gradient, self.negative_step_size)

    def state(self) -> dict[str, Tensor]:
        return {} if self.buffer is None else {"momentum": self.buffer}

    def fresh(self) -> dict[str, float]:
        return {"momentum": 0.0} if self.buffer is not None and self.reset_momentum else {}

    def progress(self, share: float) -> None:
        self.step_size = self.undecayed * decayed(self.decay, share, self.undecayed) * self.pace
        self.negative_step_size = -self.step_size
