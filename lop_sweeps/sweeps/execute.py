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
from lop_sweeps.errors import CheckpointError, ClaimLost, IdentityError, Interrupted, LogChanged, SourcesChanged
from lop_sweeps.home import at_home
from lop_sweeps.sweeps import integrity, measures, provenance, queue
from lop_sweeps.sweeps.claim import Claim, Heartbeat, check_held
from lop_sweeps.sweeps.identity import compare, configured
from lop_sweeps.sweeps.planning import Pack, other_sources, split
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training import checkpoint, devices, session
from lop_sweeps.training.checkpoint_file import CHECKPOINT
from lop_sweeps.training.components import Components, assemble, make_learner
from lop_sweeps.training.control import Control
from lop_sweeps.training.measuring import Measuring
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
        try:
            if not claims[name].take():
                outcomes.append(Outcome(run.path, "busy"))
                continue
            if run.is_finished():  # by another process, since the sweep was planned
                outcomes.append(Outcome(run.path, str(run.status()["state"])))
            else:
                verify(run, pack.trusted)
                taken.append(name)
                continue
        except Exception as error:  # its folder is gone, or not what it was: the others go on
            outcomes.append(_fail(run, error))
        claims[name].release()
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
    lost = [name for name in left if not _is_held(claims[name])]
    busy = [Outcome(pack.folder / name, "busy", str(failure)) for name in lost]
    left = [name for name in left if name not in lost]
    full = isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
    if len(pack.members) == 1 or full or isinstance(failure, ClaimLost):
        return busy + [_fail(RunDirectory(pack.folder / name), failure) for name in left]
    return busy + _in_parts(pack, left, claims, failure, on_progress, should_stop)


def _is_held(claim: Claim) -> bool:
    try:
        return claim.held()
    except OSError:  # cannot be read, which is no loss
        return True


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
    components = assemble(configured(config), pack.trusted)
    components.benchmark.load(data_root(config["paths"].get("data")))

    def step(runs: int) -> None:
        learner = make_learner([components] * runs, range(runs), pack.engine, pack.device)
        control = None
        if components.benchmark.protocol == "control" and components.agent:
            members = [session.Member(pack.folder / name, 0) for name in pack.todo[:runs]]
            control = Control(components.benchmark, [components.agent] * runs, members)
        measuring = Measuring(learner, [components] * runs, pack.engine)
        first_interval(learner, components.benchmark, range(runs), control, measuring)

    return devices.runs_that_fit(step)


def _fail(run: RunDirectory, error: Exception) -> Outcome:
    described = {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    lost: dict[str, Any] = {"durable": 0, "log": None} if isinstance(error, LogChanged) else {}
    with contextlib.suppress(OSError):  # a full disk, say: the message still reaches the screen
        if run.status()["state"] not in integrity.FINAL:  # what is finished stays so, though it cannot be extended
            run.write_status(state="failed", error=described, **lost)
            provenance.end_session(run, "failed")
    return Outcome(run.path, "failed", f"{type(error).__name__}: {error}")


def verify(run: RunDirectory, trusted: Sequence[str]) -> None:
    """Raise `IdentityError` unless a run's folder is itself, and what today's code would train under its name.

    Raises `SourcesChanged` if it would go on with other source files of the user's than it was begun with.
    """
    verdict = integrity.look(run.path)
    if problem := verdict.of_experiment:
        raise IdentityError(f"{run.path}/{problem}")
    config = run.config()
    if older := _other_versions(run, config, verdict, trusted):
        raise IdentityError(f"{run.path} was begun with {', '.join(older)}; the same command begins another run")
    if text := other_sources(run, config, trusted):
        raise SourcesChanged(text)


def _other_versions(
    run: RunDirectory, config: dict[str, Any], verdict: integrity.Verdict, trusted: Sequence[str]
) -> list[str]:
    """`identity.compare`, with the file named."""
    try:
        return compare(config, run.name, verdict.identity, trusted)
    except IdentityError as error:
        raise IdentityError(f"{run.path / integrity.CONFIG}: {error}") from error


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
    components = {name: assemble(configured(config), pack.trusted) for name, config in configs.items()}
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
            if int(runs[name].status().get("durable") or 0) > size:  # said before, so that nothing is missing meanwhile
                record = {"rows": MetricsLog.check(member.directory, (size, checksum)), "bytes": size}
                runs[name].write_status(state="waiting", durable=size, log={**record, "crc32": checksum})
            member.log = MetricsLog(member.directory, (size, checksum))
            member.durable = member.log.record
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
        measured = measures.of(configs[name], pack.trusted)
        measures.record(runs[name], measured, components[name].diagnostics, position.task + (position.step > 0))
        if "SLURM_JOB_ID" not in os.environ:
            queue.forget(runs[name])
        began_at = {"task": position.task, "step": position.step}
        own = _own_sources(configs[name], pack.trusted)
        provenance.begin_session(runs[name], engine=pack.engine, pack=len(pack.members), **began_at, **own)

    todo = [runs[name] for name in pack.todo]
    latest = [control.environments.latest[pack.members.index(run.name)] for run in todo] if control else []
    at_work = [members[pack.members.index(name)] for name in pack.todo]
    report = _Report(at_work, claims, benchmark, position, on_progress, latest)
    options = configs[pack.todo[0]]["checkpoint"]
    clock = session.Clock(float(options["first"]), float(options["every"]))

    failed: dict[str, Outcome] = {}

    def fail(member: session.Member, error: Exception) -> None:
        if member.log is not None:
            member.log.close()
            member.log = None
            member.durable = dict.fromkeys(member.durable, 0)
            failed[member.directory.name] = _fail(RunDirectory(member.directory), error)

    def end(member: session.Member, state: str, **place: Any) -> None:
        try:
            _end(RunDirectory(member.directory), state, member, **place)
        except LogChanged as error:
            fail(member, error)

    def on_interval(task: int, step: int) -> None:
        report.advance(task, step, sum(member.active for member in members))
        for member in members:
            if member.failure is not None:
                fail(member, member.failure)
            elif member.diverged and member.log is not None:
                task, step = member.diverged
                end(member, "diverged", task=task, step=step, steps=report.at(task, step))

    report.write(state="running", error=None)
    try:
        with Heartbeat(claims, report.write):
            held = partial(check_held, claims)
            measuring = Measuring(learner, of_members, pack.engine)
            train(learner, benchmark, members, position, clock, on_interval, should_stop, held, control, measuring)
    except Interrupted:
        for member in members:
            if member.active:
                end(member, "waiting", **report.place)
    except Exception:
        report.write()  # how far it is saved, which the last heartbeat may not have known
        raise
    else:
        for member in members:
            if member.active:
                end(member, "done", **report.place)
    finally:
        for member in members:
            if member.failure is not None:
                fail(member, member.failure)
            if member.log is not None:
                member.log.close()
    return [failed.get(run.name) or Outcome(run.path, _outcome(run)) for run in todo]


def _outcome(run: RunDirectory) -> str:
    state = str(run.status()["state"])
    return "interrupted" if state == "waiting" else state


def _end(run: RunDirectory, state: str, member: session.Member, **position: Any) -> None:
    """Leave a run in this state, and record its files; raises `LogChanged` if the log is not as it was written."""
    facts: dict[str, Any] = {}
    if member.log is not None:
        member.log.sync()
        member.durable = member.log.record
        member.log.close()
        member.log = None
        saved = run.path / CHECKPOINT
        facts = {"checkpoint": integrity.stamp(saved) if saved.exists() else None}
    run.write_status(state=state, rate=None, **_saved(member), **facts, **position)
    provenance.end_session(run, state)


def _saved(member: session.Member) -> dict[str, Any]:
    """What status.json says of the log that no kill takes back."""
    return {"durable": member.durable["bytes"], "log": dict(member.durable)}


def _own_sources(config: dict[str, Any], trusted: Sequence[str]) -> dict[str, Any]:
    """What a session records of the user's own modules."""
    if not trusted:
        return {}
    return {"sources": provenance.sources(trusted), "trusted_changes": config.get("trusted_changes") or "refuse"}


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
    """Remove checkpoints that cannot be used. If all are damaged or gone (lost), the log that they made is kept aside.

    A run that was killed before its first checkpoint looks the same; its rows are few.
    """
    files = list(run.path.glob("checkpoint*.pt"))
    for file in files:
        file.unlink()
    if lost and (kept := MetricsLog.set_aside(run.path)):
        why = "damaged, deleted, or not of this log" if files else "not there"
        log.warning("%s starts over: its checkpoints are %s; its log is now %s", run.name, why, kept.name)
    if run.status()["state"] in integrity.FINAL:
        begin: dict[str, Any] = {"task": 0, "step": 0, "steps": 0, "durable": 0, "log": None, "checkpoint": None}
        run.write_status(state="waiting", **begin)


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
            if member.failure is not None or not _is_held(claim):
                continue
            facts |= _saved(member)
            if self.returns and self.returns[i]:
                facts["return"] = fmean(self.returns[i])
            with contextlib.suppress(OSError):  # the run itself will say so when it has to write
                run = RunDirectory(member.directory)
                run.write_status(only_if=None if changes else "running", **facts, **changes)


def components_of(config: dict[str, Any], trusted: Sequence[str] = ()) -> Components:
    """What a run with this stored configuration consists of, whether or not its data are here, or W&B takes it."""
    return assemble({**configured(config), "tracking": None}, trusted, data=False)


def load_run(
    path: str | Path, trusted: Sequence[str] = (), *, older: bool = False
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The trained network of a run, in evaluation mode, and its configuration.

    trusted: modules outside this package that its components may come from, such as ["my_idea"]; what the run's own
    files say about that is not believed, and `ConfigError` is raised for components of other modules.
    older: if the newest checkpoint is damaged, take the one before it. Raises `CheckpointError` if the run has no
    readable checkpoint (not started, or pruned) or, without `older`, the newest is damaged or another run's; and
    `IdentityError` if the configuration is not the run's.
    """
    run = RunDirectory(Path(at_home("path", str(path))))
    verdict = integrity.look(run.path)
    if problem := verdict.of_experiment:
        raise IdentityError(f"{run.path}/{problem}")
    config = run.config()
    if versions := _other_versions(run, config, verdict, trusted):
        log.warning("%s was made with %s; here it is another version", run.path, ", ".join(versions))
    if problem := verdict.of_results:
        log.warning("%s/%s", run.path, problem)
    payload = _checkpoint(run, verdict.problems.get(CHECKPOINT), older)
    learner = make_learner([components_of(config, trusted)], [int(config["seed"])], "torch")
    session.restore(learner, [payload])
    return learner.network.eval(), config


def _checkpoint(run: RunDirectory, problem: str | None, older: bool) -> dict[str, Any]:
    """The newest checkpoint, of which `problem` is known; with `older`, the one before it if that is damaged."""
    newest, previous = checkpoint.NAMES
    try:
        if problem:
            raise CheckpointError(f"{run.path / newest}: {problem}")
        return checkpoint.load(run.path, newest)
    except CheckpointError as error:
        try:
            earlier = checkpoint.load(run.path, previous)
        except CheckpointError:
            raise CheckpointError(f"{run.path} has no readable checkpoint ({error})") from error
        if older:
            return earlier
        raise CheckpointError(f"{error}; load_run(..., older=True) takes the one before it") from error
