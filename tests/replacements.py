"""Replacements at will, for tests of continual backprop."""

from __future__ import annotations

import numpy as np
import torch

from lop_sweeps.algorithms.continual_backprop import PackedContinualBackprop


def force(packed: PackedContinualBackprop, step: int, counts: dict[tuple[int, int], int]) -> None:
    """Replace now: {(hidden layer, run): number of units}, whatever the schedule says."""
    packed.first_step = step
    packed.counts = np.zeros((1, len(packed.layers), len(packed.options)), np.int64)
    for (layer, run), number in counts.items():
        packed.counts[0, layer, run] = number
    packed.due = np.array([True])
    with torch.no_grad():
        packed.after_update(step)
