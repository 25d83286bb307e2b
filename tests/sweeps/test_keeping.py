"""Networks from before chosen tasks (`checkpoint.keep`): written, loaded, checked, pruned."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import torch

from lop_sweeps import load_run
from lop_sweeps.errors import CheckpointError, ConfigError
from lop_sweeps.sweeps import status
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.planning import Plan
from lop_sweeps.training import checkpoint
from lop_sweeps.training.checkpoint_file import position_of, snapshot_file, snapshot_tasks
from tests import runs
from tests.contracts.table import IMAGENET, SLIPPERY, SOON

LINE = [*runs.SMALL, "benchmark.examples_per_task=40", "algorithm=[l2,continual_backprop]", *SOON]
ENGINES = ["engine=fused", "engine=torch"]


def weights(network: torch.nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def kept(plan: Plan, point: int = 0) -> list[int]:
    return snapshot_tasks(plan.points[point].directory.path)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_network_before_a_task_is_that_of_a_run_that_ended_there(engine: str, tmp_path: Path) -> None:
    """Runs of a pack (on the torch engine)."""
    line = [*LINE, engine, "precision=float64"]
    plan = runs.plan(tmp_path / "kept", *line, "checkpoint.keep=[0,2]", seeds=3, pack=3)
    ended = runs.plan(tmp_path / "ended", *line, "benchmark.num_tasks=2", seeds=3, pack=3)
    for one in (plan, ended):
        runs.train(one)
    for point, twin in zip(plan.points, ended.points, strict=True):
        assert snapshot_tasks(point.directory.path) == [0, 2]
        network, config = load_run(point.directory.path, task=2)
        expected, _ = load_run(twin.directory.path)
        assert config["num_tasks"] == 4
        assert torch.equal(weights(network), weights(expected))
        first, last = (load_run(point.directory.path, task=task)[0] for task in (0, None))
        assert not torch.equal(weights(first), weights(network))
        assert not torch.equal(weights(last), weights(network))


@pytest.mark.parametrize("engine", ENGINES)
def test_keeping_changes_no_byte_of_the_log_and_no_identity(engine: str, tmp_path: Path) -> None:
    plain, asked = (
        runs.plan(tmp_path / name, *LINE, engine, f"checkpoint.keep={keep}")
        for name, keep in (("plain", "[]"), ("asked", "[0,1,2,3,4]"))
    )
    assert plain.points[0].directory.name == asked.points[0].directory.name
    for plan in (plain, asked):
        runs.train(plan)
    assert runs.metrics(plain.points[0]) == runs.metrics(asked.points[0])
    assert kept(asked) == [0, 1, 2, 3, 4]
    at_the_end = [load_run(asked.points[0].directory.path, task=task)[0] for task in (None, 4)]
    assert torch.equal(*map(weights, at_the_end))


@pytest.mark.parametrize("line", [IMAGENET, SLIPPERY], ids=["epochs", "control"])
def test_in_every_protocol(line: list[str], tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, "scale=tiny", *line, "checkpoint.keep=[1]")
    runs.train(plan)
    before, _ = load_run(plan.points[0].directory.path, task=1)
    after, _ = load_run(plan.points[0].directory.path)
    assert before.state_dict().keys() == after.state_dict().keys()
    assert not torch.equal(weights(before), weights(after))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_run_has_the_snapshots_of_one_that_was_not(engine: str, tmp_path: Path) -> None:
    line = [*LINE, engine, "checkpoint.keep=[0,1,2]"]
    whole, killed = (runs.plan(tmp_path / name, *line) for name in ("whole", "killed"))
    runs.train(whole)
    assert runs.train_and_kill(killed.packs[0], after_intervals=2)
    folder = killed.points[0].directory.path
    at, _ = position_of(folder / "checkpoint.pt") or (0, 0)
    snapshot_file(folder, at).write_bytes(b"cut off by the kill")  # is written again, whether it is there or not
    runs.train(runs.plan(tmp_path / "killed", *line))
    for task in (0, 1, 2):
        pair = [load_run(plan.points[0].directory.path, task=task)[0] for plan in (whole, killed)]
        assert torch.equal(*map(weights, pair))


def test_more_tasks_can_be_kept_as_a_run_goes_on_but_not_those_that_it_is_past(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs.train(runs.plan(tmp_path, *LINE, "checkpoint.keep=[2]", seeds=2))
    with caplog.at_level(logging.WARNING, "lop"):
        finished = runs.plan(tmp_path, *LINE, "checkpoint.keep=[0,1,2]", seeds=2)
    assert not finished.packs
    words = "2 runs are past tasks 0, 1, from before which the network cannot be kept any more"
    assert words in caplog.text
    caplog.clear()
    extended = runs.plan(tmp_path, *LINE, "checkpoint.keep=[4,5]", "benchmark.num_tasks=6", seeds=2)
    assert not caplog.text  # before task 4 is where they stand
    runs.train(extended)
    assert [kept(extended, point) for point in range(2)] == [[2, 4, 5]] * 2


def test_tasks_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for keep, words in (("[5]", r"checkpoint\.keep\[0\] = 5: .*<= 4"), ("[-1]", ">= 0"), ("3", "must be a list")):
        with pytest.raises(ConfigError, match=words):
            runs.plan(tmp_path, *LINE, f"checkpoint.keep={keep}")


def test_what_was_not_kept_is_said_with_how_to(tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, *LINE, "checkpoint.keep=[0,2]")
    runs.train(plan)
    with pytest.raises(CheckpointError, match=r"before task 1 \(it has: 0, 2\); checkpoint\.keep=\[1\] keeps it"):
        load_run(plan.points[0].directory.path, task=1)


def test_a_run_from_before_there_was_keep_is_read(tmp_path: Path) -> None:
    """Its configuration lacks the key."""
    plan = runs.plan(tmp_path, *LINE)
    runs.train(plan)
    run = plan.points[0].directory
    config = run.config()
    del config["checkpoint"]["keep"]
    run.create(config, plan.points[0].steps, plan.points[0].identity)
    assert load_run(run.path)[1] == config
    assert runs.plan(tmp_path, *LINE).finished == 1


# --- integrity ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of two runs with two snapshots each."""
    folder = tmp_path_factory.mktemp("kept")
    plan = runs.plan(folder, *LINE, "engine=torch", "checkpoint.keep=[0,2]", seeds=2)
    runs.train(plan)
    return plan.folders[0]


@pytest.fixture
def pair(trained: Path, tmp_path: Path) -> list[Path]:
    """The two runs, to be tampered with."""
    shutil.copytree(trained, tmp_path / "sweep")
    return sorted((tmp_path / "sweep").glob("continual_backprop-seed*"))


def test_snapshots_that_are_what_they_were_are_verified(pair: list[Path]) -> None:
    assert status.main(["--verify", str(pair[0].parent)]) == 0


def edit(run: Path) -> None:
    """With its own checksums right."""
    file = snapshot_file(run, 2)
    payload = torch.load(file, weights_only=True)
    payload["learner"]["parameters"] += 1
    torch.save(payload, file)


def cut(run: Path) -> None:
    file = snapshot_file(run, 2)
    file.write_bytes(file.read_bytes()[:-100])


def rename(run: Path) -> None:
    snapshot_file(run, 0).replace(snapshot_file(run, 2))


def take_anothers(run: Path) -> None:
    (other,) = [path for path in run.parent.glob("continual_backprop-seed*") if path != run]
    shutil.copy(snapshot_file(other, 2), snapshot_file(run, 2))


TAMPERED = {
    "edited": (edit, "not as it was written"),
    "cut off": (cut, "damaged"),
    "renamed": (rename, "from before task 0"),
    "another run's": (take_anothers, "of another run, continual_backprop-seed"),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_a_snapshot_that_is_not_itself_is_named_and_not_loaded(
    case: str, pair: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    tamper, found = TAMPERED[case]
    tamper(pair[0])
    verdict = look(pair[0], everything=True)
    assert found in verdict.problems["snapshots/2.pt"]
    assert not verdict.of_results  # no figure hangs on it
    assert status.main(["--verify", str(pair[0].parent)]) == 3
    assert "snapshots/2.pt" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match=found):
        load_run(pair[0], task=2)


def test_prune_leaves_what_was_to_be_kept_unless_told_otherwise(
    pair: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = str(pair[0].parent)
    assert status.main(["--prune", sweep]) == 0
    assert "4 snapshots kept (--snapshots deletes them, too)" in capsys.readouterr().out
    assert load_run(pair[0], task=2)
    with pytest.raises(CheckpointError):
        load_run(pair[0])
    assert status.main(["--verify", sweep]) == 0
    assert status.main(["--prune", "--snapshots", sweep]) == 0
    assert not snapshot_tasks(pair[0])
    assert status.main(["--verify", sweep]) == 0
    assert status.main(["--snapshots", sweep]) == 1


def test_a_folder_of_snapshots_that_is_a_link_is_not_written_to(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    for folder in (run, elsewhere):
        folder.mkdir()
    (run / "snapshots").symlink_to(elsewhere)
    with pytest.raises(OSError, match="is a link"):
        checkpoint.keep(run, {"task": 1})
    assert not list(elsewhere.iterdir())
