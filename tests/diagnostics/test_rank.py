"""Ranks of a representation on matrices with known singular values, and against numpy's SVD."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.diagnostics import rank
from lop_sweeps.diagnostics.rank import RANKS

Floats = NDArray[np.float64]
EVERY = pytest.mark.parametrize("diagnostic", RANKS.values(), ids=RANKS)


def with_singular_values(values: list[float], samples: int = 30, units: int = 12, seed: int = 0) -> Tensor:
    """A dense matrix that has exactly these, between random orthogonal bases."""
    generator = np.random.default_rng(seed)
    left, _ = np.linalg.qr(generator.normal(size=(samples, len(values))))
    right, _ = np.linalg.qr(generator.normal(size=(units, len(values))))
    return torch.from_numpy(left @ np.diag(values) @ right.T)


def by_definition(sigma: Floats) -> dict[str, float]:
    """spec/metrics.md 1, in plain loops."""
    p = [s / sum(sigma) for s in sigma]
    squares = [s * s for s in sigma]
    return {
        "effective_rank": math.exp(-sum(x * math.log(x) for x in p if x > 0)),
        "approximate_rank": next(k for k in range(1, 1 + len(p)) if sum(squares[:k]) / sum(squares) >= 0.99),
        "srank99": next(k for k in range(1, 1 + len(p)) if sum(sigma[:k]) / sum(sigma) >= 0.99),
        "stable_rank_fro": sum(squares) / max(squares),
        "numerical_rank": sum(s > 1e-7 * max(sigma) for s in sigma),
    }


@pytest.mark.parametrize("shape", [(50, 20), (20, 50), (30, 30), (1, 7), (7, 1), (200, 5)])
def test_against_numpys_svd(shape: tuple[int, int]) -> None:
    h = np.maximum(np.random.default_rng(3).normal(size=shape), -0.3)
    sigma = np.linalg.svd(h, compute_uv=False)
    ours = rank.singular_values(torch.from_numpy(h))
    np.testing.assert_allclose(ours, sigma, rtol=1e-12, atol=1e-12)
    for name, expected in by_definition(sigma).items():
        assert float(RANKS[name](ours)) == pytest.approx(expected, rel=1e-12), name


@pytest.mark.parametrize(
    ("values", "effective", "approximate", "srank", "stable", "numerical"),
    [
        ([1.0] * 8, 8.0, 8, 8, 8.0, 8),
        ([5.0], 1.0, 1, 1, 1.0, 1),
        ([1.0, 1.0, 0.0, 0.0], 2.0, 2, 2, 2.0, 2),
        ([3.0, 1.0], math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))), 2, 2, 10 / 9, 2),
        (
            [10.0, 0.9],
            math.exp(-(10 / 10.9 * math.log(10 / 10.9) + 0.9 / 10.9 * math.log(0.9 / 10.9))),
            1,
            2,
            1.0081,
            2,
        ),
        ([2.0, 1e-5], 1.0 + 1e-4, 1, 1, 1.0, 2),
        ([2.0, 1e-9], 1.0, 1, 1, 1.0, 1),
    ],
)
def test_known_answers(
    values: list[float], effective: float, approximate: int, srank: int, stable: float, numerical: int
) -> None:
    sigma = rank.singular_values(with_singular_values(values))
    assert float(rank.effective_rank(sigma)) == pytest.approx(effective, rel=1e-4)
    assert float(rank.approximate_rank(sigma)) == approximate
    assert float(rank.srank99(sigma)) == srank
    assert float(rank.stable_rank_fro(sigma)) == pytest.approx(stable, rel=1e-9)
    assert float(rank.numerical_rank(sigma)) == numerical


def test_share_reached_exactly_counts() -> None:
    """At least 99 %: 99 of 100 equal values hold 99 % of their sum, and of the sum of squares."""
    ones = torch.ones(100, dtype=torch.float64)
    assert float(rank.srank99(ones)) == 99
    assert float(rank.approximate_rank(ones)) == 99
    assert float(rank.srank99(torch.tensor([98.0, 1.0, 1.0], dtype=torch.float64))) == 2
    assert float(rank.srank99(torch.tensor([99.0, 1.0], dtype=torch.float64))) == 1


def test_small_singular_values_of_a_matrix_of_low_rank_count_in_the_effective_rank() -> None:
    """Rounding activations to float32 spreads 50 values of some 1e-8 over a rank of 10: six digits feel it."""
    values = [1.0] * 10 + [1e-6] * 50
    sigma = rank.singular_values(with_singular_values(values, 300, 60))
    assert float(rank.effective_rank(sigma)) == pytest.approx(
        by_definition(np.array(values))["effective_rank"], rel=1e-9
    )
    tiny = [1.0] * 10 + [5e-9] * 50
    sigma = rank.singular_values(with_singular_values(tiny, 300, 60))
    assert float(rank.effective_rank(sigma)) == pytest.approx(by_definition(np.array(tiny))["effective_rank"], rel=1e-7)


def test_neither_centred_nor_scaled() -> None:
    """A constant layer has rank one, not zero; scaling changes nothing."""
    assert float(rank.effective_rank(rank.singular_values(torch.full((20, 6), 3.0)))) == pytest.approx(1.0)
    h = torch.randn(40, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for diagnostic in RANKS.values():
        one, other = (float(diagnostic(rank.singular_values(x))) for x in (h, 1e-4 * h))
        assert one == pytest.approx(other, rel=1e-10)


@EVERY
def test_all_zero_matrix_gives_numbers(diagnostic: Callable[[Tensor], Tensor]) -> None:
    """Rank 0, and 1 by every other measure, as in the authors' code."""
    expected = 0.0 if diagnostic is rank.numerical_rank else 1.0
    for shape in ((20, 6), (6, 20), (1, 1)):
        assert float(diagnostic(rank.singular_values(torch.zeros(shape)))) == expected


@EVERY
def test_one_number_per_run_as_for_each_run_alone(diagnostic: Callable[[Tensor], Tensor]) -> None:
    """To the last bit: a run's log must not depend on its pack."""
    h = torch.relu(torch.randn(5, 60, 9, generator=torch.Generator().manual_seed(1)) - 1.0)
    h[1, :, 2:] = 0.0
    h[3] = 0.0
    together = diagnostic(rank.singular_values(h))
    assert together.shape == (5,)
    assert together.dtype == torch.float64
    assert together.tolist() == [float(diagnostic(rank.singular_values(run[None]))) for run in h]
    assert torch.isfinite(together).all()


def test_float32_activations_are_computed_in_float64() -> None:
    h = torch.randn(100, 10, generator=torch.Generator().manual_seed(2))
    sigma = rank.singular_values(h)
    np.testing.assert_allclose(sigma, np.linalg.svd(h.double().numpy(), compute_uv=False), rtol=1e-13)
    assert sigma.dtype == torch.float64
