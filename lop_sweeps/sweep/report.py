"""What a sweep tells its user, before and after."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence

from lop_sweeps.errors import LopError
from lop_sweeps.sweep.execute import Outcome
from lop_sweeps.sweep.planning import Plan


def describe(plan: Plan) -> str:
    """One line: how many runs, what need not be done, where they go."""
    todo = sum(len(pack.todo) for pack in plan.packs)
    parts = [f"{len(plan.points)} run{'s' * (len(plan.points) != 1)}"]
    if plan.duplicates:
        parts.append(f"{plan.duplicates} duplicate{'s' * (plan.duplicates != 1)} dropped")
    if plan.finished:
        parts.append(f"{plan.finished} finished already")
    if plan.busy:
        parts.append(f"{plan.busy} being run by another process")
    packs = f" in {len(plan.packs)} pack{'s' * (len(plan.packs) != 1)} (engine: torch)"
    parts.append(f"{todo} to run" + (packs if todo else ""))
    folders = ", ".join(str(folder) for folder in plan.folders)
    return f"{folders}: {', '.join(parts)}"


class SweepFailed(LopError):
    """Some runs failed; the others are done."""


def finish(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Say how the runs ended; raise `SweepFailed` with a table of the failures if there are any."""
    counts = Counter(outcome.state for outcome in outcomes)
    names = {
        "done": "done",
        "diverged": "diverged (loss not finite: a result, not an error)",
        "busy": "left to another process",
    }
    parts = [f"{counts[state]} {text}" for state, text in names.items() if counts[state]]
    if parts:
        sys.stderr.write(", ".join(parts) + "\n")
    failed = [outcome for outcome in outcomes if outcome.state == "failed"]
    if failed:
        rows = [f"  {outcome.run}\n    {outcome.message}" for outcome in failed]
        advice = "the same command runs them again; tracebacks are in their status.json"
        raise SweepFailed(f"{len(failed)} of {len(outcomes)} runs failed ({advice}):\n" + "\n".join(rows))
