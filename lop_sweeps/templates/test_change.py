"""Is my_change what it should be, and does `lop` run it?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from my_change import MyChange

from lop_sweeps import run
from lop_sweeps.changes.change import Pool

LABELS = np.arange(3_000) % 10
POOL = Pool(LABELS, LABELS[:100], classes=10, pixels=64)


def test_a_task_is_the_same_whenever_it_is_asked_for() -> None:
    one, again = MyChange().view(POOL, seed=0, index=1), MyChange().view(POOL, seed=0, index=1)
    assert np.array_equal(one.train.rows, again.train.rows)
    assert len(one.train.rows) == MyChange().images(1, len(LABELS))
    assert np.array_equal(one.train.labels, LABELS[one.train.rows])


def test_tasks_and_seeds_differ() -> None:
    first, second, other = (MyChange().view(POOL, *which).train.rows for which in ((0, 0), (0, 1), (1, 0)))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_lop_runs_it(tmp_path: Path) -> None:
    for protocol in ("online", "epochs"):
        line = ["benchmark=stream", "benchmark/data=digits", f"benchmark/protocol={protocol}"]
        line += ["benchmark/change=my_change", "scale=tiny", f"paths.sweeps={tmp_path}"]
        folder = run(*line, trusted=["my_change"], config_dir=Path(__file__).parent / "conf", quiet=True)
        assert (folder / "metrics.jsonl").read_text().count("\n") == 2
