"""An empty sweep folder for each test."""

from pathlib import Path

import pytest

from tests.analysis.sweep_builder import SweepBuilder


@pytest.fixture
def sweep(tmp_path: Path) -> SweepBuilder:
    return SweepBuilder(tmp_path / "sweeps" / "digits")
