"""Samples of a layer's activations: maps, pooled representations, and parts put together, against loops in numpy."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.diagnostics.measure import LayerSample, join, sample
from lop_sweeps.diagnostics.rank import RANKS
from lop_sweeps.diagnostics.units import SHARES
from tests.diagnostics.packs import measured

Matrix = NDArray[np.float64]


def maps(seed: int = 0, shape: tuple[int, ...] = (2, 30, 9, 3, 4)) -> Tensor:
    """Activations (runs, samples, units, *positions) with every kind of unit in the first run.

    Unit 0 is dead; unit 1 is on at one position of one sample; unit 2 at the same position of every sample; unit 3 is
    tiny everywhere; unit 4 saturated and negative; the others are ReLU's.
    """
    h = torch.relu(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    first = h[0].flatten(2) if h.dim() > 3 else h[0].unsqueeze(-1)
    first[:, :5] = 0.0
    first[0, 1, 0] = 1.0
    first[:, 2, -1] = 2.0
    first[:, 3] = 1e-5
    first[:, 4] = -0.95
    h[0] = first.view(h[0].shape)
    return h


def of_units(h: Matrix) -> dict[str, float]:
    """The unit diagnostics of one run, h (samples, units, positions), value by value."""
    samples, units, positions = h.shape
    active, magnitude, saturated = [], [], []
    for u in range(units):
        values = [float(h[s, u, p]) for s in range(samples) for p in range(positions)]
        active.append(sum(value != 0.0 for value in values) / len(values))
        magnitude.append(math.fsum(abs(value) for value in values) / len(values))
        saturated.append(sum(abs(value) > 0.9 for value in values) / len(values))
    layer = math.fsum(magnitude) / units
    return {
        "dead_fraction": sum(share == 0.0 for share in active) / units,
        "dormant_fraction_tau0.025": sum(mean <= 0.025 * layer for mean in magnitude) / units,
        "rarely_active_fraction": sum(share < 0.01 for share in active) / units,
        "inactive_fraction": 1.0 - sum(active) / units,
        "saturated_fraction": sum(saturated) / units,
    }


def of_ranks(h: Matrix) -> dict[str, float]:
    """The rank diagnostics of one run from its means over positions, by numpy's singular values."""
    pooled = np.array([[h[s, u].mean() for u in range(h.shape[1])] for s in range(h.shape[0])])
    sigma = np.linalg.svd(pooled, compute_uv=False)
    p = sigma / sigma.sum()
    return {
        "effective_rank": float(np.exp(-sum(x * np.log(x) for x in p if x > 0))),
        "approximate_rank": _until(sigma**2),
        "srank99": _until(sigma),
        "stable_rank_fro": float((sigma**2).sum() / sigma[0] ** 2),
        "numerical_rank": float(sum(value > 1e-7 * sigma[0] for value in sigma)),
    }


def _until(values: Matrix) -> float:
    """How many of the largest values hold 99 % of the sum."""
    total, count = 0.0, 0
    while total < 0.99 * values.sum():
        total, count = total + values[count], count + 1
    return float(count)


@pytest.mark.parametrize(
    "shape", [(2, 30, 9), (2, 30, 9, 1), (2, 30, 9, 7), (2, 30, 9, 3, 4), (2, 8, 9, 5, 5)], ids=str
)
def test_channels_are_measured_over_samples_and_positions_and_ranks_over_means(shape: tuple[int, ...]) -> None:
    h = maps(shape=shape)
    found = measured([sample(h)], 2)
    for run in range(2):
        flat = h[run].reshape(shape[1], shape[2], -1).numpy()
        wanted = {**of_units(flat), **of_ranks(flat)}
        assert set(wanted) == {*SHARES, *RANKS} == set(found[run])
        for name, value in wanted.items():
            assert found[run][name] == pytest.approx([value], rel=1e-9), name
    assert found[0]["dead_fraction"] == [1 / 9]


def test_a_channel_that_is_on_at_one_position_of_one_image_is_alive_but_rarely_active() -> None:
    """1 of 360 values; by images it would be 1 of 30, which is not rare. The other one is on at 1 of 12 positions."""
    (first, _) = measured([sample(maps())], 2)
    assert first["dead_fraction"] == [1 / 9]
    assert first["rarely_active_fraction"] == [2 / 9]
    assert first["dormant_fraction_tau0.025"] == pytest.approx([3 / 9])  # these, and the tiny one


def test_means_over_positions_may_cancel() -> None:
    """A channel of +1 and -1 is active everywhere, and nothing in the representation."""
    h = torch.ones(1, 6, 2, 2)
    h[:, :, 0, 1] = -1.0
    (found,) = measured([sample(h)], 1)
    assert found["dead_fraction"] == [0.0]
    assert found["saturated_fraction"] == [1.0]
    assert found["numerical_rank"] == [1.0]


def test_layout_in_memory_does_not_matter() -> None:
    h = maps()
    twisted = h.movedim(2, -1).contiguous().movedim(-1, 2)
    assert twisted.stride() != h.stride()
    for ours, theirs in zip(_tensors(sample(twisted)), _tensors(sample(h)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-14, atol=0)


def _tensors(layer: LayerSample) -> list[Tensor]:
    return [*layer.statistics, layer.pooled]


@pytest.mark.parametrize("sizes", [[30], [15, 15], [10, 10, 10], [28, 2], [1, 29], [7, 7, 7, 7, 2], [1] * 30], ids=str)
def test_parts_put_together_are_the_whole(sizes: Sequence[int]) -> None:
    """Means over parts of unequal size are weighted; two layers, of maps and of units, stay apart."""
    layers = [maps(), maps(1, (2, 30, 6))]
    whole = [sample(h) for h in layers]
    chunks = list(zip(*[h.split(list(sizes), 1) for h in layers], strict=True))
    joined = join([[sample(h) for h in chunk] for chunk in chunks])
    assert len(joined) == 2
    for ours, theirs in zip(joined, whole, strict=True):
        assert torch.equal(ours.pooled, theirs.pooled)
        for one, other in zip(ours.statistics, theirs.statistics, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-15)
    for ours_, theirs_ in zip(measured(joined, 2), measured(whole, 2), strict=True):
        for name, values in ours_.items():
            assert values == pytest.approx(theirs_[name], rel=1e-9), name


@pytest.mark.parametrize("sizes", [[7] * 4 + [2], [1] * 30, [3, 27]], ids=str)
def test_a_unit_that_is_dead_in_all_parts_is_exactly_dead(sizes: Sequence[int]) -> None:
    """And one that is always on is active with a share that rounding keeps at or below 1."""
    h = maps()
    (joined,) = join([[sample(part)] for part in h.split(list(sizes), 1)])
    assert joined.statistics.active[0, 0] == 0.0
    assert joined.statistics.magnitude[0, 0] == 0.0
    assert float(joined.statistics.active.max()) <= 1.0 + 1e-12
    assert measured([joined], 2)[0]["dead_fraction"] == [1 / 9]


def test_a_network_without_hidden_layers_has_nothing_to_join() -> None:
    assert join([[], []]) == []
    assert join([[]]) == []
    assert measured([], 3) == [{name: [] for name in (*SHARES, *RANKS)}] * 3


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_run_that_is_not_finite_is_left_out_and_the_others_stay_as_they_are(bad: float, dtype: torch.dtype) -> None:
    """A decomposition of what is not finite would raise an error for the whole pack."""
    h = maps(shape=(3, 30, 9, 2, 2)).to(dtype)
    clean = measured([sample(h)], 3)
    h[1, 4, 5] = bad
    layer = sample(h)
    assert torch.isfinite(layer.statistics.magnitude).all(1).tolist() == [True, False, True]
    cut = layer.without(torch.tensor([False, True, False]))
    assert cut.pooled.dtype == dtype
    assert not cut.pooled[1].any()
    assert torch.equal(cut.pooled[[0, 2]], layer.pooled[[0, 2]])
    found = measured([cut], 3)
    assert found[0] == clean[0]
    assert found[2] == clean[2]


def test_inputs_are_left_alone_and_numbers_are_float64() -> None:
    h = maps().float()
    kept = h.clone()
    layer = sample(h)
    assert torch.equal(h, kept)
    assert {value.dtype for value in layer.statistics} == {torch.float64}
    assert layer.pooled.shape == (2, 30, 9)
