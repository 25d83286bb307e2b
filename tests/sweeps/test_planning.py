"""What a sweep decides to do: nothing twice, nothing that somebody else does, packs as they were."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lop_sweeps.sweeps.claim import Claim
from lop_sweeps.sweeps.local_runner import _after_death
from lop_sweeps.sweeps.planning import make_plan
from lop_sweeps.sweeps.run_directory import RunDirectory
from tests import runs


def test_the_same_sweep_twice_runs_nothing(tmp_path: Path) -> None:
    runs.train(runs.plan(tmp_path, *runs.SMALL, seeds=2))
    again = runs.plan(tmp_path, *runs.SMALL, seeds=2)
    assert (again.finished, again.packs) == (2, [])


def test_a_new_seed_runs_only_that_seed(tmp_path: Path) -> None:
    runs.train(runs.plan(tmp_path, *runs.SMALL, seeds=2))
    again = runs.plan(tmp_path, *runs.SMALL, seeds=3)
    assert again.finished == 2
    assert [name for pack in again.packs for name in pack.todo] == [again.points[2].directory.name]


def test_two_configurations_that_resolve_to_the_same_run_once(tmp_path: Path) -> None:
    points = [
        runs.point(tmp_path, *runs.SMALL, "algorithm=l2"),
        runs.point(tmp_path, *runs.SMALL, "algorithm=backprop", "optimizer.weight_decay=0.0001"),
    ]
    plan = make_plan(points, workers=1, pack=None, threads=1)
    assert (len(plan.points), plan.duplicates) == (1, 1)


def test_runs_that_another_process_has_are_left_to_it(tmp_path: Path) -> None:
    first = runs.plan(tmp_path, *runs.SMALL, seeds=2)
    claim = Claim(first.points[0].directory.path)
    assert claim.take()
    again = runs.plan(tmp_path, *runs.SMALL, seeds=2)
    assert again.busy == 1
    assert [pack.todo for pack in again.packs] == [(first.points[1].directory.name,)]
    claim.release()


def test_failed_runs_are_run_again(tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL)
    plan.points[0].directory.write_status(state="failed", error={"type": "OSError", "message": "disk"})
    assert len(runs.plan(tmp_path, *runs.SMALL).packs) == 1


def test_packs_share_shapes_and_not_values(tmp_path: Path) -> None:
    overrides = [
        ["algorithm=backprop", "optimizer.step_size=0.01"],
        ["algorithm=backprop", "optimizer.step_size=0.001"],
        ["algorithm=l2"],
        ["algorithm=continual_backprop"],
        ["optimizer=adam"],
        ["network.hidden=[13,13]"],
        ["network.activation=tanh"],
    ]
    points = [runs.point(tmp_path, *runs.SMALL, runs.TORCH, *some) for some in overrides]
    plan = make_plan(points, workers=1, pack=None, threads=1)
    assert sorted(len(pack.members) for pack in plan.packs) == [1, 1, 1, 1, 3]


def test_pack_sizes_are_even_and_fill_the_workers(tmp_path: Path) -> None:
    points = [runs.point(tmp_path, *runs.SMALL, runs.TORCH, f"seed={seed}") for seed in range(10)]
    two = make_plan(points, workers=2, pack=None, threads=1)
    assert [len(pack.members) for pack in two.packs] == [5, 5]
    four = make_plan(points, workers=1, pack=4, threads=1)
    assert [len(pack.members) for pack in four.packs] == [3, 3, 4]


def test_on_the_fused_engine_runs_are_on_their_own_unless_told_otherwise(tmp_path: Path) -> None:
    """Packs would gain nothing; several threads in a process share what the process has loaded."""
    points = [runs.point(tmp_path, *runs.SMALL, f"seed={seed}") for seed in range(10)]

    def sizes(workers: int, pack: int | None, threads: int) -> list[int]:
        packs = make_plan(points, workers=workers, pack=pack, threads=threads).packs
        assert {(one.engine, one.threads, one.members == one.todo) for one in packs} == {("fused", threads, True)}
        return [len(one.members) for one in packs]

    assert sizes(2, None, 1) == [1] * 10
    assert sizes(2, 4, 1) == [3, 3, 4]
    assert sizes(2, None, 3) == [5, 5]


def test_engines_do_not_meet_in_a_pack(tmp_path: Path) -> None:
    line = [*runs.SMALL, "algorithm=l2"]
    points = [
        *[runs.point(tmp_path, *line, f"seed={seed}") for seed in range(4)],
        *[runs.point(tmp_path, *line, runs.TORCH, f"seed={seed}") for seed in range(4, 6)],
        *[
            runs.point(tmp_path, *line, "network.norm=online", "network.norm_after=true", f"seed={seed}")
            for seed in range(2)
        ],
    ]
    packs = make_plan(points, workers=1, pack=8, threads=1).packs
    assert sorted((pack.engine, len(pack.members)) for pack in packs) == [("fused", 4), ("torch", 2), ("torch", 2)]


def test_large_networks_are_not_packed(tmp_path: Path) -> None:
    line = ["network=mlp", "network.hidden=[1000,1000]", runs.TORCH]
    points = [runs.point(tmp_path, *line, f"seed={s}") for s in range(2)]
    assert [len(pack.members) for pack in make_plan(points, workers=1, pack=None, threads=1).packs] == [1, 1]


def test_started_runs_keep_their_pack_and_its_threads(tmp_path: Path) -> None:
    line = [*runs.SMALL, runs.TORCH]
    plan = runs.plan(tmp_path, *line, seeds=3)
    runs.train_and_kill(plan.packs[0], after_intervals=1)
    again = [runs.point(tmp_path, *line, f"seed={seed}") for seed in range(4)]
    packs = make_plan(again, workers=8, pack=1, threads=2).packs
    assert packs[0].members == plan.packs[0].members
    assert packs[0].threads == 1
    assert packs[1].members == (again[3].directory.name,)


@pytest.mark.parametrize(("engine", "other"), [("fused", "torch"), ("torch", "fused"), ("torch", "auto")])
def test_started_runs_keep_their_engine(tmp_path: Path, engine: str, other: str) -> None:
    """Engines differ in rounding, so a run that changed over would be no run that anybody could repeat."""
    plan = runs.plan(tmp_path / "a", *runs.SMALL, f"engine={engine}")
    runs.train_and_kill(plan.packs[0], after_intervals=1)
    again = runs.plan(tmp_path / "a", *runs.SMALL, f"engine={other}")
    assert again.points[0].directory.path == plan.points[0].directory.path
    assert [pack.engine for pack in again.packs] == [engine]
    runs.train(again)
    whole = runs.plan(tmp_path / "b", *runs.SMALL, f"engine={engine}")
    runs.train(whole)
    assert runs.metrics(again.points[0]) == runs.metrics(whole.points[0])
    name = whole.points[0].directory.name
    assert again.points[0].directory.pack() == {"members": [name], "threads": 1, "engine": engine}


def test_a_pack_from_before_there_were_two_engines_is_the_torch_engines(tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL, seeds=2)
    names = [point.directory.name for point in plan.points]
    for point in plan.points:
        (point.directory.path / "pack.json").write_text(json.dumps({"members": names, "threads": 2}))
    (pack,) = runs.plan(tmp_path, *runs.SMALL, seeds=2).packs
    assert (pack.engine, list(pack.members), pack.threads) == ("torch", names, 2)


def test_a_pack_of_which_only_one_file_was_written_is_still_that_pack(tmp_path: Path) -> None:
    """A kill between two members' files once split a pack, and so changed its rounding."""
    line = [*runs.SMALL, runs.TORCH]
    plan = runs.plan(tmp_path, *line, seeds=3)
    members = list(plan.packs[0].members)
    assert len(members) == 3
    plan.points[1].directory.write_pack(members, 1, "torch")
    again = runs.plan(tmp_path, *line, seeds=3)
    assert [pack.members for pack in again.packs] == [tuple(members)]


def test_fewer_tasks_than_done_is_nothing_to_do_and_more_goes_on(tmp_path: Path) -> None:
    runs.train(runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=2"))
    assert runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=1").finished == 1
    longer = runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=3")
    runs.train(longer)
    sessions = json.loads((longer.points[0].directory.path / "provenance.json").read_text())["sessions"]
    assert [session["task"] for session in sessions] == [0, 2]


def unwritable(path: Path) -> None:
    (path / "metrics.jsonl").mkdir()


def test_a_split_pack_is_recorded(tmp_path: Path) -> None:
    """A pack that fails is tried run by run; where it happened can be read off the runs."""
    plan = runs.plan(tmp_path, *runs.SMALL, runs.TORCH, seeds=2)
    assert len(plan.packs) == 1
    unwritable(plan.points[0].directory.path)  # this member fails, alone too
    states = {outcome.run.name: outcome.state for outcome in runs.train(plan)}
    name = plan.points[1].directory.name
    assert states == {plan.points[0].directory.name: "failed", name: "done"}
    assert plan.points[1].directory.pack() == {"members": [name], "threads": 1, "engine": "torch"}


@pytest.mark.parametrize("threads", [1, 2])
def test_on_the_fused_engine_there_is_nothing_to_split(tmp_path: Path, threads: int) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL, seeds=3, pack=3, threads=threads)
    assert len(plan.packs) == 1
    unwritable(plan.points[1].directory.path)
    assert [outcome.state for outcome in runs.train(plan)] == ["done", "failed", "done"]
    for i in (0, 2):
        run = plan.points[i].directory
        assert run.pack() == {"members": [run.name], "threads": threads, "engine": "fused"}
        assert endings(run.path) == ["done"]


def endings(path: Path) -> list[str]:
    """How each session of a run ended."""
    return [session["state"] for session in json.loads((path / "provenance.json").read_text())["sessions"]]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_cannot_even_be_claimed_takes_no_other_with_it(tmp_path: Path, threads: int) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL, seeds=3, pack=3, threads=threads)
    gone = plan.points[0].directory.path
    shutil.rmtree(gone)
    outcomes = {outcome.run: outcome for outcome in runs.train(plan)}
    assert outcomes.pop(gone).state == "failed"
    assert [outcome.state for outcome in outcomes.values()] == ["done", "done"]


def test_what_a_dead_process_had_finished_or_not_begun_has_not_failed(tmp_path: Path) -> None:
    (pack,) = runs.plan(tmp_path, *runs.SMALL, seeds=4, pack=4).packs
    for name, state in zip(pack.todo, ("done", "running", "diverged", "waiting"), strict=True):
        RunDirectory(pack.folder / name).write_status(state=state)
    ended, left = _after_death(pack, -9, stopping=False)
    assert [outcome.state for outcome in ended] == ["done", "failed", "diverged"]
    assert "signal 9" in ended[1].message
    assert [part.todo for part in left] == [pack.todo[3:]]
    assert _after_death(pack, -9, stopping=True)[1] == []
    for name in pack.todo:  # it died before it began any: one of them may be why
        RunDirectory(pack.folder / name).write_status(state="waiting")
    assert [outcome.state for outcome in _after_death(pack, 1, stopping=False)[0]] == ["failed"] * 4
