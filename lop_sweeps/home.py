"""`~` in paths that are given to a program, which the shell replaces only where it stands at the start of a word."""

from __future__ import annotations

import os
import re

from lop_sweeps.errors import ConfigError


def at_home(key: str, path: str) -> str:
    """`path` with `~` or `~user` at its start replaced. Raises `ConfigError` if there is no such home folder."""
    found = os.path.expanduser(path)
    if found.startswith("~"):
        raise ConfigError(key, path, "there is no such home folder; a folder of that name is ./~")
    return found


def argument_at_home(argument: str) -> str:
    """An argument of `lop` with `~` replaced: `paths.sweeps=~/s`, `--config-dir=~/c`, `hydra.searchpath=[file://~/c]`.

    Hydra's grammar has no use for a `~` in a value that is not quoted.
    """
    key, mark, value = argument.partition("=")
    if not mark:
        return argument
    if key in ("--config-dir", "-cd"):
        return f"{key}={at_home(key, value)}"
    if not re.fullmatch(r"\+{0,2}[\w.]+", key):
        return argument
    if key.lstrip("+") == "hydra.searchpath" and value.startswith("["):
        parts = [part.strip().strip("'\"") for part in value.strip("[]").split(",")]
        expanded = [re.sub(r"^(file://)?(~.*)", lambda m: f"{m[1] or ''}{at_home(key, m[2])}", part) for part in parts]
        return f"{key}=[{','.join(map(_quoted, filter(None, expanded)))}]"
    return f"{key}={_quoted(at_home(key, value))}" if value.startswith("~") else argument


def _quoted(text: str) -> str:
    escaped = text.replace("'", "\\'")
    return f"'{escaped}'"
