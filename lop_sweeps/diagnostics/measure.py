"""What diagnostics look at, before a task: samples of the activations of a pack's hidden layers, and its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lop_sweeps.diagnostics import units
from lop_sweeps.diagnostics.weight_magnitude import weight_magnitude

PROBE_SAMPLES = 2_000  # as in the paper; fewer where a task is shorter


class LayerSample(NamedTuple):
    """What diagnostics need of one hidden layer: statistics of its units; `pooled` (runs, samples, units)."""

    statistics: units.UnitStatistics
    pooled: Tensor

    def without(self, unusable: Tensor) -> LayerSample:
        """With zeros for runs (runs,) that are not finite."""
        return LayerSample(self.statistics, torch.where(unusable[:, None, None], 0, self.pooled))


def sample(activations: Tensor) -> LayerSample:
    """Of activations (runs, samples, units), or of maps (runs, samples, units, *positions).

    A channel's statistics are over samples and positions; its activation in the representation whose rank is measured
    is the mean over positions.
    """
    if activations.dim() == 3:
        return LayerSample(units.statistics(activations), activations)
    rows = activations.movedim(2, -1).flatten(1, -2)
    return LayerSample(units.statistics(rows), activations.flatten(3).mean(3))


def join(parts: Sequence[Sequence[LayerSample]]) -> list[LayerSample]:
    """Samples [part][layer] of the same layers, one after another."""
    if len(parts) == 1:
        return list(parts[0])
    joined = []
    for layer in zip(*parts, strict=True):
        sizes = [part.pooled.shape[1] for part in layer]
        sums = [[size * values for values in part.statistics] for size, part in zip(sizes, layer, strict=True)]
        statistics = units.UnitStatistics(*(sum(each) / sum(sizes) for each in zip(*sums, strict=True)))
        joined.append(LayerSample(statistics, torch.cat([part.pooled for part in layer], 1)))
    return joined


def measure_weights(matrices: Sequence[Tensor]) -> Tensor:
    """Weight magnitude (matrices, runs) of weight matrices [(runs, ...)] from input to output."""
    return torch.stack([weight_magnitude(weight) for weight in matrices])
