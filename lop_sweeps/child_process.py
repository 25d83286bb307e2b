"""Processes of Python's that this one starts: all of them here, and none of them sees the current folder.

Python puts the current folder first on the path of `-m` and `-c`, so that a `wandb.py` or a `queue.py` that happens to
lie there would be taken for the module of that name. What the user's PYTHONPATH names stays on the path.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

# By the environment rather than by `-P`: it holds for what those processes start, too.
SAFE = {"PYTHONSAFEPATH": "1"}


def command(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def environment(path: Sequence[str] | None = None) -> dict[str, str]:
    """What they are given: ours, and a home that is not there where there is none, which libraries can live with.

    path: where they find modules, before Python's own places.
    """
    homeless = {"HOME": "/nonexistent"} if os.path.expanduser("~") == "~" else {}
    found = {} if path is None else {"PYTHONPATH": os.pathsep.join(path)}
    return {**os.environ, **homeless, **SAFE, **found}


def run(module: str, *arguments: str) -> int:
    """Run a module until it ends; its exit code."""
    return subprocess.run(command(module, *arguments), env=environment()).returncode


def start(module: str, *arguments: str, path: Sequence[str] | None = None, **options: Any) -> subprocess.Popen[str]:
    """Start a module; path: as of `environment`; options: what `Popen` takes."""
    return subprocess.Popen(command(module, *arguments), env=environment(path), text=True, **options)
