"""The mirror: a process beside the training that reads what the runs have saved, and sends it to Weights & Biases.

It is a process of its own so that nothing that happens on the network can slow or stop a run: training writes its log
and its checkpoints, as ever, and knows nothing of it. A row is sent only when a checkpoint covers it (`durable` in
status.json): a row that a kill may take back, and that is then computed again, is not there yet.

| file of a run   | content                                                                       |
|-----------------|-------------------------------------------------------------------------------|
| mirror.json     | what has arrived: rows, bytes of metrics.jsonl, state, url; the last problem   |
| mirror.lock     | held by the mirror that has the run open                                       |
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from lop_sweeps.durable import write_atomically
from lop_sweeps.errors import LopError
from lop_sweeps.regular_file import read_bytes
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.notes import Notes
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking.wandb import Away, NoAccount, Unavailable, Wandb
from lop_sweeps.turns import acquire

FACTS, LOCK = "mirror.json", "mirror.lock"
FINAL = ("done", "diverged")
ENDED = (*FINAL, "failed", "waiting")
ONLINE = ("accuracy", "squared_error")  # what is performance where the benchmark names nothing
POLL = 2.0  # seconds between two looks at the runs
RETRY = (10.0, 600.0)  # seconds until something that could not be sent is tried again, first and at most
FINISHERS = 8  # runs whose last rows are waited for at a time


class Stream(Protocol):
    """An open run at the tracker (`wandb.WandbRun`)."""

    next_row: int
    url: str
    group_url: str
    folder: str

    def send(self, number: int, row: Mapping[str, Any]) -> None: ...

    def finish(self, state: str, summary: Mapping[str, Any]) -> None: ...


@dataclass
class Mirrored:
    """One run: how far its log was read (rows, bytes), and the stream that it goes to while it is open.

    performance: the values of `metric` in the rows read.
    """

    run: RunDirectory
    tracking: Wandb | None = None
    rows: int = 0
    bytes: int = 0
    metric: str | None = None
    performance: list[float | None] = field(default_factory=list)
    stream: Stream | None = None
    lock: FileLock | None = None
    looked: tuple[int, ...] = ()
    finishing: Future[None] | None = None
    ended: str = ""  # the state that has arrived
    problem: str = ""
    retry_at: float = 0.0
    wait: float = RETRY[0]

    def facts(self) -> dict[str, Any]:
        try:
            facts = json.loads(read_bytes(self.run.path / FACTS))
        except (OSError, ValueError):
            return {}
        ours = isinstance(facts, dict) and facts.get("run", self.run.name) == self.run.name
        return facts if ours else {}


@dataclass
class Mirror:
    """Any number of runs.

    settings: where a run with this configuration goes; None if nowhere. say: told each new problem, once.
    """

    runs: Sequence[Mirrored]
    settings: Callable[[Mapping[str, Any]], Wandb | None] = Wandb.of
    say: Callable[[str], None] = lambda text: None
    said: set[str] = field(default_factory=set)
    url: str = ""
    checked: dict[Path, Notes] = field(default_factory=dict)
    away_until: float = 0.0  # nothing can be sent; no run is opened before
    wait: float = RETRY[0]
    hopeless: bool = False  # waiting is of no use

    def look(self, *, over: bool = False) -> int:
        """Send whatever is new. Returns of how many runs something is still to come or to arrive.

        over: nobody trains them any more, so that one that says that it is running was killed.
        """
        return sum([not self._look(mirrored, over) for mirrored in self.runs])

    def hurry(self) -> None:
        """Try at once what was to be tried again later: there is no later."""
        self.away_until = 0.0
        for mirrored in self.runs:
            mirrored.retry_at, mirrored.wait = 0.0, RETRY[0]

    def _look(self, mirrored: Mirrored, over: bool) -> bool:
        try:
            return self._advance(mirrored, over)
        except Away as error:
            problem = str(error)
            self.away_until, self.wait = _later(self.wait)
            self.hopeless = isinstance(error, NoAccount)
        except Unavailable as error:
            problem = str(error)
        except (OSError, LopError, ValueError) as error:  # its folder is gone, say, or its log is another
            problem = f"{mirrored.run.path}: {error}"
            mirrored.rows, mirrored.bytes, mirrored.performance = 0, 0, []
        except Exception as error:  # the client's own: one run keeps the others from nothing
            problem = f"{mirrored.run.path}: {type(error).__name__}: {error}"
        self._failed(mirrored, problem)
        return False

    def _advance(self, mirrored: Mirrored, over: bool) -> bool:
        """Whether the run has ended, and all of it has arrived."""
        if mirrored.finishing is not None:
            if not mirrored.finishing.done():
                return False
            self._finished(mirrored)
        try:
            stamp = (mirrored.run.path / "status.json").stat()
        except FileNotFoundError:  # deleted, or not yet begun
            return over
        looked = (stamp.st_mtime_ns, stamp.st_ino, int(over))
        if looked == mirrored.looked or time.monotonic() < mirrored.retry_at:
            return bool(mirrored.ended) and mirrored.stream is None
        status = mirrored.run.status()
        state, durable = str(status["state"]), self._durable(mirrored.run, status)
        if over and state == "running":
            state = "waiting"
        if mirrored.stream is None:
            if state == "waiting" and not durable:
                return over
            if state in ENDED and self._is_there(mirrored, state, durable):
                mirrored.ended, mirrored.looked = state, looked
                return True
        if state in ENDED and sum(other.finishing is not None for other in self.runs) >= FINISHERS:
            return False
        sweep = mirrored.run.path.parent
        notes = self.checked.get(sweep) or self.checked.setdefault(sweep, Notes(sweep))
        if problem := look(mirrored.run.path, notes).of_results:
            raise LopError(problem)
        if mirrored.stream is None:
            if time.monotonic() < self.away_until:
                return False
            self._open(mirrored)
        self._send(mirrored, durable)
        mirrored.looked = looked
        if state in ENDED:
            stream, summary = mirrored.stream, self._summary(mirrored) if state in FINAL else {}
            assert stream is not None
            mirrored.ended = state
            mirrored.finishing = _in_background(lambda: stream.finish(state, summary))
        return False

    @staticmethod
    def _durable(run: RunDirectory, status: Mapping[str, Any]) -> int:
        """Bytes of the log that no kill takes back."""
        if status["state"] in FINAL and not status.get("durable"):  # from before it was recorded, or empty
            return (run.path / "metrics.jsonl").stat().st_size
        return int(status.get("durable") or 0)

    def _is_there(self, mirrored: Mirrored, state: str, durable: int) -> bool:
        facts = mirrored.facts()
        if (facts.get("state"), facts.get("bytes")) != (state, durable):
            return False
        there = self._settings(mirrored).place().items() <= facts.items()
        self.url = self.url or (str(facts.get("group_url") or "") if there else "")
        return there

    def _settings(self, mirrored: Mirrored) -> Wandb:
        mirrored.tracking = mirrored.tracking or self.settings(mirrored.run.config())
        if mirrored.tracking is None:
            raise LopError("its configuration has no tracking")
        return mirrored.tracking

    def _open(self, mirrored: Mirrored) -> None:
        tracking, config = self._settings(mirrored), mirrored.run.config()
        try:
            lock = acquire(mirrored.run.path / LOCK, blocking=False)
        except Timeout as error:
            raise Unavailable("another process is sending this run") from error
        try:
            mirrored.stream = tracking.open(mirrored.run, config, mirrored.facts())
        except BaseException:
            lock.release()
            raise
        mirrored.lock, mirrored.rows, mirrored.bytes, mirrored.ended = lock, 0, 0, ""
        self.url = self.url or mirrored.stream.group_url
        self.wait, mirrored.performance = RETRY[0], []
        mirrored.metric = config["benchmark"].get("performance")
        began: dict[str, Any] = {"first": mirrored.stream.next_row, "folder": Path(mirrored.stream.folder).name}
        self._record(mirrored, **tracking.place(), **began, state="", rows=0, bytes=0)

    @staticmethod
    def _send(mirrored: Mirrored, durable: int) -> None:
        assert mirrored.stream is not None
        if durable <= mirrored.bytes:
            return
        with (mirrored.run.path / "metrics.jsonl").open("rb") as file:
            file.seek(mirrored.bytes)
            content = file.read(durable - mirrored.bytes)
        for line in content.splitlines():
            row = json.loads(line)
            mirrored.stream.send(mirrored.rows, row)
            mirrored.metric = mirrored.metric or next((name for name in ONLINE if name in row), "")
            mirrored.performance.append(row.get(mirrored.metric))
            mirrored.rows += 1
        mirrored.bytes += len(content)

    @staticmethod
    def _summary(mirrored: Mirrored) -> dict[str, float]:
        """Early and late performance, as in the table of `lop-figures`."""
        import numpy as np

        from lop_sweeps.analysis.statistics.curve_summary import summarise

        summaries = summarise(np.array([mirrored.performance], dtype=float))
        values = {name: float(summaries[name][0]) for name in ("early", "late", "change")}
        return {f"summary/{name}": value for name, value in values.items() if math.isfinite(value)}

    def _finished(self, mirrored: Mirrored) -> None:
        """After everything has arrived; or raises why it has not, and the run will be opened anew."""
        finishing, stream = mirrored.finishing, mirrored.stream
        assert finishing is not None
        assert stream is not None
        urls = {"url": stream.url, "group_url": stream.group_url}
        mirrored.finishing = mirrored.stream = None
        if mirrored.lock is not None:
            mirrored.lock.release()
        try:
            finishing.result()
        except Unavailable:
            raise
        except Exception as error:  # the client's own, of many kinds
            raise Unavailable(f"{type(error).__name__}: {error}") from error
        mirrored.wait = RETRY[0]
        self._record(mirrored, state=mirrored.ended, rows=mirrored.rows, bytes=mirrored.bytes, **urls)

    def _failed(self, mirrored: Mirrored, problem: str) -> None:
        """Try again later, and later each time."""
        mirrored.looked, mirrored.ended = (), ""
        mirrored.retry_at, mirrored.wait = _later(mirrored.wait)
        mirrored.problem = problem
        with contextlib.suppress(OSError):
            self._record(mirrored, problem=problem)
        if problem not in self.said:
            self.said.add(problem)
            self.say(problem)

    @staticmethod
    def _record(mirrored: Mirrored, *, problem: str | None = None, **facts: Any) -> None:
        content = {"run": mirrored.run.name, **mirrored.facts(), **facts, "problem": problem}
        write_atomically(mirrored.run.path / FACTS, json.dumps(content, indent=1) + "\n")


def _later(wait: float) -> tuple[float, float]:
    """When to try again after `wait` seconds, and how long to wait the next time."""
    return time.monotonic() + wait, min(2 * wait, RETRY[1])


def _in_background(work: Callable[[], None]) -> Future[None]:
    """A thread that keeps the process from nothing: a server that does not answer may hold it for ever."""
    future: Future[None] = Future()

    def do() -> None:
        try:
            work()
            future.set_result(None)
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return future
