"""Is my_data what it should be, and does `lop` run it?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from my_data import MyData

from lop_sweeps import run


def test_it_has_what_it_says() -> None:
    data = MyData()
    train, test = data.training_set(Path("data")), data.test_set(Path("data"))
    assert train.images.shape == (data.training_images, *data.shape)
    assert test.images.shape[1:] == data.shape
    assert set(np.unique(train.labels)) == set(range(data.classes))
    assert train.images.max() <= data.BRIGHTEST


def test_lop_runs_it(tmp_path: Path) -> None:
    line = ["benchmark=stream", "benchmark/data=my_data", "scale=tiny", f"paths.sweeps={tmp_path}"]
    folder = run(*line, trusted=["my_data"], config_dir=Path(__file__).parent / "conf", quiet=True)
    assert (folder / "metrics.jsonl").read_text().count("\n") == 2
