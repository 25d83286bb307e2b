"""Modules of the user's own that lie in the current folder: Python finds those that are trusted, and no others.

A command does not see the folder that it is started in, and should not: a `coverage.py` that happens to lie there
would be taken for the library of that name (child_process.py). A name that the caller trusts is meant. What Python
finds without this comes first.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType


class _CurrentFolder:
    """A finder of Python's, for top-level modules with these names."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [os.getcwd()]) if path is None and name in self.names else None


_finder = _CurrentFolder()


def find_here(trusted: Iterable[str]) -> None:
    """From now on this process finds modules under these prefixes in the current folder, too."""
    _finder.names.update(prefix.partition(".")[0] for prefix in trusted)
    if _finder not in sys.meta_path:
        sys.meta_path.append(_finder)


def how_to_find(error: Exception) -> str:
    """What to do where an import failed for a module that lies here and is not trusted; else nothing."""
    name = (getattr(error, "name", None) or "").partition(".")[0]
    found = PathFinder.find_spec(name, [os.getcwd()]) if name and isinstance(error, ModuleNotFoundError) else None
    return f"; {name} is in this folder: name it in `trusted`, too" if found and found.origin else ""
