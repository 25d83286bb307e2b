"""Packs on this machine's cores: persistent worker processes that are handed one pack after another.

Workers ignore Ctrl-C; the parent turns it into a request to stop, which each answers at the end of its interval with
a checkpoint. A worker that dies takes nothing with it but its current pack's unsaved steps.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from lop_sweeps import compiled_code
from lop_sweeps.errors import Interrupted, LopError
from lop_sweeps.sweeps.execute import run_pack
from lop_sweeps.sweeps.mirroring import mirroring
from lop_sweeps.sweeps.outcome import Outcome
from lop_sweeps.sweeps.planning import Pack, Plan
from lop_sweeps.sweeps.progress import ProgressDisplay
from lop_sweeps.sweeps.run_directory import RunDirectory

log = logging.getLogger("lop")


def steps_of(plan: Plan, packs: Sequence[Pack]) -> tuple[int, int]:
    """(all steps, steps already done) of the runs that the packs will train."""
    total = done = 0
    planned = {point.directory.path: point.steps for point in plan.points}
    for run in (RunDirectory(pack.folder / name) for pack in packs for name in pack.todo):
        total += planned.get(run.path) or int(run.status().get("total_steps") or 0)  # a job knows its packs only
        done += run.steps_done()
    return total, done


class StopFlag:
    """Set by SIGTERM, or because the parent is gone: finish the interval, save, stop."""

    def __init__(self, parent: int | None = None) -> None:
        self.parent, self.set = parent, False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.set = True

    def __call__(self) -> bool:
        return self.set or (self.parent is not None and os.getppid() != self.parent)


def run_here(plan: Plan) -> list[Outcome]:
    """Run the plan's packs in this process, one after another, stopping cleanly on Ctrl-C or SIGTERM."""
    with mirroring(plan):
        return _run_here(plan)


def _run_here(plan: Plan) -> list[Outcome]:
    _prepare(plan)
    stop = StopFlag()
    previous = signal.signal(signal.SIGINT, stop._on_signal)
    display = ProgressDisplay(sum(len(pack.todo) for pack in plan.packs), *steps_of(plan, plan.packs))

    def on_progress(runs: int, steps: int, *returns: float) -> None:
        display.advance(runs * steps, *returns)
        display.show()

    outcomes: list[Outcome] = []
    try:
        for pack in plan.packs:
            outcomes += run_pack(pack, on_progress, stop)
            _count(display, outcomes)
            if stop():
                break
    finally:
        signal.signal(signal.SIGINT, previous)
        display.close()
    ended = sum(outcome.state != "interrupted" for outcome in outcomes)
    if stop() and ended < sum(len(pack.todo) for pack in plan.packs):  # it may come when all is done
        raise _stopped(outcomes, saved=True)
    return outcomes


def run_workers(plan: Plan, workers: int) -> list[Outcome]:
    """Run the plan's packs on `workers` processes; raises `Interrupted` after a clean stop."""
    with mirroring(plan):
        return _run_workers(plan, workers)


def _run_workers(plan: Plan, workers: int) -> list[Outcome]:
    _prepare(plan)
    # A fork spares each worker the seconds of importing torch; this process has started no threads and no GPU.
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    waiting = deque(sorted(plan.packs, key=lambda pack: -len(pack.todo)))
    display = ProgressDisplay(sum(len(pack.todo) for pack in plan.packs), *steps_of(plan, plan.packs))
    at_work: dict[Connection, tuple[Any, Pack | None]] = {}
    outcomes: list[Outcome] = []
    stopping = killed = False
    asked = 0.0

    def start() -> None:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs, os.getpid(), log.getEffectiveLevel(), len(at_work)))
        # A signal that came before the child has handlers of its own would be answered by ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        process.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        at_work[ours] = (process, None)

    def hand_out(connection: Connection) -> None:
        process, _ = at_work[connection]
        pack = waiting.popleft() if waiting and not stopping else None
        at_work[connection] = (process, pack)
        with suppress(OSError):
            connection.send(pack)

    def stop_all(number: int, frame: Any) -> None:
        nonlocal stopping, killed, asked
        if stopping and time.monotonic() - asked < 1.0:  # one request, forwarded twice
            return
        asked = time.monotonic()
        if stopping:  # asked again: do not wait
            killed = True
            for process, _ in at_work.values():
                process.kill()
            return
        stopping = True
        sys.stderr.write("\nstopping at the next checkpoint boundary (again to stop at once) ...\n")
        for process, _ in at_work.values():
            process.terminate()

    previous = {number: signal.signal(number, stop_all) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for _ in range(min(workers, len(waiting))):
            start()
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
                            start()
                            hand_out(list(at_work)[-1])
                    continue
                if kind == "progress":
                    steps, *returns = content
                    display.advance(steps, returns[0] if returns else None, connection)
                else:
                    outcomes += content
                    _count(display, outcomes)
                    hand_out(connection)
            display.show()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        display.close()
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


def _work(connection: Connection, parent: int, level: int, number: int) -> None:
    """Worker process `number`: packs come in, progress and outcomes go out, None ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(format="%(message)s")
    log.setLevel(level)
    stop = StopFlag(parent)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})

    def on_progress(runs: int, steps: int, *returns: float) -> None:
        try:
            connection.send(("progress", (runs * steps, *returns)))
        except OSError:  # nobody listens any more
            stop.set = True

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
        connection.send(("outcomes", run_pack(pack, on_progress, stop)))
