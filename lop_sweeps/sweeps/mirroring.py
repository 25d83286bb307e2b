"""A mirror beside the training, if the runs ask for one (`tracking=wandb`)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import IO, Any

from lop_sweeps import child_process
from lop_sweeps.errors import Interrupted, LopError
from lop_sweeps.sweeps.planning import Plan
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking.wandb import Wandb

HURRY = 10.0  # seconds to send the rest after training was stopped: a cluster may be about to kill the job
GRACE = 5.0  # seconds that the process may take longer than it was told


@contextlib.contextmanager
def mirroring(plan: Plan) -> Iterator[None]:
    """While the plan's runs are trained, a process sends what they save; it never keeps them from anything.

    At the end it may take `tracking.patience` seconds more for what has not arrived, and the user is told what has not.
    """
    wanted = _wanted(plan)
    if not wanted:
        yield
        return
    patience = max(tracking.patience for _, tracking in wanted)
    pipe = subprocess.PIPE
    # A session of its own: Ctrl-C is for the training, which tells it.
    process = child_process.start(
        "lop_sweeps.tracking.process", str(patience), stdin=pipe, stdout=pipe, start_new_session=True
    )
    _tell(process.stdin, "".join(f"{run.path}\n" for run, _ in wanted) + "\n")
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        _end(process, wanted, min(patience, HURRY))
        raise
    except BaseException:
        _end(process, wanted, 0.0)
        raise
    _end(process, wanted, patience)


def _wanted(plan: Plan) -> list[tuple[RunDirectory, Wandb]]:
    """The runs to be trained that are to be mirrored."""
    planned = {point.directory.path: point.config for point in plan.points}
    wanted = []
    for run in (RunDirectory(pack.folder / name) for pack in plan.packs for name in pack.todo):
        try:
            tracking = Wandb.of(planned[run.path] if run.path in planned else run.config())
        except LopError:  # its folder is not what it was, which training it will say
            continue
        if tracking is not None and tracking.mode != "disabled":
            wanted.append((run, tracking))
    return wanted


def _tell(pipe: IO[str] | None, text: str) -> None:
    assert pipe is not None
    with contextlib.suppress(OSError):  # it has died, and has said why
        pipe.write(text)
        pipe.flush()


def _end(process: subprocess.Popen[str], wanted: list[tuple[RunDirectory, Wandb]], seconds: float) -> None:
    """Let the process send the rest for so long, then kill it, and say how far it came."""
    _tell(process.stdin, f"{seconds}\n")
    answer = ""
    try:
        answer, _ = process.communicate(timeout=seconds + GRACE)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    folders = " ".join(sorted({str(run.path.parent) for run, _ in wanted}))
    done = "arrived" if any(tracking.mode == "online" for _, tracking in wanted) else "been written for wandb sync"
    sys.stderr.write(f"Weights & Biases: {_words(answer, len(wanted), folders, done)}\n")


def _words(answer: str, runs: int, folders: str, done: str) -> str:
    rest = f"lop-status --sync {folders} sends what has not arrived"
    try:
        result: dict[str, Any] = json.loads(answer)
    except ValueError:
        return f"not everything has arrived; {rest}"
    where = f" ({result['url']})" if result["url"] else ""
    text = f"what {runs - result['left']} of {runs} run{'s' * (runs != 1)} saved has {done}{where}"
    return f"{text}; {rest}" if result["left"] else text
