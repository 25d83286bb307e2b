"""What goes wrong while runs run: one that raises, dies or diverges takes no other with it, and work goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lop_sweeps.sweeps import status
from lop_sweeps.sweeps.planning import Plan, make_plan
from lop_sweeps.sweeps.run_directory import RunDirectory
from tests import runs
from tests.bad_input.conftest import Command, idea

# Generated data: the digits' package takes each new process seconds to import.
LINE = ["benchmark=slowly_changing_regression", "scale=tiny"]  # 4 tasks of 500 steps
TASKS = 4


def by_seed(sweeps: Path) -> dict[int, RunDirectory]:
    found = [RunDirectory(path.parent) for path in sweeps.rglob("config.yaml")]
    return {int(run.config()["seed"]): run for run in found}


def states(sweeps: Path) -> dict[int, str]:
    return {seed: str(run.status()["state"]) for seed, run in sorted(by_seed(sweeps).items())}


def sessions(run: RunDirectory) -> list[tuple[int, str | None]]:
    """(first task, how it ended) of each time that somebody worked on a run."""
    content = json.loads((run.path / "provenance.json").read_text())
    return [(session["task"], session.get("state")) for session in content["sessions"]]


def tasks(run: RunDirectory) -> list[int]:
    return [json.loads(line)["task"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_raises_does_not_stop_others(lop: Command, tmp_path: Path, users_idea: Path) -> None:
    """Seed 2 raises at step 1000, in a pack with seed 3; when it is put right, the same line runs it alone."""
    broken = tmp_path / "broken"
    broken.touch()
    line = ["-m", *LINE, "seed=range(4)", "hydra.launcher.pack=2", "hydra.launcher.workers=2"]
    line += idea(action="raise", seed=2, step=1000, while_exists=broken)
    ended = lop(*line)
    run = by_seed(tmp_path)[2]
    assert ended.code == 1
    assert "3 done" in ended.err
    assert "1 of 4 runs failed" in ended.err
    assert f"{run.name}\n    RuntimeError: the idea broke at step 1000" in ended.err
    assert "Traceback" not in ended.err
    assert states(tmp_path) == {0: "done", 1: "done", 2: "failed", 3: "done"}
    assert run.status()["error"]["message"] == "the idea broke at step 1000"
    assert "after_update" in run.status()["error"]["traceback"]
    assert [tasks(by_seed(tmp_path)[seed]) for seed in (0, 1, 3)] == [list(range(TASKS))] * 3
    kept = (run.path / "metrics.jsonl").read_bytes()
    assert status.main([str(run.path.parent)]) == 3

    broken.unlink()
    ended = lop(*line)
    assert ended.code == 0
    assert "3 finished already, 1 to run" in ended.err
    assert tasks(run) == list(range(TASKS))
    assert (run.path / "metrics.jsonl").read_bytes().startswith(kept)
    assert [len(sessions(by_seed(tmp_path)[seed])) for seed in (0, 1)] == [1, 1]


def test_a_worker_that_is_killed_takes_only_its_pack(lop: Command, tmp_path: Path, users_idea: Path) -> None:
    """As the kernel does when memory is short. The same line goes on from the last checkpoint."""
    short = tmp_path / "memory is short"
    short.touch()
    line = ["-m", *LINE, "seed=range(3)", "hydra.launcher.pack=1", "hydra.launcher.workers=1"]
    line += [
        "checkpoint.first=0",
        "checkpoint.every=0",
        *idea(action="kill", seed=1, step=1000, while_exists=f"'{short}'"),
    ]
    ended = lop(*line)
    assert ended.code == 1
    assert "2 done" in ended.err
    assert "its process died (signal 9); the same command continues" in ended.err
    assert (
        status.main([str(tmp_path / "sweeps" / "slowly_changing_regression-tiny")]) == 0
    )  # not running any more: waiting
    short.unlink()
    assert lop(*line).code == 0
    run = by_seed(tmp_path)[1]
    assert [task for task, _ in sessions(run)] == [0, 2]
    assert tasks(run) == list(range(TASKS))


def test_one_member_of_a_pack_fails_and_the_others_agree_with_runs_alone(tmp_path: Path, users_idea: Path) -> None:
    line = [*runs.SMALL, *LINE, "precision=float64", *idea(action="raise", seed=1, step=500)]
    together = runs.plan(tmp_path / "together", *line, seeds=3)
    assert len(together.packs) == 1
    outcomes = {outcome.run.name: outcome for outcome in runs.train(together)}
    names = [point.directory.name for point in together.points]
    assert [outcomes[name].state for name in names] == ["done", "failed", "done"]
    assert outcomes[names[1]].message == "RuntimeError: the idea broke at step 500"
    alone = runs.plan(tmp_path / "alone", *line, seeds=3, pack=1)
    runs.train(alone)
    for i in (0, 2):
        rows = [json.loads(line) for line in runs.metrics(together.points[i]).splitlines()]
        twins = [json.loads(line) for line in runs.metrics(alone.points[i]).splitlines()]
        assert rows == [{name: pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in t.items()} for t in twins]


def plan_step_sizes(sweeps: Path, *sizes: float, overrides: tuple[str, ...] = ()) -> Plan:
    line = [*runs.SMALL, "benchmark=slowly_changing_regression", "precision=float64", *overrides]
    return make_plan([runs.point(sweeps, *line, f"optimizer.step_size={size}") for size in sizes], 1, 8, 1)


ENGINES = pytest.mark.parametrize("engine", [pytest.param("engine=torch", marks=pytest.mark.slow), "engine=fused"])


@ENGINES
def test_a_diverged_run_is_final_and_disturbs_nobody(tmp_path: Path, engine: str) -> None:
    together = plan_step_sizes(tmp_path / "together", 0.01, 1e150, 0.001, overrides=(engine,))
    assert len(together.packs) == 1
    assert [outcome.state for outcome in runs.train(together)] == ["done", "diverged", "done"]
    bad = together.points[1].directory
    assert bad.status()["state"] == "diverged"
    assert sessions(bad) == [(0, "diverged")]
    assert "NaN" not in (bad.path / "metrics.jsonl").read_text()
    assert status.main([str(bad.path.parent)]) == 0
    again = plan_step_sizes(tmp_path / "together", 0.01, 1e150, 0.001, overrides=(engine,))
    assert (again.finished, again.packs) == (3, [])
    longer = plan_step_sizes(tmp_path / "together", 0.01, 1e150, overrides=(engine, "benchmark.num_tasks=5"))
    assert longer.finished == 1
    alone = plan_step_sizes(tmp_path / "alone", 0.01, overrides=(engine,))
    runs.train(alone)
    for a, b in zip(
        runs.metrics(together.points[0]).splitlines(), runs.metrics(alone.points[0]).splitlines(), strict=True
    ):
        twin = json.loads(b)
        assert json.loads(a) == {name: pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in twin.items()}


@ENGINES
def test_divergence_in_the_last_step_of_a_task_is_divergence(tmp_path: Path, engine: str) -> None:
    """The loss is that of before the step, and still finite; the weights are not, and cannot be logged."""
    overrides = (engine, "benchmark.examples_per_task=1")
    plan = plan_step_sizes(tmp_path, 1e308, overrides=overrides)
    assert [outcome.state for outcome in runs.train(plan)] == ["diverged"]
    assert plan.points[0].directory.status()["task"] == 0
    assert plan_step_sizes(tmp_path, 1e308, overrides=overrides).finished == 1


@ENGINES
def test_a_diverged_run_ends_the_command_with_0(lop: Command, tmp_path: Path, engine: str) -> None:
    ended = lop("-m", *LINE, engine, "optimizer.step_size=0.01,1e30", "hydra.launcher.workers=1")
    assert ended.code == 0
    assert "1 done, 1 diverged (loss not finite: a result, not an error)" in ended.err
    assert "2 finished already, 0 to run" in lop("-m", *LINE, "optimizer.step_size=0.01,1e30").err


@ENGINES
def test_what_another_process_has_finished_meanwhile_is_not_run_again(tmp_path: Path, engine: str) -> None:
    """Two sweeps planned the same runs; the slower one finds them free again, and finished."""
    slower = plan_step_sizes(tmp_path, 0.01, 1e150, overrides=(engine,))
    runs.train(plan_step_sizes(tmp_path, 0.01, 1e150, overrides=(engine,)))
    before = [runs.metrics(point) for point in slower.points]
    assert [outcome.state for outcome in runs.train(slower)] == ["done", "diverged"]
    assert [runs.metrics(point) for point in slower.points] == before
    assert [len(sessions(point.directory)) for point in slower.points] == [1, 1]


def test_one_member_of_a_finished_pack_can_be_extended(tmp_path: Path) -> None:
    """Its peers were asked for fewer tasks; it once took that for its own number, and said done."""
    line = [*LINE, "checkpoint.first=0", runs.TORCH]
    runs.train(runs.plan(tmp_path, *line, "benchmark.num_tasks=2", seeds=3))
    points = [runs.point(tmp_path, *line, f"benchmark.num_tasks={n}", f"seed={s}") for s, n in ((1, 4), (2, 3))]
    runs.train(make_plan(points, workers=1, pack=None, threads=1))
    assert {seed: len(tasks(run)) for seed, run in by_seed(tmp_path).items()} == {0: 2, 1: 4, 2: 3}
    everybody = runs.plan(tmp_path, *line, "benchmark.num_tasks=5", seeds=3)
    assert {outcome.state for outcome in runs.train(everybody)} == {"done"}
    assert {seed: tasks(run) for seed, run in by_seed(tmp_path).items()} == {seed: list(range(5)) for seed in range(3)}


def test_ctrl_c_while_planning_is_no_traceback(lop: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lop_sweeps.sweeps import composer, sweeper

    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    for module in (composer, sweeper):
        monkeypatch.setattr(module, "make_point", interrupt)
    for flags in ([], ["-m"]):
        ended = lop(*flags, *LINE)
        assert (ended.code, ended.err) == (130, "lop: stopped before anything ran\n")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_in_a_single_run(lop: Command, tmp_path: Path, users_idea: Path) -> None:
    now = tmp_path / "now"
    now.touch()
    line = [*LINE, *idea(action="interrupt", seed=0, step=1000, while_exists=now)]
    ended = lop(*line)
    assert ended.code == 130
    assert ended.err.endswith("lop: stopped; every run was saved, and the same command continues\n")
    assert states(tmp_path) == {0: "waiting"}
    now.unlink()
    assert lop(*line).code == 0
    run = by_seed(tmp_path)[0]
    assert sessions(run) == [(0, "waiting"), (3, "done")]  # the task is the interval here
    assert tasks(run) == list(range(TASKS))


def test_ctrl_c_twice_does_not_wait(lop: Command, tmp_path: Path, users_idea: Path) -> None:
    now = tmp_path / "now"
    now.touch()
    line = ["-m", *LINE, "hydra.launcher.workers=1", "checkpoint.first=0", "checkpoint.every=0"]
    line += idea(action="interrupt_twice", seed=0, step=1000, while_exists=now)
    ended = lop(*line)
    assert ended.code == 130
    assert ended.err.endswith("lop: stopped at once; the same command continues from the last checkpoints\n")
    now.unlink()
    assert lop(*line).code == 0
    run = by_seed(tmp_path)[0]
    assert [task for task, _ in sessions(run)] == [0, 2]
    assert tasks(run) == list(range(TASKS))


# Real commands, in processes of their own


def start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    command = [str(Path(sys.executable).with_name("lop")), *arguments]
    return subprocess.Popen(command, cwd=cwd, stderr=subprocess.PIPE, text=True, start_new_session=True)


def ended_within(process: subprocess.Popen[str], seconds: float) -> tuple[int, str]:
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"hangs; it said: {process.communicate()[1]}")
    return process.returncode, said


def test_the_same_sweep_typed_twice_at_once(tmp_path: Path) -> None:
    line = ["-m", *LINE, "algorithm=backprop,continual_backprop", "seed=range(3)", "hydra.launcher.pack=2"]
    both = [start(*line, cwd=tmp_path) for _ in range(2)]
    for code, said in [ended_within(process, 300) for process in both]:
        assert code == 0, said
        assert "Traceback" not in said
    everything = [RunDirectory(path.parent) for path in tmp_path.rglob("config.yaml")]
    assert len(everything) == 6
    for run in everything:
        assert run.status()["state"] == "done"
        assert sessions(run) == [(0, "done")]  # once, by one of the two
        assert tasks(run) == list(range(TASKS))
        assert not list(run.path.glob("lock*")) + list(run.path.glob("*.tmp"))


def test_ctrl_c_saves_every_run_and_the_same_line_goes_on(lop: Command, tmp_path: Path, users_idea: Path) -> None:
    """As a terminal does it: the workers get the signal, too. One of the three runs has not been begun then."""
    slow = tmp_path / "slow"
    slow.touch()
    line = ["-m", *LINE, "seed=range(3)", "hydra.launcher.workers=2", "hydra.launcher.pack=1"]
    line += idea(action="sleep", while_exists=slow)
    process = start(*line, cwd=tmp_path)
    deadline = time.monotonic() + 300
    while list(states(tmp_path).values()).count("running") < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    code, said = ended_within(process, 300)
    assert code == 130
    assert said.endswith("lop: stopped; every run was saved, and the same command continues\n")
    assert "Traceback" not in said
    assert set(states(tmp_path).values()) == {"waiting"}
    assert not list(tmp_path.rglob("lock"))
    begun = {seed for seed, run in by_seed(tmp_path).items() if (run.path / "checkpoint.pt").exists()}
    assert len(begun) == 2
    slow.unlink()
    ended = lop(*line)
    assert ended.code == 0, ended.err
    for seed, run in by_seed(tmp_path).items():
        assert run.status()["state"] == "done"
        assert tasks(run) == list(range(TASKS))
        assert len(sessions(run)) == 1 + (seed in begun)
