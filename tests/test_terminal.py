"""Whatever the terminal is, a text can be printed (cases 5.3)."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from lop_sweeps.terminal import printable, say


@pytest.mark.parametrize("encoding", ["latin-1", "ascii", "cp1252", "utf-8", "koi8-r"])
def test_every_text_can_be_printed(encoding: str) -> None:
    content = io.BytesIO()
    stream = io.TextIOWrapper(content, encoding)
    printable(stream, None)
    print("− 0–4 × ρ 中 \udcff é", file=stream, flush=True)
    text = content.getvalue().decode(encoding)
    assert text.count("\n") == 1
    if encoding == "latin-1":
        assert text.strip() == "- 0-4 × ? ? ? é"


@pytest.mark.parametrize(("target", "code"), [("pipe", 0), ("/dev/full", 1)])
def test_output_that_goes_nowhere_is_no_traceback(
    target: str, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    if target == "pipe":
        reader, writer = os.pipe()
        os.close(reader)
    elif not Path(target).exists():
        pytest.skip("no /dev/full")
    else:
        writer = os.open(target, os.O_WRONLY)
    with os.fdopen(writer, "w") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)

        assert say("a line") == code
    assert capfd.readouterr().err.count("\n") == code
