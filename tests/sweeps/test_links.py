"""A link in a run's folder, which may be somebody else's, leads nobody to write over what it points to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from lop_sweeps.durable import write_atomically
from lop_sweeps.training import checkpoint
from lop_sweeps.training.metrics_log import MetricsLog


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.txt"
    file.write_text("a thesis")
    return file


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_a_file_that_is_being_written_is_no_link(run: Path, mine: Path) -> None:
    (run / f"status.json.{os.getpid()}.tmp").symlink_to(mine)
    write_atomically(run / "status.json", "{}")
    (run / "checkpoint.pt.tmp").symlink_to(mine)
    checkpoint.save(run, {"weights": torch.zeros(3)})
    assert mine.read_text() == "a thesis"
    assert not any(path.is_symlink() for path in run.iterdir())
    assert checkpoint.load(run)["weights"].tolist() == [0.0, 0.0, 0.0]


def test_a_log_that_is_a_link_is_not_cut(run: Path, mine: Path) -> None:
    (run / "metrics.jsonl").symlink_to(mine)
    with pytest.raises(OSError, match="link"):
        MetricsLog(run)
    assert mine.read_text() == "a thesis"
