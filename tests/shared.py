"""Where the research data and the authors' trajectories are, for tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"

needs_golden = pytest.mark.skipif(
    not (SHARED / "golden").is_dir(), reason="the authors' trajectories (../shared/golden) are not here"
)
needs_mnist = pytest.mark.skipif(
    not (SHARED / "data" / "MNIST").is_dir(), reason="real MNIST (../shared/data) is not here"
)
