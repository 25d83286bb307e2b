"""Forty runs, and somebody who kills: nothing is lost, nothing is there twice, all bytes are those of a quiet sweep."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from lop_sweeps.sweeps.run_directory import runs_in

LINE = [
    "benchmark=permuted_digits",
    "algorithm=backprop,continual_backprop",
    "seed=range(20)",
    "benchmark.num_tasks=150",
    "network.hidden=[60,60]",
    "checkpoint.first=0.5",
    "checkpoint.every=0.5",
    "sweep=s",
]


def start(folder: Path) -> psutil.Popen:
    command = [sys.executable, "-m", "lop_sweeps", "-m", *LINE, f"paths.sweeps={folder}"]
    return psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def logs(folder: Path) -> dict[str, bytes]:
    return {run.name: (run.path / "metrics.jsonl").read_bytes() for run in runs_in(folder / "s")}


@pytest.mark.slow
def test_killed_at_random_for_a_minute(tmp_path: Path) -> None:
    quiet = start(tmp_path / "quiet")
    assert quiet.wait(timeout=500) == 0
    rng = random.Random(7)
    launcher, kills, restarts = start(tmp_path / "loud"), 0, 0
    end = time.monotonic() + 60
    while time.monotonic() < end:
        time.sleep(rng.uniform(1, 4))
        with contextlib.suppress(psutil.NoSuchProcess):
            workers = launcher.children()
            if restarts < 2 and time.monotonic() > end - 60 + 20 * (restarts + 1):
                launcher.kill()  # its workers notice, save and leave
                launcher.wait()
                launcher, restarts = start(tmp_path / "loud"), restarts + 1
            elif workers:
                rng.choice(workers).kill()
                kills += 1
        if launcher.poll() is not None:  # it ends with the table of those whose process died
            launcher = start(tmp_path / "loud")
    assert kills > 8
    assert restarts == 2
    for _ in range(5):
        if launcher.wait(timeout=500) == 0:
            break
        launcher = start(tmp_path / "loud")  # the same line goes on
    assert logs(tmp_path / "loud") == logs(tmp_path / "quiet")
    assert len(logs(tmp_path / "loud")) == 40
