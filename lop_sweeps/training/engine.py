"""The two engines, and which of them trains a run.

`fused` is compiled and takes one run; `torch` takes packs and everything. Which one is chosen changes rounding only.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from lop_sweeps.algorithms import intervention
from lop_sweeps.algorithms.intervention import Intervention, PackedIntervention
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.algorithms.span import Span
from lop_sweeps.benchmarks.benchmark import Task
from lop_sweeps.errors import ConfigError
from lop_sweeps.fused import limits
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.schedule import PLAIN, Schedule
from lop_sweeps.training.source import Source

ENGINES = ("auto", "fused", "torch")


class Learner(intervention.Learner, Protocol):
    """The learning state of a pack, as the training protocols see it (documented in `TorchLearner`)."""

    dtype: torch.dtype
    device: torch.device
    source: Source | None
    loss: str
    interventions: list[PackedIntervention[Any]]
    spans: Sequence[Span]
    schedule: Schedule
    intervals_at_once: int

    @property
    def active(self) -> list[PackedIntervention[Any]]: ...

    def run(
        self, tasks: Sequence[Task], batch: int, first: int, start: int, steps: int, interval: int
    ) -> tuple[Tensor, Tensor, Tensor]: ...

    def probe(self, tasks: Sequence[Task], samples: int) -> list[Tensor]: ...

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]: ...

    def looking(self, *, batch_statistics: bool = False) -> AbstractContextManager[None]: ...

    def evaluating(self, parameters: Tensor | None = None) -> AbstractContextManager[None]: ...

    def tested_beside(self) -> dict[str, Tensor]: ...

    def zero_outputs(self, *more: Tensor) -> None: ...

    def score(self, output: Tensor, y: Tensor, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]: ...

    def magnitudes(self) -> Tensor: ...

    def state(self) -> dict[str, Tensor]: ...

    def load(self, run: int, state: dict[str, Tensor]) -> None: ...

    def mask(self, run: int) -> None: ...


def choose(
    asked: str,
    network: Network,
    optimizer: Optimizer,
    interventions: Sequence[Intervention],
    protocol: str,
    batch_size: int,
    *,
    schedule: Schedule = PLAIN,
    restores: bool = False,
    gpu: str = "none",
) -> tuple[str, str]:
    """The engine for what was asked (one of `ENGINES`), and why, in words that follow "because".

    restores: whether the best network of a task is put back at its end.
    gpu: whether one was asked for (asked), may be used (there), or neither (none). Raises `ConfigError` if the run
    needs an engine that it cannot have.
    """
    lazy = any(isinstance(one, ShrinkAndPerturb) and one.noise == "lazy" for one in interventions)
    obstacle = limits.obstacle(network, optimizer, interventions)
    if schedule.max_gradient_norm is not None:
        obstacle = obstacle or "it cuts no gradients (max_gradient_norm)"
    if gpu == "asked":
        obstacle = "it is for CPUs, and a GPU was asked for"
    if restores:
        obstacle = obstacle or "it cannot go back to the best network of a task (benchmark.restore_best)"
    if protocol == "control":
        obstacle = "it has no agents, and this benchmark is one of control"
    if asked == "fused" and obstacle:
        raise ConfigError("engine", "fused", f"cannot train this, because {obstacle}; use engine=auto")
    if asked == "torch" and lazy:
        raise ConfigError("engine", "torch", "cannot draw noise lazily; use noise=per_step, or engine=auto")
    if lazy and obstacle:
        allowed = f"must be per_step here: lazy noise needs the fused engine, and {obstacle}"
        raise ConfigError("algorithm.shrink_and_perturb.noise", "lazy", allowed)
    if asked != "auto":
        return asked, "it was asked for"
    if lazy:
        return "fused", "noise is drawn lazily"
    parameters = sum(parameter.numel() for parameter in network.parameters())
    against = obstacle or limits.slower(parameters, batch_size, protocol)
    if gpu == "there" and parameters > limits.LARGE:
        against = against or "packs of networks of more than a million weights are faster on the GPU that is here"
    return ("torch", against) if against else ("fused", "it is faster")
