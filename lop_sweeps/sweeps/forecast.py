"""How large a sweep is, before it runs: a word of warning, and the plan that `hydra.launcher.plan=true` shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lop_sweeps.sweeps.planning import Plan, Point
from lop_sweeps.sweeps.progress import duration
from lop_sweeps.sweeps.timing import core_seconds

MANY = 300  # runs
LONG = 2 * 3600.0  # seconds
# What a step of one run takes at the least on one core: so much, and so much for each weight. Guessed from
# docs/performance.md; the forecast of the plan measures.
STEP = {"fused": 3e-6, "torch": 2e-5}
WEIGHT = 1e-10


def warning(plan: Plan, workers: int) -> str:
    """A line about a sweep of very many runs, or of hours; empty for others."""
    todo = left(plan)
    seconds = sum(
        point.steps_left * (STEP[point.engine] + WEIGHT * point.parameters) for point in todo if point.device == "cpu"
    )
    seconds /= max(1, min(workers, len(todo)))
    if len(todo) <= MANY and seconds < LONG:
        return ""
    time = f", at least {duration(seconds)} on {workers} worker{'s' * (workers != 1)}" if seconds >= LONG else ""
    advice = "hydra.launcher.plan=true shows the plan and runs nothing; Ctrl-C stops, and the same command goes on"
    return f"a large sweep: {len(todo)} run{'s' * (len(todo) != 1)} to go{time} ({advice})"


def left(plan: Plan) -> list[Point]:
    """The points that will be trained."""
    todo = {pack.folder / name for pack in plan.packs for name in pack.todo}
    return [point for point in plan.points if point.directory.path in todo]


def forecast(plan: Plan, workers: int) -> str:
    """What would be trained here, and about how long it would take, in words."""
    todo = left(plan)
    lines = [f"would train {len(todo)} runs in {len(plan.packs)} packs on {workers} workers"]
    lines += [f"  {count:5} {name}" for name, count in Counter(map(name_of, todo)).items()]
    return "\n".join([*lines, time_of(todo, workers)])


def name_of(point: Point) -> str:
    """What tells the methods of a sweep apart: the variant, or the algorithms."""
    algorithms = point.config["choices"]["algorithm"]
    return str(point.config.get("variant") or "+".join(algorithms) or "backprop")


def time_of(todo: Sequence[Point], shares: float, share: str = "in all") -> str:
    """About how long these runs take on one core, and how long if `shares` do it at a time."""
    seconds = core_seconds(todo) if todo else 0.0
    if seconds is None:
        return "  how long that takes cannot be said: a run could not be timed here"
    return f"  about {duration(seconds)} of one core like this one, {duration(seconds / max(1.0, shares))} {share}"
