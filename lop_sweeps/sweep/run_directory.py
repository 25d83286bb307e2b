"""The directory of a run, and what its files say. Imports no torch: `lop-status` reads a thousand of these.

| file             | content                                                                     |
|------------------|-----------------------------------------------------------------------------|
| config.yaml      | the resolved configuration                                                  |
| status.json      | state, position, rate, first error                                          |
| metrics.jsonl    | one row per task; nothing measured by a clock                               |
| checkpoint*.pt   | the newest checkpoint and the one before it                                 |
| pack.json        | the runs it is trained with, in order, and their threads                    |
| provenance.json  | commit, uncommitted diff, package versions, machine, and each session's times |
| lock             | who is running it (see `claim`)                                             |
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lop_sweeps import yaml_file
from lop_sweeps.errors import LopError

STATES = ("waiting", "running", "done", "diverged", "failed")
COUNTS = ("task", "step", "num_tasks", "steps", "total_steps")
_STATUS_LOCK = threading.Lock()


class RunDirectory:
    """Reads and writes the small files of one run; every write is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def name(self) -> str:
        return self.path.name

    def create(self, config: Mapping[str, Any], total_steps: int) -> None:
        """Make the directory with its configuration, or bring the configuration of an existing one up to date."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            text = yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            config_file = self.path / "config.yaml"
            if not config_file.exists() or config_file.read_bytes() != text.encode():
                write_atomically(config_file, text)
            if not (self.path / "status.json").exists():
                num_tasks = config["num_tasks"]
                self.write_status(state="waiting", num_tasks=num_tasks, task=0, steps=0, total_steps=total_steps)
        except OSError as error:
            raise LopError(f"cannot write in the sweep folder {self.path.parent}: {error.strerror or error}") from error

    def config(self) -> dict[str, Any]:
        loaded = yaml_file.load(self.path / "config.yaml")
        if not isinstance(loaded, dict):
            raise LopError(f"{self.path / 'config.yaml'} does not hold a configuration")
        return loaded

    def status(self) -> dict[str, Any]:
        """What status.json says; "waiting" if it is missing or damaged, so that the run is looked at anew."""
        try:
            status = json.loads((self.path / "status.json").read_text())
        except (OSError, ValueError):
            return {"state": "waiting", "task": 0}
        known = isinstance(status, dict) and status.get("state") in STATES
        counted = known and all(isinstance(status.get(key, 0), int | float) for key in COUNTS)
        return status if counted else {"state": "waiting", "task": 0}

    def steps_done(self) -> int:
        """Steps of the run so far; older versions wrote the length of a task instead."""
        status = self.status()
        before = int(status.get("task") or 0) * int(status.get("steps_per_task") or 0)
        return int(status.get("steps") or before + int(status.get("step") or 0))

    def write_status(self, *, only_if: str | None = None, **changes: Any) -> None:
        """Change some entries of status.json; with `only_if`, only while the run is in that state."""
        with _STATUS_LOCK:  # the heartbeat's thread writes too
            status = self.status()
            if only_if is None or status["state"] == only_if:
                status |= {**changes, "updated": time.time()}
                write_atomically(self.path / "status.json", json.dumps(status, indent=1) + "\n")

    def is_finished(self, num_tasks: int | None = None) -> bool:
        """Whether nothing is left to do up to `num_tasks` tasks (default: as many as its configuration says)."""
        status = self.status()
        if status["state"] != "done":
            return bool(status["state"] == "diverged")
        config = self.config()
        wanted = num_tasks or int(config.get("num_tasks") or config["benchmark"]["num_tasks"])
        return int(status.get("task", 0)) >= wanted

    def pack(self) -> dict[str, Any] | None:
        """{"members": run names in order, "threads": n, "engine": ...}, as saved when the run was first started."""
        try:
            saved = json.loads((self.path / "pack.json").read_text())
        except (OSError, ValueError):
            return None
        if not isinstance(saved, dict) or self.name not in saved.get("members", ()):
            return None
        return {"engine": "torch", **saved}

    def write_pack(self, members: list[str], threads: int, engine: str) -> None:
        saved = {"members": members, "threads": threads, "engine": engine}
        write_atomically(self.path / "pack.json", json.dumps(saved) + "\n")

    def prune(self) -> int:
        """Delete the checkpoints; the log stays, but the run can no longer be extended or loaded. Returns bytes."""
        files = list(self.path.glob("checkpoint*.pt"))
        size = sum(file.stat().st_size for file in files)
        for file in files:
            file.unlink()
        return size


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes tuples as lists."""


_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(list(data)))
_Dumper.add_representer(float, lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:float", _float(data)))


def _float(value: float) -> str:
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text  # 1e-05 -> 1.0e-05, a YAML 1.1 float


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def runs_in(sweep: Path) -> Iterator[RunDirectory]:
    """The runs of a sweep folder, by name."""
    for path in sorted(sweep.iterdir()):
        if (path / "config.yaml").is_file():
            yield RunDirectory(path)
