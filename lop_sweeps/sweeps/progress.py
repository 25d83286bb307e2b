"""How a sweep is getting on: one line that rewrites itself in a terminal, a line now and then in a log file."""

from __future__ import annotations

import shutil
import sys
import time
from statistics import fmean
from typing import TextIO

SECONDS_TTY, SECONDS_LOG = 0.5, 20.0


class ProgressDisplay:
    """Counts runs and steps; `show` prints when it is time to.

    total_steps: over all runs that are to be trained; done_steps: those that earlier sessions have done.
    """

    def __init__(self, runs: int, total_steps: int, done_steps: int, stream: TextIO | None = None) -> None:
        self.runs, self.total, self.earlier = runs, total_steps, done_steps
        self.steps = self.finished = self.failed = 0
        self.returns: dict[object, float] = {}
        self.stream = stream or sys.stderr
        self.live = self.stream.isatty()
        self.began = self.shown = time.monotonic()

    def advance(self, steps: int, latest_return: float | None = None, source: object = None) -> None:
        """So many more steps are done. latest_return: in control, that of the runs that `source` trains."""
        self.steps += steps
        if latest_return is not None:
            self.returns[source] = latest_return

    def line(self) -> str:
        elapsed = time.monotonic() - self.began
        done = self.earlier + self.steps
        text = f"{self.finished}/{self.runs} runs, {100 * done / max(1, self.total):.0f}% of steps"
        if self.steps and elapsed > 1:
            rate = self.steps / elapsed
            text += f", {rate:,.0f} steps/s, {duration((self.total - done) / rate)} left"
        if self.returns:
            text += f", return {fmean(self.returns.values()):,.0f}"
        return text + (f", {self.failed} failed" if self.failed else "")

    def show(self, *, force: bool = False) -> None:
        now = time.monotonic()
        if not force and now - self.shown < (SECONDS_TTY if self.live else SECONDS_LOG):
            return
        self.shown = now
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            self.stream.write("\r" + self.line()[:width].ljust(width))
        else:
            self.stream.write(self.line() + "\n")
        self.stream.flush()

    def close(self) -> None:
        """Show the last state and leave the line."""
        self.show(force=True)
        if self.live:
            self.stream.write("\n")
            self.stream.flush()


def duration(seconds: float) -> str:
    """12s, 3m10s, 2h05m, 4d03h."""
    whole = max(0, round(seconds))
    for big, small, unit, part in ((86_400, 3_600, "d", "h"), (3_600, 60, "h", "m"), (60, 1, "m", "s")):
        if whole >= big:
            return f"{whole // big}{unit}{whole % big // small:02d}{part}"
    return f"{whole}s"
