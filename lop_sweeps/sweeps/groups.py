"""Plans in which runs that belong together share packs with no others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lop_sweeps.sweeps.planning import Plan, Point, make_plan


def make_plan_in_groups(
    groups: Iterable[Sequence[Point]], pack: int | None, threads: int, *, create: bool = True
) -> Plan:
    """A plan in which no pack has runs of two groups; those of one share as many packs as they need."""
    whole = Plan()
    for group in groups:
        part = make_plan(group, 1, pack, threads, create=create)
        whole.points += part.points
        whole.duplicates += part.duplicates
        whole.finished += part.finished
        whole.busy += part.busy
        whole.nobodys += part.nobodys
        whole.refused |= part.refused
        whole.packs += part.packs
    return whole
