"""Train one pack from where it stands, and leave each of its runs in a truthful state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch

from lop_sweeps.errors import Interrupted, LogChanged
from lop_sweeps.sweeps import provenance
from lop_sweeps.sweeps.claim import Claim, Heartbeat, check_held
from lop_sweeps.sweeps.keeping import stamps
from lop_sweeps.sweeps.outcome import Outcome, failed
from lop_sweeps.sweeps.planning import Pack
from lop_sweeps.sweeps.restoring import Restored, restore
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.run_files import stamp
from lop_sweeps.sweeps.status_report import StatusReport, saved
from lop_sweeps.sweeps.watch import Watch
from lop_sweeps.training import session
from lop_sweeps.training.checkpoint_file import CHECKPOINT
from lop_sweeps.training.train import train


def train_pack(
    pack: Pack,
    payloads: Mapping[str, dict[str, Any]],
    claims: Sequence[Claim],
    watch: Watch,
) -> list[Outcome]:
    """Train `pack.todo` from the checkpoints `payloads`, one for each of them at one position, or none at all."""
    torch.set_num_threads(1 if pack.engine == "fused" else pack.threads)
    restored = restore(pack, payloads)
    members, position, control = restored.members, restored.position, restored.control
    places = [pack.members.index(name) for name in pack.todo]  # in the order of the claims
    at_work = [members[i] for i in places]
    latest = [control.environments.latest[i] for i in places] if control else []
    for member in at_work:
        watch.over(member)
    report = StatusReport(at_work, claims, restored.benchmark, position, watch.on_progress, latest)
    endings = _Endings(restored, report)
    report.write(state="running", error=None)
    try:
        with Heartbeat(claims, report.write):
            train(
                restored.learner,
                restored.benchmark,
                members,
                position,
                restored.clock,
                endings.on_interval,
                watch.should_stop,
                partial(check_held, claims),
                control,
                restored.measuring,
            )
    except Interrupted:
        endings.end_active("waiting")
    except Exception:
        report.write()  # how far it is saved, which the last heartbeat may not have known
        raise
    else:
        endings.end_active("done")
    finally:
        endings.close()
    return [endings.failed.get(name) or _outcome(RunDirectory(pack.folder / name)) for name in pack.todo]


class _Endings:
    """Ends each run of a pack when its time has come. failed: by name, those of which the log was changed."""

    def __init__(self, restored: Restored, report: StatusReport) -> None:
        self.members, self.report = restored.members, report
        self.failed: dict[str, Outcome] = {}

    def on_interval(self, task: int, step: int) -> None:
        self.report.advance(task, step, sum(member.active for member in self.members))
        for member in self.members:
            if member.failure is not None:
                self._fail(member, member.failure)
            elif member.diverged and member.log is not None:
                task, step = member.diverged
                self._end(member, "diverged", task=task, step=step, steps=self.report.at(task, step))

    def end_active(self, state: str) -> None:
        for member in self.members:
            if member.active:
                self._end(member, state, **self.report.place)

    def close(self) -> None:
        for member in self.members:
            if member.failure is not None:
                self._fail(member, member.failure)
            if member.log is not None:
                member.log.close()

    def _fail(self, member: session.Member, error: Exception) -> None:
        if member.log is not None:
            member.log.close()
            member.log = None
            member.durable = dict.fromkeys(member.durable, 0)
            self.failed[member.directory.name] = failed(RunDirectory(member.directory), error)

    def _end(self, member: session.Member, state: str, **place: Any) -> None:
        try:
            _end(RunDirectory(member.directory), state, member, **place)
        except LogChanged as error:
            self._fail(member, error)


def _end(run: RunDirectory, state: str, member: session.Member, **position: Any) -> None:
    """Leave a run in this state, and record its files; raises `LogChanged` if the log is not as it was written."""
    facts: dict[str, Any] = {}
    if member.log is not None:
        member.log.sync()
        member.durable = member.log.record
        member.log.close()
        member.log = None
        checkpoint = run.path / CHECKPOINT
        facts = {"checkpoint": stamp(checkpoint) if checkpoint.exists() else None, "snapshots": stamps(run.path)}
    run.write_status(state=state, rate=None, **saved(member), **facts, **position)
    provenance.end_session(run, state)


def _outcome(run: RunDirectory) -> Outcome:
    state = str(run.status()["state"])
    return Outcome(run.path, "interrupted" if state == "waiting" else state)
