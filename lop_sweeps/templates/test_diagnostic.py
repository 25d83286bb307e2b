"""Does my_diagnostic measure what it should, and does `lop` log it?"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import torch
from my_diagnostic import MyDiagnostic

from lop_sweeps import run


def test_of_activations_that_are_known() -> None:
    """A dead unit, one that is always 3, one that is nearly so, and one that is not."""
    h = torch.tensor([[0.0, 3.0, 3.0, 1.0], [0.0, 3.0, 3.01, 2.0]])
    view = SimpleNamespace(activations=[h, h[:, 2:]])
    assert MyDiagnostic(tolerance=0.01).measure(view) == {"my_diagnostic": [0.75, 0.5]}
    assert MyDiagnostic(tolerance=0.0).measure(view) == {"my_diagnostic": [0.5, 0.0]}


def test_lop_logs_it(tmp_path: Path) -> None:
    line = ["diagnostics=[standard,my_diagnostic]", "scale=tiny", f"paths.sweeps={tmp_path}"]
    folder = run(*line, trusted=["my_diagnostic"], config_dir=Path(__file__).parent / "conf", quiet=True)
    rows = [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [len(row["my_diagnostic"]) for row in rows] == [2] * 4  # of each hidden layer, before each task
