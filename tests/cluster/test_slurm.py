"""Sweeps on a real SLURM, disturbed in many ways, end with the bytes of a local sweep; no run is done twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from lop_sweeps.sweeps import queue
from lop_sweeps.sweeps.run_directory import RunDirectory, runs_in
from lop_sweeps.sweeps.status import summarise
from tests import runs
from tests.contracts.table import IMAGENET
from tests.tracking.wandb_server import WandbServer

pytestmark = [pytest.mark.slurm, pytest.mark.usefixtures("cluster")]

SHORT = ["benchmark=permuted_digits", "scale=tiny", "algorithm=backprop,continual_backprop"]
# A minute a run, so that something can happen in the middle; saved often.
LONG = [
    "benchmark=permuted_digits",
    "algorithm=backprop,continual_backprop",
    "benchmark.num_tasks=4000",
    "network.hidden=[100,100]",
    "checkpoint.first=1",
    "checkpoint.every=1",
]
BUSY = 600.0  # seconds: more than anything here takes beside other tests; only what is broken takes that long
SLURM = ["hydra/launcher=slurm", "hydra.launcher.time=10", "hydra.launcher.signal_delay=20"]


def lop(
    folder: Path, *line: str, check: bool = True, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """more: for the environment."""
    command = [sys.executable, "-m", "lop_sweeps", "-m", *line, f"paths.sweeps={folder}", "sweep=s"]
    environment = {**os.environ, **(more or {})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * BUSY, check=False, env=environment)
    assert not check or done.returncode == 0, done.stderr
    return done


def logs(folder: Path) -> dict[str, bytes]:
    return {run.name: (run.path / "metrics.jsonl").read_bytes() for run in runs_in(folder / "s")}


def state_of(folder: Path) -> str:
    """The first line of lop-status: how many runs are done, running, queued ..."""
    return summarise(folder / "s", every_run=False)[0].splitlines()[0].partition(": ")[2]


def until(what: Callable[[], bool], seconds: float = BUSY) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.3)


def slurm(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def rows_written(run: RunDirectory) -> int:
    path = run.path / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def in_the_middle(folder: Path) -> bool:
    """Whether some run has been saved, and is at work."""
    return any(10 < rows_written(run) < 700 and (run.path / "checkpoint.pt").exists() for run in runs_in(folder / "s"))


def sessions(folder: Path) -> list[list[dict[str, object]]]:
    return [json.loads((run.path / "provenance.json").read_text())["sessions"] for run in runs_in(folder / "s")]


def assert_nothing_was_repeated_in_vain(folder: Path) -> None:
    """Each session of a run begins where a checkpoint was, never at its start again."""
    for of_run in sessions(folder):
        begun = [(one["task"], one["step"]) for one in of_run]
        assert begun == sorted(begun)
        assert begun.count((0, 0)) <= 2  # killed before its first checkpoint


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The long runs, undisturbed and on this machine."""
    folder = tmp_path_factory.mktemp("local")
    lop(folder, *LONG, "seed=0,1")
    return folder


def test_twelve_runs_in_packs(tmp_path: Path) -> None:
    line = [*SHORT, "seed=range(6)", *SLURM, "hydra.launcher.pack=3"]
    planned = lop(tmp_path / "slurm", *line, "hydra.launcher.plan=true")
    assert "12 runs in 4 packs as 4 jobs" in planned.stderr
    assert not (tmp_path / "slurm").exists()
    done = lop(tmp_path / "slurm", *line)
    assert "12 done" in done.stderr
    assert state_of(tmp_path / "slurm") == "12 done"
    lop(tmp_path / "local", *SHORT, "seed=range(6)")
    assert logs(tmp_path / "slurm") == logs(tmp_path / "local")
    assert [len(one) for one in sessions(tmp_path / "slurm")] == [1] * 12
    again = lop(tmp_path / "slurm", *line)
    assert "12 finished already" in again.stderr
    assert "submitted" not in again.stderr


def test_two_submitters_at_the_same_time(tmp_path: Path) -> None:
    """Each run is trained once, whoever's job comes to it first."""
    line = [*SHORT, "seed=range(3)", *SLURM, "hydra.launcher.pack=3", f"paths.sweeps={tmp_path}", "sweep=s"]
    command = [sys.executable, "-m", "lop_sweeps", "-m", *line]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [one.communicate(timeout=BUSY)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert state_of(tmp_path) == "6 done"
    assert [len(one) for one in sessions(tmp_path)] == [1] * 6
    lop(tmp_path / "local", *SHORT, "seed=range(3)")
    assert logs(tmp_path) == logs(tmp_path / "local")


def test_preempted_requeued_and_cancelled_in_the_middle(tmp_path: Path, local: Path) -> None:
    """One sweep suffers it all: a job that outranks it, an operator's requeue, scancel and a second submission."""
    line = [*LONG, "seed=0,1", *SLURM, "hydra.launcher.pack=2", "hydra.launcher.wait=false"]
    slurm("scontrol", "update", "PartitionName=low", "State=DOWN")  # nothing starts before the second line is typed
    lop(tmp_path, *line)
    assert "queued" in state_of(tmp_path)
    second = lop(tmp_path, *line)
    assert "4 queued or being run elsewhere, 0 to run" in second.stderr
    slurm("scontrol", "update", "PartitionName=low", "State=UP")
    until(lambda: in_the_middle(tmp_path))
    assert "running" in state_of(tmp_path)

    slurm("sbatch", "--partition=high", "--exclusive", "--nodes=2", "--wrap=sleep 3", "--output=/dev/null")
    until(lambda: "queued" in state_of(tmp_path))
    until(lambda: "running" in state_of(tmp_path))

    for job in slurm("squeue", "-h", "-t", "RUNNING", "-o", "%i").split():  # of an array, each task by itself
        subprocess.run(["scontrol", "requeue", job], check=False)  # one may have ended meanwhile
    until(lambda: "running" not in state_of(tmp_path))
    until(lambda: "running" in state_of(tmp_path))

    from lop_sweeps.sweeps.status import main

    assert main(["--cancel", str(tmp_path / "s")]) == 0
    until(lambda: not slurm("squeue", "-h").strip())
    until(lambda: "running" not in state_of(tmp_path))
    done = lop(tmp_path, *[one for one in line if "wait" not in one])
    assert " to run" in done.stderr
    assert logs(tmp_path) == logs(local)
    assert_nothing_was_repeated_in_vain(tmp_path)


def test_job_longer_than_its_time_limit_goes_on_until_it_is_done(tmp_path: Path) -> None:
    """A minute, of which the job uses 36 seconds."""
    runs_of = [*LONG, "benchmark.num_tasks=3000", "seed=0"]
    done = lop(tmp_path / "slurm", *runs_of, *SLURM, "hydra.launcher.pack=2", "hydra.launcher.time=1")
    assert "2 done" in done.stderr
    lop(tmp_path / "local", *runs_of)
    assert logs(tmp_path / "slurm") == logs(tmp_path / "local")
    assert sum(len(one) for one in sessions(tmp_path / "slurm")) > 2
    assert_nothing_was_repeated_in_vain(tmp_path / "slurm")


def test_job_that_dies_without_a_word(tmp_path: Path) -> None:
    """lop-status says so, with what it printed last; the same line goes on from its checkpoint."""
    line = [*LONG, "seed=0", *SLURM, "hydra.launcher.pack=2"]
    lop(tmp_path, *line, "hydra.launcher.wait=false")
    until(lambda: in_the_middle(tmp_path))
    lock = next((tmp_path / "s").glob("*/lock"))
    os.kill(int(json.loads(lock.read_text())["pid"]), signal.SIGKILL)
    until(lambda: "lost" in state_of(tmp_path))
    text, counts = summarise(tmp_path / "s", every_run=False)
    assert counts == {"lost": 1, "waiting": 1}
    assert "has ended (FAILED)" in text
    assert "_log.out ends with:\n      " in text
    assert "2 done" in lop(tmp_path, *line).stderr
    assert_nothing_was_repeated_in_vain(tmp_path)


def test_accounting_remembers_what_the_queue_has_forgotten(cluster: Path) -> None:
    if "accounting_storage/slurmdbd" not in (cluster / "slurm.conf").read_text():
        pytest.skip("no accounting here (Debian: slurmdbd, mariadb-server)")
    job = slurm("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 3").strip()
    until(lambda: queue.states([job]).get(job) == "FAILED")
    until(lambda: "FAILED" in slurm("sacct", "-n", "-X", "-o", "State", "-j", job))
    with pytest.MonkeyPatch.context() as patch:  # a queue that knows nothing
        patch.setattr(queue, "_ask", lambda *c, _ask=queue._ask: [] if c[0] == "squeue" else _ask(*c))
        assert queue.states([job]) == {job: "FAILED"}


def test_node_that_dies_and_comes_back(tmp_path: Path, local: Path, cluster: Path) -> None:
    lop(tmp_path, *LONG, "seed=0,1", *SLURM, "hydra.launcher.pack=2", "hydra.launcher.wait=false")
    until(lambda: in_the_middle(tmp_path))
    for node in ("n1", "n2"):
        os.kill(int((cluster / f"slurmd.{node}.pid").read_text()), signal.SIGKILL)
    for lock in (tmp_path / "s").glob("*/lock"):  # with the machine its processes die
        os.kill(int(json.loads(lock.read_text())["pid"]), signal.SIGKILL)
    time.sleep(1)
    for node in ("n1", "n2"):
        subprocess.run(["slurmd", "-N", node], check=True)
    until(lambda: not slurm("squeue", "-h").strip())
    lop(tmp_path, *LONG, "seed=0,1", *SLURM, "hydra.launcher.pack=2")
    assert logs(tmp_path) == logs(local)
    assert_nothing_was_repeated_in_vain(tmp_path)


def test_a_point_that_fails_fails_its_job_and_no_other(tmp_path: Path) -> None:
    line = [*SHORT, "seed=range(2)", *SLURM]
    victim = runs.point(tmp_path, *SHORT[:2], "algorithm=backprop", "seed=1", "sweep=s").directory
    (victim.path / "metrics.jsonl").mkdir(parents=True)  # it cannot write its log
    done = lop(tmp_path, *line, check=False)
    assert done.returncode != 0
    assert "1 of 4 runs failed" in done.stderr
    assert state_of(tmp_path) == "3 done, 1 failed"
    failed = [line for line in slurm("squeue", "-h", "-r", "-t", "all", "-o", "%i %T").splitlines() if "FAILED" in line]
    assert failed
    (victim.path / "metrics.jsonl").rmdir()
    assert "1 to run" in lop(tmp_path, *line).stderr
    assert state_of(tmp_path) == "4 done"


def test_convolutional_runs_in_the_same_packs(tmp_path: Path) -> None:
    """Trained side by side, where rounding depends on who is beside."""
    line = ["scale=tiny", *IMAGENET, "algorithm=continual_backprop", "seed=range(4)", "hydra.launcher.pack=2"]
    lop(tmp_path / "slurm", *line, *SLURM)
    lop(tmp_path / "local", *line)
    assert logs(tmp_path / "slurm") == logs(tmp_path / "local")
    packs = [json.loads((run.path / "pack.json").read_text())["members"] for run in runs_in(tmp_path / "slurm" / "s")]
    assert {len(members) for members in packs} == {2}


def test_hydras_own_launcher_for_slurm(tmp_path: Path) -> None:
    """Run by run, without packs, copy or table; the runs are the same."""
    line = [*SHORT, "seed=0"]
    lop(tmp_path / "slurm", *line, "hydra/launcher=submitit_slurm", "hydra.launcher.timeout_min=5")
    lop(tmp_path / "local", *line)
    assert logs(tmp_path / "slurm") == logs(tmp_path / "local")


def test_jobs_mirror_their_runs(tmp_path: Path) -> None:
    with WandbServer() as server:
        lop(tmp_path, *SHORT, "seed=0,1", "tracking=wandb", *SLURM, "hydra.launcher.pack=2", more=server.environment())
        assert server.problems == []
        sent = {stored.name: stored for stored in server.runs.values()}
    assert {name: stored.state for name, stored in sent.items()} == dict.fromkeys(logs(tmp_path), "finished")
    for name, log in logs(tmp_path).items():
        rows = [json.loads(line) for line in log.splitlines()]
        assert [row["performance/accuracy"] for row in sent[name].history] == [row["accuracy"] for row in rows]


def test_a_selection_goes_on_rung_by_rung_and_chooses_as_it_does_on_this_machine(tmp_path: Path) -> None:
    line = [
        *("benchmark=permuted_digits", "scale=tiny", "network.hidden=[8]", "hydra/sweeper=select"),
        *("optimizer.step_size=0.1,0.01,0.001", "seed=0,1", "tuning.seeds=[7,8]", "tuning.shares=[0.5,1]"),
    ]
    submitted = lop(tmp_path / "slurm", *line, *SLURM, "hydra.launcher.wait=false")
    assert "the rung is submitted; when its runs have ended, the same line goes on" in submitted.stderr
    lop(tmp_path / "slurm", *line, *SLURM)  # waits for what is queued, then for its own
    lop(tmp_path / "local", *line)
    assert logs(tmp_path / "slurm") == logs(tmp_path / "local")
    one, other = ((tmp_path / place / "s" / "select.json").read_bytes() for place in ("slurm", "local"))
    assert one == other
