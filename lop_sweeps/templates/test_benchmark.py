"""Is my_benchmark what it should be, and does `lop` run it?"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from my_benchmark import MyBenchmark

from lop_sweeps import run


def loaded() -> MyBenchmark:
    benchmark = MyBenchmark(num_tasks=3, examples_per_task=200)
    benchmark.load(Path("data"))
    return benchmark


def test_a_task_is_the_same_whenever_it_is_asked_for() -> None:
    benchmark = loaded()
    x, y = benchmark.task(seed=0, index=1).examples(0, 200)
    again, labels = loaded().task(seed=0, index=1).examples(0, 200)
    assert (x.shape, y.shape) == ((200, benchmark.inputs), (200,))
    assert np.array_equal(x, again)
    assert np.array_equal(y, labels)
    part, its_labels = benchmark.task(seed=0, index=1).examples(50, 60)
    assert np.array_equal(part, x[50:60])
    assert np.array_equal(its_labels, y[50:60])


def test_tasks_and_seeds_differ() -> None:
    benchmark = loaded()
    labels = [benchmark.task(seed, index).examples(0, 200)[1] for seed, index in ((0, 0), (0, 1), (1, 0))]
    assert all(not np.array_equal(one, other) for one, other in zip(labels, [*labels[1:], labels[0]], strict=True))


def test_lop_runs_it(tmp_path: Path) -> None:
    line = ["benchmark=my_benchmark", "scale=tiny", "benchmark.num_tasks=1", f"paths.sweeps={tmp_path}"]
    folder = run(*line, trusted=["my_benchmark"], config_dir=Path(__file__).parent / "conf", quiet=True)
    assert (folder / "metrics.jsonl").read_text().count("\n") == 1
