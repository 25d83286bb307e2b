"""Turns at a folder, whatever others have left there (case 5.10)."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from filelock import Timeout

from lop_sweeps.turns import acquire, own, turn


def test_turns_exclude_one_another(tmp_path: Path) -> None:
    with turn(tmp_path / ".lock"), pytest.raises(Timeout):
        acquire(tmp_path / ".lock", blocking=False)
    acquire(tmp_path / ".lock", blocking=False).release()


def test_a_lock_that_cannot_be_opened_is_replaced_by_the_users_own(tmp_path: Path) -> None:
    """A folder stands for a file that may not be written; the user's processes exclude one another all the same."""
    (tmp_path / ".lock").mkdir()
    with turn(tmp_path / ".lock"):
        assert own(tmp_path / ".lock").is_file()
        with pytest.raises(Timeout):
            acquire(tmp_path / ".lock", blocking=False)


def test_everybody_may_use_the_lock(tmp_path: Path) -> None:
    acquire(tmp_path / ".lock").release()
    assert stat.S_IMODE((tmp_path / ".lock").stat().st_mode) == 0o666


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        acquire(tmp_path / "file" / ".lock")
