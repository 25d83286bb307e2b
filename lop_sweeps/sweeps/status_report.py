"""What a pack in training says of itself: in its runs' status.json, and to the progress display."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Sequence
from statistics import fmean
from typing import Any

from lop_sweeps.benchmarks.benchmark import Benchmark, steps_before
from lop_sweeps.sweeps.claim import Claim
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training import session

# Told (active runs, steps that each has just done) and, in control, the mean return of their latest episodes.
Progress = Callable[..., None]


class StatusReport:
    """Keeps status.json and the progress display up to date. returns: each run's latest, in control."""

    def __init__(
        self,
        members: Sequence[session.Member],
        claims: Sequence[Claim],
        benchmark: Benchmark,
        position: session.Position,
        on_progress: Progress,
        returns: Sequence[Collection[float]],
    ) -> None:
        self.members, self.claims, self.returns = members, claims, returns
        self.num_tasks, self.on_progress = benchmark.num_tasks, on_progress
        self.benchmark = benchmark
        self.total = steps_before(benchmark, benchmark.num_tasks)
        self.place = {"task": position.task, "step": position.step}
        self.place["steps"] = self.first = self.at(position.task, position.step)
        self.began = time.monotonic()

    def at(self, task: int, step: int) -> int:
        """How many steps a run has done that is in front of this step of this task."""
        return steps_before(self.benchmark, task) + step

    def advance(self, task: int, step: int, active: int) -> None:
        within = task == self.place["task"]  # adding up all tasks at every interval would show
        steps = self.place["steps"] + step - self.place["step"] if within else self.at(task, step)
        returns = [fmean(latest) for latest in self.returns if latest]
        self.on_progress(active, steps - self.place["steps"], *([fmean(returns)] if returns else []))
        self.place = {"task": task, "step": step, "steps": steps}

    def write(self, **changes: Any) -> None:
        elapsed = time.monotonic() - self.began
        facts = {
            **self.place,
            "num_tasks": self.num_tasks,
            "total_steps": self.total,
            "rate": (self.place["steps"] - self.first) / elapsed if elapsed > 1.0 else None,
        }
        for i, (member, claim) in enumerate(zip(self.members, self.claims, strict=True)):
            if member.failure is not None or claim.is_lost():
                continue
            facts |= saved(member)
            if self.returns and self.returns[i]:
                facts["return"] = fmean(self.returns[i])
            with contextlib.suppress(OSError):  # the run itself will say so when it has to write
                run = RunDirectory(member.directory)
                run.write_status(only_if=None if changes else "running", **facts, **changes)


def saved(member: session.Member) -> dict[str, Any]:
    """What status.json says of the log that no kill takes back."""
    return {"durable": member.durable["bytes"], "log": dict(member.durable)}
