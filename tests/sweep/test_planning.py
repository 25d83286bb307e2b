"""What a sweep decides to do: nothing twice, nothing that somebody else does, packs as they were."""

from __future__ import annotations

import json
from pathlib import Path

from lop_sweeps.sweep.claim import Claim
from lop_sweeps.sweep.planning import make_plan
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
    points = [runs.point(tmp_path, *runs.SMALL, *some) for some in overrides]
    plan = make_plan(points, workers=1, pack=None, threads=1)
    assert sorted(len(pack.members) for pack in plan.packs) == [1, 1, 1, 1, 3]


def test_pack_sizes_are_even_and_fill_the_workers(tmp_path: Path) -> None:
    points = [runs.point(tmp_path, *runs.SMALL, f"seed={seed}") for seed in range(10)]
    two = make_plan(points, workers=2, pack=None, threads=1)
    assert [len(pack.members) for pack in two.packs] == [5, 5]
    four = make_plan(points, workers=1, pack=4, threads=1)
    assert [len(pack.members) for pack in four.packs] == [3, 3, 4]


def test_large_networks_are_not_packed(tmp_path: Path) -> None:
    points = [runs.point(tmp_path, "network=mlp", "network.hidden=[1000,1000]", f"seed={s}") for s in range(2)]
    assert [len(pack.members) for pack in make_plan(points, workers=1, pack=None, threads=1).packs] == [1, 1]


def test_started_runs_keep_their_pack_and_its_threads(tmp_path: Path) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL, seeds=3)
    runs.train_and_kill(plan.packs[0], after_intervals=1)
    again = [runs.point(tmp_path, *runs.SMALL, f"seed={seed}") for seed in range(4)]
    packs = make_plan(again, workers=8, pack=1, threads=2).packs
    assert packs[0].members == plan.packs[0].members
    assert packs[0].threads == 1
    assert packs[1].members == (again[3].directory.name,)


def test_a_pack_of_which_only_one_file_was_written_is_still_that_pack(tmp_path: Path) -> None:
    """A kill between two members' files once split a pack, and so changed its rounding."""
    plan = runs.plan(tmp_path, *runs.SMALL, seeds=3)
    members = list(plan.packs[0].members)
    plan.points[1].directory.write_pack(members, 1)
    again = runs.plan(tmp_path, *runs.SMALL, seeds=3)
    assert [pack.members for pack in again.packs] == [tuple(members)]


def test_fewer_tasks_than_done_is_nothing_to_do_and_more_goes_on(tmp_path: Path) -> None:
    runs.train(runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=2"))
    assert runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=1").finished == 1
    longer = runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=3")
    runs.train(longer)
    sessions = json.loads((longer.points[0].directory.path / "provenance.json").read_text())["sessions"]
    assert [session["task"] for session in sessions] == [0, 2]


def test_a_split_pack_is_recorded(tmp_path: Path) -> None:
    """A pack that fails is tried run by run; where it happened can be read off the runs."""
    plan = runs.plan(tmp_path, *runs.SMALL, seeds=2)
    metrics = plan.points[0].directory.path / "metrics.jsonl"
    metrics.mkdir()  # nothing can be written there, so this member fails, alone too
    states = {outcome.run.name: outcome.state for outcome in runs.train(plan)}
    assert states == {plan.points[0].directory.name: "failed", plan.points[1].directory.name: "done"}
    assert plan.points[1].directory.pack() == {"members": [plan.points[1].directory.name], "threads": 1}
