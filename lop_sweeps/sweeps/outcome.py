"""How work on one run ended, and how a failure of it is recorded."""

from __future__ import annotations

import contextlib
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lop_sweeps.errors import LogChanged
from lop_sweeps.sweeps import provenance
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.run_files import FINAL


@dataclass(frozen=True)
class Outcome:
    """How work on one run ended: done, diverged, failed, interrupted, or busy (another process has it)."""

    run: Path
    state: str
    message: str = ""


def failed(run: RunDirectory, error: Exception) -> Outcome:
    """Leave a run as failed, with the error in its status; what is finished stays so."""
    described = {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    lost: dict[str, Any] = {"durable": 0, "log": None} if isinstance(error, LogChanged) else {}
    with contextlib.suppress(OSError):  # a full disk, say: the message still reaches the screen
        if run.status()["state"] not in FINAL:  # it cannot be extended, and that is all
            run.write_status(state="failed", error=described, **lost)
            provenance.end_session(run, "failed")
    return Outcome(run.path, "failed", f"{type(error).__name__}: {error}")
