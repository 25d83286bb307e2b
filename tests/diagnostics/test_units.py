"""Diagnostics of units on matrices made by hand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lop_sweeps.diagnostics import units
from lop_sweeps.diagnostics.measure import sample
from tests.diagnostics.packs import measured

# (4 samples, 5 units): always on; once on; dead; tiny but on; negative.
HAND = torch.tensor(
    [
        [1.0, 0.0, 0.0, 1e-9, -0.95],
        [2.0, 0.0, 0.0, 1e-9, -0.10],
        [3.0, 4.0, 0.0, 1e-9, 0.00],
        [2.0, 0.0, 0.0, 1e-9, -0.91],
    ]
)
EVERY = pytest.mark.parametrize("diagnostic", units.SHARES.values(), ids=units.SHARES)


def test_dead_means_exactly_zero_on_every_sample() -> None:
    """A tiny activation is alive, and so is a negative one."""
    assert units.dead_fraction(units.statistics(HAND)) == 1 / 5
    assert units.dead_fraction(units.statistics(HAND[:2])) == 2 / 5
    assert units.dead_fraction(units.statistics(-HAND)) == 1 / 5


def test_dormant_is_relative_to_the_layers_mean_magnitude() -> None:
    """Mean |h| of the units: 2, 1, 0, 1e-9, 0.49; of the layer: 0.698."""
    assert units.dormant_fraction(units.statistics(HAND)) == 2 / 5  # 0 and 1e-9
    assert units.dormant_fraction(units.statistics(HAND), tau=0.49 / 0.698 + 1e-6) == 3 / 5
    assert units.dormant_fraction(units.statistics(HAND), tau=0.49 / 0.698 - 1e-6) == 2 / 5
    assert units.dormant_fraction(units.statistics(1e-6 * HAND)) == 2 / 5
    on_the_edge = torch.tensor([[0.25, 1.75]])
    assert units.dormant_fraction(units.statistics(on_the_edge), tau=0.25) == 1 / 2  # at most tau


def test_rarely_active_is_on_less_than_one_percent_of_the_samples() -> None:
    h = torch.zeros(200, 4)
    h[:1, 0] = 1.0  # 0.5 %
    h[:2, 1] = -1.0  # exactly 1 %
    h[:3, 2] = 1.0  # 1.5 %
    assert units.rarely_active_fraction(units.statistics(h)) == 2 / 4
    assert units.rarely_active_fraction(units.statistics(HAND)) == 1 / 5


def test_inactive_counts_single_activations() -> None:
    assert units.inactive_fraction(units.statistics(HAND)) == 8 / 20


def test_saturated_is_above_nine_tenths_in_magnitude() -> None:
    assert units.saturated_fraction(units.statistics(HAND)) == 7 / 20
    on_the_edge = torch.tensor([[0.9, -0.9, 0.91, -0.91]], dtype=torch.float64)
    assert units.saturated_fraction(units.statistics(on_the_edge)) == 2 / 4


@EVERY
def test_silent_layer_gives_numbers(diagnostic: Callable[[units.UnitStatistics], Tensor]) -> None:
    value = float(diagnostic(units.statistics(torch.zeros(10, 3))))
    assert value == (0.0 if diagnostic is units.saturated_fraction else 1.0)


@EVERY
def test_one_number_per_run_as_for_each_run_alone(diagnostic: Callable[[units.UnitStatistics], Tensor]) -> None:
    generator = torch.Generator().manual_seed(0)
    h = torch.relu(torch.randn(6, 50, 7, generator=generator) - 1.5)
    h[0], h[1, :, :3] = 0.0, 0.0
    together = diagnostic(units.statistics(h))
    assert together.shape == (6,)
    assert together.dtype == torch.float64
    assert together.tolist() == [float(diagnostic(units.statistics(run))) for run in h]
    assert bool(((together >= 0) & (together <= 1)).all())
    assert len(set(together.tolist())) > 2


def test_measured_by_name_layer_and_run() -> None:
    """One dictionary per run, one value per hidden layer, from input to output."""
    first, second = torch.stack([HAND, 0 * HAND]), torch.ones(2, 4, 3)
    found = measured([sample(first), sample(second)], 2)
    assert [run["dead_fraction"] for run in found] == [[1 / 5, 0.0], [1.0, 0.0]]
    assert [run["saturated_fraction"] for run in found] == [[7 / 20, 1.0], [0.0, 1.0]]
    assert [run["effective_rank"][1] for run in found] == pytest.approx([1.0, 1.0])
    assert [run["numerical_rank"] for run in found] == [[3.0, 1.0], [0.0, 1.0]]  # 1e-9 counts as 0
    assert measured([], 2)[1]["dead_fraction"] == []
