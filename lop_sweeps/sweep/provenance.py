"""Where a result came from: the code's commit and uncommitted diff, package versions, the machine."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import lop_sweeps
from lop_sweeps.sweep import checkout
from lop_sweeps.sweep.run_directory import RunDirectory, write_atomically

PACKAGES = ("torch", "numpy", "numba", "hydra-core", "omegaconf", "scikit-learn", "torchvision")
MAX_DIFF = 200_000  # characters


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


def begin_session(run: RunDirectory, **facts: Any) -> None:
    """Note in a run's provenance that work on it starts now."""
    path = run.path / "provenance.json"
    sessions = _sessions(path)
    sessions.append({"began": time.time(), "pid": os.getpid(), **facts})
    write_atomically(path, json.dumps({**collect(), "sessions": sessions}, indent=1) + "\n")


def end_session(run: RunDirectory, state: str) -> None:
    path = run.path / "provenance.json"
    sessions = _sessions(path)
    if sessions:
        sessions[-1] |= {"ended": time.time(), "state": state}
        write_atomically(path, json.dumps({**collect(), "sessions": sessions}, indent=1) + "\n")


def _sessions(path: Path) -> list[dict[str, Any]]:
    try:
        return list(json.loads(path.read_text())["sessions"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
