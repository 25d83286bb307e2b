"""What an intervention is: something that acts on a network besides the gradient.

One idea is one file with two classes: the options of one run (a frozen dataclass; what YAML sets), and the same idea
acting on a pack, on tensors with a leading run dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from torch import Tensor

from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer
from lop_sweeps.optimizers.optimizer import PackedOptimizer


class Learner(Protocol):
    """What an intervention may see and change of a pack in training.

    parameters: (runs, parameters). `view` gives one named parameter's share of it, or of any tensor of that layout,
    as (runs, *shape). buffers: (runs, *shape) by name. activations: of the forward pass of the current step, one
    (runs, batch, units, *positions) for each hidden layer, before dropout; valid until the next step.
    """

    network: Network
    seeds: Sequence[int]
    graph: tuple[UnitLayer, ...]
    weight_names: tuple[str, ...]
    parameter_names: tuple[str, ...]
    parameters: Tensor
    buffers: dict[str, Tensor]
    activations: list[Tensor]
    optimizer: PackedOptimizer

    def view(self, flat: Tensor, name: str) -> Tensor: ...

    def redraw(self, run: int, purpose: str, position: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Fresh parameters and buffers by name, from the network's initial law; draws of this purpose and position."""


class PackedIntervention(Protocol):
    """An intervention acting on a pack.

    It may also have a method `before_task(run: int, task: int)`, called for each run without gradients before the
    first step of each task, after the diagnostics; in control, when the rollout in which the environment has changed
    has been learned from.
    """

    def plan(self, step: int, steps: int) -> None:
        """Called before steps `step` ... `step + steps - 1` (a fixed grid, at most 1,000 at a time)."""

    def after_update(self, step: int) -> None:
        """Called after the optimiser's step number `step` (counted from 0), without gradients."""

    def state(self) -> dict[str, Tensor]:
        """All state, each tensor with a leading run dimension; restored by copying into these tensors."""

    def report(self, run: int) -> dict[str, list[float]]:
        """Measurements of run `run` since `clear_report`, for its log."""

    def clear_report(self) -> None: ...


class BetweenTasks:
    """Base of packed interventions without state that act before a task only: they add `before_task`."""

    def plan(self, step: int, steps: int) -> None:
        """Nothing to plan."""

    def after_update(self, step: int) -> None:
        """Nothing happens within a task."""

    def state(self) -> dict[str, Tensor]:
        return {}

    def report(self, run: int) -> dict[str, list[float]]:
        return {}

    def clear_report(self) -> None:
        """Nothing is reported."""


class Intervention(Protocol):
    """The options of one run."""

    version: ClassVar[int]
    PER_RUN: ClassVar[frozenset[str]]  # options that may differ between the runs of a pack

    @property
    def resets_units(self) -> bool:
        """Whether it resets the optimiser's state of single units, so that there is a step count per weight."""
        ...

    def check(self, network: Network) -> None:
        """Raise `ConfigError` if it cannot act on this network."""

    def pack(self, peers: Sequence[Intervention], learner: Learner) -> PackedIntervention: ...
