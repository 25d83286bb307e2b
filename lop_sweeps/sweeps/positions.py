"""From which checkpoints the runs of a pack go on, and which of them are at one position."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace
from typing import Any

from lop_sweeps.errors import CheckpointError
from lop_sweeps.sweeps.planning import Pack
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.run_files import FINAL
from lop_sweeps.sweeps.start import Start
from lop_sweeps.training import checkpoint
from lop_sweeps.training.metrics_log import MetricsLog

log = logging.getLogger("lop")


def by_position(pack: Pack) -> list[tuple[Pack, dict[str, dict[str, Any]]]]:
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


def _usable_checkpoints(run: RunDirectory) -> list[dict[str, Any]]:
    """A run's readable checkpoints, newest first, of which the log still holds the rows that they cover."""
    usable = []
    for payload in checkpoint.load_all(run.path):
        with contextlib.suppress(CheckpointError):
            MetricsLog.check(run.path, tuple(payload["metrics"]))
            usable.append(payload)
    return usable


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
    if run.status()["state"] in FINAL:
        start = Start.of(run.config())
        begin: dict[str, Any] = {"task": start.task if start else 0, "step": 0, "steps": 0}
        begin |= {"durable": 0, "log": None, "checkpoint": None}
        run.write_status(state="waiting", **begin)
