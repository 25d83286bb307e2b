"""All diagnostics of a pack at one moment: before a task, as in the paper, on the first examples of that task."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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


def measure_units(activations: Sequence[Tensor], runs: int) -> list[dict[str, list[float]]]:
    """Every unit and rank diagnostic of every run: activations [(runs, samples, units) per hidden layer].

    Returns one dictionary per run: name -> one value per hidden layer.
    """
    columns: dict[str, list[list[float]]] = {name: [] for name in (*UNIT_DIAGNOSTICS, *RANK_DIAGNOSTICS)}
    for h in activations:
        statistics, sigma = units.statistics(h), rank.singular_values(h)
        for name, of_units in UNIT_DIAGNOSTICS.items():
            columns[name].append(of_units(statistics).tolist())
        for name, of_values in RANK_DIAGNOSTICS.items():
            columns[name].append(of_values(sigma).tolist())
    return [{name: [layer[run] for layer in layers] for name, layers in columns.items()} for run in range(runs)]


def measure_weights(matrices: Sequence[Tensor]) -> Tensor:
    """Weight magnitude (matrices, runs) of weight matrices [(runs, ...)] from input to output."""
    return torch.stack([weights.weight_magnitude(weight) for weight in matrices])
