"""From configurations to packs: check every point, drop duplicates and finished runs, decide what runs side by side."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from lop_sweeps import checks
from lop_sweeps.algorithms.one_run import OneRun
from lop_sweeps.benchmarks.benchmark import steps_before
from lop_sweeps.benchmarks.known_streams import known
from lop_sweeps.errors import ConfigError, LopError
from lop_sweeps.sweeps import branching, keeping, measures, queue
from lop_sweeps.sweeps.claim import is_alive, is_nobodys
from lop_sweeps.sweeps.identity import of, pack_key, scientific
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.notes import Notes
from lop_sweeps.sweeps.provenance import changed_sources, sources
from lop_sweeps.sweeps.refusal import other, other_sources, refusal, remedy
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.run_files import digest, first_task, holds_a_run, run_name
from lop_sweeps.sweeps.start import Start, located
from lop_sweeps.sweeps.tracking_check import check_tracking
from lop_sweeps.sweeps.verdict import Verdict
from lop_sweeps.training.components import assemble

log = logging.getLogger("lop")

SCHEMA = 1
PACK_PARAMETERS = 500_000  # of all runs of a pack: beyond a core's cache, side by side is no faster
PACK_RUNS = 32
PACK_RUNS_GPU = 64  # or fewer, if they do not fit in its memory
OF_SWEEPS = ("variants", "grids", "tuning")  # keys of a configuration that are no run's
STREAM, STREAM_PARTS = "stream", ("data", "change", "protocol")  # a benchmark with no name but those of its parts


@dataclass(frozen=True)
class Point:
    """One run of a sweep: a checked, resolved configuration with its identity and place. steps: of the whole run.
    trusted: module prefixes that the caller trusts. run_by_run: methods written for one run, in a pack. first_steps:
    those before its first task, of another run. measures: its diagnostics, as in `measures.of`. shown_steps: which of
    them look at single updates.
    """

    config: Mapping[str, Any]
    identity: Mapping[str, Any]
    directory: RunDirectory
    pack_key: str
    parameters: int
    packs_on: frozenset[str]
    steps: int
    engine: str
    reason: str
    device: str
    device_reason: str
    trusted: tuple[str, ...] = ()
    run_by_run: tuple[str, ...] = ()
    first_steps: int = 0
    measures: Mapping[str, Any] = field(default_factory=dict)
    shown_steps: tuple[str, ...] = ()

    @property
    def steps_left(self) -> int:
        return self.steps - max(self.first_steps, self.directory.steps_done())

    @property
    def num_tasks(self) -> int:
        return int(self.config["num_tasks"])

    def is_finished(self) -> bool:
        return self.directory.is_finished(self.num_tasks)

    def create(self) -> None:
        self.directory.create(self.config, self.steps, self.identity, self.first_steps)


@dataclass
class Plan:
    """What a sweep will do. packs: run names in order; `todo` are those of them that are not finished.

    busy: runs that somebody else has, or is to have. nobodys: those of them whose lock names nobody.
    refused: run -> why it is not trained, which is a failure of it.
    """

    points: list[Point] = field(default_factory=list)
    duplicates: int = 0
    finished: int = 0
    busy: int = 0
    nobodys: list[Path] = field(default_factory=list)
    refused: dict[Path, str] = field(default_factory=dict)
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
    if "choices" in config:
        raise ConfigError("choices", config["choices"], "is not a key of an experiment: it is written for readers")
    resolved = {key: value for key, value in config.items() if key not in OF_SWEEPS}
    benchmark = dict(config["benchmark"] or {})
    benchmark.pop("scales", None)
    chosen = {
        group: choices.get(group) for group in ("benchmark", "network", "optimizer", "algorithm", "agent", "experiment")
    }
    if chosen["benchmark"] == STREAM:
        chosen["benchmark"] = "_".join(str(choices.get(f"benchmark/{part}")) for part in STREAM_PARTS)
    if found := known(benchmark):
        chosen["benchmark"], benchmark = found
    experiment = str(chosen["experiment"] or "").rpartition("/")[2]
    given = config.get("sweep")
    name = given if given not in (None, "") else experiment or f"{chosen['benchmark']}-{config['scale']}"
    resolved |= {"benchmark": benchmark, "sweep": str(name)}
    resolved["choices"] = {**chosen, "algorithm": names_of(chosen["algorithm"])}
    return resolved


def names_of(choice: Any) -> list[str]:
    """The chosen algorithms: one name, a list, or the text of a list."""
    if isinstance(choice, str):
        return [item.strip() for item in choice.strip("[]").split(",") if item.strip()]
    return [str(item) for item in choice or ()]


def make_point(resolved: Mapping[str, Any], trusted: Sequence[str] = (), *, data: bool = True) -> Point:
    """Check a resolved configuration and give it its identity; raises `ConfigError` or `DataError`.

    data: also check that the data set is there.
    """
    science = {key: value for key, value in resolved.items() if key != "choices"}
    components = assemble(science, trusted, data=data)
    check_tracking(science)
    folder = Path(resolved["paths"]["sweeps"]) / resolved["sweep"]
    alone = partial(scientific, science | {"start": None}, trusted)
    begins = {"start": located(resolved.get("start"), folder, resolved["seed"], alone)}
    identity = of(science | begins, trusted)
    name = run_name(**identity)
    benchmark = {**resolved["benchmark"], "name": resolved["choices"]["benchmark"]}
    benchmark["protocol"] = components.benchmark.protocol
    benchmark["bin_tasks"] = components.benchmark.BIN_TASKS
    benchmark["performance"] = getattr(components.benchmark, "PERFORMANCE", None)
    numbers = {"inputs": components.benchmark.inputs, "outputs": components.benchmark.outputs}
    benchmark = {**numbers, **benchmark}  # an option of that name is what it is
    stored = {"schema": SCHEMA, "run": name, "configuration": digest(identity["science"]), **resolved, **begins}
    stored |= {"benchmark": benchmark, "num_tasks": components.benchmark.num_tasks, "seed": identity["seed"]}
    sizes = {name: list(getattr(components, name)) for name in ("units", "features", "weights")}
    stored["layers"] = {**numbers, **sizes}
    run = RunDirectory(folder / name)
    steps, first = (
        steps_before(components.benchmark, task) for task in (components.benchmark.num_tasks, first_task(identity))
    )
    if start := Start.of(stored):
        stored["parent"] = branching.parent_of(start, run, identity, components)
    measured = measures.of(science, trusted)
    return Point(
        stored,
        identity,
        run,
        digest([pack_key(science | begins, trusted), measured]),
        sum(components.weights),
        components.packs_on,
        steps,
        components.engine,
        components.reason,
        components.device,
        components.device_reason,
        tuple(trusted),
        tuple(type(one).__name__ for one in components.interventions if isinstance(one, OneRun)),
        first,
        measured,
        tuple(key for key, one in components.diagnostics if "steps" in one.needs),
    )


def check_scale(config: Mapping[str, Any], scales: Mapping[str, Any] | None) -> None:
    """Raise `ConfigError` unless the benchmark has a table for the chosen scale."""
    if scales is not None:
        checks.choice("scale", config["scale"], scales)


def make_plan(points: Iterable[Point], workers: int, pack: int | None, threads: int, *, create: bool = True) -> Plan:
    """Decide what is left to do, and in which packs; creates the directories of new runs, unless told not to.

    A run keeps the engine that it was started on, and on the torch engine its pack, since both change rounding; what
    that engine cannot measure is refused. pack:
    runs to a pack, or None to choose: on the torch engine by the number of workers and the size of the network, on
    the fused engine one, or a worker's share if it has several threads.
    """
    plan = Plan()
    unique: dict[Path, Point] = {}
    for point in points:
        twin = unique.get(point.directory.path)
        plan.duplicates += twin is not None
        if twin is not None:
            measures.check_one_set({twin.directory.path: twin.measures}, point.directory.path, point.measures)
        if twin is None or twin.num_tasks < point.num_tasks:  # the shorter of two lengths is the start of the longer
            unique[point.directory.path] = point
    plan.points = list(unique.values())
    waiting = _unfinished(plan)
    if create:
        waiting = [point for point in waiting if _is_created(point, plan)]
    saved = {point.directory.path: point.directory.pack() for point in waiting}
    for path, pack_file in list(saved.items()):  # a kill may have come before every member's file was written
        for name in pack_file["members"] if pack_file else ():
            if (sibling := path.with_name(name)) in saved:
                saved[sibling] = saved[sibling] or pack_file
    started: dict[tuple[Path, tuple[str, ...], int, int, str], list[str]] = defaultdict(list)
    fresh: dict[tuple[Path, str], list[Point]] = defaultdict(list)
    fused: dict[Path, list[str]] = defaultdict(list)
    for point in waiting:
        folder, packed = point.directory.path.parent, saved[point.directory.path]
        on_fused = (packed["engine"] if packed else point.engine) == "fused"
        if on_fused and point.shown_steps:
            plan.refused[point.directory.path] = (
                f"diagnostics.{point.shown_steps[0]} looks at each update, which the fused engine does not show, and "
                "the run was started there; it goes on without this diagnostic, or anew with engine=torch sweep=NAME"
            )
        elif on_fused:
            fused[folder].append(point.directory.name)
        elif packed is None:
            fresh[folder, point.pack_key].append(point)
        else:
            members, measured = tuple(packed["members"]), digest(point.measures)
            key = folder, members, int(packed["threads"]), point.num_tasks, measured
            started[key].append(point.directory.name)
    devices_of = {point.directory.path: point.device for point in waiting}
    for (folder, members, saved_threads, _, _), todo in started.items():
        device = devices_of[folder / todo[0]]
        plan.packs.append(Pack(folder, members, tuple(todo), saved_threads, "torch", started=True, device=device))
    share = -(-len(waiting) // workers)
    for (folder, _), group in fresh.items():
        device = group[0].device
        if device not in group[0].packs_on:
            fits = 1
        elif device == "cuda":
            fits = PACK_RUNS_GPU
        else:
            fits = max(1, min(PACK_RUNS, PACK_PARAMETERS // max(1, group[0].parameters)))
        for part in split([point.directory.name for point in group], pack or min(fits, share)):
            plan.packs.append(Pack(folder, part, part, threads, "torch", device=device))
    for folder, names in fused.items():
        for part in split(names, pack or (1 if threads == 1 else share)):
            plan.packs.append(Pack(folder, part, part, threads, "fused"))
    trusted = tuple(sorted({name for point in waiting for name in point.trusted}))
    plan.packs = [replace(pack, trusted=trusted) for pack in plan.packs]
    return plan


def _unfinished(plan: Plan) -> list[Point]:
    """The plan's points that are to be trained here; the others are counted in it."""
    queued = queue.active_runs(point.directory for point in plan.points)
    for trusted in {point.trusted for point in plan.points}:
        sources(trusted)  # as they are now, for workers that are forked from this process
    waiting: list[Point] = []
    outdated: dict[str, list[str]] = defaultdict(list)
    missed = keeping.Missed()
    unmeasured: Counter[tuple[str, ...]] = Counter()
    with ExitStack() as stack:
        notes = {folder: stack.enter_context(Notes(folder)) for folder in plan.folders}
        for point in plan.points:
            run = point.directory
            try:
                taken = is_alive(run.path / "lock") or run.path in queued
            except OSError as error:  # a folder that may not be entered, say
                plan.refused[run.path] = str(error)
                continue
            begun = holds_a_run(run.path)
            verdict = look(run.path, notes[run.path.parent]) if begun else Verdict(run.path)
            missed.update([keeping.past(run.path, point.config, verdict.status, first_task(point.identity))])
            text = refusal(run, verdict, point.trusted) if begun else ""
            if begun and not text and run.is_finished(point.num_tasks, verdict):
                plan.finished += 1
                for file in changed_sources(run, point.trusted):
                    outdated[file].append(run.name)
                if lacking := measures.lacking(run, point.measures):
                    unmeasured[tuple(lacking)] += 1
            elif taken:
                plan.busy += 1
                plan.nobodys += [run.path] if is_nobodys(run.path / "lock") else []
            elif text or (text := other_sources(run, point.config, point.trusted)):
                plan.refused[run.path] = text
            else:
                if verdict.problem:
                    log.warning("%s/%s; %s", run.path, verdict.problem, remedy(verdict))
                waiting.append(point)
    del missed[()]
    for line in keeping.missed_words(missed):
        log.warning(line)
    for keys, count in unmeasured.items():
        what = f"{count} finished run{'s were' if count > 1 else ' was'} not measured by {', '.join(keys)}"
        log.warning("%s with these options; nothing is trained again for that: another sweep=NAME measures it", what)
    for file, names in outdated.items():
        log.warning("%s; nothing is run again: raise `version` there if its results are others", other(file, names))
    return waiting


def _is_created(point: Point, plan: Plan) -> bool:
    """Whether the folder of a run could be made or brought up to date; a run whose folder is there is refused if not.

    Raises `LopError` if not even a new folder can be made.
    """
    begun = holds_a_run(point.directory.path)
    try:
        point.create()
    except LopError as error:
        if not begun:
            raise
        plan.refused[point.directory.path] = str(error)
        return False
    return True


def split(names: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Parts of at most `size`, as even as possible."""
    count = -(-len(names) // size)
    return [tuple(names[i * len(names) // count : (i + 1) * len(names) // count]) for i in range(count)]
