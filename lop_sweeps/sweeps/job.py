"""What a SLURM job does: train packs until they are done, or until its time is over, and then have itself requeued.

A job that is killed without warning loses what it has not saved, nothing else: SLURM or the user starts it again, and
the runs go on from their checkpoints. Signals only shorten what is repeated. SLURM sends SIGTERM before it kills
(preemption, `scancel`, `scontrol requeue`), which submitit ignores, so it is handled here. It also sends SIGUSR2 at
about the time that submitit has asked for, but up to a minute too early; submitit then counts how often it came, and
takes every job of ten minutes or less for timed out. A job that has a clock of its own needs none of that.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

import lop_sweeps
from lop_sweeps.errors import Interrupted, LopError
from lop_sweeps.sweeps.outcome import Outcome
from lop_sweeps.sweeps.planning import Pack, Plan
from lop_sweeps.sweeps.run_directory import RunDirectory

PATIENCE = 3  # times that a job may be requeued without having done anything in between
WAIT_FOR_THE_END = 600.0  # seconds, after which a job that SLURM was to kill ends by itself


@dataclass(frozen=True)
class Job:
    """packs: one after another, `workers` at a time. seconds: its time limit; None = it has none.
    margin: how long before it to stop. code: the copy of the code that it is to run; None = whatever there is.
    """

    packs: tuple[Pack, ...]
    workers: int = 1
    seconds: float | None = None
    margin: float = 0.0
    code: Path | None = None

    def __call__(self) -> str:
        """Train; returns how the runs ended. Raises `LopError` if one failed, so that the job's exit code says so."""
        self.check_code()
        from lop_sweeps.sweeps.local_runner import run_here, run_workers

        plan, before = Plan(packs=list(self.packs)), self.steps_done()
        end = _End(self.seconds, self.margin)
        outcomes: list[Outcome] = []
        try:
            outcomes = run_here(plan) if self.workers == 1 else run_workers(plan, self.workers)
        except Interrupted:
            self._wait_for_the_end(end, progress=self.steps_done() > before)
        finally:
            end.cancel()
        failed = [outcome for outcome in outcomes if outcome.state == "failed"]
        if failed:
            texts = "\n".join(f"  {outcome.run}\n    {outcome.message}" for outcome in failed)
            raise LopError(f"{len(failed)} of {len(outcomes)} runs failed:\n{texts}")
        return ", ".join(f"{outcome.run.name}: {outcome.state}" for outcome in outcomes)

    def check_code(self) -> None:
        """Raise `LopError` unless this is the copy that was made when the job was submitted."""
        running = Path(lop_sweeps.__file__).resolve().parents[1]
        if self.code is not None and running != self.code.resolve():
            raise LopError(
                f"this job is to run the copy of the code in {self.code}, and finds lop_sweeps in {running}: does "
                "hydra.launcher.setup or hydra.launcher.python set another PYTHONPATH?"
            )

    def steps_done(self) -> int:
        return sum(RunDirectory(pack.folder / name).steps_done() for pack in self.packs for name in pack.todo)

    def checkpoint(self) -> Any:
        """What submitit is to start again, should SIGUSR2 come before this job has begun."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _wait_for_the_end(self, end: _End, *, progress: bool) -> None:
        """Everything is saved. If time was up, ask for another turn; SLURM then ends this one."""
        sys.stderr.flush()
        job, turns = os.environ.get("SLURM_JOB_ID"), int(os.environ.get("SLURM_RESTART_COUNT", 0))
        if end.time_is_up and job:
            if not progress and turns >= PATIENCE:
                raise LopError(
                    f"requeued {turns} times, and its time limit ({self.seconds:.0f} s) is too short for the runs to "
                    "get any further: ask for more time"
                )
            subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
        time.sleep(WAIT_FOR_THE_END)
        raise LopError("stopped by a signal; the runs are saved")


class _End:
    """Turns whatever announces the end into SIGTERM, which stops the runners at the next checkpoint boundary."""

    def __init__(self, seconds: float | None, margin: float) -> None:
        """Without a limit, SIGUSR2 is what says that time is up."""
        self.time_is_up = False
        used = time.time() - psutil.Process().create_time()  # loading PyTorch took some of it
        signal.signal(signal.SIGALRM, self._on_time)
        signal.signal(signal.SIGUSR2, self._on_time if seconds is None else signal.SIG_IGN)
        if seconds is not None:
            signal.setitimer(signal.ITIMER_REAL, max(1.0, seconds - margin - used))

    def _on_time(self, number: int, frame: Any) -> None:
        self.time_is_up = True
        os.kill(os.getpid(), signal.SIGTERM)

    def cancel(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
