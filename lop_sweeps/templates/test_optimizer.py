"""Is my_optimizer what it should be, and does `lop` train with it?"""

from __future__ import annotations

from pathlib import Path

import torch
from my_optimizer import MyOptimizer

from lop_sweeps import run


def test_two_steps_by_hand_of_two_runs_side_by_side() -> None:
    runs = [MyOptimizer(step_size=0.1, momentum=0.5), MyOptimizer(step_size=0.2, momentum=0.5)]
    parameters = torch.tensor([[1.0, -1.0, 1.0]] * 2)
    packed = runs[0].pack(runs, parameters, resets_units=False)
    packed.update(parameters, torch.tensor([[2.0, -2.0, 0.0]] * 2))
    torch.testing.assert_close(parameters, torch.tensor([[0.9, -0.9, 1.0], [0.8, -0.8, 1.0]]))
    packed.update(parameters, torch.tensor([[-1.0, -3.0, 1.0]] * 2))  # means: 0, -2, 0.5
    torch.testing.assert_close(parameters, torch.tensor([[0.9, -0.8, 0.9], [0.8, -0.6, 0.8]]))


def test_lop_trains_with_it(tmp_path: Path) -> None:
    line = ["optimizer=my_optimizer", "scale=tiny", "benchmark.num_tasks=1", f"paths.sweeps={tmp_path}"]
    folder = run(*line, trusted=["my_optimizer"], config_dir=Path(__file__).parent / "conf", quiet=True)
    assert (folder / "metrics.jsonl").read_text().count("\n") == 1
