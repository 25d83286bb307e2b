"""What an optimiser is: options for one run, and the same rule acting on a pack.

A pack keeps the parameters of all its runs in one tensor (runs, parameters); an optimiser's state has that layout
too, so that an intervention can address a unit's share of it by the parameters' names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network


class Layout(Protocol):
    """What a pack's parameters are.

    network: for the names of its parameters and its unit graph; in a pack it may hold the parameters of all runs.
    `view` gives one named parameter's share of a tensor (runs, parameters), as (runs, *shape).
    """

    network: Network
    seeds: Sequence[int]

    def view(self, flat: Tensor, name: str) -> Tensor: ...


class PackedOptimizer:
    """Base of optimisers acting on a pack: a rule writes `update`, and says which state it has.

    step_size: (runs, 1), of the next step. step: its number, counted over the whole run, from 0. pace: a factor of all
    step sizes, which `progress` has to apply (`Schedule`).
    counts: which of the names in `fresh` are step counts; methods may reset a unit's moments and let them go on.
    """

    step_size: Tensor
    step: int = 0
    pace: float = 1.0
    _whole: Tensor | None = None
    counts: frozenset[str] = frozenset()

    def attach(self, layout: Layout) -> None:
        """Called once, before a checkpoint is loaded: for rules that draw, or for which matrices are not vectors."""

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        """Take one step in place; both are (runs, parameters), and `gradient` may be overwritten."""
        raise TypeError(f"{type(self).__name__} must define update(parameters, gradient)")

    def state(self) -> dict[str, Tensor]:
        """All state, each tensor with a leading run dimension; restored by copying into these tensors."""
        return {}

    def fresh(self) -> dict[str, float]:
        """The state tensors of shape (runs, parameters) that a new unit resets, with their fresh values."""
        return {}

    def progress(self, share: float) -> None:
        """Called before steps of a task in epochs: which share of its epochs is over, for step sizes that decay.

        A rule with more than one kind of step size, or one that decays, writes it anew.
        """
        self._whole = self.step_size if self._whole is None else self._whole
        self.step_size = self._whole * self.pace

    def report(self, run: int) -> dict[str, float]:
        """Measurements of run `run` at the end of a task, for its log."""
        return {}

    def restart(self, run: int, *, counts_only: bool = False) -> None:
        """Put a run's state back to what it was before its first step; or only its step counts, if it has any.

        What does not begin at 0, or counts, defines it.
        """
        if not counts_only:
            for value in self.state().values():
                value[run] = 0

    def tidy(self) -> None:
        """Called at fixed steps (every 1,000): housekeeping that must not depend on when a checkpoint is due."""


class Optimizer:
    """Base of the options of one run's optimiser; subclasses are frozen dataclasses.

    version: raise it when a change alters results; it is part of a run's identity.
    PER_RUN: options that may differ between the runs of a pack.
    PARTS: options that are optimisers themselves, each with the names of the options that are handed on to it, where
        they are not null; for one that acts around another.
    """

    version: ClassVar[int] = 1
    PER_RUN: ClassVar[frozenset[str]] = frozenset()
    PARTS: ClassVar[Mapping[str, frozenset[str]]] = {}

    def check(self, network: Network) -> None:
        """Raise `ConfigError` if it cannot act on this network."""

    def pack(self, peers: Sequence[Any], parameters: Tensor, *, resets_units: bool) -> PackedOptimizer:
        """The acting optimiser for runs with options `peers`, of which `self` is the first.

        resets_units: whether an intervention will ask for parts of the state to be reset.
        """
        raise TypeError(f"{type(self).__name__} must define pack(peers, parameters, resets_units)")


def per_run(values: Sequence[float], like: Tensor) -> Tensor:
    """Options of the runs as a column (runs, 1) that broadcasts over parameters or units."""
    return torch.tensor(values, dtype=like.dtype, device=like.device).unsqueeze(1)


def decayed(options: Sequence[tuple[Sequence[float], float]], share: float, like: Tensor) -> Tensor:
    """Factors (runs, 1) of the step size at `share` of a task, for each run's (decay_at, decay_by)."""
    return per_run([by ** sum(share >= at for at in places) for places, by in options], like)


def check_decay(decay_at: Sequence[float], decay_by: float) -> None:
    if not isinstance(decay_at, Sequence) or isinstance(decay_at, str):
        raise ConfigError("decay_at", decay_at, "must be a list of shares of a task, such as [0.3,0.6,0.8]")
    for i, share in enumerate(decay_at):
        checks.number(f"decay_at[{i}]", share, 0.0, 1.0, above=True, below=True)
    checks.number("decay_by", decay_by, 0.0, above=True)
