"""The directory of a run, and what its files say. Imports no torch: `lop-status` reads a thousand of these.

| file             | content                                                                     |
|------------------|-----------------------------------------------------------------------------|
| config.yaml      | the resolved configuration                                                  |
| identity.json    | what the run's name is the hash of, and the SHA-256 of config.yaml          |
| status.json      | state, position, rate, first error; rows, bytes and checksum of the log     |
| metrics.jsonl    | one row per task; nothing measured by a clock                               |
| checkpoint*.pt   | the newest checkpoint and the one before it                                 |
| snapshots/*.pt   | the learning state before tasks that were to be kept (see `keeping`)        |
| pack.json        | the runs it is trained with, in order, and their threads                    |
| diagnostics.json | what is measured of it, and what each value in the log is (see `measures`)     |
| provenance.json  | commit, uncommitted diff, package versions, machine, and each session's times |
| lock             | who is running it (see `claim`)                                             |

Whether they belong together is asked in `integrity`.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lop_sweeps import yaml_file
from lop_sweeps.durable import write_atomically
from lop_sweeps.errors import LopError
from lop_sweeps.regular_file import read_bytes
from lop_sweeps.sweeps import run_files
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.run_files import FINAL, first_task
from lop_sweeps.sweeps.verdict import Verdict
from lop_sweeps.training.checkpoint_file import SNAPSHOTS, name_of

_STATUS_LOCK = threading.Lock()


class RunDirectory:
    """Reads and writes the small files of one run; every write is atomic."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __repr__(self) -> str:
        return f"RunDirectory({str(self.path)!r})"

    @property
    def name(self) -> str:
        return name_of(self.path)

    def create(
        self,
        config: Mapping[str, Any],
        total_steps: int,
        identity: Mapping[str, Any] | None = None,
        first_steps: int = 0,
    ) -> None:
        """Make the directory with its configuration, or bring the configuration of an existing one up to date.

        identity: what the run's name is the hash of (`identity.of`), recorded beside the configuration. first_steps:
        those that it does not do itself, for it goes on from another run's network.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            text = yaml.dump(dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
            for _ in range(3):  # somebody who plans the same runs with other options may write in between
                if not self._write_config(text.encode(), identity):
                    break
            if not (self.path / "status.json").exists():
                place = {"num_tasks": config["num_tasks"], "task": first_task(identity), "steps": first_steps}
                self.write_status(state="waiting", **place, total_steps=total_steps)
        except OSError as error:
            raise LopError(f"cannot write in the sweep folder {self.path.parent}: {error.strerror or error}") from error

    def _write_config(self, content: bytes, identity: Mapping[str, Any] | None) -> bool:
        """Write what differs; whether there was something else. A kill at any moment leaves a pair that agrees."""
        path, record_path = self.path / run_files.CONFIG, self.path / run_files.IDENTITY
        current, recorded = _bytes_of(path), _bytes_of(record_path)
        text = _record(self.name, identity or {}, run_files.sha256(content))
        if current == content and (identity is None or recorded == text.encode()):
            return False
        if current != content:
            if current is not None and recorded is not None and identity is not None:
                both = _record(self.name, identity, run_files.sha256(content), run_files.sha256(current))
                write_atomically(record_path, both)
            write_atomically(path, content.decode())
        if identity is not None:
            write_atomically(record_path, text)
        return current is not None

    def record_identity(self, identity: Mapping[str, Any]) -> None:
        """Record what the name of a run is the hash of, beside the configuration that is there."""
        digest = run_files.sha256((self.path / run_files.CONFIG).read_bytes())
        write_atomically(self.path / run_files.IDENTITY, _record(self.name, identity, digest))

    def config(self) -> dict[str, Any]:
        loaded = yaml_file.load(self.path / "config.yaml")
        if not isinstance(loaded, dict):
            raise LopError(f"{self.path / 'config.yaml'} does not hold a configuration")
        return loaded

    def status(self) -> dict[str, Any]:
        """What status.json says; "waiting" if it is missing or damaged, so that the run is looked at anew."""
        return run_files.read_status(self.path)[0]

    def steps_done(self, status: Mapping[str, Any] | None = None) -> int:
        """Steps of the run so far; older versions wrote the length of a task instead. status: if it was read."""
        status = self.status() if status is None else status
        before = int(status.get("task") or 0) * int(status.get("steps_per_task") or 0)
        return int(status.get("steps") or before + int(status.get("step") or 0))

    def write_status(self, *, only_if: str | None = None, **changes: Any) -> None:
        """Change some entries of status.json; with `only_if`, only while the run is in that state."""
        with _STATUS_LOCK:  # the heartbeat's thread writes too
            status = self.status()
            if only_if is None or status["state"] == only_if:
                given = {key: _finite(value) for key, value in changes.items()}
                status |= {"run": self.name, **given, "updated": time.time()}
                write_atomically(self.path / "status.json", json.dumps(status, indent=1) + "\n")

    def is_finished(self, num_tasks: int | None = None, verdict: Verdict | None = None) -> bool:
        """Whether nothing is left to do up to `num_tasks` tasks (default: as many as its configuration says).

        A run that is not what it recorded when it ended is not finished. verdict: of `integrity`, if it was asked.
        """
        verdict = verdict or look(self.path)
        status = verdict.status
        if status["state"] not in FINAL or verdict.of_results:
            return False
        if status["state"] == "diverged":
            return True
        if num_tasks is None:
            config = self.config()
            num_tasks = int(config.get("num_tasks") or config["benchmark"]["num_tasks"])
        return int(status.get("task") or 0) >= num_tasks

    def pack(self) -> dict[str, Any] | None:
        """{"members": run names in order, "threads": n, "engine": ...}, as saved when the run was first started.

        None if that was not yet, or if the file is damaged.
        """
        with contextlib.suppress(OSError, ValueError, RecursionError):
            saved = json.loads(read_bytes(f"{self.path}/pack.json"))
            if isinstance(saved, dict) and _is_pack(saved) and self.name in saved["members"]:
                return {"engine": "torch", **saved}
        return None

    def write_pack(self, members: list[str], threads: int, engine: str) -> None:
        saved = {"members": members, "threads": threads, "engine": engine}
        write_atomically(self.path / "pack.json", json.dumps(saved) + "\n")

    def prune(self, *, snapshots: bool = False) -> int:
        """Delete the checkpoints; the log stays, but the run can no longer be extended or loaded. Returns bytes.

        snapshots: delete them, too; they are kept otherwise, and can be loaded.
        """
        patterns = ["checkpoint*.pt", *([f"{SNAPSHOTS}/*.pt"] if snapshots else [])]
        files = [file for pattern in patterns for file in self.path.glob(pattern)]
        size = sum(file.stat().st_size for file in files)
        for file in files:
            file.unlink()
        return size


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes tuples as lists, and in quotes what the loader would take for a number."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", yaml_file.FLOAT, yaml_file.FLOAT_STARTS)
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(list(data)))
_Dumper.add_representer(float, lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:float", _float(data)))


def _float(value: float) -> str:
    text = repr(value)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text  # 1e-05 -> 1.0e-05, a YAML 1.1 float


def _record(name: str, identity: Mapping[str, Any], digest: str, before: str | None = None) -> str:
    """The content of identity.json. before: the hash of a configuration that is about to be replaced."""
    replaced = {} if before is None else {"before": before}
    return json.dumps({"run": name, **identity, "sha256": digest, **replaced}) + "\n"


def _bytes_of(path: Path) -> bytes | None:
    try:
        return read_bytes(path)
    except FileNotFoundError:
        return None


def _finite(value: Any) -> Any:
    """A mean of no episodes, say, is nothing that JSON has a number for."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_pack(saved: Mapping[str, Any]) -> bool:
    members, threads = saved.get("members"), saved.get("threads")
    named = isinstance(members, list) and all(isinstance(name, str) and _is_name(name) for name in members)
    counted = isinstance(threads, int) and threads >= 1 and saved.get("engine", "torch") in ("torch", "fused")
    return named and counted and len(set(members or ())) == len(members or ())


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def runs_in(sweep: Path) -> Iterator[RunDirectory]:
    """The runs of a sweep folder, by name, and what is left of runs whose configuration is gone."""
    for path in run_files.run_folders(sweep):
        yield RunDirectory(path)
