"""Checkpoints: one run's learning state at one position, written so that a kill at any moment loses nothing.

A checkpoint is a dictionary of tensors, numbers and strings that `torch.load(weights_only=True)` reads. The new file
is complete and on disk before it takes the name; the one before it is kept as `checkpoint.previous.pt`, because the
runs of a pack save one after the other and must be able to go back to a position that all of them have.

A snapshot is the same, from before a task that was asked for (`checkpoint.keep`): it stays.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import torch

from lop_sweeps.durable import sync_directory
from lop_sweeps.errors import CheckpointError
from lop_sweeps.training.checkpoint_file import (
    CHECKPOINT,
    PREVIOUS,
    is_whole,
    name_of,
    position_of,
    snapshot_file,
    snapshot_tasks,
)

NAMES = (CHECKPOINT, PREVIOUS)
FORMAT = 1


def save(directory: Path, payload: dict[str, Any]) -> None:
    """Write `payload` as the newest checkpoint of a run."""
    newest, previous = (directory / name for name in NAMES)
    temporary = _written(newest, payload, directory)
    if newest.exists():
        newest.replace(previous)
    temporary.replace(newest)
    sync_directory(directory)


def keep(directory: Path, payload: dict[str, Any]) -> None:
    """Write `payload`, of a position between two tasks, as the snapshot from before the second, in place of any other.

    Raises OSError if it cannot be written, or would be written elsewhere, behind a link.
    """
    path = snapshot_file(directory, payload["task"])
    if path.parent.is_symlink():
        raise OSError(f"{path.parent} is a link; snapshots are written to a folder of the run's own")
    path.parent.mkdir(exist_ok=True)
    _written(path, payload, directory).replace(path)
    sync_directory(path.parent)


def _written(path: Path, payload: dict[str, Any], directory: Path) -> Path:
    """A complete file beside `path`, on disk, that is to take its name."""
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        temporary.unlink(missing_ok=True)  # left by a kill, or a link that somebody has put there
        with temporary.open("xb") as file:
            torch.save({"format": FORMAT, **payload}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        temporary.unlink(missing_ok=True)
        raise OSError(f"could not write a checkpoint in {directory} (the earlier one is kept): {error}") from error
    return temporary


def load(directory: Path, name: str = NAMES[0]) -> dict[str, Any]:
    """One checkpoint of a run, by the name of its file.

    Raises `CheckpointError` if it is not there, is damaged, has another format, or is of another run.
    """
    return {**read(directory / name, directory), "file": name}


def load_kept(directory: Path, task: int) -> dict[str, Any]:
    """The learning state of a run before a task: its snapshot, or its newest checkpoint if it stands just there.

    Raises `CheckpointError` as `load` does, and with what there is if there is neither.
    """
    path = snapshot_file(directory, task)
    if path.exists():
        payload = read(path, directory)
        if (payload["task"], payload["step"]) != (task, 0):
            raise CheckpointError(f"{path} is from before task {payload['task']}")
        return payload
    if position_of(directory / CHECKPOINT) == (task, 0):
        return load(directory)
    raise CheckpointError(f"{directory} {no_snapshot(directory, task)}")


def no_snapshot(directory: Path, task: int) -> str:
    """What a run has instead of a snapshot from before a task, and how it comes to have one, in words."""
    kept = ", ".join(map(str, snapshot_tasks(directory))) or "none"
    return (
        f"has no network from before task {task} (it has: {kept}); "
        f"checkpoint.keep=[{task}] keeps it while the run is trained"
    )


def read(path: Path, directory: Path) -> dict[str, Any]:
    """A checkpoint or snapshot of the run in `directory`; raises `CheckpointError` as `load` does."""
    try:
        if not is_whole(path) and path.exists():  # torch does not compare the checksums that it writes
            raise CheckpointError(f"{path} is damaged")
        payload = torch.load(path, weights_only=True)
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is missing") from error
    except Exception as error:  # there is none that a damaged file cannot raise
        raise CheckpointError(f"{path} is damaged") from error
    if not isinstance(payload, dict) or payload.get("format") != FORMAT:
        raise CheckpointError(f"{path} has a format that this version does not read")
    # Earlier versions named only the runs that were saved together.
    owner = [payload["run"]] if "run" in payload else payload.get("together", [])
    if owner and name_of(directory) not in owner:
        raise CheckpointError(f"{path} is of another run, {owner[0]}")
    return payload


def load_all(directory: Path) -> list[dict[str, Any]]:
    """The usable checkpoints of a run, newest first; damaged ones, other formats and other runs' are passed over."""
    found = []
    for name in NAMES:
        with contextlib.suppress(CheckpointError):
            found.append(load(directory, name))
    return found


def go_back_to(directory: Path, payload: dict[str, Any]) -> None:
    """Make `payload` (one of `load_all`) the newest checkpoint: a later one must not become its predecessor."""
    if payload["file"] != NAMES[0]:
        (directory / payload["file"]).replace(directory / NAMES[0])
        sync_directory(directory)
