"""What a sweep tells its user, before and after."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from lop_sweeps.errors import LopError
from lop_sweeps.sweeps.claim import is_nobodys
from lop_sweeps.sweeps.outcome import Outcome
from lop_sweeps.sweeps.planning import Plan


def describe(plan: Plan) -> str:
    """One line: how many runs, what need not be done, where they go."""
    todo = sum(len(pack.todo) for pack in plan.packs)
    parts = [f"{len(plan.points)} run{'s' * (len(plan.points) != 1)}"]
    if plan.duplicates:
        parts.append(f"{plan.duplicates} duplicate{'s' * (plan.duplicates != 1)} dropped")
    if plan.finished:
        parts.append(f"{plan.finished} finished already")
    if plan.busy:
        parts.append(f"{plan.busy} queued or being run elsewhere")
    if plan.refused:
        parts.append(f"{len(plan.refused)} refused")
    parts.append(f"{todo} to run{_engines(plan)}")
    folders = ", ".join(str(folder) for folder in plan.folders)
    return f"{folders}: {', '.join(parts)}"


def _engines(plan: Plan) -> str:
    """How the runs will be trained: on which engine and, if that is not the faster one, why; in how many packs."""
    counts: Counter[str] = Counter()
    for pack in plan.packs:
        counts[pack.engine] += len(pack.todo)
    if not counts:
        return ""
    engines = {pack.folder / name: pack.engine for pack in plan.packs for name in pack.todo}
    reasons = {
        point.reason
        for point in plan.points
        if engines.get(point.directory.path) == point.engine == "torch" and point.config["engine"] == "auto"
    }
    texts = []
    for engine, number in sorted(counts.items()):
        text = f"{number} on the {engine} engine"
        if engine == "torch":
            packs = sum(pack.engine == "torch" for pack in plan.packs)
            text += f" in {packs} pack{'s' * (packs != 1)}"
        text += _places(plan, engine, engines)
        if engine == "torch":
            text += f", not fused because {'; '.join(sorted(reasons))}" if reasons else ""
            text += _run_by_run(plan)
        stay = sum(point.engine != engine for point in plan.points if engines.get(point.directory.path) == engine)
        text += f", {stay} of them because {'they were' if stay > 1 else 'it was'} started there" if stay else ""
        texts.append(text)
    return f" ({'; '.join(texts)})"


def _run_by_run(plan: Plan) -> str:
    """Which methods are called for each run of a pack in turn, since they are written for one."""
    in_packs = {pack.folder / name for pack in plan.packs if len(pack.members) > 1 for name in pack.todo}
    names = {name for point in plan.points if point.directory.path in in_packs for name in point.run_by_run}
    return f", {' and '.join(sorted(names))} called run by run" if names else ""


def _places(plan: Plan, engine: str, engines: Mapping[Path, str]) -> str:
    """On what the runs of an engine will be trained, and why, where there is a choice."""
    found = {
        (point.device, point.device_reason)
        for point in plan.points
        if point.device_reason and engines.get(point.directory.path) == point.engine == engine
    }
    words = {"cpu": "CPU cores", "cuda": "GPUs"}
    return "".join(f", on {words[device]} because {reason}" for device, reason in sorted(found))


class SweepFailed(LopError):
    """Some runs failed; the others are done. failed: why, by the folder of the run."""

    def __init__(self, text: str, failed: Mapping[Path, str] | None = None) -> None:
        super().__init__(text)
        self.failed = dict(failed or {})


def finish(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Say how the runs ended, and `check`."""
    counts = Counter(outcome.state for outcome in outcomes)
    names = {
        "done": "done",
        "diverged": "diverged (loss not finite: a result, not an error)",
        "busy": "left to another process",
    }
    parts = [f"{counts[state]} {text}" for state, text in names.items() if counts[state]]
    if parts:
        sys.stderr.write(", ".join(parts) + "\n")
    check(plan, outcomes)


def check(plan: Plan, outcomes: Sequence[Outcome]) -> None:
    """Raise `SweepFailed` with a table of the failures if there are any."""
    tried = {outcome.run: outcome.message for outcome in outcomes if outcome.state == "failed"}
    if tried or plan.refused:
        # What was refused is refused again: the message says what to do.
        advice = " (the same command runs what was tried again; tracebacks are in status.json)" if tried else ""
        failed = tried | plan.refused
        rows = [f"  {run}\n    {why}" for run, why in failed.items()]
        number = len(outcomes) + len(plan.refused)
        raise SweepFailed(f"{len(failed)} of {number} runs failed{advice}:\n" + "\n".join(rows), failed)
    left = [*plan.nobodys, *(outcome.run for outcome in outcomes if outcome.state == "busy")]
    if nobodys := [run for run in left if is_nobodys(run / "lock")]:
        rows = [f"  {run / 'lock'}" for run in nobodys]
        advice = "after a minute the same command runs them"
        raise SweepFailed(f"{len(nobodys)} runs are locked by nobody ({advice}):\n" + "\n".join(rows))
