"""The git checkout that this package runs from, asked without running anything that its configuration names.

A repository's configuration may name programs for differences, text conversion, filters, hooks and file system
monitors; and variables such as GIT_DIR, set while git runs a hook, name another repository.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

SECONDS = 20.0
SETTINGS = {"core.fsmonitor": "false", "core.hooksPath": os.devnull, "core.pager": "cat"}
OWN = ("--no-ext-diff", "--no-textconv", "--no-color", "--ignore-submodules=dirty", "--submodule=short")
ENVIRONMENT = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_TERMINAL_PROMPT": "0"}


def commit(root: Path) -> str | None:
    """The commit of the checkout `root`; None where it is none, or there is no git."""
    return _git(root, ["rev-parse", "--verify", "HEAD"])


def diff(root: Path) -> str | None:
    """What `root` differs in from its commit, by git itself; None as for `commit`."""
    named = _git(root, ["config", "--null", "--name-only", "--get-regexp", r"^filter\."]) or ""
    filters = {name.rpartition(".")[0] for name in named.split("\0") if name}
    off = {f"{filter}.{program}": "" for filter in filters for program in ("clean", "smudge", "process")}
    off |= {f"{filter}.required": "false" for filter in filters}
    return _git(root, ["diff", *OWN, "HEAD"], off)


def _git(root: Path, arguments: Sequence[str], settings: Mapping[str, str] | None = None) -> str | None:
    if not (root / ".git").exists():
        return None
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | ENVIRONMENT
    given = {**SETTINGS, **(settings or {})}
    for number, (name, value) in enumerate(given.items()):  # `git -c` takes no name with a `=` in it
        environment |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    environment["GIT_CONFIG_COUNT"] = str(len(given))
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "--no-pager", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=SECONDS,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
