"""What the mirror sends, when, and what it does when that fails: with a stream that only notes what it is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from filelock import FileLock

from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking import mirror as module
from lop_sweeps.tracking.mirror import FINISHERS, LOCK, Mirror, Mirrored
from lop_sweeps.tracking.wandb import Away, Unavailable


class Training:
    """A run's folder, written as training writes it."""

    def __init__(self, path: Path, benchmark: Mapping[str, Any] | None = None) -> None:
        self.run, self.sizes, self.clock = RunDirectory(path), [0], 0
        path.mkdir(parents=True)
        config = {"run": path.name, "sweep": "s", "benchmark": {"protocol": "online", **(benchmark or {})}}
        (path / "config.yaml").write_text(yaml.safe_dump(config))
        self.status("waiting")

    def log(self, *rows: Mapping[str, Any]) -> None:
        with (self.run.path / "metrics.jsonl").open("a") as file:
            for row in rows:
                file.write(json.dumps(row) + "\n")
                self.sizes.append(file.tell())

    def status(self, state: str, durable: int = 0) -> None:
        """durable: in rows; of a run that has ended, all of them."""
        self.run.write_status(state=state, durable=self.sizes[-1 if state in ("done", "diverged") else durable])
        self.clock += 1  # a file system's clock may stand still between two writes
        os.utime(self.run.path / "status.json", ns=(self.clock, self.clock))

    def facts(self) -> dict[str, Any]:
        return dict(json.loads((self.run.path / "mirror.json").read_text()))


@dataclass
class Stream:
    """What one session was given. release: what its end waits for."""

    next_row: int
    url: str = "url"
    group_url: str = "group"
    folder: str = "folder"
    sent: list[dict[str, Any]] = field(default_factory=list)
    finished: list[tuple[str, dict[str, float]]] = field(default_factory=list)
    failure: Exception | None = None
    release: threading.Event | None = None

    def send(self, number: int, row: Mapping[str, Any]) -> None:
        if number >= self.next_row:
            assert number == self.next_row, "a row is missing"
            self.sent.append(dict(row))
            self.next_row = number + 1

    def finish(self, state: str, summary: Mapping[str, float]) -> None:
        if self.release is not None:
            self.release.wait(20)
        self.finished.append((state, dict(summary)))
        if self.failure is not None:
            raise self.failure


@dataclass
class Tracker:
    """Opens streams, or fails. Rows that a stream was given are there when the next one is opened."""

    project: str = "p"
    failures: list[Exception] = field(default_factory=list)
    streams: list[Stream] = field(default_factory=list)
    there: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    prepare: Callable[[Stream], None] = lambda stream: None

    def place(self) -> dict[str, str | None]:
        return {"server": None, "project": self.project, "entity": None, "mode": "online"}

    def open(self, run: RunDirectory, config: Mapping[str, Any], earlier: Mapping[str, Any]) -> Stream:
        if self.failures:
            raise self.failures.pop(0)
        rows = self.there.setdefault(run.name, [])
        self.streams.append(Stream(len(rows), sent=rows))
        self.prepare(self.streams[-1])
        return self.streams[-1]


@dataclass
class Mirrors:
    """A mirror of some runs, and what it has said."""

    runs: list[Training]
    tracker: Tracker = field(default_factory=Tracker)
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings: Any = lambda config: self.tracker  # noqa: E731
        self.mirror = Mirror([Mirrored(one.run) for one in self.runs], settings, self.said.append)

    def look(self, *, over: bool = False) -> int:
        """Until what runs in the background has ended."""
        left = self.mirror.look(over=over)
        while any(one.finishing is not None for one in self.mirror.runs):
            time.sleep(0.001)
            left = self.mirror.look(over=over)
        return left


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The mirror's clock, which moves when it is told to (`clock.now`)."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path / "s" / "run0")


def task(number: int, accuracy: float = 0.5) -> dict[str, Any]:
    return {"task": number, "examples": number * 10, "accuracy": accuracy}


def test_a_row_goes_when_a_checkpoint_covers_it_once_and_in_order(training: Training) -> None:
    mirrors = Mirrors([training])
    assert mirrors.look() == 1
    assert mirrors.tracker.streams == []
    training.log(task(0), task(1), task(2))
    training.status("running")
    mirrors.look()
    (stream,) = mirrors.tracker.streams
    assert stream.sent == []
    training.status("running", durable=2)
    mirrors.look()
    assert stream.sent == [task(0), task(1)]
    training.log(task(3))
    training.status("running", durable=4)
    assert (mirrors.look(), mirrors.look()) == (1, 1)
    assert stream.sent == [task(0), task(1), task(2), task(3)]
    assert len(mirrors.tracker.streams) == 1


def test_what_the_server_has_is_not_sent_again(training: Training) -> None:
    mirrors = Mirrors([training])
    mirrors.tracker.there["run0"] = [task(0), task(1)]
    training.log(task(0), task(1), task(2))
    training.status("running", durable=3)
    mirrors.look()
    assert mirrors.tracker.there["run0"] == [task(0), task(1), task(2)]


def test_a_run_that_goes_back_to_an_earlier_checkpoint_sends_nothing_twice(training: Training) -> None:
    mirrors = Mirrors([training])
    training.log(*map(task, range(3)))
    for durable in (3, 1, 2, 3):
        training.status("running", durable)
        mirrors.look()
    training.log(task(3))
    training.status("running", durable=4)
    mirrors.look()
    assert mirrors.tracker.there["run0"] == [task(number) for number in range(4)]


@pytest.mark.parametrize("state", ["done", "diverged"])
def test_an_ended_run_is_finished_with_its_early_and_late_performance(training: Training, state: str) -> None:
    mirrors = Mirrors([training])
    training.log(*[task(number, number / 100) for number in range(20)])
    training.status(state, durable=5)  # of a run that has ended, all rows count
    assert mirrors.look() == 0
    (stream,) = mirrors.tracker.streams
    assert len(stream.sent) == 20
    ((told, summary),) = stream.finished
    assert told == state
    assert summary == pytest.approx({"summary/early": 0.005, "summary/late": 0.185, "summary/change": 0.18})
    facts = training.facts()
    assert (facts["state"], facts["rows"], facts["bytes"]) == (state, 20, training.sizes[-1])
    assert (facts["project"], facts["url"], facts["problem"]) == ("p", "url", None)


def test_performance_is_what_the_benchmark_names(tmp_path: Path) -> None:
    training = Training(tmp_path / "s" / "run0", {"performance": "return"})
    training.log({"task": 0, "accuracy": 0.1, "return": None}, {"task": 1, "accuracy": 0.1, "return": 7.0})
    training.status("done", durable=2)
    mirrors = Mirrors([training])
    mirrors.look()
    assert mirrors.tracker.streams[0].finished == [("done", {"summary/early": 7.0, "summary/late": 7.0})]


@pytest.mark.parametrize("state", ["failed", "waiting"])
def test_a_run_that_can_go_on_has_no_summary_and_is_opened_again_when_it_does(training: Training, state: str) -> None:
    mirrors = Mirrors([training])
    training.log(task(0), task(1))
    training.status(state, durable=1)
    assert mirrors.look() == 0
    assert mirrors.tracker.streams[0].finished == [(state, {})]
    training.status("running", durable=2)
    assert mirrors.look() == 1
    training.status("done", durable=2)
    assert mirrors.look() == 0
    first, second = mirrors.tracker.streams
    assert first.sent == second.sent == [task(0), task(1)]
    assert [state for state, _ in second.finished] == ["done"]


def test_what_is_there_is_not_opened(training: Training) -> None:
    training.log(task(0))
    training.status("done", durable=1)
    Mirrors([training]).look()
    again = Mirrors([training])
    assert (again.look(), again.look(over=True)) == (0, 0)
    assert again.tracker.streams == []


def test_a_run_that_has_more_tasks_than_before_is_opened_again(training: Training) -> None:
    training.log(task(0))
    training.status("done", durable=1)
    tracker = Tracker()
    Mirrors([training], tracker).look()
    training.log(task(1))
    training.status("done", durable=2)
    assert Mirrors([training], tracker).look() == 0
    assert tracker.there["run0"] == [task(0), task(1)]


def test_another_project_is_another_place_even_if_it_could_not_be_reached_at_first(training: Training) -> None:
    training.log(task(0))
    training.status("done", durable=1)
    Mirrors([training]).look()
    failing = Mirrors([training], Tracker("other", failures=[Away("gone")]))
    assert failing.look(over=True) == 1
    assert training.facts()["problem"] == "gone"
    other = Mirrors([training], Tracker("other"))
    assert other.look(over=True) == 0
    assert other.tracker.there["run0"] == [task(0)]
    assert training.facts()["project"] == "other"


def test_a_run_that_nobody_trains_any_more_is_finished_as_waiting(training: Training) -> None:
    """Its process was killed: status.json still says that it is running."""
    mirrors = Mirrors([training])
    training.log(task(0), task(1))
    training.status("running", durable=1)
    assert mirrors.look() == 1
    assert mirrors.look(over=True) == 0
    (stream,) = mirrors.tracker.streams
    assert stream.sent == [task(0)]
    assert stream.finished == [("waiting", {})]


def test_a_run_without_a_saved_row_is_not_opened_unless_it_runs(training: Training) -> None:
    mirrors = Mirrors([training])
    assert (mirrors.look(), mirrors.look(over=True)) == (1, 0)
    assert mirrors.tracker.streams == []


def test_what_did_not_arrive_is_sent_again_later_and_said_once(training: Training, clock: SimpleNamespace) -> None:
    tracker = Tracker()
    training.log(task(0))
    training.status("done", durable=1)
    mirrors = Mirrors([training], tracker)

    def fails(stream: Stream) -> None:
        stream.failure = Unavailable("lost") if len(tracker.streams) < 3 else None
        stream.sent.clear()  # the server has thrown them away
        stream.next_row = 0

    tracker.prepare = fails
    assert mirrors.look() == 1
    assert training.facts()["state"] == ""
    assert training.facts()["problem"] == "lost"
    for seconds, streams in ((9.0, 1), (1.5, 2), (9.0, 2), (9.0, 2), (3.0, 3)):  # after 10 s, then after 20
        clock.now += seconds
        mirrors.look()
        assert len(tracker.streams) == streams
    assert mirrors.look() == 0
    assert mirrors.said == ["lost"]
    assert (training.facts()["state"], training.facts()["problem"]) == ("done", None)
    assert tracker.there["run0"] == [task(0)]


def test_while_the_server_is_away_only_one_run_tries(tmp_path: Path, clock: SimpleNamespace) -> None:
    trainings = [Training(tmp_path / "s" / f"run{number}") for number in range(5)]
    for one in trainings:
        one.log(task(0))
        one.status("done", durable=1)
    tracker = Tracker(failures=[Away("no answer"), Away("no answer")])
    mirrors = Mirrors(trainings, tracker)
    assert mirrors.look() == 5
    assert len(tracker.failures) == 1
    mirrors.look()
    assert len(tracker.failures) == 1
    clock.now += 10.5
    mirrors.look()
    assert tracker.failures == []
    assert tracker.streams == []
    clock.now += 20.5
    assert mirrors.look() == 0
    assert len(tracker.streams) == 5
    assert mirrors.said == ["no answer"]


def test_what_is_wrong_with_one_run_keeps_no_other_from_anything(tmp_path: Path) -> None:
    names = ("damaged", "fails", "without", "gone", "last")
    damaged, fails, without, gone, last = trainings = [Training(tmp_path / "s" / name) for name in names]
    for one in trainings:
        one.log(task(0))
        one.status("done", durable=1)
    (damaged.run.path / "metrics.jsonl").write_text('{"task": \n')
    (without.run.path / "config.yaml").write_text("[]")
    for path in gone.run.path.iterdir():
        path.unlink()
    gone.run.path.rmdir()
    mirrors = Mirrors(trainings)

    def breaks(stream: Stream) -> None:
        if len(mirrors.tracker.streams) == 1:
            stream.failure = RuntimeError("of the client")

    mirrors.tracker.prepare = breaks
    assert mirrors.look() == 4
    assert mirrors.look(over=True) == 3  # of the deleted one nothing is to come
    assert last.facts()["state"] == "done"
    assert "of the client" in fails.facts()["problem"]
    assert "damaged" in damaged.facts()["problem"]
    assert any("config.yaml does not hold a configuration" in text for text in mirrors.said)
    assert not gone.run.path.exists()


def test_a_damaged_row_that_is_mended_is_sent(training: Training, clock: SimpleNamespace) -> None:
    mirrors = Mirrors([training])
    training.log(task(0))
    with (training.run.path / "metrics.jsonl").open("a") as file:
        file.write('{"task"\n')
    training.status("done", durable=1)
    assert mirrors.look() == 1
    (training.run.path / "metrics.jsonl").write_text("")
    training.log(task(0), task(1))
    training.status("done", durable=3)
    clock.now += 11
    assert mirrors.look() == 0
    assert mirrors.tracker.there["run0"] == [task(0), task(1)]
    assert [state for state, _ in mirrors.tracker.streams[0].finished] == ["done"]


def test_a_thousand_finished_runs_are_never_open_all_at_once(tmp_path: Path) -> None:
    trainings = [Training(tmp_path / "s" / f"run{number}") for number in range(5 * FINISHERS)]
    for one in trainings:
        one.log(task(0))
        one.status("done", durable=1)
    mirrors = Mirrors(trainings)
    gate = threading.Event()
    mirrors.tracker.prepare = lambda stream: setattr(stream, "release", gate)
    for _ in range(3):
        assert mirrors.mirror.look() == len(trainings)
        assert len(mirrors.tracker.streams) == FINISHERS
    gate.set()
    while mirrors.look():
        pass
    assert len(mirrors.tracker.streams) == len(trainings)


def test_a_run_that_another_process_sends_is_left_to_it(training: Training, clock: SimpleNamespace) -> None:
    training.log(task(0))
    training.status("done", durable=1)
    mirrors = Mirrors([training])
    with FileLock(training.run.path / LOCK):
        assert mirrors.look() == 1
    assert mirrors.tracker.streams == []
    assert mirrors.said == ["another process is sending this run"]
    clock.now += 11
    assert mirrors.look() == 0
    with FileLock(training.run.path / LOCK, timeout=0):
        """It has let go of the run."""


def test_the_process_ends_with_its_input() -> None:
    """Even if that ends where folders are still to come: whoever started it was killed there."""
    command = [sys.executable, "-m", "lop_sweeps.tracking.process", "0"]
    done = subprocess.run(command, input="/nowhere\n", capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(done.stdout) == {"runs": 1, "left": 0, "url": ""}
