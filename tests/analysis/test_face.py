"""What `lop_sweeps.analysis` hands on, and what it does not import before it is asked."""

import subprocess
import sys

import pytest

import lop_sweeps.analysis
from lop_sweeps.analysis.reading.load import load
from tests.analysis.sweep_builder import SweepBuilder


@pytest.mark.parametrize("name", lop_sweeps.analysis.__all__)
def test_everything_that_is_named_is_there(name: str) -> None:
    assert callable(getattr(lop_sweeps.analysis, name))
    assert name in dir(lop_sweeps.analysis)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(AttributeError, match=r"'lop_sweeps\.analysis' has no attribute 'draw'"):
        lop_sweeps.analysis.draw  # noqa: B018


def test_importing_it_imports_neither_pandas_nor_matplotlib() -> None:
    code = "import sys, lop_sweeps.analysis; print(sorted({'pandas', 'matplotlib', 'torch'} & {*sys.modules}))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_load_is_found_where_notebooks_have_it(sweep: SweepBuilder) -> None:
    from lop_sweeps.analysis.load import load as as_it_was

    sweep.add()
    assert as_it_was is load
    # The submodule now stands in the function's place.
    assert len(lop_sweeps.analysis.load(sweep.folder).runs) == len(load(sweep.folder).runs) == 1
