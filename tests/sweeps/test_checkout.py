"""What is asked of git runs no program but git."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from lop_sweeps.sweeps import checkout


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one changed file, whose configuration and environment name programs wherever git has any."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    root = tmp_path / "checkout"
    root.mkdir()

    def git(*arguments: str) -> None:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        subprocess.run(["git", *who, "-C", str(root), *arguments], check=True, capture_output=True)

    git("init")
    (root / "file.txt").write_text("before\n")
    (root / ".gitattributes").write_text("*.txt diff=odd filter=a=b\n")
    git("add", ".")
    git("commit", "-m", "x")
    (root / "file.txt").write_text("after\n")
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho ran >> {tmp_path}/ran\ncat $1\n")
    program.chmod(0o755)
    for name in ("diff.external", "diff.odd.command", "diff.odd.textconv", "core.fsmonitor", "core.pager"):
        git("config", name, str(program))
    git("config", "filter.a=b.clean", str(program))
    git("config", "filter.a=b.required", "true")
    for name in ("GIT_EXTERNAL_DIFF", "GIT_PAGER"):
        monkeypatch.setenv(name, str(program))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    return root


def test_commit_and_diff_run_no_other_program(hostile: Path) -> None:
    """Case 2.3."""
    commit, diff = checkout.commit(hostile), checkout.diff(hostile)
    assert commit is not None
    assert len(commit) == 40
    assert diff is not None
    assert "-before" in diff
    assert "+after" in diff
    assert not (hostile.parent / "ran").exists()


def test_a_folder_that_is_no_checkout_has_neither(tmp_path: Path) -> None:
    assert checkout.commit(tmp_path) is None
    assert checkout.diff(tmp_path) is None
