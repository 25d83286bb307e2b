"""`select.json`, beside the runs of a selection: what was tried, every value, every decision.

Everything in it follows from the configuration and the logs, so it has neither times nor places in it, and a selection
that was killed and went on leaves the same bytes. It is verified twice: it has a checksum of its own, and whoever goes
on with it decides anew from the logs and compares.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lop_sweeps.durable import write_atomically
from lop_sweeps.errors import LopError
from lop_sweeps.regular_file import read_bytes

FILE, SCHEMA = "select.json", 1
SUMMARIES = {"mean": "area", "late": "late", "final": "final"}  # tuning.by -> the summary of the analysis
TUNING = "tuning"  # the folder of the tuning runs, in the sweep's


class SelectionChanged(LopError):
    """The record is damaged or edited, or is not of the selection that was asked for."""


def write(folder: Path, content: Mapping[str, Any]) -> None:
    body = {"schema": SCHEMA, **content}
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**body, "crc32": checksum(body)}, indent=1) + "\n"
    write_atomically(folder / FILE, text)


def read(folder: Path) -> dict[str, Any] | None:
    """What is recorded in a sweep's folder; None if nothing is. Raises `SelectionChanged` if it was changed since."""
    path = folder / FILE
    try:
        found = json.loads(read_bytes(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise SelectionChanged(
            f"{path} cannot be read ({error}); moved away, it is made again from the logs"
        ) from error
    body = {key: value for key, value in found.items() if key != "crc32"} if isinstance(found, dict) else {}
    if body.get("schema") != SCHEMA or found.get("crc32") != checksum(body):
        raise SelectionChanged(f"{path} is not as it was written; moved away, it is made again from the logs")
    return body


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The log of a run; none of one that diverged in its first task."""
    try:
        return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return []


def checksum(body: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(body).encode())


def check_same(folder: Path, recorded: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise `SelectionChanged` if a folder has another selection in it than is asked for.

    A method that only one of them has is no difference: the choice of each is its own.
    """
    differ = [key for key in ("tuning", "num_tasks", "rungs") if recorded.get(key) != _stored(asked[key])]
    before, now = recorded["settings"], _stored(asked["settings"])
    differ += [f"the settings of {name}" for name in now if before.get(name, now[name]) != now[name]]
    if differ:
        raise SelectionChanged(
            f"{folder / FILE} is of another selection ({', '.join(differ)}: not the same); "
            "sweep=NAME makes a new one beside it"
        )


def joined(recorded: Mapping[str, Any] | None, content: Mapping[str, Any]) -> dict[str, Any]:
    """A record with the methods that are there, and those of `content`, which are newer."""
    if recorded is None:
        return dict(content)
    return {**content, **{key: recorded[key] | content[key] for key in ("settings", "methods", "report")}}


def _stored(value: Any) -> Any:
    return json.loads(json.dumps(value))


def check_decisions(folder: Path, recorded: Mapping[str, Any], made: Mapping[str, Any]) -> None:
    """Raise `SelectionChanged` if the logs give other values or decisions than are recorded of finished rungs."""
    for name, method in made.items():
        before = recorded.get(name, {}).get("rungs", [])
        for number, (one, other) in enumerate(zip(before, _stored(method["rungs"]), strict=False), 1):
            if one != other:
                raise SelectionChanged(
                    f"{folder / FILE}: rung {number} of {name} is not what the logs in {folder} say now; "
                    "lop-status --verify finds a changed log, and the record, moved away, is made again"
                )
