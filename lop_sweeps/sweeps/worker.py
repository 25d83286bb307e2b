"""A worker process: packs come in through a connection, what happens to them goes out.

It ignores Ctrl-C; whoever started it turns that into SIGTERM, which is answered at the end of an interval with a
checkpoint. There are two ways to start one. A fork spares it the seconds of importing torch, and needs a parent that
has started no threads and no GPU: the command `lop`, on a machine without one. A process of its own needs nothing of
the parent, whose `__main__` may be a notebook or a script without a guard, and which is not run again.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

import torch

from lop_sweeps import child_process
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.stop_flag import StopFlag
from lop_sweeps.training import devices

log = logging.getLogger("lop")


class Process(Protocol):
    """exitcode: minus the number of the signal that ended it; None while it is alive."""

    @property
    def exitcode(self) -> int | None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def join(self) -> None: ...


# Starts worker `number`, which tells the rows of logs if `rows`; the process, and this end of the connection.
Start = Callable[[int, bool], tuple[Process, Connection]]


def fork(number: int, rows: bool) -> tuple[Process, Connection]:
    """A copy of this process."""
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, os.getpid(), log.getEffectiveLevel(), number, rows))
    # A signal that came before the child has handlers of its own would be answered by ours.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    process.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    return process, ours


@dataclass(frozen=True)
class _Own:
    process: subprocess.Popen[str]

    @property
    def exitcode(self) -> int | None:
        return self.process.poll()

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()

    def join(self) -> None:
        self.process.wait()


def spawn(number: int, rows: bool) -> tuple[Process, Connection]:
    """A process of its own, which finds the modules that this one finds; the current folder last."""
    ours, theirs = multiprocessing.Pipe()
    arguments = (theirs.fileno(), os.getpid(), log.getEffectiveLevel(), number, int(rows))
    process = child_process.start(
        "lop_sweeps.sweeps.worker",
        *map(str, arguments),
        path=[os.path.abspath(place) for place in sys.path if place],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C, and what stops a notebook's kernel, is sent to the parent's whole group
    )
    theirs.close()
    return _Own(process), ours


def by_command(number: int, rows: bool) -> tuple[Process, Connection]:
    """As the command `lop` starts it.

    Where there is a GPU, looking at a stranger's network in the parent has started threads for it (autograd's, at the
    first backward pass), and a fork of that could take no gradient.
    """
    return (spawn if devices.count() else fork)(number, rows)


def work(connection: Connection, parent: int, level: int, number: int, rows: bool) -> None:
    """Train what comes in, until that is None, or nobody is there any more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="%(message)s")
    log.setLevel(level)
    stop = StopFlag(parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def tell(kind: str, content: Any) -> None:
        try:
            connection.send((kind, content))
        except OSError:  # nobody listens any more
            stop.set = True

    def on_progress(runs: int, steps: int, *returns: float) -> None:
        tell("progress", (runs * steps, *returns))

    def on_row(run: Path, row: Mapping[str, Any]) -> None:
        tell("row", (run, row))

    while not stop():
        try:
            if not connection.poll(1.0):
                continue
            pack = connection.recv()
        except (EOFError, OSError):
            return
        if pack is None:
            return
        if pack.device == "cuda":
            torch.cuda.set_device(number % torch.cuda.device_count())
        tell("outcomes", run_pack(pack, on_progress, stop, on_row if rows else None))


def main() -> None:
    """What `spawn` starts."""
    handle, parent, level, number, rows = map(int, sys.argv[1:])
    sys.path.append(os.getcwd())  # a notebook's modules lie there
    work(Connection(handle), parent, level, number, bool(rows))


if __name__ == "__main__":
    main()
