"""Processes that this one starts do not see the folder that the user is in (case 5.6)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

import lop_sweeps
from lop_sweeps import child_process


def test_the_current_folder_is_not_on_the_path_and_the_users_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, theirs = tmp_path / "here", tmp_path / "theirs"
    for folder in (here, theirs):
        folder.mkdir()
    for name in ("queue", "wandb", "json"):
        (here / f"{name}.py").write_text("raise SystemExit('taken for a module of that name')\n")
    (theirs / "users_probe.py").write_text("import json, queue, subprocess, sys\nprint('here', queue.Queue.__name__)\n")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PYTHONPATH", str(theirs))
    process = child_process.start("users_probe", stdout=subprocess.PIPE)
    said, _ = process.communicate()
    assert (said.split(), process.returncode) == (["here", "Queue"], 0)


def test_all_of_them_are_started_in_one_place() -> None:
    package = Path(lop_sweeps.__file__).parent
    users = {path.name for path in package.rglob("*.py") if "sys.executable" in path.read_text()}
    assert users == {"child_process.py", "slurm.py"}  # SLURM's own start is a line of shell: see `python_path`
