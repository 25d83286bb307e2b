"""From configurations to packs: check every point, drop duplicates and finished runs, decide what is trained together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lop_sweeps.errors import ConfigError
from lop_sweeps.sweep.claim import is_alive
from lop_sweeps.sweep.identity import pack_key, run_id
from lop_sweeps.sweep.run_directory import FINAL, RunDirectory
from lop_sweeps.training.components import assemble

SCHEMA = 1
PACK_PARAMETERS = 500_000  # of all runs of a pack: beyond a core's cache, side by side is no faster
PACK_RUNS = 32


@dataclass(frozen=True)
class Point:
    """One run of a sweep: a checked, resolved configuration with its identity and place."""

    config: Mapping[str, Any]
    directory: RunDirectory
    pack_key: str
    parameters: int

    @property
    def num_tasks(self) -> int:
        return int(self.config["benchmark"]["num_tasks"])


@dataclass
class Plan:
    """What a sweep will do. packs: run names in order; `todo` are those of them that are not finished."""

    points: list[Point] = field(default_factory=list)
    duplicates: int = 0
    finished: int = 0
    busy: int = 0
    packs: list[Pack] = field(default_factory=list)

    @property
    def folders(self) -> list[Path]:
        return sorted({point.directory.path.parent for point in self.points})


@dataclass(frozen=True)
class Pack:
    """Runs that one process trains side by side: the folder of their sweep, all members, and those to be trained."""

    folder: Path
    members: tuple[str, ...]
    todo: tuple[str, ...]
    threads: int


def resolve(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """A composed configuration as it is stored: with its sweep's name, without the table of scales.

    choices: what was chosen in each config group.
    """
    resolved = {key: value for key, value in config.items() if key != "variants"}
    benchmark = dict(config["benchmark"] or {})
    benchmark.pop("scales", None)
    chosen = {group: choices.get(group) for group in ("benchmark", "network", "optimizer", "algorithm", "experiment")}
    name = config.get("sweep") or chosen["experiment"] or f"{chosen['benchmark']}-{config['scale']}"
    resolved |= {"benchmark": benchmark, "sweep": str(name).replace("/", "-")}
    resolved["choices"] = {group: _strings(choice) for group, choice in chosen.items()}
    return resolved


def _strings(choice: Any) -> Any:
    if isinstance(choice, str) and choice.startswith("["):  # Hydra keeps a list of choices as its text
        return [item.strip() for item in choice.strip("[]").split(",") if item.strip()]
    return list(choice) if isinstance(choice, Sequence) and not isinstance(choice, str) else choice


def make_point(resolved: Mapping[str, Any]) -> Point:
    """Check a resolved configuration and give it its identity; raises `ConfigError` or `DataError`."""
    science = {key: value for key, value in resolved.items() if key != "choices"}
    components = assemble(science)
    name = run_id(science)
    folder = Path(resolved["paths"]["sweeps"]) / resolved["sweep"]
    benchmark = {**resolved["benchmark"], "name": resolved["choices"]["benchmark"]}
    benchmark["bin_tasks"] = components.benchmark.BIN_TASKS
    stored = {"schema": SCHEMA, "run": name, **resolved, "benchmark": benchmark}
    return Point(stored, RunDirectory(folder / name), pack_key(science), components.parameters)


def check_scale(config: Mapping[str, Any], scales: Mapping[str, Any] | None) -> None:
    """Raise `ConfigError` unless the benchmark has a table for the chosen scale."""
    if scales is not None and config["scale"] not in scales:
        raise ConfigError("scale", config["scale"], f"must be one of: {', '.join(scales)}")


def is_finished(point: Point) -> bool:
    status = point.directory.status()
    return status["state"] == "diverged" or (status["state"] == "done" and status.get("task", 0) >= point.num_tasks)


def make_plan(points: Iterable[Point], workers: int, pack: int | None, threads: int) -> Plan:
    """Decide what is left to do, and in which packs; creates the directories of new runs.

    Runs that were packed before keep their pack, since its membership changes rounding. pack: runs side by side, or
    None to choose by the number of workers and the size of the network.
    """
    plan = Plan()
    unique: dict[Path, Point] = {}
    for point in points:
        plan.duplicates += point.directory.path in unique
        unique.setdefault(point.directory.path, point)
    plan.points = list(unique.values())
    waiting = []
    for point in plan.points:
        if is_finished(point):
            plan.finished += 1
        elif is_alive(point.directory.path / "lock"):
            plan.busy += 1
        else:
            waiting.append(point)
    for point in waiting:
        point.directory.create(point.config)
    started: dict[tuple[Path, tuple[str, ...], int], list[str]] = defaultdict(list)
    fresh: dict[tuple[Path, str], list[Point]] = defaultdict(list)
    for point in waiting:
        folder, saved = point.directory.path.parent, point.directory.pack()
        if saved is None:
            fresh[folder, point.pack_key].append(point)
        else:
            started[folder, tuple(saved["members"]), int(saved["threads"])].append(point.directory.name)
    for (folder, members, saved_threads), todo in started.items():
        plan.packs.append(Pack(folder, members, tuple(todo), saved_threads))
    for (folder, _), group in fresh.items():
        fits = max(1, min(PACK_RUNS, PACK_PARAMETERS // max(1, group[0].parameters)))
        size = pack or min(fits, -(-len(waiting) // workers))
        names = [point.directory.name for point in group]
        count = -(-len(names) // size)
        for i in range(count):  # as even as possible
            part = tuple(names[i * len(names) // count : (i + 1) * len(names) // count])
            plan.packs.append(Pack(folder, part, part, threads))
    return plan


def unfinished(plan: Plan) -> list[Point]:
    return [point for point in plan.points if point.directory.status()["state"] not in FINAL]
