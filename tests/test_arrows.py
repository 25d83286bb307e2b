"""Arrows run one way: what trains knows nothing of sweeps, and analysis has rooms of which each knows those below."""

from __future__ import annotations

import pytest

from tests.arrows import ROOT, against, imported

PACKAGES = (
    "training",
    "networks",
    "algorithms",
    "optimizers",
    "benchmarks",
    "datasets",
    "diagnostics",
    "fused",
    "agents",
    "data",
)
ABOVE = ("lop_sweeps.sweeps", "lop_sweeps.tracking", "lop_sweeps.analysis", "analysis")

# Of analysis: room or file -> rooms that it must not know.
TOP = ("figures", "tables", "page")
ROOMS = {
    "names": ("reading", "statistics", *TOP, "report"),
    "reading": ("statistics", *TOP, "report"),
    "statistics": (*TOP, "report"),
    "figures": ("tables", "page", "report"),
    "tables": ("figures", "page", "report"),
    "page": ("figures", "tables", "report"),
    "report.py": (),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_what_trains_imports_nothing_above_it(package: str) -> None:
    folder = ROOT / "lop_sweeps" / package
    assert any(folder.glob("*.py"))
    assert not list(against(folder, ABOVE))


def test_data_sets_know_files_and_files_know_no_data_sets() -> None:
    """What is learned from is read alike, whatever is learned."""
    others = tuple(f"lop_sweeps.{name}" for name in PACKAGES if name not in ("datasets", "data"))
    assert not list(against(ROOT / "lop_sweeps" / "datasets", others))
    assert not list(against(ROOT / "lop_sweeps" / "data", (*others, "lop_sweeps.datasets")))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_of_analysis_imports_those_below_it_only(room: str) -> None:
    path = ROOT / "analysis" / room
    assert path.exists()
    above = tuple(f"lop_sweeps.analysis.{name}" for name in (*ROOMS[room], "__main__", "load"))
    assert not list(against(path, above))


def test_every_room_of_analysis_has_its_place() -> None:
    rooms = {path.parent.name for path in (ROOT / "analysis").glob("*/__init__.py")}
    assert rooms == {name for name in ROOMS if not name.endswith(".py")}


def test_analysis_imports_nothing_that_trains() -> None:
    trains = tuple(f"lop_sweeps.{package}" for package in PACKAGES)
    assert not list(against(ROOT / "analysis", (*trains, "torch")))


def test_an_import_is_found_wherever_and_however_it_is_written() -> None:
    source = "import a.b\nfrom c import d\ndef f():\n    from e.g import h as i\n"
    assert imported(source) == {"a.b", "c", "c.d", "e.g", "e.g.h"}
    assert imported("from . import b\nfrom ..c import d\n", "x.y") == {"x.y", "x.y.b", "x.c", "x.c.d"}
