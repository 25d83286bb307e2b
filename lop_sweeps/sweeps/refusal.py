"""Why a run's folder is left alone, or what becomes of what is damaged there, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lop_sweeps.errors import IdentityError, LopError
from lop_sweeps.sweeps.identity import compare
from lop_sweeps.sweeps.provenance import changed_sources
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.run_files import CONFIG, FINAL, LOG
from lop_sweeps.sweeps.verdict import Verdict


def refusal(run: RunDirectory, verdict: Verdict, trusted: Sequence[str]) -> str:
    """Why nothing may be trained in the folder of a run; empty if there is no reason.

    What is missing or damaged of a run that is not finished is written anew: what was planned is what its name says.
    """
    final = verdict.status.get("state") in FINAL
    anew = "move the run's folder away and it is trained anew" if final else "delete it and it is written anew"
    advice = f"put back what was there, or {anew}"
    if verdict.refuses:
        return f"{run.path}/{verdict.of_experiment}; {advice}"
    # Of one that records what it is and is not finished, the configuration is written anew.
    if CONFIG not in verdict.problems and run.path.is_dir() and (final or verdict.identity is None):
        try:
            config = run.config()
        except LopError as error:
            return str(error) if final else ""
        try:
            compare(config, run.name, verdict.identity, trusted)
        except IdentityError as error:
            return f"{run.path / CONFIG}: {error}; {advice}"
        except LopError as error:
            return f"{run.path / CONFIG}: {error}"
    return ""


def remedy(verdict: Verdict) -> str:
    if verdict.status["state"] in FINAL:
        return "it is not finished, and is trained again"
    if LOG in verdict.problems:
        return "it goes on from what is sound"
    return "that is written anew"


def other_sources(run: RunDirectory, config: Mapping[str, Any], trusted: Sequence[str]) -> str:
    """Which of the user's own files are not those that an unfinished run was begun with, in words; empty if none.

    A run without a checkpoint starts over, so it is not asked; nor is one whose user accepts the changes.
    """
    if not trusted or config.get("trusted_changes") == "accept" or not any(run.path.glob("checkpoint*.pt")):
        return ""
    if not (changed := changed_sources(run, trusted)):
        return ""
    advice = "raise `version` there to begin another run, or go on all the same with trusted_changes=accept"
    return f"{other(changed[0], [run.name])}; {advice}"


def other(file: str, names: Sequence[str]) -> str:
    some = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return f"{file} has changed since it was used by {some}"
