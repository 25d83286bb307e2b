"""Is my_diagnostic what it should be, and does `lop` log it?"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from my_diagnostic import MyDiagnostic

from lop_sweeps import run


def test_by_hand() -> None:
    seen: Any = SimpleNamespace(activations=[torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.ones(2, 5)])
    assert MyDiagnostic().measure(seen) == {"my_diagnostic": [2.0, 1.0]}


def test_lop_logs_it(tmp_path: Path) -> None:
    line = ["diagnostics=my_diagnostic", "scale=tiny", "benchmark.num_tasks=1", f"paths.sweeps={tmp_path}"]
    folder = run(*line, trusted=["my_diagnostic"], config_dir=Path(__file__).parent / "conf", quiet=True)
    row = json.loads((folder / "metrics.jsonl").read_text())
    assert len(row["my_diagnostic"]) == 2  # hidden layers
