"""Write what runs from before `identity.json` do not record: `lop-status --verify --record`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lop_sweeps.errors import ConfigError, LopError
from lop_sweeps.sweeps import run_files
from lop_sweeps.sweeps.claim import Claim
from lop_sweeps.sweeps.identity import compare, configured, disagreement, of
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.run_directory import RunDirectory, runs_in
from lop_sweeps.sweeps.verdict import Verdict
from lop_sweeps.training.checkpoint_file import CHECKPOINT


def edited(run: RunDirectory, recorded: Mapping[str, Any] | None, trusted: Sequence[str] = ()) -> str:
    """What is wrong with the configuration of a run, by today's code; empty if nothing.

    recorded: its identity.json, if it has one. Where a component of the user's own is not here, that one tells.
    """
    try:
        config = run.config()
        with contextlib.suppress(ConfigError):
            compare(config, run.name, recorded, trusted)
        return disagreement(config, recorded) if recorded else ""
    except LopError as error:
        return str(error)


def record(sweep: Path, trusted: Sequence[str] = ()) -> tuple[str, int]:
    """Record what can be told of each run that is what it should be, and that nobody is training.

    What was done, in words, and of how many runs it could not be. What does not agree is never written over.
    """
    written, left = 0, []
    for run in runs_in(sweep):
        verdict = look(run.path, everything=True)
        if not verdict.unrecorded or verdict.problem:
            continue
        claim = Claim(run.path)
        try:
            if not claim.take():
                continue
            try:
                written += _record(run, verdict, trusted)
            finally:
                claim.release()
        except (LopError, OSError) as error:
            left.append(f"\n  {run.path}: {error}")
    return f"recorded what {written} runs lacked" + "".join(left), len(left)


def _record(run: RunDirectory, verdict: Verdict, trusted: Sequence[str]) -> bool:
    config = run.config()
    if verdict.identity is None:
        if versions := compare(config, run.name, None, trusted):
            raise LopError(f"was made with {', '.join(versions)}, and this is another version: only that one can tell")
        run.record_identity(of(configured(config), trusted))
    facts: dict[str, Any] = {}
    for key, file in (("log", run_files.LOG), ("checkpoint", CHECKPOINT)):
        if verdict.status["state"] in run_files.FINAL and (run.path / file).is_file():
            facts[key] = run_files.stamp(run.path / file)
    if "log" in facts:
        facts["log"]["rows"] = (run.path / run_files.LOG).read_bytes().count(b"\n")
    if facts:
        run.write_status(**facts)
    return True
