"""A laboratory: a stand-in for the server, a folder, and this project's commands with the real client."""

from __future__ import annotations

import contextlib
import importlib
import json
import multiprocessing.connection
import os
import shutil
import signal
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.tracking.rows import decode
from tests.runs import SMALL
from tests.tracking.wandb_server import HISTORY, StoredRun, WandbServer

SECONDS = 300.0  # more than any command takes on a busy machine; only a broken one takes that long
LOP, STATUS = "lop_sweeps.__main__", "lop_sweeps.sweeps.status"
TASKS, EXAMPLES = 4, 20
# One process trains one pack; a row is durable as soon as it is written. `HELD` is the intervention `held`.
LINE = ["-m", *SMALL, "engine=torch", "sweep=s", f"benchmark.examples_per_task={EXAMPLES}"]
LINE += ["hydra.launcher.workers=1", "hydra.launcher.pack=3"]
TRACKED = [*LINE, "tracking=wandb"]
SEEDS = ["seed=range(3)"]
HELD = ["+algorithm.held._target_=held.Held", "+algorithm.held.while_exists=hold", "trusted=[held]"]
HELD_TASKS = 2  # that are finished when it stops

# An intervention that stops in the middle of the third task for as long as there is a file.
HELD_MODULE = f"""
import time
from dataclasses import dataclass
from pathlib import Path

from users_idea import Idea, PackedIdea


@dataclass(frozen=True)
class Held(Idea):
    def pack(self, peers, learner):
        return PackedHeld(self, learner)


class PackedHeld(PackedIdea):
    def after_update(self, step):
        while step == {HELD_TASKS * EXAMPLES + EXAMPLES // 2} and Path(self.options.while_exists).exists():
            time.sleep(0.02)
"""

# Commands are forked from a process that has loaded what takes seconds to load. It is not this process: a fork of one
# with threads, such as a server's, may stop for ever.
PROCESSES = multiprocessing.get_context("forkserver")
LOADED = [
    "lop_sweeps.sweeps.local_runner",
    "lop_sweeps.sweeps.sweeper",
    "hydra.main",
    "sklearn.datasets",
    "pandas",
    "wandb",
]
PROCESSES.set_forkserver_preload(LOADED)
# Stories are told in threads, and whoever starts a process also reads how others have ended, which can be read once:
# a second reader gets "unknown" (255).
ENDS = threading.Lock()


def execute(module: str, arguments: Sequence[str], folder: Path, environment: dict[str, str], output: Path) -> None:
    """`python -m module arguments` in this process, which leads a session of its own and has no input."""
    os.setsid()
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(output / name, os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
    os.environ.clear()
    os.environ.update(environment)
    sys.pycache_prefix, sys.dont_write_bytecode = environment["PYTHONPYCACHEPREFIX"], False
    os.chdir(folder)
    sys.argv = [module, *arguments]
    sys.path.insert(0, str(folder))
    sys.exit(importlib.import_module(module).main())


@dataclass
class Command:
    """One of this project's commands, at work or ended."""

    process: Any
    output: Path
    began: float = field(default_factory=time.monotonic)
    left: list[psutil.Process] = field(default_factory=list)  # what it had started when it was sent a signal

    @property
    def out(self) -> str:
        return (self.output / "out").read_text() if (self.output / "out").exists() else ""

    @property
    def err(self) -> str:
        return (self.output / "err").read_text() if (self.output / "err").exists() else ""

    @property
    def running(self) -> bool:
        with ENDS:
            return bool(self.process.is_alive())

    def wait(self, seconds: float = SECONDS) -> None:
        """Until it has ended, without reading how."""
        multiprocessing.connection.wait([self.process.sentinel], seconds)

    def end(self, code: int | None = 0) -> Command:
        """Wait until it ends by itself, with `code` (None: any)."""
        self.wait()
        assert not self.running, f"hangs; it said: {self.err}"
        assert code is None or self.process.exitcode == code, self.err
        return self

    @property
    def seconds(self) -> float:
        """How long it took, once it has ended."""
        return time.monotonic() - self.began

    def tree(self) -> list[psutil.Process]:
        """It, and all that it has started."""
        try:
            process = psutil.Process(self.process.pid)
            return [process, *process.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def mirror(self) -> psutil.Process:
        """The mirror that it has started."""
        return next(one for one in self.tree() if "lop_sweeps.tracking.process" in one.cmdline())

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """As a terminal does: the signal goes to all of its process group, to which the mirror does not belong."""
        self.left += self.tree()
        os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """SIGKILL to it and all that it has started, as a cluster does it."""
        for process in {*self.tree(), *self.left}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.wait()


class Lab:
    """The server, a folder in which commands run, and what they have left there."""

    def __init__(self, server: WandbServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.started: list[Command] = []
        self.sweep, self.hold = folder / "sweeps" / "s", folder / "hold"
        (folder / "home").mkdir(parents=True)
        shutil.copy(Path(__file__).parents[1] / "bad_input" / "users_idea.py", folder)
        (folder / "held.py").write_text(HELD_MODULE)

    def environment(self, **changes: str | None) -> dict[str, str]:
        """changes: None takes a variable away. Compiled modules are kept for this session, which has many processes."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
        kept = {"PYTHONPYCACHEPREFIX": str(self.folder.parent / "compiled"), "PYTHONDONTWRITEBYTECODE": ""}
        wanted = own | kept | self.server.environment() | {"HOME": str(self.folder / "home")} | changes
        return {name: value for name, value in wanted.items() if value is not None}

    def start(self, module: str, *arguments: str, **environment: str | None) -> Command:
        output = self.folder / "home" / f"output{len(self.started)}"
        output.mkdir()
        process = PROCESSES.Process(
            target=execute, args=(module, arguments, self.folder, self.environment(**environment), output)
        )
        with ENDS:
            process.start()
        self.started.append(Command(process, output))
        return self.started[-1]

    def lop(self, *arguments: str, **environment: str | None) -> Command:
        return self.start(LOP, *arguments, **environment)

    def sync(self, *arguments: str, **environment: str | None) -> Command:
        return self.start(STATUS, "--sync", *(arguments or ["sweeps/s"]), **environment)

    def python(self, body: str, **environment: str | None) -> Command:
        """A script: the body of a function."""
        name = f"script{len(self.started)}"
        (self.folder / f"{name}.py").write_text("def main():\n" + textwrap.indent(textwrap.dedent(body), "    "))
        return self.start(name, **environment)

    def stop(self) -> None:
        for command in self.started:
            command.kill()

    @property
    def runs(self) -> list[Path]:
        """Folders of the runs of the sweep, by seed."""
        return sorted(path.parent for path in self.sweep.glob("*/config.yaml"))

    def stored(self, run: Path) -> StoredRun:
        """What the server has of a run."""
        (found,) = [one for one in list(self.server.runs.values()) if one.id.startswith(run.name)]
        return found

    def arrived(self, count: int, runs: int = 3) -> bool:
        """Whether the server has so many rows of each of so many runs."""
        lengths = [len(run.lines(HISTORY)) for run in list(self.server.runs.values())]
        return len(lengths) == runs and min(lengths) >= count

    def logs(self) -> dict[str, bytes]:
        return {run.name: (run / "metrics.jsonl").read_bytes() for run in self.runs}

    def assert_complete(self, state: str = "finished", runs: int = 3) -> None:
        """The server holds every row of every run once, in order, with the values of the local log, and no other."""
        assert len(self.runs) == len(self.server.runs) == runs
        for run in self.runs:
            stored = self.stored(run)
            assert [decode(row) for row in stored.history] == rows(run)
            assert [row["_step"] for row in stored.history] == list(range(len(rows(run))))
            assert stored.state == state
        assert self.server.problems == []


@contextlib.contextmanager
def laboratory(folder: Path, server: WandbServer) -> Iterator[Lab]:
    with server:
        lab = Lab(server, folder)
        try:
            yield lab
        finally:
            lab.stop()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with laboratory(tmp_path, WandbServer()) as lab:
        yield lab


def read_json(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    assert isinstance(content, dict)
    return content


def rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a local log, as W&B can hold them."""
    text = (run / "metrics.jsonl").read_text()
    return [{key: value for key, value in json.loads(line).items() if value != []} for line in text.splitlines()]


def forget_records(run: Path) -> None:
    """What a run recorded of its configuration and log, so that a test may write its own."""
    for name in ("identity.json", "checkpoint.pt", "checkpoint.previous.pt"):
        (run / name).unlink(missing_ok=True)
    RunDirectory(run).write_status(log=None, durable=None)


def until(condition: Callable[[], Any], seconds: float = SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


Story = Callable[[Lab], None]
AT_A_TIME = 5


def tell(
    stories: Sequence[Story], request: pytest.FixtureRequest, server: Callable[[], WandbServer] = WandbServer
) -> Iterator[dict[str, Future[None]]]:
    """Name of a story → what becomes of it. Those that were asked for are told side by side: they mostly wait."""
    asked = {item.callspec.params.get("story") for item in request.session.items if hasattr(item, "callspec")}
    make = request.getfixturevalue("tmp_path_factory").mktemp
    folders = {story: make(story.__name__) for story in stories if story.__name__ in asked}

    def told(story: Story) -> None:
        with laboratory(folders[story], server()) as lab:
            story(lab)

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {story.__name__: pool.submit(told, story) for story in folders}
        pool.shutdown(cancel_futures=True)


def names(stories: Sequence[Story], slow: Sequence[Story] = ()) -> list[Any]:
    """Parameters of a test; those in `slow` run with -m slow."""
    marked = [pytest.param(story.__name__, marks=pytest.mark.slow) for story in slow]
    return [*(story.__name__ for story in stories if story not in slow), *marked]
