"""Where a result came from: the code's commit and uncommitted diff, package versions, the machine.

Of modules that are not this package's (those that the user trusts) each session of a run records the files, by module
name and SHA-256. A run whose files have changed since is not continued; a finished one is not run again, either.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import lop_sweeps
from lop_sweeps.durable import write_atomically
from lop_sweeps.own_modules import find_here
from lop_sweeps.regular_file import read_bytes
from lop_sweeps.sweeps import checkout
from lop_sweeps.sweeps.run_directory import RunDirectory

PACKAGES = ("torch", "numpy", "numba", "hydra-core", "omegaconf", "scikit-learn", "torchvision")
MAX_DIFF = 200_000  # characters
_SEEN: dict[str, tuple[Any, str]] = {}  # module -> what it was loaded by, and the hash of its file then


@lru_cache(maxsize=1)
def collect() -> dict[str, Any]:
    """What is the same for every run of this process."""
    versions: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[package] = None
    return {
        "lop_sweeps": lop_sweeps.__version__,
        **_code(),
        "python": sys.version.split()[0],
        "packages": versions,
        "machine": {"host": platform.node(), "system": platform.platform(), "cpu": _cpu(), "cores": os.cpu_count()},
    }


def _code() -> dict[str, Any]:
    """Commit and uncommitted diff; of a copy, those of what it was copied from."""
    copied = Path(__file__).parents[2] / "provenance.json"
    if copied.is_file():
        return dict(json.loads(copied.read_text()))
    root = Path(__file__).parents[2]
    return {"commit": checkout.commit(root), "diff": (checkout.diff(root) or "")[:MAX_DIFF]}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def sources(trusted: Sequence[str]) -> dict[str, str]:
    """Module -> SHA-256 of its file, for the Python modules under these prefixes that this process has loaded.

    As it was when this was first asked, soon after it was loaded: an edit since does not change what is trained with.
    """
    found = {}
    for name, module in sorted(sys.modules.items()):
        if not _is_trusted(name, trusted):
            continue
        spec = getattr(module, "__spec__", None)
        if name not in _SEEN or _SEEN[name][0] is not spec:  # not yet, or loaded again
            if (file := _file_of(name)) is None:
                continue
            _SEEN[name] = (spec, _hash(file))
        found[name] = _SEEN[name][1]
    return found


def edited_since_loaded(trusted: Sequence[str]) -> list[Path]:
    """The files of modules under these prefixes that are no longer what this process, which may be a notebook's, has
    loaded and trained with; one that was loaded again is seen anew.
    """
    edited = []
    for name, (spec, digest) in _SEEN.items():
        module = sys.modules.get(name)
        if module is None or getattr(module, "__spec__", None) is not spec or not _is_trusted(name, trusted):
            continue
        if (file := _file_of(name)) is not None and _hash(file) != digest:
            edited.append(file)
    return edited


def changed_sources(run: RunDirectory, trusted: Sequence[str]) -> list[str]:
    """The files that have, by now, changed since the latest session of a run that recorded any; [] if none has.

    A module that the caller does not trust, whoever has written it there, is not looked for: to find the module a.b,
    Python runs a.
    """
    if not trusted:
        return []
    find_here(trusted)
    recorded: Any = next((one["sources"] for one in reversed(_sessions(run)) if one.get("sources")), {})
    changed = []
    for name, digest in recorded.items() if isinstance(recorded, dict) else ():
        if not _is_trusted(name, trusted):
            continue
        file = _file_of(name)
        if file is None or _hash(file) != digest:
            changed.append(str(file or f"the module {name}"))
    return changed


def _is_trusted(module: str, trusted: Sequence[str]) -> bool:
    return any(f"{module}.".startswith(f"{prefix}.") for prefix in trusted)


def _file_of(module: str) -> Path | None:
    """The source of a module, loaded or not; None if it has none."""
    file: str | None
    if (loaded := sys.modules.get(module)) is not None:
        file = getattr(loaded, "__file__", None)
    else:
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError, AttributeError):
            found = None
        file = found.origin if found else None
    return Path(file) if file and file.endswith(".py") else None


def _hash(file: Path) -> str:
    try:
        facts = file.stat()
        return _hash_of(file, facts.st_mtime_ns, facts.st_size)
    except OSError:
        return "unreadable"


@lru_cache(maxsize=1024)
def _hash_of(file: Path, mtime_ns: int, size: int) -> str:
    """The points of a sweep share their modules."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


_begun: dict[str, float] = {}  # by the folder of a run that this process works on: what its clock showed


def _clock(engine: object) -> float:
    """CPU seconds so far: of this thread, which alone trains a run on the fused engine; else of the process."""
    return time.thread_time() if engine == "fused" else time.process_time()


def begin_session(run: RunDirectory, **facts: Any) -> None:
    """Note in a run's provenance that work on it starts now."""
    _begun[str(run.path)] = _clock(facts.get("engine"))
    _write(run, [*_sessions(run), {"began": time.time(), "pid": os.getpid(), **facts}])


def end_session(run: RunDirectory, state: str) -> None:
    sessions, begun = _sessions(run), _begun.pop(str(run.path), None)
    if sessions:
        spent = {} if begun is None else {"cpu_seconds": round(_clock(sessions[-1].get("engine")) - begun, 2)}
        sessions[-1] |= {"ended": time.time(), "state": state, **spent}
        _write(run, sessions)


def _write(run: RunDirectory, sessions: list[dict[str, Any]]) -> None:
    content = {"run": run.name, **collect(), "sessions": sessions}
    write_atomically(run.path / "provenance.json", json.dumps(content, indent=1) + "\n")


def _sessions(run: RunDirectory) -> list[dict[str, Any]]:
    """Of this run: the file may be damaged, or another run's."""
    try:
        content = json.loads(read_bytes(f"{run.path}/provenance.json"))
        sessions = content["sessions"] if content.get("run", run.name) == run.name else []
        return [session for session in sessions if isinstance(session, dict)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return []
