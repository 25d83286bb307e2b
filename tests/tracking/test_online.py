"""Whole sweeps with `tracking=wandb`, whatever happens to them and to the server."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training import checkpoint
from tests.tracking.conftest import (
    EXAMPLES,
    HELD,
    HELD_TASKS,
    LINE,
    SEEDS,
    TASKS,
    TRACKED,
    Command,
    Lab,
    names,
    read_json,
    tell,
    until,
)
from tests.tracking.wandb_server import HISTORY

THREE = [*TRACKED, *HELD, *SEEDS]  # the same runs in all of these, with the same bytes
BRIEF = "tracking.patience=6"  # that there is a reason to be told after
SENDS_THE_REST = "lop-status --sync sweeps/s sends what has not arrived"
# Every step takes a little while there is a file `slow`.
SLOW = ["+algorithm.idea._target_=users_idea.Idea", "+algorithm.idea.action=sleep", "trusted=[users_idea]"]
SLOW += ["+algorithm.idea.while_exists=slow"]
# Two runs diverge at once; of the others, that of seed 1 fails in its third task.
BROKEN = [*TRACKED, "seed=0,1", "optimizer.step_size=0.003,1e30", "hydra.launcher.pack=1", "trusted=[users_idea]"]
BROKEN += ["+algorithm.idea._target_=users_idea.Idea", "+algorithm.idea.action=raise", "+algorithm.idea.seed=1"]
BROKEN += [f"+algorithm.idea.step={HELD_TASKS * EXAMPLES + 10}", "+algorithm.idea.while_exists=broken"]


def trained(lab: Lab) -> bool:
    """Whether training has ended, whatever is still to be sent."""
    return bool(lab.runs) and all(RunDirectory(run).status()["state"] == "done" for run in lab.runs)


def held(lab: Lab, *line: str) -> Command:
    """The sweep in its third task, with the rows of the others on the server; it goes on without `lab.hold`."""
    lab.hold.touch()
    command = lab.lop(*THREE, *line)
    until(lambda: lab.arrived(HELD_TASKS))
    return command


UNTRACKED: dict[str, bytes] = {}  # the log of each of `THREE`, once one of the stories has trained them
FIRST = threading.Lock()


def untracked(lab: Lab) -> dict[str, bytes]:
    """The logs of the same runs without tracking."""
    with FIRST:
        if not UNTRACKED:
            lab.hold.unlink(missing_ok=True)
            requests = len(lab.server.requests)
            lab.lop(*LINE, *HELD, *SEEDS, "paths.sweeps=plain").end()
            logs = lab.folder.glob("plain/s/*/metrics.jsonl")
            UNTRACKED.update({path.parent.name: path.read_bytes() for path in logs})
            assert list(lab.folder.glob("plain/**/mirror.*")) == []
            assert len(lab.server.requests) == requests
        return UNTRACKED


def assert_unharmed(lab: Lab, command: Command) -> None:
    """The sweep has ended well, with the bytes of one that is not tracked."""
    assert command.end().err.endswith("3 done\n")
    assert lab.logs() == untracked(lab)
    for run in lab.runs:
        assert [session["state"] for session in read_json(run / "provenance.json")["sessions"]] == ["done"]


# --- a server that answers ---


def every_run_of_a_pack_is_a_run_of_its_own_with_all_its_rows(lab: Lab) -> None:
    words = ["tracking.name='a run, seed ${seed}'", "tracking.tags=[mine]", "tracking.notes='of no use'"]
    command = lab.lop(*THREE, *words).end()
    assert "3 on the torch engine in 1 pack" in command.err
    assert "Weights & Biases: what 3 of 3 runs saved has arrived (http://" in command.err
    assert "/lab/lop-sweeps/groups/s)" in command.err
    assert command.out == ""
    lab.assert_complete()
    for run in lab.runs:
        assert_described(lab, run)
    assert [path for path in lab.sweep.glob("wandb/*") if path.is_dir()] == []  # the client's own copies
    requests = len(lab.server.requests)
    assert "3 finished already, 0 to run" in lab.lop(*THREE, *words).end().err
    assert len(lab.server.requests) == requests
    assert_unharmed(lab, command)


def assert_described(lab: Lab, run: Path) -> None:
    stored, config = lab.stored(run), RunDirectory(run).config()
    assert (stored.project, stored.entity, stored.group, stored.job_type) == ("lop-sweeps", "lab", "s", "train")
    assert (stored.name, stored.notes) == (f"a run, seed {config['seed']}", "of no use")
    assert {"mine", "permuted_digits", "mlp", "sgd"} <= set(stored.tags)
    assert stored.config["seed"] == config["seed"]
    assert stored.config["optimizer"]["step_size"] == config["optimizer"]["step_size"]
    assert stored.config["provenance"]["commit"] == read_json(run / "provenance.json")["commit"]
    assert not {"tracking", "paths", "trusted", "checkpoint"} & set(stored.config)
    assert stored.summary["state"] == "done"
    assert stored.summary["summary/early"] == stored.history[0]["performance/accuracy"]
    assert stored.summary["summary/late"] == stored.history[-1]["performance/accuracy"]
    axis = 1 + next(index for index, metric in enumerate(stored.metrics) if metric.get("1") == "task")
    assert {metric["2"]: metric["5"] for metric in stored.metrics if "2" in metric} == {"*": axis, "layers/*": axis}


# --- a server that does not ---


def a_server_with_too_many_requests_gets_everything_later(lab: Lab) -> None:
    lab.server.fail(429, seconds=5)
    assert_unharmed(lab, lab.lop(*THREE))
    lab.assert_complete()


def a_server_that_breaks_in_the_middle_gets_everything_later(lab: Lab) -> None:
    command = held(lab)
    lab.server.fail(500)
    lab.hold.unlink()
    until(lambda: trained(lab))
    time.sleep(2)
    assert command.running
    lab.server.recover()
    assert_unharmed(lab, command)
    lab.assert_complete()


def training_does_not_wait_for_a_server_that_vanishes_and_it_gets_everything_later(lab: Lab) -> None:
    command = held(lab)
    lab.server.vanish()
    lab.hold.unlink()
    until(lambda: trained(lab))
    assert command.running
    assert not lab.arrived(HELD_TASKS + 1)
    lab.server.come_back()
    assert_unharmed(lab, command)
    lab.assert_complete()


def assert_nothing_sent(lab: Lab, command: Command, problem: str) -> None:
    """The sweep has ended well, in time, and has said why once, and what to do."""
    command.end()
    trained = max(read_json(run / "provenance.json")["sessions"][-1]["ended"] for run in lab.runs)
    assert time.time() - trained < 60  # on a busy machine; the default patience is as long
    assert_unharmed(lab, command)
    said = [line for line in command.err.splitlines() if "Weights & Biases" in line]
    assert len(said) == 2
    assert said[0].startswith("lop: Weights & Biases: ")
    assert problem in said[0]
    assert said[1] == f"Weights & Biases: what 0 of 3 runs saved has arrived; {SENDS_THE_REST}"
    assert command.out == ""


def a_server_that_is_never_there_gets_everything_by_sync(lab: Lab) -> None:
    lab.server.vanish()
    assert_nothing_sent(lab, lab.lop(*THREE, "tracking.patience=12"), "the server does not answer")
    lab.server.come_back()
    assert "3 of 3 runs complete" in lab.sync().end().out
    lab.assert_complete()


def a_wrong_key_keeps_nothing_from_training(lab: Lab) -> None:
    assert_nothing_sent(lab, lab.lop(*THREE, BRIEF, WANDB_API_KEY="f" * 40), "unknown API key")
    lab.sync().end()
    lab.assert_complete()


def no_key_keeps_nothing_from_training(lab: Lab) -> None:
    problem = "not logged in: put WANDB_API_KEY into .env, or run `wandb login`"
    assert_nothing_sent(lab, lab.lop(*THREE, BRIEF, WANDB_API_KEY=None), problem)
    assert lab.server.requests == []


def without_the_package_training_goes_on(lab: Lab) -> None:
    (lab.folder / "theirs").mkdir()  # what the user's PYTHONPATH names comes first
    (lab.folder / "theirs" / "wandb.py").write_text("raise ImportError('no such package')\n")
    command = lab.lop(*THREE, BRIEF, PYTHONPATH=str(lab.folder / "theirs"))
    assert_nothing_sent(lab, command, "the package wandb is not installed")


def rows_that_the_server_refuses_in_the_middle_are_sent_by_sync(lab: Lab) -> None:
    """The client drops them without a word."""
    command = held(lab, BRIEF)
    lab.server.fail(403)
    lab.hold.unlink()
    assert_unharmed(lab, command)
    assert "Weights & Biases: what 0 of 3 runs saved has arrived (http://" in command.err
    assert command.err.count(SENDS_THE_REST) == 1
    lab.server.recover()
    lab.sync().end()
    lab.assert_complete()


# --- the mirror itself ---


def a_mirror_that_is_killed_takes_nothing_with_it(lab: Lab) -> None:
    command = held(lab)
    command.mirror().kill()
    lab.hold.unlink()
    assert_unharmed(lab, command)
    assert f"Weights & Biases: not everything has arrived; {SENDS_THE_REST}" in command.err
    lab.sync().end()
    lab.assert_complete()


def two_mirrors_do_no_harm(lab: Lab) -> None:
    command = held(lab)
    other = subprocess.Popen(
        [sys.executable, "-m", "lop_sweeps.tracking.process", "60"],
        env=lab.environment(),
        cwd=lab.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stderr is not None
        other.stdin.write("".join(f"{run}\n" for run in lab.runs) + "\n")
        other.stdin.flush()
        assert "lop: Weights & Biases: another process is sending this run\n" in iter(other.stderr.readline, "")
        lab.hold.unlink()
        assert_unharmed(lab, command)
        other.stdin.close()
        assert json.loads(other.stdout.readline())["left"] == 0
    lab.assert_complete()


# --- what happens to a sweep ---


def covered(runs: list[Path]) -> int:
    """Rows that the newest checkpoint that all of a pack have covers."""
    return min(max((payload["task"] for payload in checkpoint.load_all(run)), default=0) for run in runs)


def killed_and_started_again(lab: Lab, kills: int, seed: int, *line: str) -> None:
    """The mirror is killed with the others, as by a cluster, or left alone, as by somebody at a terminal."""
    rng, slow = random.Random(seed), lab.folder / "slow"
    slow.touch()
    line = (*TRACKED, *SEEDS, *SLOW, *line)
    for number in range(kills):
        command, before = lab.lop(*line), min([len(run.lines(HISTORY)) for run in lab.server.runs.values()] or [0])
        if number == 0:
            time.sleep(rng.uniform(0, 2))
        else:
            until(partial(lab.arrived, before + 2))
            time.sleep(rng.uniform(0, 1))
        assert command.running, "it has ended too early to be killed"
        if number % 2:
            command.interrupt(signal.SIGKILL)
            command.wait()
        else:
            command.kill()
        safe = covered(lab.runs) if lab.runs else 0
        assert all(len(run.lines(HISTORY)) <= safe for run in lab.server.runs.values())
    slow.unlink()
    lab.lop(*line).end()
    # A mirror that was left alone may have opened a run between two looks at it; it closes it at the next.
    until(lambda: {run.state for run in lab.server.runs.values()} == {"finished"})
    lab.assert_complete()


def a_sweep_that_is_killed_again_and_again_is_there_once(lab: Lab) -> None:
    killed_and_started_again(lab, 3, 1, "benchmark.num_tasks=100")
    assert {len(run.history) for run in lab.server.runs.values()} == {100}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_the_same_for_longer(lab: Lab, seed: int) -> None:
    line = ["benchmark.num_tasks=600", "checkpoint.first=0.5", "checkpoint.every=0.5"]
    killed_and_started_again(lab, 8, seed, *line)


def failed_diverged_and_extended_runs_are_what_they_are(lab: Lab) -> None:
    broken = lab.folder / "broken"
    broken.touch()
    command = lab.lop(*BROKEN).end(code=1)
    assert "1 of 4 runs failed" in command.err
    assert "what 4 of 4 runs saved has arrived" in command.err

    def states() -> list[tuple[int, str, str, int]]:
        stored = lab.server.runs.values()
        return sorted((run.config["seed"], run.state, run.summary["state"], len(run.history)) for run in stored)

    diverged = [(seed, "finished", "diverged", 0) for seed in range(2)]
    assert states() == sorted([*diverged, (0, "finished", "done", TASKS), (1, "failed", "failed", HELD_TASKS)])
    broken.unlink()
    lab.lop(*BROKEN, f"benchmark.num_tasks={TASKS + 2}").end()
    assert states() == sorted([*diverged, *((seed, "finished", "done", TASKS + 2) for seed in range(2))])
    assert {run.config["num_tasks"] for run in lab.server.runs.values() if run.history} == {TASKS + 2}
    lab.assert_complete(runs=4)


def stopped_and_started_again(lab: Lab, number: int) -> None:
    command = held(lab)
    command.interrupt(number)
    until(lambda: "stopping at the next checkpoint boundary" in command.err)
    lab.hold.unlink()
    command.end(code=130)
    for run in lab.runs:
        assert RunDirectory(run).status()["state"] == "waiting"
        assert lab.stored(run).summary["state"] == "waiting"
    lab.assert_complete(state="failed")  # of W&B's words for a run that can go on, the stand-in knows none
    lab.lop(*THREE).end()
    lab.assert_complete()
    assert {lab.stored(run).summary["state"] for run in lab.runs} == {"done"}


def a_sweep_that_is_stopped_by_ctrl_c_is_there_as_far_as_it_came(lab: Lab) -> None:
    stopped_and_started_again(lab, signal.SIGINT)


@pytest.mark.slow
def test_the_same_with_sigterm(lab: Lab) -> None:
    stopped_and_started_again(lab, signal.SIGTERM)


def ctrl_c_while_the_rest_is_sent_ends_that_only(lab: Lab) -> None:
    command = held(lab)
    lab.server.vanish()
    lab.hold.unlink()
    until(lambda: trained(lab))
    time.sleep(1)
    began = time.monotonic()
    command.interrupt()
    command.end()
    assert time.monotonic() - began < 30
    assert_unharmed(lab, command)
    assert f"Weights & Biases: not everything has arrived; {SENDS_THE_REST}" in command.err
    assert "Traceback" not in command.err


IMPORTED = """
import sys
from lop_sweeps.__main__ import main

sys.argv[0] = "lop"
main()
print(sorted(name for name in sys.modules if name.split(".")[0] == "wandb"))
"""


def without_tracking_the_client_is_not_even_imported(lab: Lab) -> None:
    command = [sys.executable, "-c", IMPORTED, *LINE]
    done = subprocess.run(command, cwd=lab.folder, env=lab.environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    lab.lop(*TRACKED, "tracking.mode=disabled", "sweep=disabled").end()
    assert len(list(lab.folder.glob("sweeps/*/*/metrics.jsonl"))) == 2
    assert list(lab.folder.rglob("mirror.*")) == []
    assert lab.server.requests == []


STORIES = (
    a_server_that_is_never_there_gets_everything_by_sync,
    every_run_of_a_pack_is_a_run_of_its_own_with_all_its_rows,
    a_server_with_too_many_requests_gets_everything_later,
    a_server_that_breaks_in_the_middle_gets_everything_later,
    training_does_not_wait_for_a_server_that_vanishes_and_it_gets_everything_later,
    a_wrong_key_keeps_nothing_from_training,
    no_key_keeps_nothing_from_training,
    without_the_package_training_goes_on,
    rows_that_the_server_refuses_in_the_middle_are_sent_by_sync,
    two_mirrors_do_no_harm,
    a_sweep_that_is_killed_again_and_again_is_there_once,
    a_mirror_that_is_killed_takes_nothing_with_it,
    failed_diverged_and_extended_runs_are_what_they_are,
    a_sweep_that_is_stopped_by_ctrl_c_is_there_as_far_as_it_came,
    ctrl_c_while_the_rest_is_sent_ends_that_only,
    without_tracking_the_client_is_not_even_imported,
)


# What is like others, or waits.
SLOW_STORIES = (
    a_server_that_is_never_there_gets_everything_by_sync,
    a_server_with_too_many_requests_gets_everything_later,
    a_server_that_breaks_in_the_middle_gets_everything_later,
    no_key_keeps_nothing_from_training,
    ctrl_c_while_the_rest_is_sent_ends_that_only,
)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    yield from tell(STORIES, request)


@pytest.mark.parametrize("story", names(STORIES, SLOW_STORIES))
def test_online(told: dict[str, Future[None]], story: str) -> None:
    told[story].result()


@pytest.mark.slow
def test_training_takes_no_longer_with_a_server_that_does_not_answer(lab: Lab) -> None:
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    lab.server.vanish()
    for number in range(3):
        for name, line in {"without": LINE, "with": [*TRACKED, "tracking.patience=1"]}.items():
            lab.sweep = lab.folder / "sweeps" / f"{name}{number}"
            lab.lop(*line, *SEEDS, "benchmark.num_tasks=300", f"sweep={lab.sweep.name}").end()
            sessions = [read_json(run / "provenance.json")["sessions"][0] for run in lab.runs]
            seconds[name].append(sum(session["ended"] - session["began"] for session in sessions))
    assert min(seconds["with"]) < 1.5 * min(seconds["without"])  # of each, when the machine had least else to do
