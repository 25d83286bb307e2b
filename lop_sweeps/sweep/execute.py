"""Run a pack in this process: claim its runs, restore them, train, and leave each in a truthful state."""

from __future__ import annotations

import contextlib
import logging
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lop_sweeps.benchmarks.benchmark import Benchmark
from lop_sweeps.data import data_root
from lop_sweeps.errors import CheckpointError, ClaimLost, Interrupted
from lop_sweeps.sweep import provenance
from lop_sweeps.sweep.claim import Claim, Heartbeat, check_held
from lop_sweeps.sweep.planning import DESCRIPTION, Pack
from lop_sweeps.sweep.run_directory import RunDirectory
from lop_sweeps.training import checkpoint, online
from lop_sweeps.training.components import assemble, make_learner
from lop_sweeps.training.metrics_log import MetricsLog

log = logging.getLogger("lop")

Progress = Callable[[int, int], None]  # told (active runs, steps that each has just done)


@dataclass(frozen=True)
class Outcome:
    """How work on one run ended: done, diverged, failed, interrupted, or busy (another process has it)."""

    run: Path
    state: str
    message: str = ""


def run_pack(pack: Pack, on_progress: Progress, should_stop: Callable[[], bool]) -> list[Outcome]:
    """Train the pack's unfinished runs to their end, or until `should_stop`; one outcome for each.

    If a pack fails, its runs are tried again one by one, from their last checkpoints, so that only the one that fails
    alone is lost.
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
    fresh = pack.members == pack.todo
    members = tuple(taken) if fresh else pack.members
    claimed = replace(pack, members=members, todo=tuple(taken))
    try:
        outcomes += _train(claimed, held, on_progress, should_stop)
    except ClaimLost as error:
        outcomes += [Outcome(pack.folder / name, "busy", str(error)) for name in taken]
    except Exception as error:  # whatever a run does, the sweep goes on
        if len(members) == 1:
            outcomes.append(_fail(RunDirectory(pack.folder / taken[0]), error))
        else:
            first = f"{type(error).__name__}: {error}"
            for name in taken:
                alone = replace(pack, members=(name,), todo=(name,))
                claims[name].release()
                RunDirectory(pack.folder / name).write_pack([name], pack.threads)
                provenance.end_session(RunDirectory(pack.folder / name), f"pack of {len(members)} split after {first}")
                outcomes += run_pack(alone, on_progress, should_stop)
    finally:
        for claim in held:
            claim.release()
    return outcomes


def _fail(run: RunDirectory, error: Exception) -> Outcome:
    described = {"type": type(error).__name__, "message": str(error), "traceback": traceback.format_exc()}
    with contextlib.suppress(OSError):  # a full disk, say: the message still reaches the screen
        run.write_status(state="failed", error=described)
        provenance.end_session(run, "failed")
    return Outcome(run.path, "failed", f"{type(error).__name__}: {error}")


def _train(
    pack: Pack, claims: Sequence[Claim], on_progress: Progress, should_stop: Callable[[], bool]
) -> list[Outcome]:
    torch.set_num_threads(pack.threads)
    runs = {name: RunDirectory(pack.folder / name) for name in pack.members}
    configs = {name: run.config() for name, run in runs.items()}
    components = {name: assemble(_science(config)) for name, config in configs.items()}
    made = [components[name] for name in pack.members]
    benchmark = components[pack.todo[0]].benchmark  # finished members may have been asked for fewer tasks
    benchmark.load(data_root(configs[pack.todo[0]]["paths"].get("data")))
    learner = make_learner(made, [int(configs[name]["seed"]) for name in pack.members])

    payloads = _common_checkpoints(pack, runs)
    members = []
    for name in pack.members:
        member = online.Member(runs[name].path, int(configs[name]["seed"]), active=name in pack.todo)
        if member.active:
            size, checksum = payloads[name]["metrics"] if payloads else (0, 0)
            member.log = MetricsLog(member.directory, (size, checksum))
        members.append(member)
    position = online.Position()
    if payloads:
        in_order = [payloads.get(name) for name in pack.members]
        online.restore(learner, in_order)
        position = online.Position.restore(in_order)
    for name in pack.todo:
        runs[name].write_pack(list(pack.members), pack.threads)
        provenance.begin_session(runs[name], pack=len(pack.members), task=position.task, step=position.step)

    todo = [runs[name] for name in pack.todo]
    report = _Report(todo, benchmark, position, on_progress)
    options = configs[pack.todo[0]]["checkpoint"]
    clock = online.Clock(float(options["first"]), float(options["every"]))

    def on_interval(task: int, step: int) -> None:
        check_held(claims)
        report.advance(task, step, sum(member.active for member in members))
        for member in members:
            if member.diverged and member.log is not None:
                task, step = member.diverged
                _end(RunDirectory(member.directory), "diverged", member, task=task, step=step)

    report.write(state="running", error=None)
    try:
        with Heartbeat(claims, report.write):
            online.train(learner, benchmark, members, position, clock, on_interval, should_stop)
    except Interrupted:
        for member in members:
            if member.active:
                _end(RunDirectory(member.directory), "waiting", member)
    else:
        for member in members:
            if member.active:
                _end(RunDirectory(member.directory), "done", member, task=position.task, step=0)
    finally:
        for member in members:
            if member.log is not None:
                member.log.close()
    return [Outcome(run.path, _outcome(run)) for run in todo]


def _science(config: dict[str, Any]) -> dict[str, Any]:
    """A stored configuration as `assemble` takes it."""
    benchmark = {key: value for key, value in config["benchmark"].items() if key not in DESCRIPTION}
    rest = {key: value for key, value in config.items() if key not in ("schema", "run", "configuration", "choices")}
    return {**rest, "benchmark": benchmark}


def _outcome(run: RunDirectory) -> str:
    state = str(run.status()["state"])
    return "interrupted" if state == "waiting" else state


def _end(run: RunDirectory, state: str, member: online.Member, **position: Any) -> None:
    if member.log is not None:
        member.log.sync()
        member.log.close()
        member.log = None
    run.write_status(state=state, rate=None, **position)
    provenance.end_session(run, state)


def _common_checkpoints(pack: Pack, runs: dict[str, RunDirectory]) -> dict[str, dict[str, Any]]:
    """The newest checkpoints that all unfinished runs of a pack have in common; empty to start from the beginning.

    A checkpoint counts only if the log still holds the rows that it covers. Raises `CheckpointError` where some of
    several runs have no such checkpoint: they are then run one by one.
    """
    usable: dict[str, dict[tuple[int, int], dict[str, Any]]] = {}
    for name in pack.todo:
        usable[name] = {}
        for payload in checkpoint.load_all(runs[name].path):
            try:
                MetricsLog.check(runs[name].path, tuple(payload["metrics"]))
            except CheckpointError:
                continue
            usable[name].setdefault((payload["task"], payload["step"]), payload)
    common = set.intersection(*[set(found) for found in usable.values()])
    if common:
        newest = max(common)
        return {name: found[newest] for name, found in usable.items()}
    if any(usable.values()):
        raise CheckpointError("the runs of this pack have no checkpoint in common")
    lost = [name for name in pack.todo if any(runs[name].path.glob("checkpoint*.pt"))]
    if lost:
        log.warning("no usable checkpoint (damaged, or not matching the log), starting over: %s", ", ".join(lost))
    return {}


class _Report:
    """Keeps status.json and the progress display up to date."""

    def __init__(
        self,
        runs: Sequence[RunDirectory],
        benchmark: Benchmark,
        position: online.Position,
        on_progress: Progress,
    ) -> None:
        self.runs, self.num_tasks, self.on_progress = runs, benchmark.num_tasks, on_progress
        self.steps_per_task = benchmark.examples_per_task // benchmark.batch_size
        self.task, self.step = position.task, position.step
        self.first = self.done = position.task * self.steps_per_task + position.step
        self.began = time.monotonic()

    def advance(self, task: int, step: int, active: int) -> None:
        done = task * self.steps_per_task + step
        self.on_progress(active, done - self.done)
        self.task, self.step, self.done = task, step, done

    def write(self, **changes: Any) -> None:
        elapsed = time.monotonic() - self.began
        facts = {
            "task": self.task,
            "num_tasks": self.num_tasks,
            "step": self.step,
            "steps_per_task": self.steps_per_task,
            "rate": (self.done - self.first) / elapsed if elapsed > 1.0 else None,
        }
        for run in self.runs:
            with contextlib.suppress(OSError):  # the run itself will say so when it has to write
                run.write_status(only_if=None if changes else "running", **facts, **changes)


def load_run(path: str | Path) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The trained network of a run, in evaluation mode, and its configuration.

    Raises `CheckpointError` if the run has no readable checkpoint (not started, or pruned).
    """
    run = RunDirectory(Path(path))
    config = run.config()
    payloads = checkpoint.load_all(run.path)
    if not payloads:
        raise CheckpointError(f"{run.path} has no readable checkpoint")
    learner = make_learner([assemble(_science(config))], [int(config["seed"])])
    online.restore(learner, payloads[:1])
    return learner.network.eval(), config
