"""All diagnostics of a pack at one moment: before a task, as in the paper, on the first examples of that task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lop_sweeps.diagnostics import rank, units, weights

PROBE_SAMPLES = 2_000  # as in the paper; fewer where a task is shorter

UNIT_DIAGNOSTICS: dict[str, Callable[[units.UnitStatistics], Tensor]] = {
    "dead_fraction": units.dead_fraction,
    "dormant_fraction_tau0.025": units.dormant_fraction,
    "rarely_active_fraction": units.rarely_active_fraction,
    "inactive_fraction": units.inactive_fraction,
    "saturated_fraction": units.saturated_fraction,
}
RANK_DIAGNOSTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "effective_rank": rank.effective_rank,
    "approximate_rank": rank.approximate_rank,
    "srank99": rank.srank99,
    "stable_rank_fro": rank.stable_rank_fro,
    "numerical_rank": rank.numerical_rank,
}


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


def measure_units(layers: Sequence[LayerSample], runs: int) -> list[dict[str, list[float]]]:
    """Every unit and rank diagnostic of every run; one dictionary per run: name -> one value per hidden layer."""
    columns: dict[str, list[list[float]]] = {name: [] for name in (*UNIT_DIAGNOSTICS, *RANK_DIAGNOSTICS)}
    for statistics, pooled in layers:
        sigma = rank.singular_values(pooled)
        for name, of_units in UNIT_DIAGNOSTICS.items():
            columns[name].append(of_units(statistics).tolist())
        for name, of_values in RANK_DIAGNOSTICS.items():
            columns[name].append(of_values(sigma).tolist())
    return [{name: [values[run] for values in lists] for name, lists in columns.items()} for run in range(runs)]


def deaths_and_revivals(before: Sequence[Tensor], now: Sequence[Tensor]) -> list[dict[str, list[float]]]:
    """Which units (runs, units) of each hidden layer are dead at one probe and at the next -> per run, for each layer,
    how many died and how many came back (replaced units among them): dead now = dead before + died - revived.
    """
    died = [(after & ~prior).sum(-1).tolist() for prior, after in zip(before, now, strict=True)]
    revived = [(prior & ~after).sum(-1).tolist() for prior, after in zip(before, now, strict=True)]
    runs = len(now[0])
    return [
        {"died_units": [layer[run] for layer in died], "revived_units": [layer[run] for layer in revived]}
        for run in range(runs)
    ]


def measure_weights(matrices: Sequence[Tensor]) -> Tensor:
    """Weight magnitude (matrices, runs) of weight matrices [(runs, ...)] from input to output."""
    return torch.stack([weights.weight_magnitude(weight) for weight in matrices])
