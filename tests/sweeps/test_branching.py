"""Runs that go on from another run's network, kept before a task: `start=RUN@TASK`."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lop_sweeps import load_run
from lop_sweeps.errors import ConfigError
from lop_sweeps.sweeps import status
from lop_sweeps.sweeps.identity import disagreement
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.planning import Plan, Point
from lop_sweeps.training.branch import Branch, begin
from lop_sweeps.training.checkpoint_file import snapshot_tasks
from tests import runs
from tests.contracts.table import CIFAR, IMAGENET, SLIPPERY, SOON
from tests.fused.engines import fused, unfused

LINE = [*runs.SMALL, "benchmark.examples_per_task=40"]
CBP = ["algorithm=continual_backprop", *SOON]
ENGINES = ["engine=fused", "engine=torch"]


def train(sweeps: Path, *line: str, seeds: int = 1, **options: Any) -> Plan:
    plan = runs.plan(sweeps, *line, seeds=seeds, **options)
    outcomes = runs.train(plan)
    assert all(outcome.state == "done" for outcome in outcomes), outcomes
    return plan


def parents(sweeps: Path, *line: str, keep: str = "[2]", **options: Any) -> Plan:
    return train(sweeps, *LINE, *line, f"checkpoint.keep={keep}", **options)


def rows(point: Point) -> list[dict[str, Any]]:
    return [json.loads(line) for line in runs.metrics(point).splitlines()]


# --- what it begins with ---

SAME = {
    "sgd": LINE,
    "momentum": [*LINE, "optimizer=momentum"],
    "adam": [*LINE, "optimizer=adam"],
    "epochs": ["scale=tiny", *IMAGENET],
    "epochs, with running statistics": ["scale=tiny", *CIFAR, "network.width=1"],
    "control": ["scale=tiny", *SLIPPERY],
}


SLOW = ("momentum", "epochs")  # others do more


@pytest.mark.parametrize(
    ("case", "engine"),
    [pytest.param(case, "engine=torch", marks=[pytest.mark.slow] * (case in SLOW)) for case in SAME]
    + [pytest.param(case, "engine=fused", marks=[pytest.mark.slow] * (case in SLOW)) for case in list(SAME)[:3]],
)
def test_the_same_method_goes_on_as_its_parent_did_byte_for_byte(case: str, engine: str, tmp_path: Path) -> None:
    """Also where it has an optimiser's state, running statistics and environments."""
    line = [*SAME[case], engine]
    task = 1 if case not in ("sgd", "momentum", "adam") else 2
    parent = train(tmp_path, *line, f"checkpoint.keep=[{task}]")
    child = train(tmp_path, *line, f"start=backprop@{task}", "start_optimizer=kept")
    assert child.points[0].directory.name != parent.points[0].directory.name
    assert runs.metrics(parent.points[0]).split(b"\n")[task:] == runs.metrics(child.points[0]).split(b"\n")


@pytest.mark.parametrize("engine", ENGINES)
def test_another_method_begins_with_the_network_at_the_task(engine: str, tmp_path: Path) -> None:
    parent = parents(tmp_path, engine)
    child = train(tmp_path, *LINE, *CBP, engine, "start=backprop@2")
    theirs, ours = rows(parent.points[0]), rows(child.points[0])
    assert [row["task"] for row in ours] == [2, 3]
    assert [row["examples"] for row in ours] == [120, 160]
    before = ("weight_magnitude", "effective_rank", "dead_fraction")  # measured before the task
    assert [ours[0][name] for name in before] == [theirs[2][name] for name in before]
    assert any(ours[1]["replaced_units"])
    assert ours[1]["cross_entropy"] != theirs[3]["cross_entropy"]


def test_the_optimiser_begins_afresh_unless_it_is_kept(tmp_path: Path) -> None:
    parents(tmp_path, "optimizer=adam")
    fresh, kept = (
        train(tmp_path, *LINE, "optimizer=adam", "start=backprop@2", f"start_optimizer={how}").points[0]
        for how in ("fresh", "kept")
    )
    assert fresh.directory.name != kept.directory.name
    assert runs.metrics(fresh) != runs.metrics(kept)


@pytest.mark.parametrize("make", [fused, unfused])
def test_step_counts_fit_methods_that_replace_units_and_those_that_do_not(make: Any) -> None:
    """Adam counts steps by parameter for the former; counts that differ are no one run's."""
    from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
    from lop_sweeps.errors import CheckpointError
    from lop_sweeps.optimizers.adam import Adam

    def learner(*interventions: Any) -> Any:
        return make("cross_entropy", Adam(), interventions)

    plain, replacing = learner(), learner(ContinualBackprop())
    plain.optimizer.power1.fill_(0.5)
    state = {name: value[0].clone() for name, value in plain.state().items()}
    begin(replacing, [Branch({"learner": state}, keeps_optimizer=True)], None)
    powers = replacing.state()["optimizer/power1"]
    assert powers.shape == replacing.state()["parameters"].shape
    assert bool((powers == 0.5).all())
    state = {name: value[0].clone() for name, value in replacing.state().items()}
    begin(learner(), [Branch({"learner": state}, keeps_optimizer=True)], None)
    state["optimizer/power1"][3] = 1.0
    with pytest.raises(CheckpointError, match="start_optimizer=kept needs an optimiser like its own"):
        begin(learner(), [Branch({"learner": state}, keeps_optimizer=True)], None)


def test_another_seed_goes_on_from_the_network_in_its_own_tasks_and_environments(tmp_path: Path) -> None:
    line = ["scale=tiny", *SLIPPERY]
    parent = train(tmp_path, *line, "checkpoint.keep=[1]")
    name = parent.points[0].directory.name
    children = train(tmp_path, *line, f"start={name}@1", seeds=3, pack=3)
    first = [rows(point)[0] for point in children.points]
    assert len({json.dumps(row["weight_magnitude"]) for row in first}) == 1
    assert len({json.dumps(row["policy_loss"]) for row in first}) == 3
    assert {row["task"] for row in first} == {1}


# --- identity ---


def test_the_parents_name_and_the_task_are_part_of_the_identity_and_its_place_is_not(tmp_path: Path) -> None:
    plan = parents(tmp_path, keep="[1,2]", seeds=2)
    one, other = (point.directory for point in plan.points)
    shutil.copytree(plan.folders[0], tmp_path / "elsewhere")
    same = [f"{one.name}@2", "backprop@2", "backprop-seed0@2", f"{one.path}@2", f"{tmp_path}/elsewhere/{one.name}@2"]
    names = [runs.point(tmp_path, *LINE, f"start={text}").directory.name for text in same]
    assert len(set(names)) == 1
    different = [[f"start={one.name}@1"], [f"start={other.name}@2"], [f"start={one.name}@2", "start_optimizer=kept"]]
    others = [runs.point(tmp_path, *LINE, *line).directory.name for line in different]
    assert len({names[0], one.name, *others}) == 5


def test_of_several_runs_of_a_name_it_is_the_one_that_kept_the_network_and_has_the_same_settings(
    tmp_path: Path,
) -> None:
    """A sweep over step sizes has a parent for each of them."""
    sizes = {size: parents(tmp_path, f"optimizer.step_size={size}").points[0].directory.name for size in (0.1, 0.2)}
    for size, name in sizes.items():
        point = runs.point(tmp_path, *LINE, *CBP, f"optimizer.step_size={size}", "start=backprop@2")
        assert point.config["parent"]["run"] == name
    parents(tmp_path, "optimizer.step_size=0.3", keep="[1]")
    with pytest.raises(ConfigError, match="is one of 2 runs, so name it in full"):
        runs.point(tmp_path, *LINE, "optimizer.step_size=0.3", "start=backprop@2")
    assert runs.point(tmp_path, *LINE, "algorithm=l2", "start=backprop@1").config["parent"]["task"] == 1


def test_what_is_stored_of_the_parent_is_compared_with_what_was_recorded(tmp_path: Path) -> None:
    parents(tmp_path, keep="[1,2]")
    child = train(tmp_path, *LINE, "start=backprop@2").points[0].directory
    recorded = look(child.path).identity
    assert recorded is not None
    assert disagreement(child.config(), recorded) == ""
    config = child.config() | {"start": child.config()["start"].replace("@2", "@1")}
    assert disagreement(config, recorded).startswith("start is {")
    assert status.main(["--verify", str(child.path.parent)]) == 0


def test_runs_of_one_method_are_a_group_whatever_the_seeds_of_their_parents(tmp_path: Path) -> None:
    one, other = (parents(tmp_path, f"optimizer.step_size={size}", seeds=2).points for size in (0.02, 0.5))

    def group(parent: Point, *line: str) -> str:
        return str(runs.point(tmp_path, *LINE, f"start={parent.directory.name}@2", *line).config["parent"]["group"])

    assert group(one[0], "seed=0") == group(one[1], "seed=1") == group(one[1], "seed=0")
    assert len({group(one[0]), group(other[0]), group(one[0], *CBP), group(one[0], "optimizer.step_size=0.5")}) == 4


# --- resumed, extended, in packs ---


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_child_goes_on_without_its_parent_and_logs_the_same_bytes(engine: str, tmp_path: Path) -> None:
    plan = parents(tmp_path, engine)
    line = [*LINE, *CBP, engine, "benchmark.num_tasks=8"]
    whole = train(tmp_path, *line, "sweep=whole", f"start={plan.points[0].directory.path}@2")
    text = f"start={plan.points[0].directory.path}@2"
    killed = runs.plan(tmp_path, *line, text)
    assert runs.train_and_kill(killed.packs[0], after_intervals=3)
    assert (killed.points[0].directory.path / "checkpoint.pt").exists()
    plan.points[0].directory.path.rename(tmp_path / "moved away")
    resumed = train(tmp_path, *line, text)
    assert resumed.points[0].directory.name == killed.points[0].directory.name
    assert runs.metrics(resumed.points[0]) == runs.metrics(whole.points[0])
    extended = train(tmp_path, *line[:-1], "benchmark.num_tasks=10", text)
    assert [row["task"] for row in rows(extended.points[0])] == list(range(2, 10))
    assert extended.points[0].config["parent"] == whole.points[0].config["parent"]


def test_children_of_a_pack_have_their_own_parents_or_one(tmp_path: Path) -> None:
    line = ["precision=float64", "engine=torch"]
    plan = parents(tmp_path, *line, seeds=3)
    for number, start in enumerate(("backprop@2", f"{plan.points[1].directory.name}@2")):
        child = [*LINE, *CBP, *line, f"start={plan.folders[0]}/{start}"]
        packed = train(tmp_path / f"packed{number}", *child, seeds=3, pack=3)
        alone = train(tmp_path / f"alone{number}", *child, seeds=3, pack=1)
        assert [len(each.packs) for each in (packed, alone)] == [1, 3]
        for one, other in zip(packed.points, alone.points, strict=True):
            runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-9)
        magnitudes = {json.dumps(rows(point)[0]["weight_magnitude"]) for point in alone.points}
        assert len(magnitudes) == (3 if number == 0 else 1)


def test_a_child_keeps_networks_and_has_children(tmp_path: Path) -> None:
    parents(tmp_path)
    child = train(tmp_path, *LINE, "algorithm=l2", "start=backprop@2", "checkpoint.keep=[2,3]").points[0]
    assert snapshot_tasks(child.directory.path) == [2, 3]
    kept = [load_run(child.directory.path, task=task)[0] for task in (2, None)]
    assert not torch.equal(*(next(network.parameters()) for network in kept))
    grandchild = train(tmp_path, *LINE, *CBP, f"start={child.directory.name}@3").points[0]
    assert [row["task"] for row in rows(grandchild)] == [3]


def test_the_end_of_a_parent_is_a_place_to_begin_at(tmp_path: Path) -> None:
    """Without any snapshot, for as long as the parent is not extended."""
    parents(tmp_path, keep="[]")
    child = train(tmp_path, *LINE, *CBP, "start=backprop@4", "benchmark.num_tasks=6").points[0]
    assert [row["task"] for row in rows(child)] == [4, 5]


def test_a_child_counts_only_its_own_steps_as_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parents(tmp_path)
    plan = runs.plan(tmp_path, *LINE, *CBP, "start=backprop@2")
    (point,) = plan.points
    assert (point.steps, point.first_steps, point.steps_left) == (160, 80, 80)
    assert point.directory.status()["task"] == 2
    runs.train(plan)
    assert point.steps_left == 0
    assert status.main([str(plan.folders[0])]) == 0
    assert "2 done" in capsys.readouterr().out


def test_provenance_says_where_the_network_came_from(tmp_path: Path) -> None:
    parent = parents(tmp_path).points[0].directory
    child = train(tmp_path, *LINE, *CBP, "start=backprop@2").points[0].directory
    (session,) = json.loads((child.path / "provenance.json").read_text())["sessions"]
    origin = session["start"]
    assert (origin["run"], origin["task"], origin["folder"]) == (parent.name, 2, str(parent.path))
    assert child.config()["parent"]["run"] == parent.name


def test_a_child_whose_checkpoints_are_gone_starts_over_from_its_parent(tmp_path: Path) -> None:
    parents(tmp_path)
    line = [*LINE, *CBP, "start=backprop@2"]
    point = train(tmp_path, *line).points[0]
    log = runs.metrics(point)
    point.directory.prune()
    (point.directory.path / "metrics.jsonl").write_text("")
    train(tmp_path, *line)
    assert runs.metrics(point) == log


# --- refusals ---

REFUSED: dict[str, tuple[list[str], str]] = {
    "no task": (["start=backprop"], r"start = 'backprop': must be RUN@TASK"),
    "not a task": (["start=backprop@last"], "must be RUN@TASK"),
    "nobody": (["start=redo@2"], r"there is no run redo-seed0-\.\.\. in"),
    "nobody of that full name": (["start=backprop-seed0-0123456789ab@2"], "there is no run"),
    "not of this seed": (["start=backprop@2", "seed=7"], r"there is no run backprop-seed7-\.\.\."),
    "several": (["start=backprop@2", "sweep=both"], "is one of 2 runs, so name it in full: backprop-seed0-"),
    "not kept": (["start=PARENT@1"], r"has no network from before task 1 \(it has: 2\); checkpoint\.keep=\[1\]"),
    "behind the end": (["start=PARENT@2", "benchmark.num_tasks=2"], "must be before the last of benchmark.num_tasks=2"),
    "another network": (
        ["start=PARENT@2", "network.hidden=[12,13]"],
        r"network: layers\.1\.weight is \(12, 12\) there",
    ),
    "another kind of network": (["start=PARENT@2", "network=linear"], "MLP there, Linear here"),
    "another normalisation": (["start=PARENT@2", "algorithm=layer_norm"], "another network: norms"),
    "another benchmark": (
        ["start=PARENT@2", "benchmark.examples_per_task=80"],
        "another benchmark: examples_per_task is 40 there, 80 here",
    ),
    "another precision": (["start=PARENT@2", "precision=float64"], "another precision: float32 there, float64 here"),
    "another optimiser, kept": (
        ["start=PARENT@2", "optimizer=adam", "start_optimizer=kept"],
        "start_optimizer = 'kept': needs the parent's optimiser, SGD, and here it is Adam",
    ),
    "kept, of nobody": (["start_optimizer=kept"], "goes with start=RUN@TASK"),
    "neither fresh nor kept": (["start=PARENT@2", "start_optimizer=old"], "start_optimizer = 'old': must be one of"),
}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of sweeps, one of which holds two runs with the beginning of a name, and a parent's name."""
    sweeps = tmp_path_factory.mktemp("family")
    name = parents(sweeps).points[0].directory.name
    for step_size in ("0.1", "0.2"):
        parents(sweeps, f"optimizer.step_size={step_size}", "sweep=both")
    return sweeps, name


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_gone_on_from_is_refused_with_a_sentence(case: str, family: tuple[Path, str]) -> None:
    (sweeps, name), (line, words) = family, REFUSED[case]
    rest = [one for one in LINE if not one.startswith("network.") or "network=linear" not in line]
    with pytest.raises(ConfigError, match=words):
        runs.point(sweeps, *rest, *(one.replace("PARENT", name) for one in line))


def test_a_parent_that_is_not_itself_is_refused(tmp_path: Path) -> None:
    parent = parents(tmp_path).points[0].directory
    text = (parent.path / "config.yaml").read_text()
    (parent.path / "config.yaml").write_text(text.replace("step_size: 0.0", "step_size: 0.5"))
    with pytest.raises(ConfigError, match=r"is not that run: .*config\.yaml: not as it was written"):
        runs.point(tmp_path, *LINE, "start=backprop@2")


def test_a_parent_that_changes_after_planning_fails_its_child_alone(tmp_path: Path) -> None:
    plan = parents(tmp_path, seeds=2)
    children = runs.plan(tmp_path, *LINE, *CBP, "start=backprop@2", seeds=2)
    file = plan.points[0].directory.path / "snapshots" / "2.pt"
    file.write_bytes(file.read_bytes()[:-50])
    outcomes = {outcome.run.name: outcome for outcome in runs.train(children)}
    first, second = (outcomes[point.directory.name] for point in children.points)
    assert (first.state, second.state) == ("failed", "done")
    assert "CheckpointError" in first.message
    assert os.fspath(file) in first.message
