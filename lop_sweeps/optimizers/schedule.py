"""What may be asked of any optimiser: gradients cut to a length, and a step size that rises and falls within a task.

The keys may stand in the node of `optimizer` whatever its class is, a user's own included: they are no options of it,
and it is built without them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from lop_sweeps import checks

if TYPE_CHECKING:  # what composes configurations needs the keys, and not torch
    from torch import Tensor


@dataclass(frozen=True)
class Schedule:
    """max_gradient_norm: a run's gradient that is longer is cut to this length before the optimiser's rule; None = as
    it is. It comes after what interventions add to the gradient.

    The other two are for training in epochs, and begin anew with each task. warm_up: share of a task's updates over
    which the step size rises linearly from 0. cosine: after that it falls to 0 along half a cosine. Both move once in
    25 updates, and go with the optimiser's own `decay_at`.
    """

    max_gradient_norm: float | None = None
    warm_up: float = 0.0
    cosine: bool = False

    def __post_init__(self) -> None:
        if self.max_gradient_norm is not None:
            checks.number("max_gradient_norm", self.max_gradient_norm, 0.0, above=True)
        checks.number("warm_up", self.warm_up, 0.0, 1.0)
        checks.flag("cosine", self.cosine)

    @property
    def moves(self) -> bool:
        """Whether step sizes change with it."""
        return self.warm_up > 0 or self.cosine

    def factor(self, begin: float, end: float) -> float:
        """Of the step size, for updates that go from share `begin` of a task to share `end`."""
        rise = min(1.0, end / self.warm_up) if self.warm_up else 1.0
        if not self.cosine or begin < self.warm_up:
            return rise
        return rise * 0.5 * (1.0 + math.cos(math.pi * (begin - self.warm_up) / (1.0 - self.warm_up)))


def cut(gradient: Tensor, longest: Tensor | float | None) -> None:
    """Shorten in place each run's gradient (runs, parameters) that is longer; longest: (runs, 1), or a number."""
    if longest is not None:
        gradient *= (longest / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)


PLAIN = Schedule()
KEYS = tuple(one.name for one in fields(Schedule))


def taken_out(node: Mapping[str, Any], known: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """A node of `optimizer` without its schedule, and what that says beyond the defaults.

    known: options of the node's class; one that has such an option itself keeps it.
    """
    given = {key: node[key] for key in KEYS if key in node and key not in known}
    rest = {key: value for key, value in node.items() if key not in given}
    return rest, {key: value for key, value in given.items() if value != getattr(PLAIN, key)}
