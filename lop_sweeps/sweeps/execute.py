"""Run a pack in this process: claim its runs, train those at one position together, try again what failed."""

from __future__ import annotations

import contextlib
import errno
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch

from lop_sweeps.errors import ClaimLost
from lop_sweeps.sweeps import provenance
from lop_sweeps.sweeps.claim import Claim
from lop_sweeps.sweeps.memory import is_lack_of_memory, runs_that_fit
from lop_sweeps.sweeps.outcome import Outcome, failed
from lop_sweeps.sweeps.pack_training import train_pack
from lop_sweeps.sweeps.planning import Pack, split
from lop_sweeps.sweeps.positions import by_position
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.status_report import Progress
from lop_sweeps.sweeps.verification import verify
from lop_sweeps.sweeps.watch import OnRow, Watch


def run_pack(
    pack: Pack, on_progress: Progress, should_stop: Callable[[], bool], on_row: OnRow | None = None
) -> list[Outcome]:
    """Train the pack's unfinished runs to their end, or until `should_stop`; one outcome for each.

    on_row: told the folder of a run and each row of its log, once it is written.
    """
    watch = Watch(on_progress, should_stop, on_row)
    if pack.device == "cuda" and not pack.started and len(pack.todo) > 1:
        parts = split(pack.todo, runs_that_fit(pack))
        packs = [replace(pack, members=part, todo=part) for part in parts]
        return [outcome for part in packs for outcome in _run_in_step(part, watch)]
    if pack.engine != "fused":
        return _run_in_step(pack, watch)
    one_by_one = watch.in_turn()

    def run_one(name: str) -> list[Outcome]:
        if should_stop():
            return [Outcome(pack.folder / name, "interrupted")]
        alone = replace(pack, members=(name,), todo=(name,), started=True)
        try:
            return _run_in_step(alone, one_by_one)
        except Exception as error:  # its folder is gone, say: the others go on
            return [failed(RunDirectory(pack.folder / name), error)]

    if pack.threads == 1:
        return [outcome for name in pack.todo for outcome in run_one(name)]
    with ThreadPoolExecutor(pack.threads) as pool:
        return [outcome for outcomes in pool.map(run_one, pack.todo) for outcome in outcomes]


def _run_in_step(pack: Pack, watch: Watch) -> list[Outcome]:
    """`run_pack` for runs that are trained side by side.

    If a pack fails, its runs are tried again one by one, from their last checkpoints, so that only the one that fails
    alone is lost; if there was not enough memory for it, in halves.
    """
    claims = {name: Claim(pack.folder / name) for name in pack.todo}
    taken, outcomes = [], []
    for name in pack.todo:
        run = RunDirectory(pack.folder / name)
        try:
            if not claims[name].take():
                outcomes.append(Outcome(run.path, "busy"))
                continue
            if run.is_finished():  # by another process, since the sweep was planned
                outcomes.append(Outcome(run.path, str(run.status()["state"])))
            else:
                verify(run, pack.trusted)
                taken.append(name)
                continue
        except Exception as error:  # its folder is gone, or not what it was: the others go on
            outcomes.append(failed(run, error))
        claims[name].release()
    held = [claims[name] for name in taken]
    if not taken:
        return outcomes
    members = pack.members if pack.started else tuple(taken)
    claimed = replace(pack, members=members, todo=tuple(taken))
    try:
        failure = None
        try:
            for part, payloads in by_position(claimed):
                its_claims = [claims[name] for name in part.todo]
                outcomes += train_pack(part, payloads, its_claims, watch)
        except Exception as error:  # whatever a run does, the sweep goes on
            failure = error
        if failure is not None:
            outcomes += _after_failure(claimed, outcomes, claims, failure, watch)
    finally:
        for claim in held:
            claim.release()
    return outcomes


def _after_failure(
    pack: Pack, outcomes: Sequence[Outcome], claims: dict[str, Claim], failure: Exception, watch: Watch
) -> list[Outcome]:
    """What becomes of the runs of a pack that failed after some of them had ended with `outcomes`."""
    ended = {outcome.run.name for outcome in outcomes}
    left = [name for name in pack.todo if name not in ended]
    lost = [name for name in left if claims[name].is_lost()]
    busy = [Outcome(pack.folder / name, "busy", str(failure)) for name in lost]
    left = [name for name in left if name not in lost]
    full = isinstance(failure, OSError) and failure.errno in (errno.ENOSPC, errno.EDQUOT)
    if len(pack.members) == 1 or full or isinstance(failure, ClaimLost):
        return busy + [failed(RunDirectory(pack.folder / name), failure) for name in left]
    return busy + _in_parts(pack, left, claims, failure, watch)


def _in_parts(
    pack: Pack, names: Sequence[str], claims: dict[str, Claim], error: Exception, watch: Watch
) -> list[Outcome]:
    """After a pack has failed: its runs in smaller packs, which are recorded, since they change rounding."""
    parts = split(names, -(-len(names) // 2) if is_lack_of_memory(error) else 1)
    for part in parts:
        for name in part:
            run = RunDirectory(pack.folder / name)
            with contextlib.suppress(OSError):  # if nothing can be written, the run itself will say so
                run.write_status(state="waiting")
                run.write_pack(list(part), pack.threads, pack.engine)
                provenance.end_session(run, f"pack split after {type(error).__name__}: {error}")
    traceback.clear_frames(error.__traceback__)  # they hold the pack that did not fit
    if pack.device == "cuda":
        torch.cuda.empty_cache()
    for name in names:
        claims[name].release()
    smaller = [replace(pack, members=part, todo=part, started=True) for part in parts]
    return [outcome for part in smaller for outcome in _run_in_step(part, watch)]
