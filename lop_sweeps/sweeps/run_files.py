"""The files in a run's folder: their names, and what the small ones say, read without YAML and without torch."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lop_sweeps.regular_file import read_bytes
from lop_sweeps.training.checkpoint_file import name_of

IDENTITY, CONFIG, STATUS, LOG = "identity.json", "config.yaml", "status.json", "metrics.jsonl"
STATES = ("waiting", "running", "done", "diverged", "failed")
FINAL = ("done", "diverged")
NUMBERS = ("task", "step", "num_tasks", "steps", "total_steps", "steps_per_task", "durable", "rate", "return")
NAMED = re.compile(r"-seed(\d+)-[0-9a-f]{12}$")


def digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def run_name(science: Mapping[str, Any], seed: int) -> str:
    """`<modules of the interventions, or backprop>-seed<n>-<hash>`."""
    names = [part["target"].split(".")[-2] for part in science["algorithm"]]
    return f"{'+'.join(names) or 'backprop'}-seed{seed}-{digest([science, seed])}"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def stamp(path: Path) -> dict[str, int]:
    """What is recorded of a file; raises OSError."""
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        return {"bytes": facts.st_size, "mtime_ns": facts.st_mtime_ns, "crc32": _crc(file, facts.st_size)}


def has_checksum(path: Path, size: int, crc: int | None) -> bool:
    """Whether the first `size` bytes of a file have this checksum; raises OSError."""
    with path.open("rb") as file:
        return _crc(file, size) == crc


def run_folders(sweep: Path) -> Iterator[Path]:
    """The folders in a sweep's folder that hold a run, or what is left of one, by name."""
    for name in sorted(os.listdir(sweep)):
        if not name.startswith(".") and holds_a_run(path := sweep / name):
            yield path


def holds_a_run(path: Path) -> bool:
    """Whether there is any file of a run; a folder that may not be entered is judged by its name."""
    for name in (CONFIG, IDENTITY, STATUS, LOG):
        try:
            os.lstat(f"{path}/{name}")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # may not be entered, say: whoever reads it will say so
            return NAMED.search(path.name) is not None
        return True
    return False


def read_identity(folder: Path) -> dict[str, Any]:
    """What `identity.json` holds, and the `name` that it is hashed to; raises OSError, or ValueError."""
    content = json.loads(read_bytes(f"{folder}/{IDENTITY}"))
    try:
        if isinstance(content["sha256"], str):
            return {**content, "name": run_name(content["science"], content["seed"])}
    except (KeyError, TypeError, IndexError, AttributeError):
        pass
    raise ValueError("it does not hold an identity")


def first_task(identity: Mapping[str, Any] | None) -> int:
    """The first task of a run with this `identity.json`: not 0 if it goes on from another run's network."""
    start = (identity or {}).get("science", {}).get("start")
    task = start.get("task") if isinstance(start, Mapping) else None
    return task if isinstance(task, int) else 0


def read_status(folder: Path) -> tuple[dict[str, Any], str]:
    """What `status.json` says, and what is wrong with it: if anything is, the run is looked at anew, as waiting."""
    anew: dict[str, Any] = {"state": "waiting", "task": 0}
    try:
        status = json.loads(read_bytes(f"{folder}/{STATUS}"))
    except FileNotFoundError:
        return anew, ""
    except (OSError, ValueError, RecursionError) as error:
        return anew, f"cannot be read: {reason(error)}"
    if not isinstance(status, dict) or status.get("state") not in STATES:
        return anew, "does not hold a status"
    if bad := next((key for key in NUMBERS if not _is_number(status.get(key))), None):
        return anew, f"does not hold a status: {bad} is {str(status[bad])[:40]!r}"
    if status.get("run", name := name_of(folder)) != name:
        return anew, f"of another run, {str(status['run'])[:200]}"
    return status, ""


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and math.isfinite(value) and abs(value) < 2**62)


def _crc(file: Any, size: int) -> int:
    crc = 0
    while size > 0 and (content := file.read(min(size, 2**20))):
        crc, size = zlib.crc32(content, crc), size - len(content)
    return crc


def reason(error: Exception) -> str:
    """Why a file cannot be read, in one short line."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split())[:200] or type(error).__name__
