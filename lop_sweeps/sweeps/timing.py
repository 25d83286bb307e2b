"""How long a sweep will take, from training a run of each kind for a few seconds."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lop_sweeps.errors import LopError
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.planning import Pack, Point
from lop_sweeps.sweeps.run_directory import RunDirectory

SECONDS = 3.0  # of training, behind the first interval, which compiles and reads data
KINDS = 4  # runs that are timed on an engine, at most


def core_seconds(points: Sequence[Point]) -> float | None:
    """About how long one core takes for what is left of these runs; None if a run could not be timed.

    Runs that may share a pack are of a kind; of more than `KINDS` kinds on an engine, the others take as long for a
    step as these do on the average.
    """
    kinds: dict[str, dict[str, list[Point]]] = {}  # by engine
    for point in points:
        kinds.setdefault(point.engine, {}).setdefault(point.pack_key, []).append(point)
    total = 0.0
    for groups in kinds.values():
        try:
            step = {key: 1.0 / steps_per_second(group[0]) for key, group in list(groups.items())[:KINDS]}
        except LopError:
            return None
        usual = sum(step.values()) / len(step)
        total += sum(point.steps_left * step.get(key, usual) for key, group in groups.items() for point in group)
    return total


def steps_per_second(point: Point) -> float:
    """Of one run by itself, on one core of this machine, trained in a folder that is thrown away."""
    told: list[tuple[float, int]] = []

    def on_progress(runs: int, steps: int, *returns: float) -> None:
        told.append((time.monotonic(), steps))

    def enough() -> bool:
        return len(told) > 1 and told[-1][0] - told[0][0] > SECONDS

    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory(Path(folder) / point.directory.name)
        run.create(point.config, point.steps, point.identity)
        name = run.name
        pack = Pack(Path(folder), (name,), (name,), 1, point.engine, trusted=point.trusted)
        outcomes = run_pack(pack, on_progress, enough)
    if outcomes[0].state == "failed":
        raise LopError(outcomes[0].message)
    if len(told) < 2:
        return float(point.steps)
    return sum(steps for _, steps in told[1:]) / max(told[-1][0] - told[0][0], 1e-3)
