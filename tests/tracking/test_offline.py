"""`tracking.mode=offline`: files that `wandb sync` uploads, later or from another machine."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path

import pytest

from tests.tracking.conftest import HELD, HELD_TASKS, SECONDS, SEEDS, TASKS, TRACKED, Lab, names, read_json, tell, until

OFFLINE = [*TRACKED, *SEEDS, *HELD, "tracking.mode=offline"]


def files(lab: Lab) -> list[Path]:
    """The folders that are not uploaded."""
    return [path for path in lab.sweep.glob("wandb/offline-run-*") if not list(path.glob("*.synced"))]


def others(lab: Lab, earlier: Sequence[Path]) -> bool:
    """Whether there are files of a session that has come after those."""
    return len(set(files(lab)) - set(earlier)) == 3


def wandb_sync(lab: Lab) -> None:
    """As its manual says."""
    command = [sys.executable, "-m", "wandb", "sync", *map(str, files(lab))]
    subprocess.run(command, cwd=lab.folder, env=lab.environment(), check=True, capture_output=True, timeout=SECONDS)


def a_sweep_makes_no_connection_and_wandb_sync_uploads_it_once(lab: Lab) -> None:
    command = lab.lop(*OFFLINE, WANDB_API_KEY=None).end()
    assert "Weights & Biases: what 3 of 3 runs saved has been written for wandb sync\n" in command.err
    assert lab.server.requests == []
    assert len(files(lab)) == 3
    wandb_sync(lab)
    lab.assert_complete()
    assert files(lab) == []
    for stored in lab.server.runs.values():
        assert (stored.group, stored.job_type, stored.summary["state"]) == ("s", "train", "done")


def a_sweep_that_is_killed_leaves_one_file_for_each_run_with_all_its_rows(lab: Lab) -> None:
    earlier: list[Path] = []
    for alone in (False, True):
        lab.hold.touch()
        command = lab.lop(*OFFLINE)
        until(partial(others, lab, tuple(earlier)))
        until(lambda: all(read_json(run / "status.json").get("durable") for run in lab.runs))
        earlier = files(lab)
        if alone:  # the mirror ends by itself
            command.interrupt(signal.SIGKILL)
        else:
            command.kill()
        lab.hold.unlink()
    command.wait()
    lab.lop(*OFFLINE).end()
    assert len(files(lab)) == 3
    wandb_sync(lab)
    lab.assert_complete()
    assert {len(stored.history) for stored in lab.server.runs.values()} == {TASKS}


def a_run_that_goes_on_after_an_upload_adds_only_what_is_new(lab: Lab) -> None:
    """Even if the sweep's folder was moved meanwhile. A run that was stopped before it was uploaded goes on, too."""
    lab.hold.touch()
    command = lab.lop(*OFFLINE)
    until(lambda: lab.runs and all(read_json(run / "status.json").get("durable") for run in lab.runs))
    command.interrupt()
    until(lambda: "stopping" in command.err)
    lab.hold.unlink()
    command.end(code=130)
    wandb_sync(lab)
    rows_there = {len(stored.history) for stored in lab.server.runs.values()}
    assert rows_there <= {HELD_TASKS, HELD_TASKS + 1}  # the task in which it was stopped is finished, or not begun
    lab.lop(*OFFLINE).end()
    lab.lop(*OFFLINE, f"benchmark.num_tasks={TASKS + 1}").end()
    wandb_sync(lab)
    lab.assert_complete()
    (lab.folder / "sweeps").rename(lab.folder / "moved")
    lab.sweep = lab.folder / "moved" / "s"
    lab.lop(*OFFLINE, "paths.sweeps=moved", f"benchmark.num_tasks={TASKS + 2}").end()
    wandb_sync(lab)
    lab.assert_complete()
    assert {len(stored.history) for stored in lab.server.runs.values()} == {TASKS + 2}


def a_run_that_was_online_and_is_extended_offline_adds_only_what_is_new(lab: Lab) -> None:
    lab.lop(*TRACKED, *SEEDS, *HELD).end()
    lab.lop(*OFFLINE, f"benchmark.num_tasks={TASKS + 1}").end()
    wandb_sync(lab)
    lab.assert_complete()
    lab.sync().end()
    lab.assert_complete()


STORIES = (
    a_sweep_makes_no_connection_and_wandb_sync_uploads_it_once,
    a_sweep_that_is_killed_leaves_one_file_for_each_run_with_all_its_rows,
    a_run_that_goes_on_after_an_upload_adds_only_what_is_new,
    a_run_that_was_online_and_is_extended_offline_adds_only_what_is_new,
)


@pytest.fixture(scope="module")
def told(request: pytest.FixtureRequest) -> Iterator[dict[str, Future[None]]]:
    yield from tell(STORIES, request)


@pytest.mark.parametrize(
    "story", names(STORIES, slow=[a_run_that_was_online_and_is_extended_offline_adds_only_what_is_new])
)
def test_offline(told: dict[str, Future[None]], story: str) -> None:
    told[story].result()
