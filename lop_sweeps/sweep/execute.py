"""Run a pack in this process: claim its runs, restore them, train, and leave each in a truthful state."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from lop_sweeps.benchmarks.benchmark import Benchmark, steps_before
from lop_sweeps.data import data_root
from lop_sweeps.errors import CheckpointError, ClaimLost, Interrupted
from lop_sweeps.home import at_home
from lop_sweeps.sweep import provenance, queue
from lop_sweeps.sweep.claim import Claim, Heartbeat, check_held
from lop_sweeps.sweep.planning import DESCRIPTION, FACTS, Pack, split
from lop_sweeps.sweep.run_directory import RunDirectory
from lop_sweeps.training import checkpoint, devices, session
from lop_sweeps.training.components import Components, assemble, make_learner
from lop_sweeps.training.control import Control
from lop_sweeps.training.metrics_log import MetricsLog
from lop_sweeps.training.train import first_interval, train

log = logging.getLogger("lop")

_LOADING = threading.Lock()  # runs in several threads share what the first of them has loaded

# Told (active runs, steps that each has just done) and, in control, the mean return of their latest episodes.
Progress = Callable[..., None]


@dataclass(frozen=True)
class Outcome:
    """How work on one run ended: done, diverged, failed, interrupted, or busy (another process has it)."""

    run: Path
    state: str
    message: str = ""


def run_pack(pack: Pack, on_progress: Progress, should_stop: Callable[[], bool]) -> list[Outcome]:
    """Train the pack's unfinished runs to their end, or until `should_stop`; one outcome for each."""
    if pack.device == "cuda" and not pack.started and len(pack.todo) > 1:
        parts = split(pack.todo, _runs_that_fit(pack))
        packs = [replace(pack, members=part, todo=part) for part in parts]
        return [outcome for part in packs for outcome in _run_in_step(part, on_progress, should_stop)]
    if pack.engine != "fused":
        return _run_in_step(pack, on_progress, should_stop)
    lock = threading.Lock()

    def on_progress_of_one(*progress: Any) -> None:
        with lock:
            on_progress(*progress)

    def run_one(name: str) -> list[Outcome]:
        if should_stop():
            return [Outcome(pack.folder / name, "interrupted")]
        alone = replace(pack, members=(name,), todo=(name,), started=True)
        try:
            return _run_in_step(alone, on_progress_of_one, should_stop)
        except Exception as error:  # its folder is gone, say: the others go on
            return [_fail(RunDirectory(pack.folder / name), error)]

    if pack.threads == 1:
        return [outcome for name in pack.todo for outcome in run_one(name)]
    with ThreadPoolExecutor(pack.threads) as pool:
        return [outcome for outcomes in pool.map(run_one, pack.todo) for outcome in outcomes]


def _run_in_step(pack: Pack, on_progress: Progress, should_stop: Callable[[], bool]) -> list[Outcome]:
    """`run_pack` for runs that are trained side by side.

    If a pack fails, its runs are tried again one by one, from their last checkpoints, so that only the one that fails
    alone is lost; if there was not enough memory for it, in halves.
    """
    claims = {name: Claim(pack.folder / name) for name in pack.todo}
    taken, outcomes = [], []
    for name in pack.todo:
        run = RunDirectory(pack.folder / name)
        if not claims[name].take():
            outcomes.append(Outcome(run.path, "busy"))
        elif run.is_finished():  # by another process, since the sweep was planned
            claims[name].release()
            outcomes.append(Outcome(run.path, str(run.status()["state"])))
        else:
            taken.append(name)
    held = [claims[name] for name in taken]
    if not taken:
        return outcomes
    members = pack.members if pack.started else tuple(taken)
    claimed = replace(pack, members=members, todo=tuple(taken))
    try:
        failure = None
        try:
            for part, payloads in _parts(claimed):
                its_claims = [claims[name] for name in part.todo]
                outcomes += _train(part, payloads, its_claims, on_progress, should_stop)
        except Exception as error:  # whatever a run does, the sweep goes on
            failure = error
        if failure is not None:
            outcomes += _after_failure(claimed, outcomes, claims, failure, on_progress, should_stop)
    finally:
        for claim in held:
            claim.release()
    return outcomes


def _after_failure(
    pack: Pack,
    outcomes: Sequence[Outcome],
    claims: dict[str, Claim],
    failure: Exception,
    on_progress: Progress,
    should_stop: Callable[[], bool],
) -> list[Outcome]:
    """What becomes of the runs of a pack that failed after some of them had ended with `outcomes`."""
    ended = {outcome.run.name for outcome in outcomes}
    left = [name for name in pack.todo if name not in ended]
    lost = [name for name in left if not claims[name].held()]
    busy = [Outcome(pack.folder / name, "busy", str(failure)) for name in lost]
    left = [name for name in left if name not in lost]
    full = isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
    if len(pack.members) == 1 or full or isinstance(failure, ClaimLost):
        return busy + [_fail(RunDirectory(pack.folder / name), failure) for name in left]
    return busy + _in_parts(pack, left, claims, failure, on_progress, should_stop)


def _in_parts(
    pack: Pack,
    names: Sequence[str],
    claims: dict[str, Claim],
    error: Exception,
    on_progress: Progress,
    should_stop: Callable[[], bool],
) -> list[Outcome]:
    """After a pack has failed: its runs in smaller packs, which are recorded, since they change rounding."""
    parts = split(names, -(-len(names) // 2) if _is_lack_of_memory(error) else 1)
    for part in parts:
        for name in part:
            run = RunDirectory(pack.folder / name)
            with contextlib.suppress(OSError):  # if nothing can be written, the run itself will say so
                run.write_status(state="waiting")
                run.write_pack(list(part), pack.threads, pack.engine)
                provenance.end_session(run, f"pack split after {type(error).__name__}: {error}")
    traceback.clear_frames(error.__traceback__)  # they hold the pack that did not fit
    if pack.device == "cuda":
        torch.cuda.empty_cache()
    for name in names:
        claims[name].release()
    smaller = [replace(pack, members=part, todo=part, started=True) for part in parts]
    return [outcome for part in smaller for outcome in _run_in_step(part, on_progress, should_stop)]


def _is_lack_of_memory(error: Exception) -> bool:
    """PyTorch's allocator for CPUs says so in a RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def _runs_that_fit(pack: Pack) -> int:
    """How many of a new pack's runs have room on the GPU, by what a step of one and of two of them takes."""
    config = RunDirectory(pack.folder / pack.todo[0]).config()
    components = assemble(_science(config), pack.trusted)
    components.benchmark.load(data_root(config["paths"].get("data")))

    def step(runs: int) -> None:
        learner = make_learner([components] * runs, range(runs), pack.engine, pack.device)
        control = None
        if components.benchmark.protocol == "control" and components.agent:
            members = [session.Member(pack.folder / name, 0) for name in pack.todo[:runs]]
            control = Control(components.benchmark, [components.agent] * runs, members)
        first_interval(learner, components.benchmark, range(runs), control)

    return devices.runs_that_fit(step)


def _fail(run: RunDirectory, error: Exception) -> Outcome:
    described = {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    with contextlib.suppress(OSError):  # a full disk, say: the message still reaches the screen
        run.write_status(state="failed", error=described)
        provenance.end_session(run, "failed")
    return Outcome(run.path, "failed", f"{type(error).__name__}: {error}")


def _train(
    pack: Pack,
    payloads: dict[str, dict[str, Any]],
    claims: Sequence[Claim],
    on_progress: Progress,
    should_stop: Callable[[], bool],
) -> list[Outcome]:
    """Train `pack.todo` from the checkpoints `payloads`, one for each of them at one position, or none at all."""
    torch.set_num_threads(1 if pack.engine == "fused" else pack.threads)
    runs = {name: RunDirectory(pack.folder / name) for name in pack.todo}
    configs = {name: runs[name].config() for name in pack.todo}
    components = {name: assemble(_science(config), pack.trusted) for name, config in configs.items()}
    first = pack.todo[0]
    benchmark = components[first].benchmark
    with _LOADING:
        benchmark.load(data_root(configs[first]["paths"].get("data")))
    # A masked slot computes with zeros: any run of this shape will do for it.
    seeds = [int(configs.get(name, configs[first])["seed"]) for name in pack.members]
    of_members = [components.get(name, components[first]) for name in pack.members]
    learner = make_learner(of_members, seeds, pack.engine, pack.device)

    members = []
    for name, seed in zip(pack.members, seeds, strict=True):
        member = session.Member(pack.folder / name, seed, active=name in pack.todo)
        if member.active:
            size, checksum = payloads[name]["metrics"] if payloads else (0, 0)
            member.log = MetricsLog(member.directory, (size, checksum))
            member.durable = size
        members.append(member)
    control = None
    if benchmark.protocol == "control":
        control = Control(benchmark, [one.agent for one in of_members if one.agent], members)
    position = session.Position()
    if payloads:
        in_order = [payloads.get(name) for name in pack.members]
        session.restore(learner, in_order, control)
        position = session.Position.restore(in_order)
    for name in pack.todo:
        runs[name].write_pack(list(pack.members), pack.threads, pack.engine)
        if "SLURM_JOB_ID" not in os.environ:
            queue.forget(runs[name])
        began_at = {"task": position.task, "step": position.step}
        provenance.begin_session(runs[name], engine=pack.engine, pack=len(pack.members), **began_at)

    todo = [runs[name] for name in pack.todo]
    latest = [control.environments.latest[pack.members.index(run.name)] for run in todo] if control else []
    at_work = [members[pack.members.index(name)] for name in pack.todo]
    report = _Report(at_work, claims, benchmark, position, on_progress, latest)
    options = configs[pack.todo[0]]["checkpoint"]
    clock = session.Clock(float(options["first"]), float(options["every"]))

    def on_interval(task: int, step: int) -> None:
        report.advance(task, step, sum(member.active for member in members))
        for member in members:
            if member.diverged and member.log is not None:
                task, step = member.diverged
                _end(
                    RunDirectory(member.directory),
                    "diverged",
                    member,
                    task=task,
                    step=step,
                    steps=report.at(task, step),
                )

    report.write(state="running", error=None)
    try:
        with Heartbeat(claims, report.write):
            held = partial(check_held, claims)
            train(learner, benchmark, members, position, clock, on_interval, should_stop, held, control)
    except Interrupted:
        for member in members:
            if member.active:
                _end(RunDirectory(member.directory), "waiting", member, **report.place)
    except Exception:
        report.write()  # how far it is saved, which the last heartbeat may not have known
        raise
    else:
        for member in members:
            if member.active:
                _end(RunDirectory(member.directory), "done", member, **report.place)
    finally:
        for member in members:
            if member.log is not None:
                member.log.close()
    return [Outcome(run.path, _outcome(run)) for run in todo]


def _science(config: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration as `assemble` takes it."""
    benchmark = {key: value for key, value in config["benchmark"].items() if key not in DESCRIPTION}
    rest = {key: value for key, value in config.items() if key not in FACTS}
    return {**rest, "benchmark": benchmark}


def _outcome(run: RunDirectory) -> str:
    state = str(run.status()["state"])
    return "interrupted" if state == "waiting" else state


def _end(run: RunDirectory, state: str, member: session.Member, **position: Any) -> None:
    if member.log is not None:
        member.log.sync()
        member.durable = member.log.position[0]
        member.log.close()
        member.log = None
    run.write_status(state=state, rate=None, durable=member.durable, **position)
    provenance.end_session(run, state)


def _usable_checkpoints(run: RunDirectory) -> list[dict[str, Any]]:
    """A run's readable checkpoints, newest first, of which the log still holds the rows that they cover."""
    usable = []
    for payload in checkpoint.load_all(run.path):
        with contextlib.suppress(CheckpointError):
            MetricsLog.check(run.path, tuple(payload["metrics"]))
            usable.append(payload)
    return usable


def _parts(pack: Pack) -> list[tuple[Pack, dict[str, dict[str, Any]]]]:
    """The pack's unfinished runs by position, with their checkpoints (none at the start).

    Each part is trained with the others masked, which changes no byte. A kill between two runs' saves leaves some of
    them one checkpoint ahead: these go back to the one that all have. Runs that were trained further on their own do
    not, and runs without a usable checkpoint start over.
    """
    usable = {name: _usable_checkpoints(RunDirectory(pack.folder / name)) for name in pack.todo}
    at = {name: _position(found[0]) for name, found in usable.items() if found}

    def is_complete(payload: dict[str, Any], *, first: bool) -> bool:
        """Whether every run that was being saved with it got there."""
        others = [other for other in payload["together"] if other in usable]
        return all(at[other] >= _position(payload) if other in at else not first for other in others)

    parts: dict[tuple[int, int], dict[str, dict[str, Any]]] = {}
    starting: list[str] = []
    for name, found in usable.items():
        payload = next((one for one in found if is_complete(one, first=len(found) == 1)), None)
        if payload is None:
            _start_over(RunDirectory(pack.folder / name), lost=not found)
            starting.append(name)
        else:
            checkpoint.go_back_to(pack.folder / name, payload)
            parts.setdefault(_position(payload), {})[name] = payload
    groups = [(replace(pack, todo=tuple(payloads)), payloads) for payloads in parts.values()]
    return [*groups, *([(replace(pack, todo=tuple(starting)), {})] if starting else [])]


def _position(payload: dict[str, Any]) -> tuple[int, int]:
    return payload["task"], payload["step"]


def _start_over(run: RunDirectory, *, lost: bool) -> None:
    """Remove checkpoints that cannot be used. If there were others (lost), the log that they made is kept aside."""
    files = list(run.path.glob("checkpoint*.pt"))
    for file in files:
        file.unlink()
    if lost and (files or run.status()["state"] == "done") and (kept := MetricsLog.set_aside(run.path)):
        log.warning("%s starts over: its checkpoints are damaged or deleted; its log is now %s", run.name, kept.name)


class _Report:
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
            if not claim.held():
                continue
            facts["durable"] = member.durable
            if self.returns and self.returns[i]:
                facts["return"] = fmean(self.returns[i])
            with contextlib.suppress(OSError):  # the run itself will say so when it has to write
                run = RunDirectory(member.directory)
                run.write_status(only_if=None if changes else "running", **facts, **changes)


def components_of(config: dict[str, Any], trusted: Sequence[str] = ()) -> Components:
    """What a run with this stored configuration consists of, whether or not its data are here."""
    return assemble(_science(config), trusted, data=False)


def load_run(path: str | Path, trusted: Sequence[str] = ()) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The trained network of a run, in evaluation mode, and its configuration.

    trusted: modules outside this package that its components may come from, such as ["my_idea"]; what the run's own
    files say about that is not believed, and `ConfigError` is raised for components of other modules.
    Raises `CheckpointError` if the run has no readable checkpoint (not started, or pruned).
    """
    run = RunDirectory(Path(at_home("path", str(path))))
    config = run.config()
    payloads = checkpoint.load_all(run.path)
    if not payloads:
        raise CheckpointError(f"{run.path} has no readable checkpoint")
    learner = make_learner([components_of(config, trusted)], [int(config["seed"])], "torch")
    session.restore(learner, payloads[:1])
    return learner.network.eval(), config
