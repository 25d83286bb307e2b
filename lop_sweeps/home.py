"""`~` in paths that are given to a program, which the shell replaces only where it stands at the start of a word."""

from __future__ import annotations

import os

from lop_sweeps.errors import ConfigError


def at_home(key: str, path: str) -> str:
    """`path` with `~` or `~user` at its start replaced. Raises `ConfigError` if there is no such home folder."""
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ConfigError(key, path, "there is no such home folder; a folder of that name is ./~")
    return found
