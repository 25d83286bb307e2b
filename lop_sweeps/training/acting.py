"""Which interventions act at a step, and with what: both engines ask here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from torch import Tensor

from lop_sweeps.algorithms.intervention import has, next_step
from lop_sweeps.algorithms.span import ALWAYS, Span
from lop_sweeps.training.source import Source

Active = TypeVar("Active")

# The gradient belongs to the parameters that it was made at; the fused engine makes it at those that it then finds.
WROTE_TOO_EARLY = "before_update may change the gradient only: parameters are for after_optimizer and after_update"


class Actor(NamedTuple):
    """An intervention at work. position: in the order of the configuration. span: its tasks. needs: as
    `Intervention.needs`.

    The three methods of a step are None where the intervention has none of its own.
    """

    position: int
    span: Span
    next_step: Callable[[int], int | None]
    needs: frozenset[str]
    before_update: Callable[[Tensor, int], None] | None
    after_optimizer: Callable[[Tensor, int], None] | None
    after_update: Callable[[int], None] | None

    def acts_at(self, step: int) -> bool:
        return self.next_step(step) == step


def actors(options: Sequence[Any], packed: Sequence[Any], spans: Sequence[Span] = ()) -> list[Actor]:
    """Those of a pack's interventions that act within tasks; options: of its first run, one for each of `packed`."""
    found = []
    for position, (one, acting) in enumerate(zip(options, packed, strict=True)):
        methods = [
            getattr(acting, name) if has(acting, name) else None
            for name in ("before_update", "after_optimizer", "after_update")
        ]
        if any(methods):
            needs: frozenset[str] = getattr(one, "needs", frozenset())
            found.append(Actor(position, span_of(spans, position), partial(next_step, one), needs, *methods))
    return found


def span_of(spans: Sequence[Span], position: int) -> Span:
    """The tasks in which the intervention at this position acts: in all, if nothing is said of it."""
    return spans[position] if position < len(spans) else ALWAYS


def active(packed: Sequence[Active], spans: Sequence[Span], source: Source | None) -> list[Active]:
    """Those of a pack's interventions that act in the task at hand."""
    task = source.task if source else None
    return [one for position, one in enumerate(packed) if task in span_of(spans, position)]


def next_stop(found: Sequence[Actor], step: int, end: int) -> int:
    """The first step >= `step` and before `end` at which one of them acts; `end` if there is none."""
    steps = [actor.next_step(step) for actor in found]
    return min([end, *(one for one in steps if one is not None)])
