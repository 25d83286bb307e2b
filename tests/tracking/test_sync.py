"""`lop-status --sync`: what has not arrived of sweeps that are over, or were stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
import yaml

from tests.tracking.conftest import (
    HELD,
    HELD_TASKS,
    LINE,
    SEEDS,
    TRACKED,
    Lab,
    forget_records,
    names,
    read_json,
    tell,
    until,
)
from tests.tracking.wandb_server import WandbServer

UNTRACKED = [*LINE, *SEEDS]


def sent(lab: Lab) -> list[str]:
    """The requests that have brought something."""
    return [request for request in list(lab.server.requests) if "UpsertBucket" in request or "file_stream" in request]


def a_sweep_that_was_not_tracked_goes_where_it_is_told(lab: Lab) -> None:
    lab.lop(*UNTRACKED).end()
    there = {"WANDB_PROJECT": "mine", "WANDB_ENTITY": "team"}
    command = lab.sync(**there).end()
    assert command.out.startswith("sweeps/s: 3 of 3 runs complete in Weights & Biases, http://")
    assert command.out.endswith("/team/mine/groups/s\n")
    assert command.err == ""
    lab.assert_complete()
    for stored in lab.server.runs.values():
        assert (stored.project, stored.entity, stored.group, stored.job_type) == ("mine", "team", "s", "train")
        assert stored.summary["state"] == "done"
    requests = len(sent(lab))
    assert "3 of 3 runs complete" in lab.sync(**there).end().out
    assert len(sent(lab)) == requests
    lab.server.runs.clear()  # the stand-in tells runs of one name in two projects not apart
    other = ["sweeps/s", "--project", "other", "--entity", "lab"]
    for _ in range(2):
        assert "/lab/other/groups/s" in lab.sync(*other, **there).end().out
    lab.assert_complete()
    assert {stored.project for stored in lab.server.runs.values()} == {"other"}


def a_project_on_another_server_is_another_place(lab: Lab) -> None:
    lab.lop(*UNTRACKED).end()
    lab.sync().end()
    with WandbServer() as other:
        lab.sync(WANDB_BASE_URL=other.url).end()
        assert {stored.id: len(stored.history) for stored in other.runs.values()} == {
            stored.id: len(stored.history) for stored in lab.server.runs.values()
        }
        assert other.problems == []
    lab.assert_complete()


def runs_that_are_being_trained_are_left_alone(lab: Lab) -> None:
    lab.hold.touch()
    training = lab.lop(*UNTRACKED, *HELD)
    until(lambda: lab.runs and all(read_json(run / "status.json").get("durable") for run in lab.runs))
    command = lab.sync().end()
    assert command.out.startswith("sweeps/s: 0 of 3 runs complete in Weights & Biases, 3 still being trained")
    assert sent(lab) == []
    training.kill()
    command = lab.sync().end()  # of those that were killed, what is saved
    lab.hold.unlink()
    assert {len(stored.history) for stored in lab.server.runs.values()} == {HELD_TASKS}
    assert {stored.summary["state"] for stored in lab.server.runs.values()} == {"waiting"}
    lab.lop(*UNTRACKED, *HELD).end()
    lab.sync().end()
    lab.assert_complete()


def with_watch_it_mirrors_what_is_trained_elsewhere_until_that_ends(lab: Lab) -> None:
    lab.hold.touch()
    training = lab.lop(*UNTRACKED, *HELD)
    until(lambda: lab.runs and all(read_json(run / "status.json").get("durable") for run in lab.runs))
    command = lab.sync("--watch", "sweeps/s")
    until(lambda: lab.arrived(HELD_TASKS))
    assert {stored.state for stored in lab.server.runs.values()} == {"running"}
    lab.hold.unlink()
    training.end()
    assert "3 of 3 runs complete" in command.end().out
    lab.assert_complete()


def ctrl_c_ends_it_at_once_and_the_next_one_goes_on(lab: Lab) -> None:
    lab.lop(*UNTRACKED).end()
    command = lab.sync()
    until(lambda: lab.server.runs)
    lab.server.vanish()
    time.sleep(0.5)
    began = time.monotonic()
    command.interrupt()
    command.end(code=None)
    assert time.monotonic() - began < 30
    assert "Traceback" not in command.err
    lab.server.come_back()
    assert "3 of 3 runs complete" in lab.sync().end().out
    lab.assert_complete()


def what_is_wrong_is_said_in_one_line(lab: Lab) -> None:
    lab.lop(*UNTRACKED).end()
    for key, problem in {
        None: "not logged in: put WANDB_API_KEY into .env, or run `wandb login`",
        "short": "WANDB_API_KEY invalid: API key must have 40+ characters, has 5.",
        "f" * 40: f"Failed to verify credentials with {lab.server.url}: unknown API key",
    }.items():
        command = lab.sync(WANDB_API_KEY=key).end(code=1)
        assert (command.out, command.err) == ("", f"lop-status: Weights & Biases: {problem}\n")
    lab.server.vanish()
    assert lab.sync().end(code=1).err == "lop-status: Weights & Biases: the server does not answer\n"


def runs_that_were_tracked_offline_are_sent_whatever_the_environment_says(lab: Lab) -> None:
    offline = {"WANDB_MODE": "offline"}
    lab.lop(*TRACKED, *SEEDS, **offline).end()
    assert lab.server.requests == []
    lab.sync(**offline).end()
    lab.assert_complete()


def in_control_examples_are_the_horizontal_axis(lab: Lab) -> None:
    """And the first half of the layers are the policy's."""
    lab.lop(*LINE).end()
    (run,) = lab.runs
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["benchmark"] |= {"protocol": "control", "performance": "return"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    rows = [{"task": task, "examples": 10 * task, "return": float(task), "srank99": [1, 3]} for task in range(20)]
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    forget_records(run)
    lab.sync().end()
    lab.assert_complete(runs=1)
    stored = lab.stored(run)
    axis = 1 + next(index for index, metric in enumerate(stored.metrics) if metric.get("1") == "examples")
    assert {metric["2"]: metric["5"] for metric in stored.metrics if "2" in metric} == {"*": axis, "layers/*": axis}
    assert (stored.summary["summary/early"], stored.summary["summary/late"]) == (0.5, 18.5)
    assert stored.history[3]["diagnostics/policy_srank99"] == 1


STORIES = (
    a_sweep_that_was_not_tracked_goes_where_it_is_told,
    a_project_on_another_server_is_another_place,
    runs_that_are_being_trained_are_left_alone,
    with_watch_it_mirrors_what_is_trained_elsewhere_until_that_ends,
    ctrl_c_ends_it_at_once_and_the_next_one_goes_on,
    what_is_wrong_is_said_in_one_line,
    runs_that_were_tracked_offline_are_sent_whatever_the_environment_says,
    in_control_examples_are_the_horizontal_axis,
)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    yield from tell(STORIES, request)


@pytest.mark.parametrize("story", names(STORIES))
def test_sync(told: dict[str, Future[None]], story: str) -> None:
    told[story].result()


@pytest.mark.slow
def test_it_gives_up_on_a_server_that_vanishes_and_says_what_is_left(lab: Lab) -> None:
    lab.lop(*UNTRACKED).end()
    command = lab.sync()
    until(lambda: lab.server.runs)
    lab.server.vanish()
    command.end(code=1)
    assert command.seconds < 90
    assert "0 of 3 runs complete in Weights & Biases" in command.err
    assert command.err.endswith("The same command sends the rest\n")
    lab.server.come_back()
    lab.sync().end()
    lab.assert_complete()


@pytest.mark.slow
def test_many_finished_runs_take_no_more_memory_than_some(lab: Lab) -> None:
    """As many files and folders of the client are left as before, too."""
    lab.lop(*LINE).end()
    (run,) = lab.runs
    config = (run / "config.yaml").read_text()
    for number in range(1, 300):
        copy = run.with_name(f"{run.name}{number:03}")
        copy.mkdir()
        for name in ("status.json", "metrics.jsonl"):
            (copy / name).write_text((run / name).read_text().replace(run.name, copy.name))
        (copy / "config.yaml").write_text(config.replace(run.name, copy.name))
        forget_records(copy)
    command, largest, open_files = lab.sync(), 0, 0
    while command.running:
        tree = command.tree()
        largest = max(largest, sum(process.memory_info().rss for process in tree if process.is_running()))
        open_files = max([open_files, *(process.num_fds() for process in tree[:1] if process.is_running())])
        time.sleep(0.3)
    assert "300 of 300 runs complete" in command.end().out
    assert largest < 600e6
    assert open_files < 200
    assert [path for path in lab.sweep.glob("wandb/*") if path.is_dir()] == []
    assert Path("/proc").exists() is False or len(lab.server.runs) == 300
