"""The command `lop-status`: what a sweep has done, from its files alone. Imports no torch."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from lop_sweeps.errors import LopError
from lop_sweeps.sweep.claim import is_alive
from lop_sweeps.sweep.progress import duration
from lop_sweeps.sweep.run_directory import RunDirectory, runs_in

ORDER = ("done", "diverged", "running", "waiting", "failed")


@dataclass(frozen=True)
class RunStatus:
    """One run, as its files tell. rate: steps per second of a running run. latest_return: in control, the mean return
    of the latest episodes.
    """

    run: RunDirectory
    state: str
    steps: int
    total_steps: int
    rate: float
    error: str
    latest_return: float | None = None


def look(run: RunDirectory) -> RunStatus:
    """A run that says it is running, but whose process is gone, is waiting: the next sweep continues it."""
    status: dict[str, Any] = run.status()
    state = str(status["state"])
    alive = is_alive(run.path / "lock") if state == "running" else False
    if state == "running" and not alive:
        state = "waiting"
    error = status.get("error")
    return RunStatus(
        run,
        state,
        run.steps_done(),
        int(status.get("total_steps") or int(status.get("num_tasks") or 0) * int(status.get("steps_per_task") or 0)),
        float(status.get("rate") or 0.0) if state == "running" else 0.0,
        f"{error.get('type')}: {error.get('message')}" if state == "failed" and isinstance(error, dict) else "",
        status.get("return"),
    )


def summarise(folder: Path, *, every_run: bool) -> tuple[str, Counter[str]]:
    """The text that `lop-status` prints for one sweep folder, and how many runs are in each state."""
    if not folder.is_dir():
        raise LopError(f"{folder}: no such sweep folder")
    runs = [look(run) for run in runs_in(folder)]
    if not runs:
        raise LopError(f"{folder}: holds no runs (a run is a folder with a config.yaml)")
    counts = Counter(run.state for run in runs)
    lines = [f"{folder}: " + ", ".join(f"{counts[state]} {state}" for state in ORDER if counts[state])]
    running = [run for run in runs if run.state == "running"]
    rate = sum(run.rate for run in running)
    left = sum(run.total_steps - run.steps for run in runs if run.state in ("running", "waiting"))
    if running and rate > 0:
        returns = [run.latest_return for run in running if run.latest_return is not None]
        shown = f", return {fmean(returns):,.0f}" if returns else ""
        lines.append(f"  {rate:,.0f} steps/s over {len(running)} running, about {duration(left / rate)} left{shown}")
    elif counts["waiting"]:
        lines.append("  nothing is running; the sweep's command continues it")
    if every_run:
        lines += [f"  {run.state:<9} {_share(run):>4}  {run.run.name}{_shown(run)}" for run in runs]
    for run in runs:
        if run.state == "failed":
            lines.append(f"  failed: {run.run.path}\n    {run.error.splitlines()[0] if run.error else 'no message'}")
    return "\n".join(lines), counts


def _shown(run: RunStatus) -> str:
    return "" if run.latest_return is None else f"  return {run.latest_return:,.0f}"


def _share(run: RunStatus) -> str:
    if run.state == "done":
        return "100%"
    return f"{100 * run.steps // run.total_steps}%" if run.total_steps else "0%"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="lop-status", description="What is done, running, waiting and failed in a sweep; reads files only."
    )
    parser.add_argument("folder", nargs="*", type=Path, help="sweep folders (default: every folder in ./sweeps)")
    parser.add_argument("-a", "--all", action="store_true", help="one line per run")
    parser.add_argument(
        "-w", "--watch", action="store_true", help="look again every 5 seconds until nothing is running"
    )
    parser.add_argument(
        "--prune", action="store_true", help="delete the checkpoints of finished runs (they can no longer be extended)"
    )
    options = parser.parse_args(argv)
    try:
        folders = options.folder or _default_folders()
        if options.prune:
            for folder in folders:
                summarise(folder, every_run=False)  # refuses what is no sweep
                freed = sum(run.prune() for run in runs_in(folder) if look(run).state in ("done", "diverged"))
                print(f"{folder}: {freed / 1e6:.1f} MB of checkpoints deleted")
            return 0
        while True:
            summaries = [summarise(folder, every_run=options.all) for folder in folders]
            print("\n".join(text for text, _ in summaries), flush=True)
            if not options.watch or not any(counts["running"] for _, counts in summaries):
                break
            time.sleep(5)
    except LopError as error:
        print(f"lop-status: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        os._exit(0)
    return 3 if any(counts["failed"] for _, counts in summaries) else 0


def _default_folders() -> list[Path]:
    root = Path("sweeps")
    folders = sorted(path for path in root.iterdir() if path.is_dir() and any(runs_in(path))) if root.is_dir() else []
    if not folders:
        raise LopError("no sweep folder given, and none in ./sweeps")
    return folders


if __name__ == "__main__":
    sys.exit(main())
