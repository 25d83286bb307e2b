"""What the data of a task in training give to those who ask; each protocol has its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from torch import Tensor


class Source(Protocol):
    """The data of a task in training, as interventions may ask for them; each protocol has one.

    task: its index; in control that of the row of the log.
    """

    task: int

    def other_batch(self, step: int) -> tuple[Tensor, Any]: ...

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]: ...

    def epochs_over(self, step: int) -> int | None: ...

    def slope(self, output: Tensor, y: Any, run: int | None = None) -> Tensor:
        """Gradient of the mean loss with respect to outputs (runs, batch, outputs), of the same shape.

        run: whose outputs these are, if they are of one.
        """

    def losses(self, output: Tensor, y: Any) -> Tensor:
        """Mean losses (runs,) of outputs (runs, batch, outputs); in control the policy's, its entropy included."""

    def asked(self, output: Tensor) -> Tensor:
        """Of outputs (runs, batch, outputs), those that are asked for."""

    def ends_round(self, step: int) -> bool:
        """Whether update `step` is the last on what is being learned from: an epoch, a rollout, an example online."""
