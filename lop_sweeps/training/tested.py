"""With which parameters the networks of a pack are tested, on both engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from torch import Tensor

from lop_sweeps.algorithms.intervention import PackedIntervention, has


class Tested(ABC):
    """The part of a learner that knows of them."""

    seeds: Sequence[int]
    parameters: Tensor

    @property
    @abstractmethod
    def active(self) -> list[PackedIntervention[Any]]:
        """Those of the interventions that act in the task at hand."""

    @abstractmethod
    def looking(self, *, batch_statistics: bool = False) -> AbstractContextManager[None]:
        """While the network is looked at, nothing that belongs to learning changes."""

    def tested_beside(self) -> dict[str, Tensor]:
        """By name, further parameters (runs, parameters) that interventions want tested."""
        found = [one.tested_beside() for one in self.active if has(one, "tested_beside")]
        return {name: parameters for each in found for name, parameters in each.items()}

    @contextmanager
    def evaluating(self, parameters: Tensor | None = None) -> Iterator[None]:
        """While the network is tested: in evaluation mode, with these parameters, or those that interventions want."""
        kept = None
        if parameters is not None:
            kept = self.parameters.clone()
            self.parameters.copy_(parameters)
        for intervention in self.active if parameters is None else ():
            if not has(intervention, "evaluated_parameters"):
                continue
            for run in range(len(self.seeds)):
                other = intervention.evaluated_parameters(run)
                if other is not None:
                    kept = self.parameters.clone() if kept is None else kept
                    self.parameters[run] = other
        try:
            with self.looking():
                yield
        finally:
            if kept is not None:
                self.parameters.copy_(kept)
