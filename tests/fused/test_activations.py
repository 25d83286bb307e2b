"""The compiled activations against those of the network, their derivatives against autograd's."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lop_sweeps.fused.activations import CODES, ELEMENTWISE, activate, exponential, options_of
from lop_sweeps.networks.activations import choose

LARGE = [1.0, 5.0, 20.0, 50.0, 88.0, 700.0, 708.0, 709.0, 710.0, 745.0, 1000.0, 1e6, 1e30]
POINTS = [0.0, -0.0, *(sign * z for z in (1e-300, 1e-30, 1e-16, 1e-8, 1e-4, *LARGE) for sign in (1, -1))]
Z = np.concatenate([POINTS, np.linspace(-60, 60, 20_001), np.random.default_rng(0).normal(size=10_000)])
every = pytest.mark.parametrize("name", [*ELEMENTWISE, "crelu", "fourier"])
both = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def activated(name: str, z: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Features and their derivatives (features of a unit, z)."""
    kind = choose(name, channels=False)
    h, slope = np.tile(z, kind.features), np.full(kind.features * len(z), 7, z.dtype)
    activate(CODES[name], options_of(kind), len(z), h, slope)
    return h.reshape(kind.features, -1), slope.reshape(kind.features, -1)


def function(name: str) -> Any:
    """From z to (features of a unit, z)."""
    kind = choose(name, channels=False)
    return lambda z: kind.layer(1)(z.unsqueeze(-1)).T


@every
@both
def test_values_and_derivatives(name: str, dtype: type[np.floating[Any]]) -> None:
    """Errors are relative to 1 where the function itself is small: e^z - 1 cancels, as it may."""
    z = torch.from_numpy(Z.astype(dtype)).requires_grad_()
    expected = function(name)(z)
    derivative = torch.stack([torch.autograd.grad(one.sum(), z, retain_graph=True)[0] for one in expected])
    h, slope = activated(name, Z.astype(dtype))
    tolerance = (8 if name == "gelu" else 4) * float(np.finfo(dtype).eps)  # PyTorch's is in the given precision
    np.testing.assert_allclose(h, expected.detach().numpy(), rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(slope, derivative.numpy(), rtol=tolerance, atol=tolerance)


@every
@both
def test_nan_stays_nan_and_infinity_is_no_error(name: str, dtype: type[np.floating[Any]]) -> None:
    h, _ = activated(name, np.full(9, np.nan, dtype))
    assert np.isnan(h).all()
    z = np.array([np.inf, -np.inf], dtype)
    h, _ = activated(name, z)
    expected = function(name)(torch.from_numpy(z)).numpy()
    defined = ~np.isnan(expected)  # PyTorch's swish of -infinity is -infinity x 0
    np.testing.assert_allclose(h[defined], expected[defined], atol=1e-6)
    assert not np.isfinite(h[~defined]).any()


@every
def test_only_the_units_are_touched(name: str) -> None:
    h, slope = np.full(16, 0.5), np.full(16, 7.0)
    kind = choose(name, channels=False)
    features = 5 * kind.features
    activate(CODES[name], options_of(kind), 5, h, slope)
    assert (h[features:] == 0.5).all()
    assert (slope[features:] == 7.0).all()
    assert (slope[:features] != 7.0).all()


def _exponentials(x: NDArray[np.float64], out: NDArray[np.float64]) -> None:
    for i in range(len(x)):
        out[i] = exponential(x[i])


exponentials: Any = nb.njit(_exponentials)


def test_exponential() -> None:
    x = np.concatenate([np.linspace(-700, 700, 200_001), np.random.default_rng(1).uniform(-1, 1, 100_000), [0.0]])
    y = np.empty_like(x)
    exponentials(x, y)
    assert y[-1] == 1.0
    assert np.abs(y / np.exp(x) - 1).max() < 2e-15


def test_exponential_of_extremes() -> None:
    """No overflow and no zero, so that nothing is divided by either; NaN stays NaN."""
    x = np.array([-np.inf, -1e300, -1000.0, 1000.0, 1e300, np.inf, np.nan])
    y = np.empty_like(x)
    exponentials(x, y)
    assert np.isfinite(y[:6]).all()
    assert (y[:3] < 1e-300).all()
    assert (y[:3] > 0).all()
    assert (y[3:6] > 1e300).all()
    assert np.isnan(y[6])
