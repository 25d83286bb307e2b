"""A run is what its folder says, or somebody is told (cases 1.1 to 1.6 and 1.9, and runs from before)."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lop_sweeps.analysis.errors import AnalysisError
from lop_sweeps.analysis.reading import provenance
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.errors import CheckpointError, IdentityError, LopError
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.sweeps import integrity, queue, run_directory, run_files, status
from lop_sweeps.sweeps.load_run import load_run
from lop_sweeps.sweeps.planning import Plan
from lop_sweeps.sweeps.report import SweepFailed, finish
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training.metrics_log import MetricsLog
from tests import runs

LINE = [*runs.SMALL, runs.TORCH, "sweep=s", "benchmark.examples_per_task=40"]
BEFORE = Path(__file__).with_name("data") / "before"
Damage = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    plan = runs.plan(folder, *LINE, seeds=3, pack=1)
    assert {outcome.state for outcome in runs.train(plan)} == {"done"}
    return folder


@pytest.fixture
def sweeps(trained: Path, tmp_path: Path) -> Path:
    """A copy of three finished runs, with its times as `cp -r` leaves them: new."""
    shutil.copytree(trained, tmp_path / "sweeps", copy_function=shutil.copy)
    return tmp_path / "sweeps"


def runs_of(sweeps: Path) -> list[Path]:
    return list(run_files.run_folders(sweeps / "s"))


def again(sweeps: Path, *overrides: str) -> Plan:
    return runs.plan(sweeps, *LINE, *overrides, seeds=3, pack=1)


def ended(plan: Plan) -> str:
    """What `finish` says of the plan's runs after they were trained; empty if all is well."""
    try:
        finish(plan, runs.train(plan))
    except SweepFailed as error:
        return str(error)
    return ""


def said(folder: Path, *flags: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = status.main([str(folder), *flags])
    return code, capsys.readouterr().out


def edit(name: str, old: bytes, new: bytes) -> Damage:
    def change(run: Path, other: Path) -> None:
        content = (run / name).read_bytes()
        assert old in content
        (run / name).write_bytes(content.replace(old, new, 1))

    return change


def copy(*names: str) -> Damage:
    def change(run: Path, other: Path) -> None:
        for name in names:
            shutil.copy(other / name, run / name)

    return change


def without_rows(run: Path, other: Path) -> None:
    rows = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join([rows[0], *rows[2:]]))


def digit(run: Path, other: Path) -> None:
    content = bytearray((run / "metrics.jsonl").read_bytes())
    content[-20] = ord("7") if content[-20] != ord("7") else ord("8")
    (run / "metrics.jsonl").write_bytes(content)


def folder_instead(name: str) -> Damage:
    def change(run: Path, other: Path) -> None:
        (run / name).unlink()
        (run / name).mkdir()

    return change


def rewritten(name: str, change: Callable[[bytes], bytes]) -> Damage:
    def write(run: Path, other: Path) -> None:
        (run / name).write_bytes(change((run / name).read_bytes()))

    return write


def unlink(name: str) -> Damage:
    return lambda run, other: (run / name).unlink()


# What is done to a finished run, and the file that is named for it.
OTHER_EXPERIMENT: dict[str, tuple[Damage, str]] = {
    "1.1 step size edited": (edit("config.yaml", b"step_size: 0.003", b"step_size: 0.5"), "config.yaml"),
    "1.2 seed edited": (edit("config.yaml", b"\nseed: 0", b"\nseed: 7"), "config.yaml"),
    "1.2 configuration of another run": (copy("config.yaml"), "config.yaml"),
    "1.2 identity of another run": (copy("identity.json"), "identity.json"),
    "1.2 both of another run": (copy("config.yaml", "identity.json"), "identity.json"),
    "configuration with other line ends": (
        rewritten("config.yaml", lambda c: c.replace(b"\n", b"\r\n")),
        "config.yaml",
    ),
    "1.9 configuration missing": (unlink("config.yaml"), "config.yaml"),
    "1.9 configuration empty": (rewritten("config.yaml", lambda c: b""), "config.yaml"),
    "1.9 configuration a folder": (folder_instead("config.yaml"), "config.yaml"),
    "1.9 configuration garbage": (rewritten("config.yaml", lambda c: b"\xff\0"), "config.yaml"),
    "identity cut": (rewritten("identity.json", lambda c: c[: len(c) // 2]), "identity.json"),
    "identity a list": (rewritten("identity.json", lambda c: b"[1]"), "identity.json"),
    "identity of nothing": (rewritten("identity.json", lambda c: b'{"sha256": "x", "science": {}}'), "identity.json"),
}
OTHER_LOG: dict[str, tuple[Damage, str]] = {
    "1.2 log of another run": (copy("metrics.jsonl"), "metrics.jsonl"),
    "1.2 checkpoint and log of another run": (copy("metrics.jsonl", "checkpoint.pt"), "metrics.jsonl"),
    "log and status of another run": (copy("metrics.jsonl", "status.json"), "status.json"),
    "1.4 log empty": (rewritten("metrics.jsonl", lambda c: b""), "metrics.jsonl"),
    "1.4 log missing": (unlink("metrics.jsonl"), "metrics.jsonl"),
    "1.4 log cut to half": (rewritten("metrics.jsonl", lambda c: c[: len(c) // 2]), "metrics.jsonl"),
    "1.4 a row less": (without_rows, "metrics.jsonl"),
    "1.4 a digit changed": (digit, "metrics.jsonl"),
    "a row more": (rewritten("metrics.jsonl", lambda c: c + c.splitlines(keepends=True)[0]), "metrics.jsonl"),
    "other line ends": (rewritten("metrics.jsonl", lambda c: c.replace(b"\n", b"\r\n")), "metrics.jsonl"),
}


@pytest.mark.parametrize(("damage", "file"), OTHER_EXPERIMENT.values(), ids=list(OTHER_EXPERIMENT))
def test_a_finished_run_of_another_experiment_fails_and_the_others_go_on(
    sweeps: Path, damage: Damage, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other, _third = runs_of(sweeps)
    damage(run, other)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    code, text = said(sweeps / "s", capsys=capsys)
    assert code == 3
    assert "2 done" in text
    assert "1 damaged" in text
    assert f"    {file}: " in text
    loaded = load(sweeps / "s")
    assert len(loaded.runs) == 2
    assert any(f"{run.name}/{file}" in note for note in loaded.notes)
    plan = again(sweeps)
    assert (plan.finished, plan.packs, list(plan.refused)) == (2, [], [run])
    text = ended(plan)
    assert file in text
    assert "same command" not in text  # it would be refused again
    with pytest.raises(LopError, match=file):
        load_run(run)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(("damage", "file"), OTHER_LOG.values(), ids=list(OTHER_LOG))
def test_a_finished_run_whose_log_is_another_is_not_finished(
    sweeps: Path,
    damage: Damage,
    file: str,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, other, _third = runs_of(sweeps)
    whole = (run / "metrics.jsonl").read_bytes()
    damage(run, other)
    kept = (run / "metrics.jsonl").read_bytes() if (run / "metrics.jsonl").exists() else b""
    _, text = said(sweeps / "s", capsys=capsys)
    assert "2 done" in text
    assert f"{run}\n    {file}: " in text
    assert any(f"{run.name}/{file}" in note for note in load(sweeps / "s").notes)
    with caplog.at_level(logging.WARNING, "lop"):
        plan = again(sweeps)
    assert plan.finished == 2
    assert run.name in caplog.text
    assert file in caplog.text
    assert ended(plan) == ""
    assert (run / "metrics.jsonl").read_bytes() == whole
    went_on = kept.startswith(whole) or kept.splitlines()[:-1] == whole.splitlines()[:-1]  # from a sound checkpoint
    assert went_on or not kept or kept in [path.read_bytes() for path in run.glob("metrics.jsonl.*")]
    assert again(sweeps).finished == 3


def test_a_copied_sweep_and_files_saved_again_are_themselves(
    sweeps: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for run in runs_of(sweeps):
        for path in run.iterdir():
            path.write_bytes(path.read_bytes())
    read: list[str] = []
    real = run_files._crc
    monkeypatch.setattr(run_files, "_crc", lambda file, size: (read.append(file.name), real(file, size))[1])
    assert said(sweeps / "s", capsys=capsys)[0] == 0
    assert len(read) == 6  # a log and a checkpoint each
    assert again(sweeps).finished == 3
    assert load(sweeps / "s").notes == []
    assert len(read) == 6  # what was read was noted
    code, text = said(sweeps / "s", "--verify", capsys=capsys)
    assert (code, len(read)) == (0, 12)
    assert "3 of 3" in text


def test_what_restores_size_and_time_is_found_by_verify(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path / "sweeps")
    run, _, _ = runs_of(tmp_path / "sweeps")
    facts = (run / "metrics.jsonl").stat()
    digit(run, run)
    os.utime(run / "metrics.jsonl", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert said(run.parent, capsys=capsys)[0] == 0
    code, text = said(run.parent, "--verify", capsys=capsys)
    assert code == 3
    assert f"{run}\n    metrics.jsonl" in text
    assert again(tmp_path / "sweeps").finished == 3  # as it looked


def record_again(run: Path) -> None:
    """Let identity.json record the configuration that is there, as whoever edits both would."""
    content = json.loads((run / "identity.json").read_text())
    content["sha256"] = run_files.sha256((run / "config.yaml").read_bytes())
    (run / "identity.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("old", "new", "is_default"),
    [
        (b"step_size: 0.003", b"step_size: 0.5", False),
        (b"step_size: 0.003", b"step_size: 0.003\n  step_size: 0.5", False),
        (b"momentum: 0.0", b"momentum: 0.9", True),
        (b"\nseed: 0", b"\nseed: 7", False),
        (b"\nconfiguration: ", b"\nconfiguration: f", False),
        (b"algorithm: {}", b"algorithm: {l2: {_target_: os.system}}", False),
        (b"lop_sweeps.networks.mlp.MLP", b"lop_sweeps.networks.linear.Linear", False),
    ],
)
def test_a_configuration_edited_together_with_its_record_is_found(
    sweeps: Path, old: bytes, new: bytes, is_default: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name is the hash of what it really was; of an option that had its default only the components tell."""
    run, other, _ = runs_of(sweeps)
    edit("config.yaml", old, new)(run, other)
    record_again(run)
    left_out = [note for note in load(sweeps / "s").notes if f"{run.name}/config.yaml" in note]
    assert len(left_out) == (0 if is_default else 1)
    code, text = said(sweeps / "s", "--verify", capsys=capsys)
    assert code == 3
    assert f"{run}\n    config.yaml: " in text
    if b"configuration" not in old:  # which is for readers: nothing is made of it
        plan = again(sweeps)
        assert (plan.finished, list(plan.refused)) == (2, [run])
        with pytest.raises(LopError, match=r"config\.yaml|_target_"):
            load_run(run)


def test_a_log_edited_together_with_its_record_is_not_what_the_checkpoint_says(
    sweeps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other, _ = runs_of(sweeps)
    digit(run, other)
    content = json.loads((run / "status.json").read_text())
    content["log"] |= run_files.stamp(run / "metrics.jsonl")
    (run / "status.json").write_text(json.dumps(content))
    code, text = said(sweeps / "s", "--verify", capsys=capsys)
    assert code == 3
    assert f"{run}\n    metrics.jsonl: " in text


@pytest.mark.parametrize("recorded", [True, False])
def test_a_seed_that_was_stored_as_it_was_typed_is_the_same(sweeps: Path, recorded: bool) -> None:
    run, other, _ = runs_of(sweeps)
    edit("config.yaml", b"\nseed: 0", b"\nseed: 0.0")(run, other)
    record_again(run)
    if not recorded:
        (run / "identity.json").unlink()
    assert integrity.look(run).problem == ""
    assert load(sweeps / "s").runs["seed"].tolist() == [0, 1, 2]


def test_a_log_without_a_status_is_not_taken_for_what_was_recorded(
    sweeps: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _, _ = runs_of(sweeps)
    (run / "status.json").unlink()
    _, text = said(sweeps / "s", capsys=capsys)
    assert f"{run}\n    status.json: " in text
    assert any(f"{run.name}/status.json" in note for note in load(sweeps / "s").notes)
    assert ended(again(sweeps)) == ""
    assert again(sweeps).finished == 3


@pytest.mark.parametrize("name", ["checkpoint.previous.pt", "pack.json", "provenance.json"])
def test_verify_names_what_no_result_hangs_on(sweeps: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, other, _ = runs_of(sweeps)
    shutil.copy(other / name, run / name)
    code, text = said(sweeps / "s", "--verify", capsys=capsys)
    assert code == 3
    assert f"{run}\n    {name}: " in text


def test_verify_names_a_pack_in_another_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = runs.plan(tmp_path, *LINE, seeds=3, pack=3)
    runs.train(plan)
    run = plan.points[1].directory
    assert said(tmp_path / "s", "--verify", capsys=capsys)[0] == 0
    packed = run.pack()
    assert packed is not None
    run.write_pack(packed["members"][::-1], packed["threads"], packed["engine"])
    code, text = said(tmp_path / "s", "--verify", capsys=capsys)
    assert code == 3
    assert f"{run.path}\n    pack.json: " in text


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "identity.json", "status.json", "metrics.jsonl", "checkpoint.pt", "checkpoint.previous.pt"),
        *("pack.json", "provenance.json", "job.json", "mirror.json", "lock", "../.checked.json"),
    ],
)
def test_a_pipe_is_not_waited_for(sweeps: Path, name: str) -> None:
    run, _, _ = runs_of(sweeps)
    pipe(run / name)
    status.main([str(sweeps / "s"), "--verify"])
    provenance.collect(runs_of(sweeps))
    assert {path.name for path in runs_of(sweeps)} >= set(load(sweeps / "s").runs["run"])
    assert len(again(sweeps).points) == 3


@pytest.mark.parametrize("log", ["/dev/zero", "pipe", "\0"])
def test_the_log_of_a_job_is_a_file_or_nothing(tmp_path: Path, log: str) -> None:
    pipe(tmp_path / "pipe")
    assert queue.log_tail(tmp_path / log) == []


def test_a_renamed_folder_is_named(sweeps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, _, _ = runs_of(sweeps)
    run.rename(run.with_name("mine"))
    code, text = said(sweeps / "s", capsys=capsys)
    assert code == 3
    assert "mine" in text
    assert run.name in text
    assert len(load(sweeps / "s").runs) == 2
    with pytest.raises(IdentityError, match=run.name):
        load_run(run.with_name("mine"))


def test_a_run_is_found_from_inside_and_through_a_link(sweeps: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, _, _ = runs_of(sweeps)
    monkeypatch.chdir(run)
    assert integrity.look(Path()).problem == ""
    assert integrity.look(Path("..") / run.name).problem == ""
    (sweeps / "link").symlink_to(sweeps / "s")
    assert len(load(sweeps / "link").runs) == 3


def test_status_says_what_the_log_is(sweeps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A state edited by hand (1.4), NaN (1.9) and no status at all: the run is looked at anew, and ends as it was."""
    run, _, _ = runs_of(sweeps)
    whole, good = (run / "metrics.jsonl").read_bytes(), json.loads((run / "status.json").read_text())
    for bad in ('{"state": "done", "task": NaN}', "{}", "[" * 100_000, json.dumps({**good, "num_tasks": 99})):
        (run / "status.json").write_text(bad)
        _code, text = said(sweeps / "s", capsys=capsys)
        assert f"{run}\n    status.json" in text
        assert len(load(sweeps / "s").runs) == 2
        plan = again(sweeps)
        assert (plan.finished, ended(plan)) == (2, "")
        assert (run / "metrics.jsonl").read_bytes() == whole
        assert again(sweeps).finished == 3


def test_a_waiting_run_that_was_edited_is_not_trained(tmp_path: Path) -> None:
    """Cases 1.1: while another one trained."""
    plan = runs.plan(tmp_path, *LINE, seeds=2, pack=1)
    waiting = plan.points[1].directory
    edit("config.yaml", b"step_size: 0.003", b"step_size: 0.5")(waiting.path, waiting.path)
    outcomes = {outcome.run: outcome for outcome in runs.train(plan)}
    assert outcomes[plan.points[0].directory.path].state == "done"
    assert outcomes[waiting.path].state == "failed"
    assert "config.yaml" in outcomes[waiting.path].message
    assert not (waiting.path / "metrics.jsonl").exists()
    again = runs.plan(tmp_path, *LINE, seeds=2, pack=1)
    assert (again.finished, list(again.refused)) == (1, [waiting.path])
    (waiting.path / "config.yaml").unlink()  # as the message says
    mended = runs.plan(tmp_path, *LINE, seeds=2, pack=1)
    assert ended(mended) == ""


def test_a_recorded_configuration_is_replaced_by_a_pair_that_agrees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between two writes, when more tasks are asked for, leaves a run that is itself."""
    run = runs.plan(tmp_path, *LINE).points[0].directory
    longer = runs.point(tmp_path, *LINE, "seed=0", "benchmark.num_tasks=9")
    real, left = run_directory.write_atomically, 0

    def killed(path: Path, text: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        real(path, text)

    monkeypatch.setattr(run_directory, "write_atomically", killed)
    for allowed in range(3):
        left = allowed
        with pytest.raises(KeyboardInterrupt):
            longer.create()
        assert integrity.look(run.path).problem == ""
    left = 3
    longer.create()
    assert integrity.look(run.path).problem == ""
    assert run.config()["num_tasks"] == 9


# While a run is trained (cases 1.3)


def replaced(path: Path) -> None:
    path.with_suffix(".new").write_bytes(path.read_bytes())
    path.with_suffix(".new").replace(path)


def in_place(path: Path) -> None:
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.seek(30)
        file.write(bytes([content[30] ^ 1]))


TOUCHED: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "replaced by the same": replaced,
    "changed in place": in_place,
    "cut": lambda path: os.truncate(path, 10),
    "longer": lambda path: path.open("a").write("{}\n"),
}


@pytest.mark.parametrize("touch", TOUCHED.values(), ids=list(TOUCHED))
@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_log_that_somebody_touches_during_training_fails_its_run_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, touch: Callable[[Path], object], at_the_end: bool
) -> None:
    """Inode, size and checksum are compared at each checkpoint and at the end; the pack stays as it was."""
    line = [*LINE, "checkpoint.first=999"] if at_the_end else LINE
    plan = runs.plan(tmp_path, *line, seeds=2)
    touched, other = (point.directory for point in plan.points)
    real = MetricsLog.append

    def append(log: MetricsLog, row: dict[str, object]) -> None:
        real(log, row)
        if log._path.parent == touched.path and row["task"] == (3 if at_the_end else 1):
            touch(log._path)

    monkeypatch.setattr(MetricsLog, "append", append)
    outcomes = {outcome.run: outcome for outcome in runs.train(plan)}
    assert outcomes[touched.path].state == "failed"
    assert "metrics.jsonl" in outcomes[touched.path].message
    assert outcomes[other.path].state == "done"
    told = touched.status()
    assert (told["state"], told["durable"], told["log"]) == ("failed", 0, None)
    assert other.pack() == {"members": [touched.name, other.name], "threads": 1, "engine": "torch"}
    assert integrity.look(other.path).problem == ""
    monkeypatch.undo()
    assert ended(runs.plan(tmp_path, *line, seeds=2)) == ""
    assert integrity.look(touched.path).problem == ""


# Checkpoints (cases 1.5 and 1.6)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_damaged_newest_checkpoint_is_not_passed_over(sweeps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases 1.5."""
    run, other, third = runs_of(sweeps)
    flip_a_bit(run / "checkpoint.pt")
    shutil.copy(run / "checkpoint.previous.pt", other / "checkpoint.pt")
    (third / "checkpoint.pt").unlink()
    for broken in (run, other, third):
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt"):
            load_run(broken)
        load_run(broken, older=True)
    _code, text = said(sweeps / "s", capsys=capsys)
    assert "3 done" in text  # their results are as they were
    assert text.count("    checkpoint.pt: ") == 3
    assert again(sweeps).finished == 3


def test_a_checkpoint_names_its_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cases 1.5: seed 0's in seed 1's folder; it is not gone on from, either."""
    plan = runs.plan(tmp_path, *LINE, "benchmark.num_tasks=2", seeds=2, pack=1)
    runs.train(plan)
    one, other = (point.directory.path for point in plan.points)
    for name in ("checkpoint.pt", "checkpoint.previous.pt", "metrics.jsonl"):
        shutil.copy(one / name, other / name)
    with pytest.raises(CheckpointError, match=one.name):
        load_run(other)
    longer = runs.plan(tmp_path, *LINE, "benchmark.num_tasks=3", seeds=2, pack=1)
    assert ended(longer) == ""
    assert runs.metrics(longer.points[0]) != runs.metrics(longer.points[1])
    assert integrity.look(other).problem == ""


@pytest.mark.parametrize("damage", [unlink, lambda name: rewritten(name, lambda content: b"")])
def test_without_checkpoints_the_old_log_is_set_aside(
    tmp_path: Path, damage: Callable[[str], Damage], caplog: pytest.LogCaptureFixture
) -> None:
    """Cases 1.6."""
    plan = runs.plan(tmp_path, *LINE)
    assert runs.train_and_kill(plan.packs[0], after_intervals=2)
    run = plan.points[0].directory.path
    old = (run / "metrics.jsonl").read_bytes()
    for path in run.glob("checkpoint*.pt"):
        damage(path.name)(run, run)
    with caplog.at_level(logging.WARNING, "lop"):
        runs.train(runs.plan(tmp_path, *LINE))
    assert (run / "metrics.jsonl.1").read_bytes() == old
    assert run.name in caplog.text
    assert "metrics.jsonl.1" in caplog.text


def test_what_is_left_of_a_run_is_listed(sweeps: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cases 1.9: a folder with a log but no readable configuration; and a pack file of invalid members."""
    run, other, _third = runs_of(sweeps)
    for path in run.iterdir():
        if path.name != "metrics.jsonl":
            path.unlink()
    _code, text = said(sweeps / "s", "--all", capsys=capsys)
    assert run.name in text
    assert "config.yaml: missing" in text
    assert any(run.name in note for note in load(sweeps / "s").notes)
    with pytest.raises(AnalysisError, match=r"config\.yaml"):
        load(run)
    for members in ([0, other.name], ["a/b", other.name], [other.name, other.name], "x", None):
        (other / "pack.json").write_text(json.dumps({"members": members, "threads": 1}))
        assert RunDirectory(other).pack() is None
    plan = again(sweeps, "benchmark.num_tasks=5")
    assert ended(plan) == ""


# Runs from before any of this was recorded


@pytest.fixture
def before(tmp_path: Path) -> Path:
    shutil.copytree(BEFORE, tmp_path / "sweeps" / "before", copy_function=shutil.copy)
    return tmp_path / "sweeps" / "before"


OLD = ["benchmark=permuted_digits", "scale=tiny", "network.hidden=[4]", runs.TORCH, "sweep=before"]


def test_runs_from_before_are_good(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be checked is called so, once."""
    code, text = said(before, capsys=capsys)
    assert (code, text.count("not recorded")) == (0, 1)
    assert "3 done" in text
    loaded = load(before)
    assert len(loaded.runs) == 3
    assert sum("not recorded" in note for note in loaded.notes) == 1
    plan = runs.plan(before.parent, *OLD, seeds=3)
    assert (plan.finished, plan.refused) == (3, {})
    one, _, pruned = run_files.run_folders(before)
    assert load_run(one)[1]["seed"] == 0
    with pytest.raises(CheckpointError):
        load_run(pruned)
    longer = runs.plan(before.parent, *OLD, "benchmark.num_tasks=5", seeds=2)
    assert ended(longer) == ""
    assert integrity.look(one).unrecorded == ()


@pytest.mark.parametrize("run", [0, 2], ids=["by its checkpoint", "by its size, being pruned"])
def test_the_log_of_a_run_from_before_is_checked_as_far_as_it_can_be(before: Path, run: int) -> None:
    folder = list(run_files.run_folders(before))[run]
    os.truncate(folder / "metrics.jsonl", 1_000)
    assert "metrics.jsonl" in integrity.look(folder).of_results
    assert runs.plan(before.parent, *OLD, seeds=3).finished == 2
    assert len(load(before).runs) == 2


def test_a_digit_in_the_log_of_a_run_from_before_is_seen_by_its_checkpoint(before: Path) -> None:
    one, other, _pruned = run_files.run_folders(before)
    digit(one, other)
    assert "metrics.jsonl" in integrity.look(one).of_results


@pytest.mark.parametrize(
    "damage", [edit("config.yaml", b"step_size: 0.003", b"step_size: 0.5"), edit("config.yaml", b"seed: 0", b"seed: 9")]
)
def test_a_run_from_before_that_was_edited_is_not_what_todays_code_makes_of_it(
    before: Path, damage: Damage, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other, _ = run_files.run_folders(before)
    damage(one, other)
    plan = runs.plan(before.parent, *OLD, seeds=3)
    assert (plan.finished, list(plan.refused)) == (2, [one])
    with pytest.raises(IdentityError):
        load_run(one)
    code, text = said(before, "--verify", "--record", capsys=capsys)
    assert code == 3
    assert "1 damaged" in text
    assert f"{one}\n    config.yaml: " in text
    assert not (one / "identity.json").exists()


def test_a_run_from_before_whose_component_has_another_version_is_loaded(
    before: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, other, _ = run_files.run_folders(before)
    monkeypatch.setattr(SGD, "version", 3)
    load_run(one)
    assert "version 1 of lop_sweeps.optimizers.sgd.SGD" in caplog.text
    edit("config.yaml", b"step_size: 0.003", b"step_size: 0.5")(other, one)
    with pytest.raises(IdentityError):
        load_run(other)


def test_a_run_of_another_version_is_read_shown_and_loaded_with_one_line(
    sweeps: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(SGD, "version", 2)
    run, _, _ = runs_of(sweeps)
    load_run(run)
    assert caplog.text.count("version 1 of") == 1
    assert len(load(sweeps / "s").runs) == 3
    assert integrity.look(run).problem == ""
    assert len(again(sweeps).packs) == 3  # they are other runs


def test_record_writes_what_is_missing_and_mends_nothing(before: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other, pruned = run_files.run_folders(before)
    digit(other, one)
    code, text = said(before, "--verify", "--record", capsys=capsys)
    assert code == 3
    assert f"{other}\n    metrics.jsonl" in text
    assert not (other / "identity.json").exists()
    for run in (one, pruned):
        assert integrity.look(run, everything=True).unrecorded == ()
        assert integrity.look(run, everything=True).problem == ""
    digit(pruned, one)
    assert "metrics.jsonl" in integrity.look(pruned).of_results
    assert status.main([str(before), "--record"]) == 1
