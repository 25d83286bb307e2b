"""Examples gathered on a device are those that the tasks make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lop_sweeps.benchmarks.permuted_digits import PermutedDigits
from lop_sweeps.training.examples import Examples, _permute_the_same


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gathered_examples_are_the_tasks_own_bit_for_bit(dtype: torch.dtype) -> None:
    """Across the end of the order, too, after which a longer task repeats it."""
    benchmark = PermutedDigits(num_tasks=3, examples_per_task=4_000, batch_size=5)
    benchmark.load(Path())
    tasks = [benchmark.task(seed, index) for seed, index in ((0, 1), (4, 2))]
    assert _permute_the_same(tasks)
    examples = Examples(torch.device("cpu"), dtype, targets=False)
    expected, labels = examples.block(tasks, 5, 1_780, 8)
    xs, ys = examples._gathered(tasks, 1_780, 1_820)
    assert torch.equal(xs.view(2, 8, 5, -1).transpose(0, 1), expected)
    assert torch.equal(ys.view(2, 8, 5).transpose(0, 1), labels)


def test_a_task_that_gives_fewer_examples_than_it_was_asked_for_is_refused() -> None:
    benchmark = PermutedDigits(num_tasks=1, examples_per_task=100)
    benchmark.load(Path())
    full = benchmark.task(0, 0)

    class Short:
        def examples(self, start: int, stop: int) -> tuple[Any, Any]:
            return full.examples(start, stop - 1)

    with pytest.raises(ValueError, match="gave 19 examples and 19 labels or targets when asked for examples 40 to 59"):
        Examples(torch.device("cpu"), torch.float64, targets=False).block([Short()], 10, 40, 2)
