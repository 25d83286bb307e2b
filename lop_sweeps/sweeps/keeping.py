"""The networks that a run keeps from before tasks that were asked for (`checkpoint.keep`), as `snapshots/<task>.pt`.

A run that goes on from an earlier checkpoint passes tasks again, and writes their snapshots again, so that each is of
the trajectory that its log shows. Imports no torch: `lop-status` looks at ten thousand runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lop_sweeps.sweeps.run_files import FINAL, has_checksum, reason, stamp
from lop_sweeps.training.checkpoint_file import (
    CHECKPOINT,
    SNAPSHOTS,
    is_whole,
    owner_of,
    position_of,
    snapshot_file,
    snapshot_tasks,
)

# Of how many runs which tasks are past that were to be kept.
Missed = Counter[tuple[int, ...]]


def wanted(config: Mapping[str, Any]) -> list[int]:
    """What a run's configuration asks for; those of older versions ask for nothing."""
    return sorted({int(task) for task in (config.get("checkpoint") or {}).get("keep") or ()})


def to_keep(folder: Path, config: Mapping[str, Any], task: int) -> frozenset[int]:
    """What a run that goes on from before or within `task` is to keep: also again what an earlier session has kept."""
    return frozenset([*wanted(config), *(kept for kept in snapshot_tasks(folder) if kept >= task)])


def past(folder: Path, config: Mapping[str, Any], status: Mapping[str, Any], begin: int = 0) -> tuple[int, ...]:
    """The tasks that a run was asked to keep the network before, is past, and has not kept.

    begin: its first task.
    """
    asked = [task for task in wanted(config) if not snapshot_file(folder, task).exists()]
    if not asked:
        return ()
    saved = position_of(folder / CHECKPOINT)
    if saved is None:  # not begun; or finished, and its checkpoints are gone
        saved = (int(status.get("task") or 0), 1) if status.get("state") in FINAL else (begin, 0)
    return tuple(task for task in asked if task < begin or (task, 0) < saved)


def missed_words(missed: Missed) -> list[str]:
    """A line for each set of tasks that some runs are past."""
    lines = []
    for tasks, runs in missed.items():
        what = f"task {tasks[0]}" if len(tasks) == 1 else f"tasks {', '.join(map(str, tasks))}"
        who = f"{runs} runs are" if runs > 1 else "1 run is"
        lines.append(f"checkpoint.keep: {who} past {what}, from before which the network cannot be kept any more")
    return lines


def stamps(folder: Path) -> dict[str, Any]:
    """What is recorded of the snapshots of a run when it ends; raises OSError."""
    return {str(task): stamp(snapshot_file(folder, task)) for task in snapshot_tasks(folder)}


def problems(folder: Path, name: str, status: Mapping[str, Any]) -> dict[str, str]:
    """File -> what is wrong with it, for the snapshots in the folder of run `name`; each is read."""
    found = {f"{SNAPSHOTS}/{task}.pt": problem(folder, task, name, status) for task in snapshot_tasks(folder)}
    return {file: words for file, words in found.items() if words}


def problem(folder: Path, task: int, name: str, status: Mapping[str, Any]) -> str:
    """What is wrong with a snapshot of run `name`, which is read; empty if nothing. status: of the run."""
    recorded = status.get("snapshots") if status.get("state") in FINAL else None
    record = recorded.get(str(task)) if isinstance(recorded, Mapping) else None
    return _problem(snapshot_file(folder, task), task, name, record)


def _problem(file: Path, task: int, name: str, record: Any) -> str:
    owner = owner_of(file)
    if owner and name not in owner:
        return f"of another run, {owner[0]}"
    if not is_whole(file):
        return "damaged"
    if (position := position_of(file)) != (task, 0):
        return f"from before task {position[0]}" if position else "does not hold a learning state"
    if not isinstance(record, Mapping) or not isinstance(record.get("crc32"), int):
        return ""
    try:
        same = file.stat().st_size == record.get("bytes") and has_checksum(file, record["bytes"], record["crc32"])
    except OSError as error:
        return f"cannot be read: {reason(error)}"
    return "" if same else "not as it was written"
