"""Damaged, missing and unwritable files: a run goes on from what is sound, to the same bytes."""

from __future__ import annotations

import errno
import json
import logging
import multiprocessing
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lop_sweeps.analysis.__main__ import main as lop_figures
from lop_sweeps.errors import LopError
from lop_sweeps.fused import learner as fused
from lop_sweeps.sweeps import provenance, run_directory, status
from lop_sweeps.sweeps.claim import Claim
from lop_sweeps.sweeps.load_run import load_run
from lop_sweeps.sweeps.planning import Plan
from lop_sweeps.training import checkpoint, online
from lop_sweeps.training.metrics_log import MetricsLog
from tests import runs
from tests.bad_input.conftest import Command

CBP = "algorithm.continual_backprop"
LINE = [*runs.SMALL, "algorithm=continual_backprop", "optimizer=adam", f"{CBP}.replacement_rate=0.01"]
KILLED_AFTER = 7  # intervals: in task 2, at step 140
NEWEST, PREVIOUS, START = (2, 70), (2, 0), (0, 0)  # where its checkpoints are


def shorten_intervals(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(online, "INTERVAL", 70)
    patch.setattr(fused, "_WORK_PER_CALL", 0)  # one interval to a call, so that there are boundaries inside tasks


@pytest.fixture(autouse=True)
def _short_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten_intervals(monkeypatch)


def make_whole_and_half(tmp_path_factory: pytest.TempPathFactory, *overrides: str) -> tuple[Path, Path]:
    """The sweep folders of an uninterrupted run and of the same run killed half-way."""
    with pytest.MonkeyPatch.context() as patch:
        shorten_intervals(patch)
        whole, half = (tmp_path_factory.mktemp(name) for name in ("whole", "half"))
        plan = runs.plan(whole, *LINE, *overrides)
        assert [outcome.state for outcome in runs.train(plan)] == ["done"]
        assert runs.train_and_kill(runs.plan(half, *LINE, *overrides).packs[0], after_intervals=KILLED_AFTER)
    return whole, half


@pytest.fixture(scope="module")
def whole_and_half(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_whole_and_half(tmp_path_factory, "engine=fused")


@pytest.fixture(scope="module")
def whole_and_half_of_torch(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_whole_and_half(tmp_path_factory, runs.TORCH)


@pytest.fixture
def whole(whole_and_half: tuple[Path, Path]) -> bytes:
    """The metrics of the uninterrupted run."""
    return next(whole_and_half[0].rglob("metrics.jsonl")).read_bytes()


@pytest.fixture
def killed(whole_and_half: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of the directory of the run that was killed half-way, below `tmp_path / "sweeps"`."""
    shutil.copytree(whole_and_half[1], tmp_path / "sweeps")
    return next((tmp_path / "sweeps").rglob("config.yaml")).parent


def again(tmp_path: Path, *overrides: str) -> Plan:
    return runs.plan(tmp_path / "sweeps", *LINE, *overrides)


def last_start(run: Path) -> tuple[int, int]:
    """Where the newest session of a run began."""
    session = json.loads((run / "provenance.json").read_text())["sessions"][-1]
    return session["task"], session["step"]


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def garbage(path: Path) -> None:
    path.write_bytes(b"\x80\x02\xff garbage \x00" * 50)


def flip_a_bit(path: Path) -> None:
    """In the middle of the learned weights, say: such a file loads, and torch does not notice."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def checkpoints(damage: Callable[[Path], None], *names: str) -> Callable[[Path], None]:
    def both(run: Path) -> None:
        for name in names:
            damage(run / name)

    return both


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def write(run: Path) -> None:
        (run / name).write_bytes(change((run / name).read_bytes()))

    return write


def old_garbage_lock(run: Path) -> None:
    garbage(run / "lock")
    os.utime(run / "lock", (0, 0))


# name: what happens to the killed run's directory, and where it then goes on
DAMAGE: dict[str, tuple[Callable[[Path], None], tuple[int, int]]] = {
    "nothing": (lambda run: None, NEWEST),
    "newest checkpoint truncated": (checkpoints(truncate, "checkpoint.pt"), PREVIOUS),
    "newest checkpoint garbage": (checkpoints(garbage, "checkpoint.pt"), PREVIOUS),
    "newest checkpoint empty": (edit("checkpoint.pt", lambda content: b""), PREVIOUS),
    "newest checkpoint, one bit": (checkpoints(flip_a_bit, "checkpoint.pt"), PREVIOUS),
    "newest checkpoint deleted": (checkpoints(Path.unlink, "checkpoint.pt"), PREVIOUS),
    "previous checkpoint garbage": (checkpoints(garbage, "checkpoint.previous.pt"), NEWEST),
    "both checkpoints truncated": (checkpoints(truncate, *checkpoint.NAMES), START),
    "both checkpoints garbage": (checkpoints(garbage, *checkpoint.NAMES), START),
    "both checkpoints, one bit": (checkpoints(flip_a_bit, *checkpoint.NAMES), START),
    "both checkpoints deleted": (checkpoints(Path.unlink, *checkpoint.NAMES), START),
    "checkpoint being written": (lambda run: garbage(run / "checkpoint.pt.tmp"), NEWEST),
    "checkpoint of another format": (
        lambda run: torch.save({"format": 0, "task": 9}, run / "checkpoint.pt"),
        PREVIOUS,
    ),
    "metrics with a row too many": (edit("metrics.jsonl", lambda rows: rows + rows.splitlines(True)[0]), NEWEST),
    "metrics with garbage at the end": (edit("metrics.jsonl", lambda rows: rows + b'{"task": \x00\xff'), NEWEST),
    "metrics cut": (edit("metrics.jsonl", lambda rows: rows[:-20]), START),
    "metrics with one digit changed": (edit("metrics.jsonl", lambda rows: rows.replace(b"200", b"201", 1)), START),
    "metrics empty": (edit("metrics.jsonl", lambda rows: b""), START),
    "metrics deleted": (lambda run: (run / "metrics.jsonl").unlink(), START),
    "status garbage": (lambda run: garbage(run / "status.json"), NEWEST),
    "status cut": (lambda run: truncate(run / "status.json"), NEWEST),
    "status of no known state": (edit("status.json", lambda text: b'{"state": "finished", "task": 4}'), NEWEST),
    "status with text for a number": (edit("status.json", lambda text: b'{"state": "done", "task": "all"}'), NEWEST),
    "status a list": (edit("status.json", lambda text: b"[1, 2]"), NEWEST),
    "status deleted": (lambda run: (run / "status.json").unlink(), NEWEST),
    "configuration garbage": (lambda run: garbage(run / "config.yaml"), NEWEST),
    "configuration no YAML": (edit("config.yaml", lambda text: b"seed: [1, {"), NEWEST),
    "configuration empty": (edit("config.yaml", lambda text: b""), NEWEST),
    "configuration deleted": (lambda run: (run / "config.yaml").unlink(), NEWEST),
    "pack garbage": (lambda run: garbage(run / "pack.json"), NEWEST),
    "pack of others": (edit("pack.json", lambda text: b'{"members": ["x", "y"], "threads": 1}'), NEWEST),
    "provenance garbage": (lambda run: garbage(run / "provenance.json"), NEWEST),
    "lock garbage, old": (old_garbage_lock, NEWEST),
}


@pytest.mark.parametrize(("damage", "position"), DAMAGE.values(), ids=list(DAMAGE))
def test_damaged_run_ends_with_the_same_bytes(
    killed: Path, whole: bytes, tmp_path: Path, damage: Callable[[Path], None], position: tuple[int, int]
) -> None:
    damage(killed)
    mend(killed, whole, tmp_path, position)


def mend(killed: Path, whole: bytes, tmp_path: Path, position: tuple[int, int], *overrides: str) -> None:
    """The same command goes on from `position` to the same bytes, and then there is nothing left to do."""
    plan = again(tmp_path, *overrides)
    assert plan.points[0].directory.path == killed
    assert [outcome.state for outcome in runs.train(plan)] == ["done"]
    assert last_start(killed) == position
    assert runs.metrics(plan.points[0]) == whole
    assert load_run(killed)[1]["seed"] == 0
    assert again(tmp_path, *overrides).finished == 1


@pytest.mark.parametrize(
    "name", ["newest checkpoint truncated", "both checkpoints deleted", "metrics cut", "status garbage", "pack garbage"]
)
def test_damaged_run_of_the_torch_engine_ends_with_the_same_bytes(
    whole_and_half_of_torch: tuple[Path, Path], tmp_path: Path, name: str
) -> None:
    """Files and what is done about them are the same for both engines: some of the damage shows it."""
    whole, half = whole_and_half_of_torch
    shutil.copytree(half, tmp_path / "sweeps")
    killed = next((tmp_path / "sweeps").rglob("config.yaml")).parent
    damage, position = DAMAGE[name]
    damage(killed)
    mend(killed, next(whole.rglob("metrics.jsonl")).read_bytes(), tmp_path, position, runs.TORCH)


def test_starting_over_is_said(killed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints(garbage, *checkpoint.NAMES)(killed)
    with caplog.at_level(logging.WARNING, "lop"):
        runs.train(again(tmp_path))
    assert "starts over: its checkpoints are damaged" in caplog.text
    assert killed.name in caplog.text


def test_a_pack_that_lost_one_members_checkpoints_is_split_and_finishes(tmp_path: Path) -> None:
    line = [*LINE, runs.TORCH, "precision=float64"]
    plan = runs.plan(tmp_path / "sweeps", *line, seeds=2)
    assert len(plan.packs) == 1
    assert runs.train_and_kill(plan.packs[0], after_intervals=KILLED_AFTER)
    checkpoints(garbage, *checkpoint.NAMES)(plan.points[0].directory.path)
    resumed = runs.plan(tmp_path / "sweeps", *line, seeds=2)
    assert [outcome.state for outcome in runs.train(resumed)] == ["done", "done"]
    assert [last_start(point.directory.path) for point in resumed.points] == [START, NEWEST]
    reference = runs.plan(tmp_path / "reference", *line, seeds=2)
    runs.train(reference)
    for one, other in zip(resumed.points, reference.points, strict=True):
        for a, b in zip(runs.metrics(one).splitlines(), runs.metrics(other).splitlines(), strict=True):
            row, twin = json.loads(a), json.loads(b)
            assert row == {name: pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in twin.items()}


def test_a_finished_run_is_not_touched_by_damage_beside_it(whole_and_half: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(whole_and_half[0], tmp_path / "sweeps")
    run = next((tmp_path / "sweeps").rglob("config.yaml")).parent
    content = (run / "metrics.jsonl").read_bytes()
    (run / "status.json").unlink()
    plan = again(tmp_path)
    assert len(plan.packs) == 1
    assert [outcome.state for outcome in runs.train(plan)] == ["done"]
    assert last_start(run) == (4, 0)  # nothing was trained again
    assert (run / "metrics.jsonl").read_bytes() == content


@pytest.mark.parametrize("content", [b"\xff\x00", b"seed: [1, {", b"", b"just text"])
def test_commands_name_a_damaged_configuration(
    killed: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (killed / "config.yaml").write_bytes(content)
    with pytest.raises(LopError, match=r"config\.yaml"):
        load_run(killed)
    assert lop_figures([str(killed.parent)]) == 2
    assert f"{killed / 'config.yaml'}: " in capsys.readouterr().err
    assert status.main([str(killed.parent)]) == 0  # reads no configuration
    assert "1 waiting" in capsys.readouterr().out


def test_damaged_status_does_not_stop_lop_status(killed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (b"\xff\x00", b"[]", b'{"state": "done", "task": "all"}', b'{"state": "failed", "error": 3}', b""):
        (killed / "status.json").write_bytes(content)
        assert status.main([str(killed.parent), "--all"]) in (0, 3)
        assert killed.name in capsys.readouterr().out


def test_load_run_without_a_checkpoint(killed: Path, tmp_path: Path) -> None:
    checkpoints(garbage, *checkpoint.NAMES)(killed)
    with pytest.raises(LopError, match="has no readable checkpoint") as caught:
        load_run(killed)
    assert str(killed) in str(caught.value)
    with pytest.raises(LopError, match=r"nowhere.config\.yaml"):
        load_run(tmp_path / "nowhere")


# A full disk


def no_space(*arguments: Any, **named: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_a_checkpoint(payload: Any, file: Any) -> None:
    file.write(b"PK\x03\x04")
    no_space()


FULL: dict[str, tuple[Any, str, Callable[..., None], list[str]]] = {
    "checkpoint": (torch, "save", half_a_checkpoint, ["could not write a checkpoint", "the earlier one is kept"]),
    "checkpoint renamed": (checkpoint, "sync_directory", no_space, ["No space left"]),
    "metrics": (MetricsLog, "append", no_space, ["No space left"]),
    "metrics synced": (MetricsLog, "sync", no_space, ["No space left"]),
    "provenance": (provenance, "write_atomically", no_space, ["No space left"]),
    "status": (run_directory, "write_atomically", no_space, ["No space left"]),
}


@pytest.mark.parametrize(("holder", "name", "broken", "words"), FULL.values(), ids=list(FULL))
def test_a_full_disk_fails_the_run_and_loses_nothing(
    killed: Path,
    whole: bytes,
    tmp_path: Path,
    holder: Any,
    name: str,
    broken: Callable[..., None],
    words: list[str],
) -> None:
    before = (killed / "metrics.jsonl").read_bytes()
    plan = again(tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holder, name, broken)
        (outcome,) = runs.train(plan)
    assert outcome.state == "failed"
    for word in [*words, "No space left"]:
        assert word in outcome.message
    state = run_directory.RunDirectory(killed).status()
    if name != "write_atomically":  # then even the failure could not be written down
        assert (state["state"], state["error"]["type"]) == ("failed", "OSError")
        assert "No space left" in state["error"]["message"]
    assert (killed / "metrics.jsonl").read_bytes().startswith(before)
    assert checkpoint.load_all(killed)
    assert not (killed / "lock").exists()
    assert not list(killed.glob("*.tmp"))
    resumed = again(tmp_path)
    assert [outcome.state for outcome in runs.train(resumed)] == ["done"]
    assert last_start(killed) >= PREVIOUS
    assert runs.metrics(resumed.points[0]) == whole


def test_a_real_limit_on_file_sizes(killed: Path, whole: bytes, tmp_path: Path) -> None:
    """As a full disk, but in the operating system: torch reports that in a way of its own."""
    plan = again(tmp_path)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def child() -> None:
        provenance.collect = dict  # type: ignore[assignment]  # its diff may be longer than the limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        theirs.send([(outcome.state, outcome.message) for outcome in runs.train(plan)])

    process = context.Process(target=child)
    process.start()
    assert ours.poll(60)
    ((state, message),) = ours.recv()
    process.join()
    assert state == "failed"
    assert "could not write a checkpoint" in message
    assert run_directory.RunDirectory(killed).status()["state"] == "failed"
    resumed = again(tmp_path)
    assert [outcome.state for outcome in runs.train(resumed)] == ["done"]
    assert last_start(killed) == NEWEST
    assert runs.metrics(resumed.points[0]) == whole


def test_a_full_disk_while_planning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_directory, "write_atomically", no_space)
    with pytest.raises(LopError, match=r"cannot write in the sweep folder .*: No space left") as caught:
        again(tmp_path)
    assert str(tmp_path / "sweeps" / "permuted_digits-tiny") in str(caught.value)


# Folders that cannot be written or read


@pytest.mark.parametrize("file", ["sweeps", "sweeps/permuted_digits-tiny"])
@pytest.mark.parametrize("flags", [[], ["-m"]], ids=["single", "sweep"])
def test_a_file_where_the_sweep_folder_should_be(lop: Command, tmp_path: Path, file: str, flags: list[str]) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("precious")
    ended = lop(*flags, "scale=tiny", "seed=1")
    assert ended.code == 1
    assert ended.err == "lop: cannot write in the sweep folder sweeps/permuted_digits-tiny: Not a directory\n"
    assert (tmp_path / file).read_text() == "precious"


def test_a_file_where_a_run_should_be(tmp_path: Path) -> None:
    point = runs.point(tmp_path / "sweeps", *LINE)
    point.directory.path.parent.mkdir(parents=True)
    point.directory.path.write_text("precious")
    with pytest.raises(LopError, match="cannot write in the sweep folder"):
        again(tmp_path)
    assert point.directory.path.read_text() == "precious"


def test_a_sweep_that_may_only_be_read_has_a_status(
    killed: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Somebody else's sweep, running on another machine; tests may run as root, who may write anywhere."""
    (killed / "lock").write_text(json.dumps({"host": "another-machine", "pid": 1, "started": 0}))

    def refuse(path: Path, *arguments: Any, **named: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "touch", refuse)
    assert status.main([str(killed.parent)]) == 0
    assert "1 running" in capsys.readouterr().out


def test_commands_on_folders_that_hold_no_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("file").touch()
    for name, words in (("nowhere", "no such"), ("empty", "no runs"), ("file", "file")):
        for command in (status.main, lop_figures):
            assert command([name]) in (1, 2)
            said = capsys.readouterr()
            assert f"{name}: " in said.err
            assert words in said.err
            assert (said.err.count("\n"), said.out) == (1, "")
        assert status.main(["--prune", name]) == 1
        assert f"{name}: " in capsys.readouterr().err
    assert status.main([]) == 1
    assert "./sweeps" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]
    assert list(Path("empty").iterdir()) == []


# Locks


def lock_of(host: str | None = None, **changes: Any) -> Callable[[Path], None]:
    """A lock as this process would write it, with some facts changed."""

    def write(run: Path) -> None:
        assert Claim(run).take()
        owner = json.loads((run / "lock").read_text())
        (run / "lock").write_text(json.dumps({**owner, **({"host": host} if host else {}), **changes}))

    return write


def test_a_living_process_keeps_its_run(killed: Path, tmp_path: Path) -> None:
    for path in killed.glob("lock*"):
        path.unlink()
    before = {path.name: path.read_bytes() for path in killed.iterdir()}
    lock_of()(killed)
    plan = again(tmp_path)
    assert (plan.busy, plan.packs) == (1, [])
    lock_of_another = killed / "lock"
    lock_of_another.unlink()
    lock_of(host="another-machine")(killed)
    assert again(tmp_path).busy == 1
    lock_of_another.unlink()
    assert {path.name: path.read_bytes() for path in killed.iterdir()} == before


def test_between_planning_and_starting_another_process_came(killed: Path, tmp_path: Path) -> None:
    plan = again(tmp_path)
    before = (killed / "metrics.jsonl").read_bytes()
    claim = Claim(killed)
    assert claim.take()
    assert [outcome.state for outcome in runs.train(plan)] == ["busy"]
    assert claim.held()
    assert (killed / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "stale",
    [lock_of(pid=2**22 + 1), lock_of(started=1.0), lock_of(host="another-machine")],
    ids=["dead", "number used again", "silent elsewhere"],
)
def test_a_stale_lock_is_taken_over(killed: Path, whole: bytes, tmp_path: Path, stale: Callable[[Path], None]) -> None:
    for path in killed.glob("lock*"):
        path.unlink()
    stale(killed)
    os.utime(killed / "lock", (1_000_000_000, 1_000_000_000))
    plan = again(tmp_path)
    assert [outcome.state for outcome in runs.train(plan)] == ["done"]
    assert runs.metrics(plan.points[0]) == whole
    assert not list(killed.glob("lock*"))
