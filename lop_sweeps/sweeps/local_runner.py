"""Packs on this machine's cores: persistent worker processes that are handed one pack after another.

Workers ignore Ctrl-C; the parent turns it into a request to stop, which each answers at the end of its interval with
a checkpoint. A worker that dies takes nothing with it but its current pack's unsaved steps.

Signals are answered in the main thread only, where Python delivers them; their handlers are put back at the end.
"""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from io import StringIO
from multiprocessing.connection import Connection, wait
from typing import Any

from lop_sweeps import compiled_code
from lop_sweeps.errors import Interrupted, LopError
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.mirroring import mirroring
from lop_sweeps.sweeps.outcome import Outcome
from lop_sweeps.sweeps.planning import Pack, Plan
from lop_sweeps.sweeps.progress import ProgressDisplay
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.stop_flag import StopFlag
from lop_sweeps.sweeps.watch import Listener
from lop_sweeps.sweeps.worker import Process, Start, fork

log = logging.getLogger("lop")


def steps_of(plan: Plan, packs: Sequence[Pack]) -> tuple[int, int]:
    """(all steps, steps already done) of the runs that the packs will train."""
    total = done = 0
    planned = {point.directory.path: point.steps for point in plan.points}
    for run in (RunDirectory(pack.folder / name) for pack in packs for name in pack.todo):
        total += planned.get(run.path) or int(run.status().get("total_steps") or 0)  # a job knows its packs only
        done += run.steps_done()
    return total, done


def run_here(plan: Plan, listener: Listener | None = None, *, quiet: bool = False) -> list[Outcome]:
    """Run the plan's packs in this process, one after another, stopping cleanly on Ctrl-C or SIGTERM.

    listener: is told the rows; what it raises stops the runs, too. quiet: show no progress.
    """
    with mirroring(plan):
        return _run_here(plan, listener, quiet)


def _run_here(plan: Plan, listener: Listener | None, quiet: bool) -> list[Outcome]:
    _prepare(plan)
    display = _display(plan, quiet)

    def on_progress(runs: int, steps: int, *returns: float) -> None:
        display.advance(runs * steps, *returns)
        display.show()

    outcomes: list[Outcome] = []
    with StopFlag(ctrl_c=True) as stop:

        def should_stop() -> bool:
            return stop() or (listener is not None and listener.error is not None)

        try:
            for pack in plan.packs:
                outcomes += run_pack(pack, on_progress, should_stop, listener)
                _count(display, outcomes)
                if should_stop():
                    break
        finally:
            display.close()
    if listener is not None:
        listener.check()
    ended = sum(outcome.state != "interrupted" for outcome in outcomes)
    if stop() and ended < sum(len(pack.todo) for pack in plan.packs):  # it may come when all is done
        raise _stopped(outcomes, saved=True)
    return outcomes


def run_workers(
    plan: Plan, workers: int, listener: Listener | None = None, *, quiet: bool = False, start: Start = fork
) -> list[Outcome]:
    """Run the plan's packs on `workers` processes; raises `Interrupted` after a clean stop.

    listener, quiet: as in `run_here`. start: how a worker is started.
    """
    with mirroring(plan):
        return _run_workers(plan, workers, listener, quiet, start)


def _run_workers(plan: Plan, workers: int, listener: Listener | None, quiet: bool, start: Start) -> list[Outcome]:
    _prepare(plan)
    waiting = deque(sorted(plan.packs, key=lambda pack: -len(pack.todo)))
    display = _display(plan, quiet)
    at_work: dict[Connection, tuple[Process, Pack | None]] = {}
    outcomes: list[Outcome] = []
    stopping = killed = False
    asked = 0.0

    def begin() -> None:
        process, connection = start(len(at_work), listener is not None)
        at_work[connection] = (process, None)

    def hand_out(connection: Connection) -> None:
        process, _ = at_work[connection]
        pack = waiting.popleft() if waiting and not stopping else None
        at_work[connection] = (process, pack)
        with suppress(OSError):
            connection.send(pack)

    def stop_all() -> None:
        nonlocal stopping
        stopping = True
        for process, _ in at_work.values():
            process.terminate()

    def on_signal(number: int, frame: Any) -> None:
        nonlocal killed, asked
        if stopping and time.monotonic() - asked < 1.0:  # one request, forwarded twice
            return
        asked = time.monotonic()
        if stopping:  # asked again: do not wait
            killed = True
            for process, _ in at_work.values():
                process.kill()
            return
        sys.stderr.write("\nstopping at the next checkpoint boundary (again to stop at once) ...\n")
        stop_all()

    previous = {}
    if threading.current_thread() is threading.main_thread():
        previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for _ in range(min(workers, len(waiting))):
            begin()
        for connection in list(at_work):
            hand_out(connection)
        while at_work:
            ready: Any = wait(list(at_work), timeout=0.5)
            for connection in ready:
                try:
                    kind, content = connection.recv()
                except (EOFError, OSError):  # the process is gone
                    process, pack = at_work.pop(connection)
                    process.join()
                    if pack is not None:
                        ended, left = _after_death(pack, process.exitcode, stopping)
                        outcomes += ended
                        waiting.extend(left)
                        if waiting and not stopping:
                            begin()
                            hand_out(list(at_work)[-1])
                    continue
                if kind == "progress":
                    steps, *returns = content
                    display.advance(steps, returns[0] if returns else None, connection)
                elif kind == "row" and listener is not None:
                    listener(*content)
                    if listener.error is not None and not stopping:
                        stop_all()
                elif kind == "outcomes":
                    outcomes += content
                    _count(display, outcomes)
                    hand_out(connection)
            display.show()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        display.close()
    if listener is not None:
        listener.check()
    if stopping:
        raise _stopped(outcomes, saved=not killed)
    return outcomes


def _prepare(plan: Plan) -> None:
    """Load the compiled engine before workers are forked, and compile it, once per machine, where it is not yet."""
    if compiled_code.NOTICE:
        log.warning(compiled_code.NOTICE)
    if any(pack.engine == "fused" for pack in plan.packs):
        from lop_sweeps.fused.warm_up import warm_up

        fused = [pack for pack in plan.packs if pack.engine == "fused"]
        for precision in sorted(set(filter(None, map(_precision, fused)))):
            warm_up(precision)


def _precision(pack: Pack) -> str:
    """Of the runs of a pack; empty if their folder does not tell, which they will say themselves."""
    try:
        return str(RunDirectory(pack.folder / pack.todo[0]).config()["precision"])
    except (LopError, KeyError):
        return ""


def _display(plan: Plan, quiet: bool) -> ProgressDisplay:
    runs = sum(len(pack.todo) for pack in plan.packs)
    return ProgressDisplay(runs, *steps_of(plan, plan.packs), stream=StringIO() if quiet else None)


def _stopped(outcomes: Sequence[Outcome], *, saved: bool) -> Interrupted:
    failed = sum(outcome.state == "failed" for outcome in outcomes)
    text = "stopped; every run was saved, and the same command continues"
    if not saved:
        text = "stopped at once; the same command continues from the last checkpoints"
    return Interrupted(text + (f" ({failed} runs had failed: see lop-status)" if failed else ""))


def _count(display: ProgressDisplay, outcomes: Sequence[Outcome]) -> None:
    display.finished = sum(outcome.state in ("done", "diverged") for outcome in outcomes)
    display.failed = sum(outcome.state == "failed" for outcome in outcomes)


def _after_death(pack: Pack, exitcode: int | None, stopping: bool) -> tuple[list[Outcome], list[Pack]]:
    """What became of the runs of a pack whose process died, and what is left: runs that it had not come to."""
    states = {name: str(RunDirectory(pack.folder / name).status()["state"]) for name in pack.todo}
    left = [name for name, state in states.items() if pack.engine == "fused" and state == "waiting"]
    if stopping or len(left) == len(states):  # it died before it started any: one of them may be why
        left = []
    ended = []
    for name, state in states.items():
        if state in ("done", "diverged"):
            ended.append(Outcome(pack.folder / name, state))
        elif name not in left:
            ended.append(_died(pack, name, exitcode, stopping))
    return ended, [replace(pack, members=tuple(left), todo=tuple(left))] if left else []


def _died(pack: Pack, name: str, exitcode: int | None, stopping: bool) -> Outcome:
    if stopping:
        return Outcome(pack.folder / name, "interrupted")
    how = f"signal {-exitcode}" if exitcode is not None and exitcode < 0 else f"exit code {exitcode}"
    message = f"its process died ({how}); the same command continues from its last checkpoint"
    return Outcome(pack.folder / name, "failed", message)
