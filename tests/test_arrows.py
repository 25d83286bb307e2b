"""Arrows run one way: what trains knows nothing of sweeps, of what mirrors them, and of what draws them."""

from __future__ import annotations

import pytest

from tests.arrows import ROOT, against, imported

PACKAGES = ("training", "networks", "algorithms", "optimizers", "benchmarks", "diagnostics", "fused", "agents", "data")
ABOVE = ("lop_sweeps.sweeps", "lop_sweeps.tracking", "lop_sweeps.analysis", "analysis")


@pytest.mark.parametrize("package", PACKAGES)
def test_what_trains_imports_nothing_above_it(package: str) -> None:
    folder = ROOT / "lop_sweeps" / package
    assert any(folder.glob("*.py"))
    assert not list(against(folder, ABOVE))


def test_an_import_is_found_wherever_and_however_it_is_written() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    from e.g import h as i\n"
    assert imported(source) == {"a.b", "c", "c.d", "e.g", "e.g.h"}
