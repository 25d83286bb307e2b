"""What was found of a run's folder: what is wrong, and with which file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lop_sweeps.sweeps.run_files import CONFIG, FINAL, IDENTITY, LOG, STATUS
from lop_sweeps.training.checkpoint_file import CHECKPOINT, PREVIOUS

# Read only if everything is.
OTHERS = (PREVIOUS, "pack.json", "provenance.json", "job.json", "mirror.json", "diagnostics.json")


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a run's folder: file -> a few words; nothing if it is itself.

    unreadable: those of the files that are missing or damaged, not different. unrecorded: what nothing tells, so that
    it cannot be checked. identity: what `identity.json` holds. status: what `status.json` says.
    """

    folder: Path
    problems: Mapping[str, str] = field(default_factory=dict)
    unreadable: frozenset[str] = frozenset()
    unrecorded: tuple[str, ...] = ()
    identity: Mapping[str, Any] | None = None
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def problem(self) -> str:
        """One line: the first thing that is wrong; empty if nothing is."""
        return self._of(*dict.fromkeys((IDENTITY, CONFIG, STATUS, LOG, CHECKPOINT, *OTHERS, *self.problems)))

    @property
    def of_results(self) -> str:
        """The first thing wrong with what figures show."""
        return self._of(IDENTITY, CONFIG, STATUS, LOG)

    @property
    def of_experiment(self) -> str:
        """The first thing wrong with what the run is said to be: nothing may be trained or loaded by it."""
        return self._of(IDENTITY, CONFIG)

    @property
    def refuses(self) -> bool:
        """Whether nothing may be trained here: what is different was somebody's wish, what is damaged is mended."""
        wrong = {file for file in (IDENTITY, CONFIG) if file in self.problems}
        return bool(wrong) and (self.status.get("state") in FINAL or not wrong <= self.unreadable)

    def _of(self, *files: str) -> str:
        return next((f"{file}: {self.problems[file]}" for file in files if file in self.problems), "")
