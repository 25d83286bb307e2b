"""What was read of a sweep's runs before, so that it is not read again."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

from lop_sweeps.durable import write_atomically
from lop_sweeps.regular_file import read_bytes

NOTES = ".checked.json"


class Notes:
    """What earlier checks of a sweep's runs have read, beside them. Damaged or unwritable notes are none.

    Used as a context: what was learned is kept at its end.
    """

    def __init__(self, sweep: Path) -> None:
        self.path = sweep / NOTES
        self._known = self._read()
        self._new: dict[str, Any] = {}

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(read_bytes(self.path))
        except (OSError, ValueError, RecursionError):
            return {}
        return known if isinstance(known, dict) else {}

    def holds(self, run: str, file: str, facts: list[int]) -> bool:
        known = self._known.get(f"{run}/{file}")
        return isinstance(known, list) and known == facts

    def add(self, run: str, file: str, facts: list[int]) -> None:
        self._known[f"{run}/{file}"] = self._new[f"{run}/{file}"] = facts

    def __enter__(self) -> Notes:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._new:
            with contextlib.suppress(OSError):  # somebody else's sweep, which may only be read
                write_atomically(self.path, json.dumps(self._read() | self._new) + "\n")
            self._new = {}
