"""`diagnostics.json` in a run's folder, as readers see it; imports no torch."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from lop_sweeps.regular_file import read_bytes
from lop_sweeps.sweeps.run_directory import RunDirectory

FILE = "diagnostics.json"


def read(run: RunDirectory) -> dict[str, Any]:
    """What the record of a run says; nothing if there is none, or it is damaged or another run's."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        content = json.loads(read_bytes(f"{run.path}/{FILE}"))
        if isinstance(content, dict) and content.get("run") == run.name:
            return content
    return {}
