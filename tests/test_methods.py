"""docs/methods.md says of every method what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perf import methods
from tests.field.golden import FOLDER, needs_field

PAGE = methods.written(methods.PAGE.read_text())


def test_every_method_has_a_row() -> None:
    assert list(PAGE) == [one.choice for one in methods.methods()]


@pytest.mark.parametrize("method", methods.methods(), ids=lambda one: one.choice)
def test_a_row_says_what_the_code_does(method: methods.Method) -> None:
    """All but the measured costs; `python perf/methods.py --keep` writes it anew."""
    *row, on_torch, on_fused = PAGE[method.choice]
    assert row == [cell.replace("|", "\\|") for cell in method.cells()]
    for cost, there in ((on_torch, not method.engine.startswith("not on")), (on_fused, method.engine == "both")):
        assert (cost != "") == there
        assert not there or float(cost) > 0
    assert method.sentence()


@needs_field
def test_parity_is_claimed_of_trajectories_that_are_tested() -> None:
    tests = "\n".join(path.read_text() for path in Path(__file__).parent.joinpath("field").glob("*.py"))
    names = {path.stem for path in FOLDER.glob("*.npz")}
    claimed = {name for text in methods.PARITY.values() for name in re.findall(r"\w+", text) if name in names}
    assert {name for name in claimed if f'"{name}"' not in tests} == set()
    others = {"diagnostics", "grama_analyzer"}  # of diagnostics
    assert names - claimed == others
