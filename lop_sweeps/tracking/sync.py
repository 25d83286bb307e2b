"""Send a sweep that is over, or that was stopped, to Weights & Biases: `lop-status --sync`."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TextIO

from lop_sweeps.errors import LopError
from lop_sweeps.sweeps.claim import is_alive
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking.mirror import POLL, Mirror, Mirrored
from lop_sweeps.tracking.wandb import Unavailable, Wandb

ASK = 10.0  # seconds between two questions whether runs are still being trained
PATIENCE = 60.0  # seconds without any run's arrival after which it gives up


def sync(
    runs: Sequence[RunDirectory],
    project: str | None = None,
    entity: str | None = None,
    going: Callable[[], bool] | None = None,
) -> str:
    """Send what has not arrived of the runs that nobody is training; what was done, in words.

    project, entity: instead of what the runs' configurations or the environment say. going: asked now and then; while
    it says so, runs that are being trained are mirrored, too. Raises `LopError` if not everything could be sent; the
    next call sends the rest.
    """
    terminal = sys.stderr
    with contextlib.redirect_stderr(io.StringIO()):  # the client says things that nobody asked
        return _sync(runs, project, entity, going, terminal)


def _sync(
    runs: Sequence[RunDirectory],
    project: str | None,
    entity: str | None,
    going: Callable[[], bool] | None,
    terminal: TextIO,
) -> str:
    def settings(config: Mapping[str, Any]) -> Wandb:
        node = config.get("tracking")
        if not node:
            stored = Wandb.of_environment()
            return replace(stored, mode="online", project=project or stored.project, entity=entity or stored.entity)
        # Put in its place before it is looked at: what was stored once may be refused now.
        given = {key: value for key, value in (("project", project), ("entity", entity)) if value}
        return Wandb(**{key: value for key, value in {**node, **given, "mode": "online"}.items() if key != "_target_"})

    try:
        Wandb().check_login()
    except Unavailable as error:
        raise LopError(f"Weights & Biases: {error}") from error
    free = [Mirrored(run) for run in runs if going or not is_alive(run.path / "lock")]
    mirror = Mirror(free, settings, say=lambda text: print(f"lop-status: {text}", file=terminal))
    while going and going():
        ask_again = time.monotonic() + ASK
        while time.monotonic() < ask_again:
            mirror.look()
            time.sleep(POLL)
    mirror.hurry()
    left, moved = len(free) + 1, time.monotonic()
    while (now := mirror.look(over=True)) and time.monotonic() - moved < PATIENCE:
        if now < left:
            left, moved = now, time.monotonic()
        time.sleep(0.2)
    words = [f"{len(free) - now} of {len(runs)} runs complete in Weights & Biases"]
    words += [f"{len(runs) - len(free)} still being trained"] if len(free) < len(runs) else []
    words += [mirror.url] if mirror.url else []
    if now:
        problems = "; ".join(sorted(mirror.said)) or "the server does not answer"
        raise LopError(f"{', '.join(words)}; {now} not: {problems}. The same command sends the rest")
    return ", ".join(words)
