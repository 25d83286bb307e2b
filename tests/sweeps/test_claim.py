"""Who has a run: locks that could not be written, that cannot be read, and processes of another container."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from lop_sweeps.sweeps import claim as claims
from lop_sweeps.sweeps.claim import Claim, is_alive
from lop_sweeps.sweeps.report import SweepFailed, finish
from tests import runs

LINE = [*runs.SMALL, runs.TORCH, "benchmark.examples_per_task=40"]


def failing(number: int) -> Any:
    def fail(*arguments: Any, **named: Any) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("linked", [True, False], ids=["with links", "without"])
def test_a_lock_that_could_not_be_written_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, linked: bool
) -> None:
    """Cases 1.7: on a full disk; after there is room, the same command runs them."""
    plan = runs.plan(tmp_path, *LINE, seeds=2)
    if not linked:
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", failing(errno.ENOSPC)) if linked else full.setattr(os, "fdopen", no_room)
        outcomes = runs.train(plan)
    assert [outcome.state for outcome in outcomes] == ["failed", "failed"]
    assert all("No space left" in outcome.message for outcome in outcomes)
    for point in plan.points:
        assert not list(point.directory.path.glob("lock*"))
    again = runs.plan(tmp_path, *LINE, seeds=2)
    assert again.busy == 0
    assert [outcome.state for outcome in runs.train(again)] == ["done", "done"]


def no_room(descriptor: int, *arguments: Any) -> None:
    os.close(descriptor)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": null}'])
def test_a_run_that_nobody_has_is_no_success(tmp_path: Path, content: str) -> None:
    """Cases 1.7: the empty lock of an earlier version is somebody's for a minute, as far as anybody can tell."""
    run = runs.plan(tmp_path, *LINE).points[0].directory
    (run.path / "lock").write_text(content)
    plan = runs.plan(tmp_path, *LINE)
    assert (plan.busy, plan.packs) == (1, [])
    with pytest.raises(SweepFailed, match="lock"):
        finish(plan, [])
    os.utime(run.path / "lock", (0, 0))
    again = runs.plan(tmp_path, *LINE)
    finish(again, runs.train(again))


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.EMFILE])
def test_a_lock_that_cannot_be_read_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Cases 1.8: once, when the run wants to write."""
    plan = runs.plan(tmp_path, *LINE)
    real, read = claims.read_bytes, 0

    def read_bytes(path: Path) -> bytes:
        nonlocal read
        read += 1
        if read == 3:
            raise OSError(number, os.strerror(number))
        return real(path)

    monkeypatch.setattr(claims, "read_bytes", read_bytes)
    (outcome,) = runs.train(plan)
    assert outcome.state == "failed"
    assert os.strerror(number) in outcome.message
    assert "taken over" not in outcome.message
    assert not (plan.points[0].directory.path / "lock").exists()


@pytest.mark.parametrize("content", [None, '{"token": "another"}', "{"])
def test_a_missing_lock_and_anothers_are_lost(tmp_path: Path, content: str | None) -> None:
    claim = Claim(tmp_path)
    assert claim.take()
    assert claim.held()
    (tmp_path / "lock").unlink() if content is None else (tmp_path / "lock").write_text(content)
    assert not claim.held()
    claim.release()
    assert (tmp_path / "lock").exists() == (content is not None)


def lock(folder: Path, **changes: Any) -> Path:
    claim = Claim(folder)
    assert claim.take()
    owner = {**json.loads(claim.path.read_text()), **changes}
    claim.path.write_text(json.dumps({key: value for key, value in owner.items() if value is not None}))
    return claim.path


UNKNOWN = 2**22 + 1  # larger than any process number


def test_an_unknown_process_of_another_container_is_alive_while_it_touches_its_lock(tmp_path: Path) -> None:
    """Cases 1.11: under the same host name, with process numbers of its own."""
    path = lock(tmp_path, pid=UNKNOWN, namespace="another")
    assert is_alive(path)
    os.utime(path, (0, 0))
    assert not is_alive(path)


def test_a_process_of_another_container_is_not_the_one_of_its_number_here(tmp_path: Path) -> None:
    path = lock(tmp_path, namespace="another")  # this process, as it seems
    os.utime(path, (0, 0))
    assert not is_alive(path)


def test_an_unknown_process_of_this_container_is_dead_at_once(tmp_path: Path) -> None:
    assert not is_alive(lock(tmp_path, pid=UNKNOWN))


def test_a_lock_from_before_says_nothing_of_containers(tmp_path: Path) -> None:
    path = lock(tmp_path, pid=UNKNOWN, namespace=None)
    assert is_alive(path)
    os.utime(path, (0, 0))
    assert not is_alive(path)


def test_a_lock_without_a_process_number_is_one_that_cannot_be_asked(tmp_path: Path) -> None:
    path = lock(tmp_path)
    for pid in (None, "x", [], -1, 10**30):
        path.write_text(json.dumps({**json.loads(path.read_text()), "pid": pid, "namespace": claims.namespace()}))
        is_alive(path)
