"""From configurations to packs: check every point, drop duplicates and finished runs, decide what runs side by side."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lop_sweeps import checks
from lop_sweeps.benchmarks.benchmark import steps_before
from lop_sweeps.sweep import queue
from lop_sweeps.sweep.claim import is_alive
from lop_sweeps.sweep.identity import digest, pack_key, run_id, scientific
from lop_sweeps.sweep.run_directory import RunDirectory
from lop_sweeps.training.components import assemble

SCHEMA = 1
# Facts that config.yaml adds for readers: of the benchmark, and beside the components.
DESCRIPTION = ("name", "protocol", "bin_tasks", "performance", "inputs", "outputs")
FACTS = ("schema", "run", "configuration", "choices", "layers", "num_tasks")
PACK_PARAMETERS = 500_000  # of all runs of a pack: beyond a core's cache, side by side is no faster
PACK_RUNS = 32
PACK_RUNS_GPU = 64  # or fewer, if they do not fit in its memory


@dataclass(frozen=True)
class Point:
    """One run of a sweep: a checked, resolved configuration with its identity and place. steps: of the whole run.
    trusted: module prefixes that the caller trusts.
    """

    config: Mapping[str, Any]
    directory: RunDirectory
    pack_key: str
    parameters: int
    stackable: bool
    steps: int
    engine: str
    reason: str
    device: str
    trusted: tuple[str, ...] = ()

    @property
    def num_tasks(self) -> int:
        return int(self.config["num_tasks"])

    def is_finished(self) -> bool:
        return self.directory.is_finished(self.num_tasks)


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
    """Runs that one process trains: the folder of their sweep, all members, and those to be trained.

    On the torch engine they are trained in step, on `threads` threads. On the fused engine they have nothing to do
    with each other, and `threads` of them are trained at a time.
    started: whether the membership was saved by an earlier session, and so must stay as it is. device: cpu or cuda.
    trusted: module prefixes that the caller trusts, for whoever trains the pack.
    """

    folder: Path
    members: tuple[str, ...]
    todo: tuple[str, ...]
    threads: int
    engine: str
    started: bool = False
    device: str = "cpu"
    trusted: tuple[str, ...] = ()


def resolve(config: Mapping[str, Any], choices: Mapping[str, Any]) -> dict[str, Any]:
    """A composed configuration as it is stored: with its sweep's name, without the table of scales.

    choices: what was chosen in each config group.
    """
    resolved = {key: value for key, value in config.items() if key != "variants"}
    benchmark = dict(config["benchmark"] or {})
    benchmark.pop("scales", None)
    chosen = {
        group: choices.get(group) for group in ("benchmark", "network", "optimizer", "algorithm", "agent", "experiment")
    }
    experiment = str(chosen["experiment"] or "").rpartition("/")[2]
    name = config.get("sweep") or experiment or f"{chosen['benchmark']}-{config['scale']}"
    resolved |= {"benchmark": benchmark, "sweep": str(name)}
    resolved["choices"] = {**chosen, "algorithm": _names(chosen["algorithm"])}
    return resolved


def _names(choice: Any) -> list[str]:
    """The chosen algorithms; Hydra keeps a list of choices as its text."""
    if isinstance(choice, str):
        return [item.strip() for item in choice.strip("[]").split(",") if item.strip()]
    return [str(item) for item in choice or ()]


def make_point(resolved: Mapping[str, Any], trusted: Sequence[str] = ()) -> Point:
    """Check a resolved configuration and give it its identity; raises `ConfigError` or `DataError`."""
    science = {key: value for key, value in resolved.items() if key != "choices"}
    components = assemble(science, trusted)
    name = run_id(science, trusted)
    folder = Path(resolved["paths"]["sweeps"]) / resolved["sweep"]
    benchmark = {**resolved["benchmark"], "name": resolved["choices"]["benchmark"]}
    benchmark["protocol"] = components.benchmark.protocol
    benchmark["bin_tasks"] = components.benchmark.BIN_TASKS
    benchmark["performance"] = getattr(components.benchmark, "PERFORMANCE", None)
    benchmark |= {"inputs": components.benchmark.inputs, "outputs": components.benchmark.outputs}
    stored = {"schema": SCHEMA, "run": name, "configuration": digest(scientific(science, trusted)), **resolved}
    stored |= {"benchmark": benchmark, "num_tasks": components.benchmark.num_tasks}
    stored["layers"] = {"units": list(components.units), "weights": list(components.weights)}
    run = RunDirectory(folder / name)
    steps = steps_before(components.benchmark, components.benchmark.num_tasks)
    return Point(
        stored,
        run,
        pack_key(science, trusted),
        sum(components.weights),
        components.stackable,
        steps,
        components.engine,
        components.reason,
        components.device,
        tuple(trusted),
    )


def check_scale(config: Mapping[str, Any], scales: Mapping[str, Any] | None) -> None:
    """Raise `ConfigError` unless the benchmark has a table for the chosen scale."""
    if scales is not None:
        checks.choice("scale", config["scale"], scales)


def make_plan(points: Iterable[Point], workers: int, pack: int | None, threads: int, *, create: bool = True) -> Plan:
    """Decide what is left to do, and in which packs; creates the directories of new runs, unless told not to.

    A run keeps the engine that it was started on, and on the torch engine its pack, since both change rounding. pack:
    runs to a pack, or None to choose: on the torch engine by the number of workers and the size of the network, on
    the fused engine one, or a worker's share if it has several threads.
    """
    plan = Plan()
    unique: dict[Path, Point] = {}
    for point in points:
        twin = unique.get(point.directory.path)
        plan.duplicates += twin is not None
        if twin is None or twin.num_tasks < point.num_tasks:  # the shorter of two lengths is the start of the longer
            unique[point.directory.path] = point
    plan.points = list(unique.values())
    queued = queue.active_runs(point.directory for point in plan.points)
    waiting = []
    for point in plan.points:
        if point.is_finished():
            plan.finished += 1
        elif is_alive(point.directory.path / "lock") or point.directory.path in queued:
            plan.busy += 1
        else:
            waiting.append(point)
    for point in waiting if create else ():
        point.directory.create(point.config, point.steps)
    saved = {point.directory.path: point.directory.pack() for point in waiting}
    for path, pack_file in list(saved.items()):  # a kill may have come before every member's file was written
        for name in pack_file["members"] if pack_file else ():
            if (sibling := path.with_name(name)) in saved:
                saved[sibling] = saved[sibling] or pack_file
    started: dict[tuple[Path, tuple[str, ...], int, int], list[str]] = defaultdict(list)
    fresh: dict[tuple[Path, str], list[Point]] = defaultdict(list)
    fused: dict[Path, list[str]] = defaultdict(list)
    for point in waiting:
        folder, packed = point.directory.path.parent, saved[point.directory.path]
        if (packed["engine"] if packed else point.engine) == "fused":
            fused[folder].append(point.directory.name)
        elif packed is None:
            fresh[folder, point.pack_key].append(point)
        else:
            key = folder, tuple(packed["members"]), int(packed["threads"]), point.num_tasks
            started[key].append(point.directory.name)
    devices_of = {point.directory.path: point.device for point in waiting}
    for (folder, members, saved_threads, _), todo in started.items():
        device = devices_of[folder / todo[0]]
        plan.packs.append(Pack(folder, members, tuple(todo), saved_threads, "torch", started=True, device=device))
    share = -(-len(waiting) // workers)
    for (folder, _), group in fresh.items():
        if (device := group[0].device) == "cuda":
            fits = PACK_RUNS_GPU
        elif group[0].stackable:
            fits = max(1, min(PACK_RUNS, PACK_PARAMETERS // max(1, group[0].parameters)))
        else:
            fits = 1  # mapping makes grouped convolutions: slower than one run after another on a CPU
        for part in split([point.directory.name for point in group], pack or min(fits, share)):
            plan.packs.append(Pack(folder, part, part, threads, "torch", device=device))
    for folder, names in fused.items():
        for part in split(names, pack or (1 if threads == 1 else share)):
            plan.packs.append(Pack(folder, part, part, threads, "fused"))
    trusted = tuple(sorted({name for point in waiting for name in point.trusted}))
    plan.packs = [replace(pack, trusted=trusted) for pack in plan.packs]
    return plan


def split(names: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Parts of at most `size`, as even as possible."""
    count = -(-len(names) // size)
    return [tuple(names[i * len(names) // count : (i + 1) * len(names) // count]) for i in range(count)]
