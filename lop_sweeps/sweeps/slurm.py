"""Sweeps on SLURM: planned as anywhere, and handed over as job arrays, one task for one pack or several."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hydra_plugins.lop_sweeps import SlurmLauncher
from lop_sweeps import checks, child_process
from lop_sweeps.errors import ConfigError, Interrupted, LopError
from lop_sweeps.home import at_home
from lop_sweeps.sweeps import allocation, queue, snapshot
from lop_sweeps.sweeps.claim import is_alive
from lop_sweeps.sweeps.forecast import left, time_of
from lop_sweeps.sweeps.groups import make_plan_in_groups
from lop_sweeps.sweeps.job import Job
from lop_sweeps.sweeps.outcome import Outcome
from lop_sweeps.sweeps.planning import Plan, Point, make_plan
from lop_sweeps.sweeps.progress import ProgressDisplay, duration
from lop_sweeps.sweeps.report import describe, finish
from lop_sweeps.sweeps.run_directory import RunDirectory

log = logging.getLogger("lop")

FOLDER = ".launcher"  # in the folder of the sweeps
POLL = 2.0  # seconds between two looks at the queue, for a few hundred runs
MISSING = 10.0  # seconds that a job may be unknown to the queue right after it was handed over


@dataclass(frozen=True)
class Submitted:
    """A job array task and the runs that it trains."""

    job: str
    runs: tuple[RunDirectory, ...]
    log: Path


def run_on_slurm(
    points: Sequence[Point], launcher: SlurmLauncher, groups: Sequence[Sequence[Point]] | None = None
) -> list[Any]:
    """Plan, submit and, with `wait`, follow until the end. groups: as of `run_locally`."""
    check(launcher)
    for folder in {point.directory.path.parent for point in points}:
        check_folder(folder.resolve())
    workers = max(1, len(points))  # a run to a job, unless `pack` says otherwise
    if launcher.gpus or "gpu" in str(launcher.gres):
        points, workers = [on_gpu(point) for point in points], 1  # side by side on a GPU as many as it holds
        groups = groups and [[on_gpu(point) for point in group] for group in groups]
    threads = launcher.threads or max(1, launcher.cpus // launcher.workers)
    if groups is None:
        plan = make_plan(points, workers, launcher.pack, threads, create=not launcher.plan)
    else:
        plan = make_plan_in_groups(groups, launcher.pack, threads, create=not launcher.plan)
    sys.stderr.write(describe(plan) + "\n")
    jobs = list(make_jobs(plan, launcher))
    size = launcher.max_array or max_array_size()
    arrays = [jobs[at : at + size] for at in range(0, len(jobs), size)]
    if launcher.plan:
        sys.stderr.write(forecast(plan, jobs, arrays, launcher) + "\n")
        return []
    if not jobs:
        finish(plan, [])
        return []
    submitted = submit(plan, arrays, launcher)
    ids = ", ".join(sorted({one.job.partition("_")[0] for one in submitted}, key=int))
    sys.stderr.write(f"submitted as job {ids}; lop-status shows how they get on\n")
    finish(plan, follow(submitted) if launcher.wait else [])
    return []


def check(launcher: SlurmLauncher) -> None:
    """Raise `ConfigError` for an option out of range."""
    for key, low in (("cpus", 1), ("workers", 1), ("packs_per_job", 1), ("gpus", 0), ("time", 1)):
        checks.integer(f"hydra.launcher.{key}", getattr(launcher, key), low)
    for key in ("pack", "threads", "max_array"):
        if getattr(launcher, key) is not None:
            checks.integer(f"hydra.launcher.{key}", getattr(launcher, key), 1)
    for key in ("wait", "plan"):
        checks.flag(f"hydra.launcher.{key}", getattr(launcher, key))


def on_gpu(point: Point) -> Point:
    """A point as it will be where there is a GPU, which there need not be where it is submitted."""
    allowed = (
        point.config.get("device") in (None, "auto", "cuda") and point.config["benchmark"]["protocol"] != "control"
    )
    return replace(point, device="cuda") if point.engine == "torch" and allowed else point


def make_jobs(plan: Plan, launcher: SlurmLauncher) -> Iterator[Job]:
    """The plan's packs, `packs_per_job` to a job."""
    seconds = 60.0 * launcher.time
    margin = min(float(launcher.signal_delay), 0.4 * seconds)
    each = max(launcher.packs_per_job, launcher.workers)
    packs = [replace(pack, folder=pack.folder.resolve()) for pack in plan.packs]
    for at in range(0, len(packs), each):
        yield Job(tuple(packs[at : at + each]), launcher.workers, seconds, margin)


def submit(plan: Plan, arrays: Sequence[Sequence[Job]], launcher: SlurmLauncher) -> list[Submitted]:
    """Copy the code, hand the jobs over, and note in each run's folder which job has it."""
    from submitit.slurm.slurm import SlurmExecutor

    first = plan.packs[0].folder.resolve()
    folder = first.parent / FOLDER / f"{first.name}-{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**6:06d}"
    trusted = sorted({name for point in plan.points for name in point.trusted})
    code = snapshot.take(folder / "code", trusted)
    submitted = []
    for array in arrays:
        try:
            executor = SlurmExecutor(folder=folder / "jobs", python=interpreter(launcher))
            executor.update_parameters(**parameters(launcher, first.name, code))
            with allocation.outside(), executor.batch():
                handles = [executor.submit(replace(job, code=code)) for job in array]
        except (RuntimeError, ValueError, OSError) as error:
            raise LopError(f"SLURM did not take the jobs: {_reason(error)}") from error
        for job, handle in zip(array, handles, strict=True):
            runs = tuple(RunDirectory(pack.folder / name) for pack in job.packs for name in pack.todo)
            one = Submitted(str(handle.job_id), runs, Path(handle.paths.stdout))
            for run in runs:
                queue.record(run, one.job, one.log)
            submitted.append(one)
    return submitted


def check_folder(folder: Path) -> None:
    """Raise `ConfigError` where the name of a sweep's folder means something else to SLURM, or on PYTHONPATH."""
    if found := {":", "%", "\\", "\n"} & set(str(folder)):
        what = ", ".join(map(repr, sorted(found)))
        raise ConfigError("paths.sweeps", str(folder), f"SLURM's jobs cannot have {what} in the name of their folder")


def interpreter(launcher: SlurmLauncher) -> str:
    """The command that starts Python on a node: deaf to a SIGUSR2 that comes before the job can handle it."""
    python = at_home("hydra.launcher.python", launcher.python) if launcher.python else sys.executable
    return f"""sh -c 'trap "" USR2; exec "$0" "$@"' {shlex.quote(python)}"""


def parameters(launcher: SlurmLauncher, name: str, code: Path) -> dict[str, Any]:
    """The launcher's options as submitit takes them."""
    given = {
        key: getattr(launcher, key) for key in ("partition", "account", "qos", "constraint", "exclude", "gres", "mem")
    }
    return {
        **{key: value for key, value in given.items() if value is not None},
        **({"gpus_per_node": launcher.gpus} if launcher.gpus else {}),
        "job_name": f"lop-{name}",
        "time": launcher.time,
        "cpus_per_task": launcher.cpus,
        "signal_delay_s": launcher.signal_delay,
        "array_parallelism": launcher.array_parallelism,
        "setup": [*launcher.setup_lines, *python_path(code)],
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True, **launcher.sbatch},
    }


def python_path(code: Path) -> list[str]:
    """Lines of shell that make a job run the copy of the code, not the folder that it is started in.

    They come last: a user's line such as `module load python` may set PYTHONPATH.
    """
    lines = [f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}"]
    return lines + [f"export {name}={value}" for name, value in child_process.SAFE.items()]


def max_array_size() -> int:
    """How many tasks a job array may have here."""
    try:
        done = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True, timeout=queue.SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return 1_000
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", done.stdout, re.MULTILINE)
    return max(1, int(found[1]) if found else 1_000)


def follow(submitted: Sequence[Submitted]) -> list[Outcome]:
    """Show how the jobs get on until all of them have ended; Ctrl-C leaves them to themselves."""
    runs = [run for one in submitted for run in one.runs]
    totals = [int(run.status().get("total_steps") or 0) for run in runs]
    display = ProgressDisplay(len(runs), sum(totals), sum(run.steps_done() for run in runs))
    began, waiting = time.monotonic(), {one.job: one for one in submitted}
    outcomes: dict[Path, Outcome] = {}
    try:
        while waiting:
            known = queue.ask(list(waiting))
            for job, one in list(waiting.items()):
                state = known.get(job) if known is not None else "UNKNOWN"  # SLURM does not answer: no news
                if queue.is_active(state) or (state is None and time.monotonic() - began < MISSING):
                    continue
                outcomes |= {run.path: how_it_ended(run, one, state) for run in one.runs}
                del waiting[job]
            display.steps = sum(run.steps_done() for run in runs) - display.earlier
            display.finished = sum(outcome.state in ("done", "diverged") for outcome in outcomes.values())
            display.failed = sum(outcome.state == "failed" for outcome in outcomes.values())
            display.show()
            if waiting:
                time.sleep(max(POLL, len(runs) / 200))
    except KeyboardInterrupt:
        raise Interrupted(
            "the jobs go on; the same command follows them again, lop-status --cancel ends them"
        ) from None
    finally:
        display.close()
    return list(outcomes.values())


def how_it_ended(run: RunDirectory, one: Submitted, state: str | None) -> Outcome:
    """What became of a run whose job has ended in this state."""
    status = run.status()
    if run.is_finished():
        return Outcome(run.path, str(status["state"]))
    error = status.get("error")
    if status["state"] == "failed" and isinstance(error, dict):
        return Outcome(run.path, "failed", f"{error.get('type')}: {error.get('message')}")
    facts = queue.job_of(run)
    if is_alive(run.path / "lock") or (facts and facts["job"] != one.job):
        return Outcome(run.path, "busy")  # somebody else has submitted it, too
    tail = "".join(f"\n      {line}" for line in queue.log_tail(one.log))
    message = f"its job {one.job} has ended ({state or 'unknown to SLURM'}); the last lines of {one.log}:{tail}"
    return Outcome(run.path, "failed", message)


def forecast(plan: Plan, jobs: Sequence[Job], arrays: Sequence[Sequence[Job]], launcher: SlurmLauncher) -> str:
    """What would be submitted, and about how long it would take, in words."""
    runs = sum(len(pack.todo) for job in jobs for pack in job.packs)
    packs = sum(len(job.packs) for job in jobs)
    lines = [f"would submit {runs} runs in {packs} packs as {len(jobs)} jobs in {len(arrays)} arrays"]
    lines.append(f"  each with {launcher.cpus} CPUs, {launcher.gpus} GPUs and {duration(60.0 * launcher.time)}")
    at_a_time = max(1, len(jobs)) * max(1, min(launcher.cpus, launcher.workers * runs))
    lines.append(time_of(left(plan), at_a_time, "a job"))
    return "\n".join(lines)


def _reason(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
