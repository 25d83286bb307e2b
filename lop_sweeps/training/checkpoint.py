"""Checkpoints: one run's learning state at one position, written so that a kill at any moment loses nothing.

A checkpoint is a dictionary of tensors, numbers and strings that `torch.load(weights_only=True)` reads. The new file
is complete and on disk before it takes the name; the one before it is kept as `checkpoint.previous.pt`, because the
runs of a pack save one after the other and must be able to go back to a position that all of them have.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from lop_sweeps.durable import sync_directory

NAMES = ("checkpoint.pt", "checkpoint.previous.pt")
FORMAT = 1


def save(directory: Path, payload: dict[str, Any]) -> None:
    """Write `payload` as the newest checkpoint of a run."""
    newest, previous = (directory / name for name in NAMES)
    temporary = directory / "checkpoint.pt.tmp"
    try:
        with temporary.open("wb") as file:
            torch.save({"format": FORMAT, **payload}, file)
            file.flush()
            os.fsync(file.fileno())
    except (OSError, RuntimeError) as error:  # torch reports a failed write as RuntimeError
        temporary.unlink(missing_ok=True)
        raise OSError(f"could not write a checkpoint in {directory} (the earlier one is kept): {error}") from error
    if newest.exists():
        newest.replace(previous)
    temporary.replace(newest)
    sync_directory(directory)


def load_all(directory: Path) -> list[dict[str, Any]]:
    """The readable checkpoints of a run, newest first; damaged files and other formats are passed over."""
    found = []
    for name in NAMES:
        try:
            with zipfile.ZipFile(directory / name) as archive:
                if archive.testzip() is not None:  # torch does not compare the checksums that it writes
                    continue
            payload = torch.load(directory / name, weights_only=True)
        except Exception:  # there is none that a damaged file cannot raise
            continue
        if isinstance(payload, dict) and payload.get("format") == FORMAT:
            found.append({**payload, "file": name})
    return found


def prune(directory: Path) -> None:
    """Delete a run's checkpoints; its log stays, but it can no longer be extended or loaded."""
    for name in NAMES:
        (directory / name).unlink(missing_ok=True)


def go_back_to(directory: Path, payload: dict[str, Any]) -> None:
    """Make `payload` (one of `load_all`) the newest checkpoint: a later one must not become its predecessor."""
    if payload["file"] != NAMES[0]:
        (directory / payload["file"]).replace(directory / NAMES[0])
        sync_directory(directory)
