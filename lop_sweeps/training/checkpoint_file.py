"""What a checkpoint tells without torch, and without running anything that it holds."""

from __future__ import annotations

import os
import pickletools
import zipfile
from pathlib import Path
from typing import Any

CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
SNAPSHOTS = "snapshots"  # a folder: 100.pt is the learning state before task 100
HEAD = 2**18  # bytes of the file that hold what it says of itself


def name_of(folder: Path) -> str:
    """The name of a run's folder, however one got there."""
    return folder.name if folder.name not in ("", "..") else Path(os.path.abspath(folder)).name


def snapshot_file(folder: Path, task: int) -> Path:
    return folder / SNAPSHOTS / f"{task}.pt"


def snapshot_tasks(folder: Path) -> list[int]:
    """The tasks from before which a run has a snapshot, in order."""
    names = [path.stem for path in (folder / SNAPSHOTS).glob("*.pt")]
    return sorted(int(name) for name in names if name.isdecimal() and str(int(name)) == name)


def is_whole(checkpoint: Path) -> bool:
    """Whether what a checkpoint holds has the checksums that were written with it; torch does not compare them."""
    try:
        if not checkpoint.is_file():  # a pipe, say, would be waited for
            return False
        with zipfile.ZipFile(checkpoint) as archive:
            return archive.testzip() is None
    except Exception:  # there is none that a damaged file cannot raise
        return False


def owner_of(checkpoint: Path) -> list[str]:
    """The run that a checkpoint names; of one from before, the runs that it was saved together with; or nothing."""
    facts = facts_of(checkpoint)
    return [str(name) for name in (facts.get("run", [])[:1] or facts.get("together", []))]


def position_of(checkpoint: Path) -> tuple[int, int] | None:
    """The task and the step within it that a checkpoint was written at; None if it does not tell."""
    facts = facts_of(checkpoint)
    found = [facts.get(key, [])[:1] for key in ("task", "step")]
    if not all(len(one) == 1 and isinstance(one[0], int) for one in found):
        return None
    return int(found[0][0]), int(found[1][0])


def facts_of(checkpoint: Path) -> dict[str, list[Any]]:
    """The strings and integers under `run`, `metrics`, ... in a checkpoint, without unpickling it."""
    wanted = ("run", "metrics", "together", "task", "step")
    found: dict[str, list[Any]] = {}
    memo: dict[Any, Any] = {}
    key: str | None = None
    token: Any = None
    try:
        if not checkpoint.is_file():
            return found
        with checkpoint.open("rb") as file:
            head = file.read(HEAD)
        start = 30 + int.from_bytes(head[26:28], "little") + int.from_bytes(head[28:30], "little")
        for code, argument, _ in pickletools.genops(head[start:]):  # the archive's first member
            if code.name in ("BINPUT", "LONG_BINPUT"):
                memo[argument] = token
                continue
            if code.name in ("EMPTY_LIST", "MARK"):
                token = None
                continue
            if code.name in ("BINGET", "LONG_BINGET"):
                token = memo.get(argument)
            elif code.name in ("BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1"):
                token = argument
            else:
                key = token = None
                if len(found) == len(wanted):
                    break
                continue
            if token in wanted and token not in found:
                key = token
                found[token] = []
            elif key is not None:
                found[key].append(token)
    except Exception:  # a damaged file, or no checkpoint
        return found
    return found
