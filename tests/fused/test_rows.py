"""Products with rows of a padded weight matrix, and updates of them, against numpy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lop_sweeps.fused.rows import dots, gather, sum_magnitudes, update, update_row
from lop_sweeps.fused.vector import LANES

BASE, INPUTS = 48, 23
both = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
vectors = pytest.mark.parametrize("stride_vectors", [1, 2, 3, 7])


@dataclass
class Case:
    """A matrix (inputs, stride) inside a longer array, n of its rows, and what belongs to them."""

    w: NDArray[Any]
    stride: int
    n: int
    rows: NDArray[np.int32]
    values: NDArray[Any]
    delta: NDArray[Any]

    @property
    def matrix(self) -> NDArray[np.float64]:
        return self.w[BASE : BASE + INPUTS * self.stride].astype(np.float64).reshape(INPUTS, self.stride)

    @property
    def chosen(self) -> NDArray[np.int32]:
        return self.rows[: self.n]


def case(dtype: type[np.floating[Any]], stride_vectors: int, n: int) -> Case:
    generator = np.random.default_rng([stride_vectors, n])
    stride = stride_vectors * LANES[np.dtype(dtype).name]
    return Case(
        generator.normal(size=BASE + INPUTS * stride + 16).astype(dtype),
        stride,
        n,
        generator.permutation(INPUTS).astype(np.int32),  # more than n: the others are to be left alone
        generator.normal(size=INPUTS).astype(dtype),
        generator.normal(size=stride).astype(dtype),
    )


def assert_close(found: NDArray[Any], expected: NDArray[np.float64]) -> None:
    tolerance = 2e-5 if found.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


@both
@vectors
def test_gather(dtype: type[np.floating[Any]], stride_vectors: int) -> None:
    for n in range(21):
        c = case(dtype, stride_vectors, n)
        out, before = c.delta.copy(), c.w.copy()
        gather(c.w, BASE, c.stride, c.rows, c.values, n, 0.7, out)
        assert_close(out, c.delta + 0.7 * c.values[:n].astype(np.float64) @ c.matrix[c.chosen])
        np.testing.assert_array_equal(c.w, before)


@both
@vectors
def test_dots(dtype: type[np.floating[Any]], stride_vectors: int) -> None:
    for n in range(21):
        c = case(dtype, stride_vectors, n)
        out = np.full(INPUTS, 7, dtype)
        dots(c.w, BASE, c.stride, c.rows, n, c.delta, out)
        assert_close(out[:n], c.matrix[c.chosen] @ c.delta.astype(np.float64))
        assert (out[n:] == 7).all()


@both
@vectors
@pytest.mark.parametrize("asked", ["nothing", "products", "sums", "products and sums"])
def test_update(dtype: type[np.floating[Any]], stride_vectors: int, asked: str) -> None:
    for n in range(21):
        c = case(dtype, stride_vectors, n)
        before, outside = c.matrix, c.w.copy()
        products = np.full(INPUTS, 7, dtype) if "products" in asked else None
        row_sums, column_sums = np.abs(before).sum(1).astype(dtype), np.abs(before).sum(0).astype(dtype)
        sums = (row_sums, column_sums) if "sums" in asked else (None, None)
        update(c.w, BASE, c.stride, c.rows, c.values, n, -0.3, c.delta, products, *sums)
        expected = before.copy()
        expected[c.chosen] += np.outer(-0.3 * c.values[:n].astype(np.float64), c.delta)
        assert_close(c.w[BASE : BASE + INPUTS * c.stride].reshape(INPUTS, c.stride), expected)
        untouched = np.setdiff1d(np.arange(INPUTS), c.chosen)
        np.testing.assert_array_equal(c.matrix[untouched], before[untouched])
        np.testing.assert_array_equal(c.w[:BASE], outside[:BASE])
        np.testing.assert_array_equal(c.w[-16:], outside[-16:])
        if products is not None:
            assert_close(products[:n], before[c.chosen] @ c.delta.astype(np.float64))
            assert (products[n:] == 7).all()
        after = expected if "sums" in asked else before
        assert_close(row_sums, np.abs(after).sum(1))
        assert_close(column_sums, np.abs(after).sum(0))


@both
@vectors
def test_update_row(dtype: type[np.floating[Any]], stride_vectors: int) -> None:
    c = case(dtype, stride_vectors, 0)
    expected = c.w.astype(np.float64)
    expected[BASE : BASE + c.stride] += 0.3 * c.delta
    update_row(c.w, BASE, c.stride, 0.3, c.delta)
    assert_close(c.w, expected)


@both
@vectors
@pytest.mark.parametrize("inputs", [1, 2, 5, INPUTS])
def test_sum_magnitudes(dtype: type[np.floating[Any]], stride_vectors: int, inputs: int) -> None:
    c = case(dtype, stride_vectors, 0)
    row_sums, column_sums = np.full(INPUTS, 7, dtype), np.full(c.stride, 7, dtype)
    sum_magnitudes(c.w, BASE, c.stride, inputs, row_sums, column_sums)
    assert_close(row_sums[:inputs], np.abs(c.matrix[:inputs]).sum(1))
    assert (row_sums[inputs:] == 7).all()
    assert_close(column_sums, np.abs(c.matrix[:inputs]).sum(0))


@both
def test_padding_stays_zero(dtype: type[np.floating[Any]]) -> None:
    """Where a row and its delta are padded with zeros, an update leaves zeros."""
    c = case(dtype, 2, 20)
    units = c.stride - 3
    c.w[BASE : BASE + INPUTS * c.stride].reshape(INPUTS, c.stride)[:, units:] = 0
    c.delta[units:] = 0
    column_sums = np.zeros(c.stride, dtype)
    update(c.w, BASE, c.stride, c.rows, c.values, 20, 0.3, c.delta, None, np.zeros(INPUTS, dtype), column_sums)
    assert not c.matrix[:, units:].any()
    assert not column_sums[units:].any()
