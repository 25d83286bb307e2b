"""Whether a run's folder is itself, and what today's code would train under its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lop_sweeps.errors import IdentityError, SourcesChanged
from lop_sweeps.sweeps.identity import compare
from lop_sweeps.sweeps.integrity import look
from lop_sweeps.sweeps.refusal import other_sources
from lop_sweeps.sweeps.run_directory import RunDirectory
from lop_sweeps.sweeps.run_files import CONFIG
from lop_sweeps.sweeps.verdict import Verdict


def verify(run: RunDirectory, trusted: Sequence[str]) -> None:
    """Raise `IdentityError` unless a run's folder is itself, and what today's code would train under its name.

    Raises `SourcesChanged` if it would go on with other source files of the user's than it was begun with.
    """
    verdict = look(run.path)
    if problem := verdict.of_experiment:
        raise IdentityError(f"{run.path}/{problem}")
    config = run.config()
    if older := other_versions(run, config, verdict, trusted):
        raise IdentityError(f"{run.path} was begun with {', '.join(older)}; the same command begins another run")
    if text := other_sources(run, config, trusted):
        raise SourcesChanged(text)


def other_versions(run: RunDirectory, config: dict[str, Any], verdict: Verdict, trusted: Sequence[str]) -> list[str]:
    """`identity.compare`, with the file named."""
    try:
        return compare(config, run.name, verdict.identity, trusted)
    except IdentityError as error:
        raise IdentityError(f"{run.path / CONFIG}: {error}") from error
