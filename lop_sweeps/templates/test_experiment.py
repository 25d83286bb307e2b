"""Is every run of my_experiment one that `lop` would run, and how many are there?"""

from __future__ import annotations

from pathlib import Path

from lop_sweeps import sweep


def test_its_runs(tmp_path: Path) -> None:
    """Every one is composed and checked; none is run."""
    folders = sweep(
        "experiment=my_experiment",
        f"paths.sweeps={tmp_path}",
        "hydra.launcher.plan=true",
        config_dir=Path(__file__).parent / "conf",
        quiet=True,
    )
    assert len(folders) == (1 + 2 + 1) * 3
