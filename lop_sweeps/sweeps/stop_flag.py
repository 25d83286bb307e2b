"""What asks a process to stop training at the next checkpoint boundary."""

from __future__ import annotations

import os
import signal
import threading
from types import TracebackType
from typing import Any

ASK = (signal.SIGTERM, signal.SIGINT)


class StopFlag:
    """Set by SIGTERM (and, with `ctrl_c`, by SIGINT), or because `parent`, a process number, is gone.

    As a context, it leaves the process's signal handlers as they were. Python lets only the main thread have any: in
    another one, the flag is set by nothing but who holds it.
    """

    def __init__(self, parent: int | None = None, *, ctrl_c: bool = False) -> None:
        self.parent, self.set = parent, False
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in ASK if ctrl_c else ASK[:1]:
                self._before[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: Any) -> None:
        self.set = True

    def __call__(self) -> bool:
        return self.set or (self.parent is not None and os.getppid() != self.parent)

    def __enter__(self) -> StopFlag:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: not Python's
