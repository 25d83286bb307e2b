"""`lop-status` tells the truth from files alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lop_sweeps.sweeps import status
from lop_sweeps.sweeps.claim import Claim
from tests import runs


def test_imports_no_torch() -> None:
    code = "import sys, lop_sweeps.sweeps.status; print([m for m in ('torch', 'hydra', 'numba') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_counts_states_and_names_the_first_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL, seeds=4)
    directories = [point.directory for point in plan.points]
    directories[0].write_status(state="done", task=4)
    directories[1].write_status(state="failed", error={"type": "ValueError", "message": "no luck\nat all"})
    directories[2].write_status(state="running", task=1, step=100, steps=300, rate=50.0)
    claim = Claim(directories[2].path)
    assert claim.take()
    folder = directories[0].path.parent
    assert status.main([str(folder)]) == 3
    text = capsys.readouterr().out
    assert "1 done, 1 running, 1 waiting, 1 failed" in text
    assert "ValueError: no luck" in text
    assert "at all" not in text
    # left are 500 of 800 steps of the running run and all 800 of the waiting one
    assert "50 steps/s over 1 running, about 26s left" in text
    claim.release()


def test_a_run_whose_process_is_gone_is_waiting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL)
    runs.train_and_kill(plan.packs[0], after_intervals=1)
    assert plan.points[0].directory.status()["state"] == "running"
    assert status.main([str(plan.folders[0]), "--all"]) == 0
    text = capsys.readouterr().out
    assert "1 waiting" in text
    assert "continues it" in text


def test_prune_deletes_checkpoints_of_finished_runs_only(tmp_path: Path) -> None:
    done = runs.plan(tmp_path, *runs.SMALL)
    runs.train(done)
    other = runs.plan(tmp_path, *runs.SMALL, "algorithm=l2")
    runs.train_and_kill(other.packs[0], after_intervals=2)
    assert status.main(["--prune", str(done.folders[0])]) == 0
    assert not list(done.points[0].directory.path.glob("checkpoint*"))
    assert list(other.points[0].directory.path.glob("checkpoint*"))
    assert runs.plan(tmp_path, *runs.SMALL).finished == 1
