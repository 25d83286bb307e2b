"""`lop` in this process: importing torch takes a new one seconds."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from lop_sweeps.__main__ import main


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def lop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """`lop ARGUMENTS` in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Ended:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["lop", *arguments])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        GlobalHydra.instance().clear()
        code: str | int | None = 0
        try:
            main()
        except SystemExit as error:
            code = error.code
        finally:
            GlobalHydra.instance().clear()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        said = capsys.readouterr()
        if isinstance(code, str):  # what sys.exit prints when nobody catches it
            return Ended(1, said.out, said.err + code)
        return Ended(code or 0, said.out, said.err)

    return call
