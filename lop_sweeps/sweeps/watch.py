"""Who watches over the training of packs: what they are told, and how they say that it is to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lop_sweeps.sweeps.status_report import Progress
from lop_sweeps.training.session import Member

# Told the folder of a run and a row of its log, once it is written.
OnRow = Callable[[Path, Mapping[str, Any]], None]


@dataclass(frozen=True)
class Watch:
    """should_stop: asked after every interval; true ends training with a checkpoint."""

    on_progress: Progress
    should_stop: Callable[[], bool]
    on_row: OnRow | None = None

    def over(self, member: Member) -> None:
        """Be told the rows of a run."""
        if self.on_row is not None and member.log is not None:
            member.log.on_row = partial(self.on_row, member.directory)

    def in_turn(self) -> Watch:
        """The same for runs that are trained by several threads: it is told one thing at a time."""
        lock = threading.Lock()

        def locked(told: Callable[..., None]) -> Callable[..., None]:
            def tell(*what: Any) -> None:
                with lock:
                    told(*what)

            return tell

        on_row = None if self.on_row is None else locked(self.on_row)
        return Watch(locked(self.on_progress), self.should_stop, on_row)


class Listener:
    """Calls a user's `on_row(row)` with each row, and `run`, the name of its run's folder, in front.

    What that raises is kept: the runs are to be stopped, with checkpoints, and `check` then raises it.
    """

    def __init__(self, on_row: Callable[[dict[str, Any]], object] | None) -> None:
        self.on_row = on_row
        self.error: BaseException | None = None

    def __call__(self, run: Path, row: Mapping[str, Any]) -> None:
        if self.on_row is None or self.error is not None:
            return
        try:
            self.on_row({"run": run.name, **row})
        except BaseException as error:  # whatever it is: nothing of the training is at fault
            self.error = error

    def check(self) -> None:
        if self.error is not None:
            raise self.error
