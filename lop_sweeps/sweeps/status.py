"""The command `lop-status`: what a sweep has done, from its files alone. Imports no torch."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from lop_sweeps import __version__
from lop_sweeps.console import closing_quietly
from lop_sweeps.dot_env import load_dot_env
from lop_sweeps.errors import LopError
from lop_sweeps.regular_file import read_bytes
from lop_sweeps.selection import record
from lop_sweeps.selection.record import TUNING
from lop_sweeps.sweeps import integrity, queue
from lop_sweeps.sweeps.claim import is_alive
from lop_sweeps.sweeps.notes import Notes
from lop_sweeps.sweeps.progress import duration
from lop_sweeps.sweeps.run_directory import RunDirectory, runs_in
from lop_sweeps.sweeps.run_files import CONFIG, FINAL
from lop_sweeps.sweeps.verdict import Verdict
from lop_sweeps.training.checkpoint_file import snapshot_tasks
from lop_sweeps.trusted_option import add_trusted

ORDER = ("done", "diverged", "running", "queued", "waiting", "lost", "failed", "damaged")


@dataclass(frozen=True)
class RunStatus:
    """One run, as its files tell. rate: steps per second of a running run. latest_return: in control, the mean return
    of the latest episodes. verdict: whether its folder is itself. A run is damaged if its results cannot be believed,
    and the sweep's command would not continue it.
    """

    run: RunDirectory
    state: str
    steps: int
    total_steps: int
    rate: float
    error: str
    verdict: Verdict
    latest_return: float | None = None


def look(
    run: RunDirectory,
    jobs: Mapping[str, str] | None = None,
    notes: Notes | None = None,
    *,
    everything: bool = False,
) -> RunStatus:
    """A run that says it is running, but whose process is gone, is waiting: the next sweep continues it.

    everything: read all its files, whatever their sizes and times say.
    jobs: what SLURM says of them. A run whose job waits there is queued; one that was begun by a job that has ended
    without a word is lost, which the same command continues, too.
    """
    verdict = integrity.look(run.path, notes, everything=everything)
    status = verdict.status
    state = str(status["state"])
    alive = False
    with contextlib.suppress(OSError):  # a folder that may not be entered, which the verdict says
        alive = is_alive(run.path / "lock") if state in ("running", "waiting") else False
    facts = queue.job_of(run) if state in ("running", "waiting") else None
    error = status.get("error")
    lost = ""
    if facts and not alive:
        of_job = (jobs if jobs is not None else queue.states([str(facts["job"])])).get(str(facts["job"]))
        if queue.is_active(of_job):
            state = "queued"
        elif state == "running":
            tail = "".join(f"\n      {line}" for line in queue.log_tail(Path(str(facts["log"]))))
            lost = f"its job {facts['job']} has ended ({of_job or 'unknown to SLURM'}); {facts['log']} ends with:{tail}"
        state = "lost" if lost else state
    if alive:
        state = "running"
    elif state == "running":
        state = "waiting"
    if verdict.of_results and (state in FINAL or (not alive and verdict.refuses)):
        state = "damaged"
    return RunStatus(
        run,
        state,
        run.steps_done(status),
        int(status.get("total_steps") or int(status.get("num_tasks") or 0) * int(status.get("steps_per_task") or 0)),
        float(status.get("rate") or 0.0) if state == "running" else 0.0,
        f"{error.get('type')}: {error.get('message')}" if state == "failed" and isinstance(error, dict) else lost,
        verdict,
        status.get("return"),
    )


def summarise(
    folder: Path, *, every_run: bool, verify: bool = False, trusted: Sequence[str] = ()
) -> tuple[str, Counter[str]]:
    """The text that `lop-status` prints for one sweep folder, and how many runs are in each state.

    verify: read every file of every run, and name all that are not what they should be. trusted: the user's own
    modules that components may come from.
    """
    if not folder.is_dir():
        raise LopError(f"{folder}: no such sweep folder")
    found = list(runs_in(folder))
    submitted = {str(facts["job"]) for run in found if (facts := queue.job_of(run))}
    jobs = queue.states(submitted)
    with Notes(folder) as notes:
        runs = [look(run, jobs, notes, everything=verify) for run in found]
    if verify:
        runs = [_asked_today(run, trusted) for run in runs]
    if not runs:
        inner = f"; its selection goes on in {folder / TUNING}" if (folder / TUNING).is_dir() else ""
        raise LopError(f"{folder}: holds no runs (a run is a folder with a config.yaml){inner}")
    counts = Counter(run.state for run in runs)
    lines = [f"{folder}: " + ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])]
    running = [run for run in runs if run.state == "running"]
    rate = sum(run.rate for run in running)
    left = sum(run.total_steps - run.steps for run in runs if run.state in ("running", "queued", "waiting", "lost"))
    if running and rate > 0:
        returns = [run.latest_return for run in running if run.latest_return is not None]
        shown = f", return {fmean(returns):,.0f}" if returns else ""
        lines.append(f"  {rate:,.0f} steps/s over {len(running)} running, about {duration(left / rate)} left{shown}")
    elif counts["queued"]:
        lines.append("  waiting for SLURM; nothing is running yet")
    elif counts["waiting"] or counts["lost"]:
        lines.append("  nothing is running; the sweep's command continues it")
    if mirrored := mirror_facts(found):
        lines.append(f"  {mirrored}")
    if every_run:
        lines += [f"  {run.state:<9} {_share(run):>4}  {run.run.name}{_shown(run)}" for run in runs]
    for run in runs:
        if run.state == "failed":
            lines.append(f"  failed: {run.run.path}\n    {run.error.splitlines()[0] if run.error else 'no message'}")
        if run.state == "lost":
            lines.append(f"  lost: {run.run.path}\n    {run.error}")
        if run.verdict.problem:
            word = "damaged" if run.state == "damaged" else "look at"
            lines.append(f"  {word}: {run.run.path}\n    {run.verdict.problem}")
    if unrecorded := [run for run in runs if run.verdict.unrecorded]:
        what = ", ".join(sorted({text for run in unrecorded for text in run.verdict.unrecorded}))
        advice = "made by an earlier version; lop-status --verify --record writes it"
        lines.append(f"  not recorded for {len(unrecorded)} of {len(runs)} runs: {what} ({advice})")
    chosen, damaged = _selection(folder)
    lines += chosen
    if verify:
        counts["problems"] = sum(bool(run.verdict.problem) for run in runs) + damaged
        lines.append(
            f"  verified: {len(runs) - counts['problems'] + damaged} of {len(runs)} runs are what they should be"
        )
    return "\n".join(lines), counts


def _selection(folder: Path) -> tuple[list[str], bool]:
    """What is said of the choice of hyper-parameters, if there was one; whether its record is damaged."""
    try:
        found = record.read(folder)
    except LopError as error:
        return [f"  damaged: {error}"], True
    if found is None:
        return [], False
    ready = [name for name, method in found["methods"].items() if "chosen" in method]
    seeds = ", ".join(map(str, found["tuning"]["seeds"]))
    text = f"{len(ready)} of {len(found['settings'])} methods have their settings, chosen on seeds {seeds}"
    return [f"  {text} (runs in {folder / TUNING})"], False


def _asked_today(run: RunStatus, trusted: Sequence[str]) -> RunStatus:
    """A run asked whether its configuration is its own: what it does not record only the components can tell."""
    if run.verdict.problem:
        return run
    from lop_sweeps.sweeps.recording import edited  # it loads them, and torch

    if not (problem := edited(run.run, run.verdict.identity, trusted)):
        return run
    verdict = replace(run.verdict, problems={CONFIG: problem})
    return replace(run, verdict=verdict, state=run.state if run.state == "running" else "damaged")


def mirror_facts(runs: Sequence[RunDirectory]) -> str:
    """What has arrived in Weights & Biases, in words; empty if nothing was to be sent there."""
    facts = []
    for run in runs:
        with contextlib.suppress(OSError, ValueError, RecursionError):
            if isinstance(known := json.loads(read_bytes(f"{run.path}/mirror.json")), dict):
                facts.append((run, known))
    if not facts:
        return ""
    written = [known for _, known in facts if known.get("mode") == "offline"]
    if len(written) == len(facts):
        return f"Weights & Biases: {len(written)} of {len(runs)} written for wandb sync; --sync sends them, too"
    online = [(run, known) for run, known in facts if known.get("mode") != "offline"]
    arrived = sum(known.get("state") == run.status()["state"] for run, known in online)
    problems = sorted({str(known["problem"]) for _, known in facts if known.get("problem")})
    rest = f"; {problems[0]}; --sync sends the rest" if problems else ""
    return f"Weights & Biases: {arrived} of {len(runs)} complete{rest}"


def _shown(run: RunStatus) -> str:
    return "" if run.latest_return is None else f"  return {run.latest_return:,.0f}"


def _share(run: RunStatus) -> str:
    if run.state == "done":
        return "100%"
    return f"{100 * run.steps // run.total_steps}%" if run.total_steps else "0%"


def _folder(text: str) -> Path:
    """For argparse: `~` is the home folder, also where the shell has left it."""
    return Path(os.path.expanduser(text))


@closing_quietly
def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="lop-status", description="What is done, running, waiting and failed in a sweep; reads files only."
    )
    parser.add_argument("--version", action="version", version=f"lop-sweeps {__version__}")
    parser.add_argument("folder", nargs="*", type=_folder, help="sweep folders (default: every folder in ./sweeps)")
    parser.add_argument("-a", "--all", action="store_true", help="one line per run")
    parser.add_argument(
        "-w", "--watch", action="store_true", help="look again every 5 seconds until nothing is running"
    )
    parser.add_argument(
        "--prune", action="store_true", help="delete the checkpoints of finished runs (they can no longer be extended)"
    )
    parser.add_argument("--snapshots", action="store_true", help="with --prune: also what checkpoint.keep has kept")
    parser.add_argument(
        "--sync",
        action="store_true",
        help="send to Weights & Biases what has not arrived there; safe to repeat (with --watch: until the sweep ends)",
    )
    for name in ("project", "entity"):
        where = f"with --sync: the {name} (default: what the runs say, else WANDB_{name.upper()})"
        parser.add_argument(f"--{name}", help=where)
    parser.add_argument(
        "--verify", action="store_true", help="read every file, and name each run that is not what it should be"
    )
    parser.add_argument(
        "--record", action="store_true", help="with --verify: write what runs of earlier versions do not record"
    )
    add_trusted(parser, "--verify")
    parser.add_argument("--cancel", action="store_true", help="end the sweep's jobs on SLURM; what they saved stays")
    options = parser.parse_args(argv)
    load_dot_env()
    unrecorded = 0
    try:
        folders = options.folder or _default_folders()
        if options.prune:
            for folder in folders:
                summarise(folder, every_run=False)  # refuses what is no sweep
                print(f"{folder}: {_prune(folder, options.snapshots)}")
            return 0
        if options.snapshots:
            raise LopError("--snapshots goes with --prune")
        if options.sync:
            from lop_sweeps.tracking.sync import sync

            for folder in folders:
                summarise(folder, every_run=False)
                going = partial(_is_going, folder) if options.watch else None
                print(f"{folder}: {sync(list(runs_in(folder)), options.project, options.entity, going)}")
            return 0
        if options.project or options.entity:
            raise LopError("--project and --entity go with --sync")
        if options.record and not options.verify:
            raise LopError("--record goes with --verify")
        if options.record:
            from lop_sweeps.sweeps.recording import record

            for folder in folders:
                summarise(folder, every_run=False)  # refuses what is no sweep
                text, left = record(folder, options.trusted)
                print(f"{folder}: {text}")
                unrecorded += left
        if options.cancel:
            for folder in folders:
                summarise(folder, every_run=False)
                print(f"{folder}: {queue.cancel(runs_in(folder))} jobs cancelled")
            return 0
        while True:
            asked = {"every_run": options.all, "verify": options.verify, "trusted": options.trusted}
            summaries = [summarise(folder, **asked) for folder in folders]
            print("\n".join(text for text, _ in summaries), flush=True)
            if not options.watch or not any(counts["running"] or counts["queued"] for _, counts in summaries):
                break
            time.sleep(5)
    except LopError as error:
        print(f"lop-status: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(0)
    wrong = ("failed", "lost", "damaged", "problems")
    return 3 if unrecorded or any(counts[state] for _, counts in summaries for state in wrong) else 0


def _prune(folder: Path, snapshots: bool) -> str:
    """Delete the checkpoints of a sweep's finished runs; what that came to, in words."""
    finished = [run for run in runs_in(folder) if look(run).state in FINAL]
    freed = sum(run.prune(snapshots=snapshots) for run in finished)
    left = sum(len(snapshot_tasks(run.path)) for run in finished)
    kept = f"; {left} snapshot{'s' * (left != 1)} kept (--snapshots deletes them, too)" if left else ""
    return f"{freed / 1e6:.1f} MB of checkpoints {'and snapshots ' * snapshots}deleted{kept}"


def _is_going(folder: Path) -> bool:
    """Whether a sweep's runs are being trained, or wait for SLURM."""
    _, counts = summarise(folder, every_run=False)
    return bool(counts["running"] or counts["queued"])


def _default_folders() -> list[Path]:
    root = Path("sweeps")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and any(runs_in(path))) if root.is_dir() else []
    if not folders:
        raise LopError("no sweep folder given, and none in ./sweeps")
    return folders


if __name__ == "__main__":
    sys.exit(main())
