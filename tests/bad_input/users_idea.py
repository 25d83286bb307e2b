"""An intervention as a user would write it, outside the package; tests copy it to a folder of its own.

What it does at its step, and only while a file exists, is what goes wrong in a test.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar


@dataclass(frozen=True)
class Idea:
    """action: none, raise, kill (the process that trains), sleep (a little, at every step), interrupt (Ctrl-C in this
    process) or interrupt_twice (in its parent).
    """

    version: ClassVar[int] = 1
    PER_RUN: ClassVar[frozenset[str]] = frozenset()
    resets_units: ClassVar[bool] = False

    action: str = "none"
    seed: int = -1
    step: int = 0
    while_exists: str = "/"

    def check(self, network: Any) -> None:
        """Acts on every network."""

    def pack(self, peers: Sequence[Idea], learner: Any) -> PackedIdea:
        return PackedIdea(self, learner)


class PackedIdea:
    def __init__(self, options: Idea, learner: Any) -> None:
        self.options, self.seeds = options, learner.seeds

    def plan(self, step: int, steps: int) -> None:
        """Nothing to plan."""

    def after_update(self, step: int) -> None:
        options = self.options
        if options.action == "none" or not Path(options.while_exists).exists():
            return
        if options.action == "sleep":
            time.sleep(0.003)
        elif step == options.step and options.seed in self.seeds:
            if options.action == "raise":
                raise RuntimeError(f"the idea broke at step {step}")
            if options.action == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if options.action == "interrupt":
                os.kill(os.getpid(), signal.SIGINT)
            while options.action == "interrupt_twice":
                os.kill(os.getppid(), signal.SIGINT)
                time.sleep(0.3)

    def state(self) -> dict[str, Any]:
        return {}

    def report(self, run: int) -> dict[str, list[float]]:
        return {}

    def clear_report(self) -> None:
        """Nothing is reported."""
