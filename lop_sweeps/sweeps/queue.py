"""What SLURM says about the jobs of a sweep. Imports no torch; everything works without SLURM, too.

A run that was submitted has a file `job.json`: {"job": "12_3", "log": path, "submitted": seconds since 1970}.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from lop_sweeps.durable import write_atomically
from lop_sweeps.errors import LopError
from lop_sweeps.regular_file import open_regular, read_bytes
from lop_sweeps.sweeps.run_directory import RunDirectory

NAME = "job.json"
ENDED = frozenset(
    {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "REVOKED", "TIMEOUT"}
)
SECONDS = 60.0  # that a scheduler may take to answer
IDS_PER_CALL = 500
TAIL = 10_000  # bytes at the end of a log


def record(run: RunDirectory, job: str, log: Path) -> None:
    """Note that a run was submitted."""
    facts = {"run": run.name, "job": job, "log": str(log), "submitted": time.time()}
    write_atomically(run.path / NAME, json.dumps(facts) + "\n")


def job_of(run: RunDirectory) -> dict[str, Any] | None:
    """What `record` has noted; None if the run was not submitted."""
    try:
        facts = json.loads(read_bytes(f"{run.path}/{NAME}"))
    except (OSError, ValueError, RecursionError):
        return None
    ours = isinstance(facts, dict) and {"job", "log"} <= set(facts) and facts.get("run", run.name) == run.name
    return facts if ours else None


def forget(run: RunDirectory) -> None:
    """The run is trained by somebody else now."""
    (run.path / NAME).unlink(missing_ok=True)


def states(jobs: Collection[str]) -> dict[str, str]:
    """`ask`, or nothing where SLURM does not answer."""
    return ask(jobs) or {}


def ask(jobs: Collection[str]) -> dict[str, str] | None:
    """Job -> its state in SLURM's words (PENDING, RUNNING, TIMEOUT, ...); without those that nobody remembers.

    None if there is a SLURM that does not answer, which it may do again.
    """
    if not jobs or shutil.which("squeue") is None:
        return {}
    lines = _ask("squeue", "--noheader", "--array", "--states=all", "--format=%i %T", "--me")
    if lines is None:
        return None
    found = dict(line.split(maxsplit=1) for line in lines if " " in line)
    known = {job: found[job] for job in jobs if job in found}
    missing = sorted(set(jobs) - set(known))
    if missing and shutil.which("sacct"):
        for at in range(0, len(missing), IDS_PER_CALL):
            some = ",".join(missing[at : at + IDS_PER_CALL])
            command = ("sacct", "--noheader", "--allocations", "--parsable2", "--format=JobID,State", f"--jobs={some}")
            for line in _ask(*command) or ():
                job, _, state = line.partition("|")
                if job in missing:
                    known[job] = state.split(maxsplit=1)[0]  # CANCELLED by 1000
    return known


def is_active(state: str | None) -> bool:
    """Whether a job is waiting, running, or about to do so again."""
    return state is not None and state not in ENDED


def active_runs(runs: Iterable[RunDirectory]) -> dict[Path, str]:
    """Those of the runs whose job is waiting or running: path -> job."""
    jobs = {run.path: str(facts["job"]) for run in runs if (facts := job_of(run))}
    known = states(set(jobs.values()))
    return {path: job for path, job in jobs.items() if is_active(known.get(job))}


def cancel(runs: Iterable[RunDirectory]) -> int:
    """End the jobs of these runs; how many there were. Raises `LopError` if SLURM refuses."""
    jobs = sorted(set(active_runs(runs).values()))
    for at in range(0, len(jobs), IDS_PER_CALL):
        done = subprocess.run(
            ["scancel", *jobs[at : at + IDS_PER_CALL]], capture_output=True, text=True, timeout=SECONDS
        )
        if done.returncode:
            raise LopError(f"scancel: {done.stderr.strip()}")
    return len(jobs)


def log_tail(log: Path, lines: int = 5) -> list[str]:
    """The last lines of a job's log."""
    try:
        with open_regular(log, sys.maxsize) as file:  # job.json may name anything
            file.seek(max(0, log.stat().st_size - TAIL))
            return file.read(TAIL).decode(errors="replace").rstrip().splitlines()[-lines:]
    except (OSError, ValueError):  # a name with a null byte
        return []


def _ask(*command: str) -> list[str] | None:
    """The lines that a program prints; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.splitlines() if done.returncode == 0 else None
