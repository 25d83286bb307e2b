"""A file has one purpose, and one that grows beyond a few pages has got another."""

from __future__ import annotations

from tests.arrows import ROOT

LINES = 350
LONGER = {"lop_sweeps/fused/train.py"}  # the compiled loop is one function until it is put together from parts


def test_no_file_is_long() -> None:
    files = {
        str(path.relative_to(ROOT)): len(path.read_text().splitlines())
        for folder in ("lop_sweeps", "analysis")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert set(files) >= LONGER
    assert {name: lines for name, lines in files.items() if lines > LINES and name not in LONGER} == {}
