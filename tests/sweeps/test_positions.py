"""Runs of one pack at different positions: nothing is rewound that need not be, and no byte depends on it."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from lop_sweeps.sweeps import status
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.training import checkpoint, online
from tests import runs

PACKED = [*runs.SMALL, runs.TORCH]


def sessions(run: RunDirectory) -> list[int]:
    return [session["task"] for session in json.loads((run.path / "provenance.json").read_text())["sessions"]]


def test_a_run_that_was_extended_alone_is_not_rewound_by_its_pack(tmp_path: Path) -> None:
    runs.train(runs.plan(tmp_path / "a", *PACKED, "benchmark.num_tasks=2", seeds=3))
    runs.train(runs.plan(tmp_path / "a", *PACKED, "benchmark.num_tasks=5", seeds=1))
    longer = runs.plan(tmp_path / "a", *PACKED, "benchmark.num_tasks=6", seeds=3)
    assert {outcome.state for outcome in runs.train(longer)} == {"done"}
    assert sessions(longer.points[0].directory) == [0, 2, 5]
    assert sessions(longer.points[1].directory) == [0, 2]
    whole = runs.plan(tmp_path / "b", *PACKED, "benchmark.num_tasks=6", seeds=3)
    runs.train(whole)
    for one, other in zip(longer.points, whole.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)
        assert one.directory.pack() == other.directory.pack()


def test_kills_between_saves_of_a_pack_never_split_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Going back once made the abandoned checkpoint the predecessor of the next: a second kill split the pack."""
    monkeypatch.setattr(online, "INTERVAL", 70)
    whole = runs.plan(tmp_path / "b", *PACKED, seeds=3)
    runs.train(whole)
    real, budget = checkpoint.save, 0

    def save(directory: Path, payload: dict[str, object]) -> None:
        nonlocal budget
        if budget == 0:
            raise KeyboardInterrupt  # like a kill: nothing below catches it
        budget -= 1
        real(directory, payload)

    monkeypatch.setattr(checkpoint, "save", save)
    for saves in (1, 2, 4, 5, 7, 8, 10, 11, 13, 14, 99_999):
        budget = saves
        killed = runs.plan(tmp_path / "a", *PACKED, seeds=3)
        try:
            runs.train(killed)
        except KeyboardInterrupt:
            continue
        break
    for one, other in zip(killed.points, whole.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)
        assert one.directory.pack() == other.directory.pack()


def test_extending_a_pruned_run_keeps_its_log(tmp_path: Path) -> None:
    done = runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=2")
    runs.train(done)
    rows = runs.metrics(done.points[0])
    status.main(["--prune", str(done.folders[0])])
    longer = runs.plan(tmp_path, *runs.SMALL, "benchmark.num_tasks=3")
    runs.train(longer)
    assert (done.points[0].directory.path / "metrics.jsonl.1").read_bytes() == rows
    assert runs.metrics(longer.points[0]).startswith(rows)


def test_the_longer_of_two_lengths_is_run(tmp_path: Path) -> None:
    from lop_sweeps.sweeps.planning import make_plan

    points = [runs.point(tmp_path, *runs.SMALL, f"benchmark.num_tasks={n}") for n in (3, 6, 4)]
    plan = make_plan(points, workers=1, pack=None, threads=1)
    assert [point.num_tasks for point in plan.points] == [6]


@pytest.mark.parametrize("engine", [runs.TORCH, "engine=fused"])
def test_a_session_notes_what_it_took_of_the_processor(tmp_path: Path, engine: str) -> None:
    plan = runs.plan(tmp_path, *runs.SMALL, engine)
    before = time.process_time()
    runs.train(plan)
    (session,) = json.loads((plan.points[0].directory.path / "provenance.json").read_text())["sessions"]
    assert 0 <= session["cpu_seconds"] <= time.process_time() - before + 0.01
