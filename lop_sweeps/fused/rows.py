"""Products with, and updates of, rows of a weight matrix.

A layer's weights lie in a flat array as [inputs, units]: row r starts at `base + r * stride` and is padded with zeros
to `stride`, a whole number of vectors. So the weights that leave one input are contiguous, and an input that is zero
costs nothing: its row is neither read nor written. Rows are taken several at a time, which saves traffic of the
operand they share and hides the latency of the sums.

In all functions `rows` and `values` hold `n` row numbers and the inputs that belong to them.
"""

from __future__ import annotations

from typing import Any

import numba as nb

from lop_sweeps.fused.vector import fma, lanes, load, magnitude, splat, store, total

Array = Any
# fastmath: numba would take the caller's, and keep the first one's for all (see `compiling.njit`).
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}


@nb.njit(**OPTIONS)
def gather(w: Array, base: int, stride: int, rows: Array, values: Array, n: int, scale: float, out: Array) -> None:
    """out (stride,) += scale * sum over k of values[k] * row rows[k]."""
    kind = w.dtype.type
    k = 0
    while k + 8 <= n:
        r0, r1 = base + rows[k] * stride, base + rows[k + 1] * stride
        r2, r3 = base + rows[k + 2] * stride, base + rows[k + 3] * stride
        r4, r5 = base + rows[k + 4] * stride, base + rows[k + 5] * stride
        r6, r7 = base + rows[k + 6] * stride, base + rows[k + 7] * stride
        x0, x1 = splat(w, kind(scale * values[k])), splat(w, kind(scale * values[k + 1]))
        x2, x3 = splat(w, kind(scale * values[k + 2])), splat(w, kind(scale * values[k + 3]))
        x4, x5 = splat(w, kind(scale * values[k + 4])), splat(w, kind(scale * values[k + 5]))
        x6, x7 = splat(w, kind(scale * values[k + 6])), splat(w, kind(scale * values[k + 7]))
        for j in range(0, stride, lanes(w)):
            h = load(out, j)
            h = fma(x0, load(w, r0 + j), h)
            h = fma(x1, load(w, r1 + j), h)
            h = fma(x2, load(w, r2 + j), h)
            h = fma(x3, load(w, r3 + j), h)
            h = fma(x4, load(w, r4 + j), h)
            h = fma(x5, load(w, r5 + j), h)
            h = fma(x6, load(w, r6 + j), h)
            h = fma(x7, load(w, r7 + j), h)
            store(out, j, h)
        k += 8
    while k < n:
        r0, x0 = base + rows[k] * stride, splat(w, kind(scale * values[k]))
        for j in range(0, stride, lanes(w)):
            store(out, j, fma(x0, load(w, r0 + j), load(out, j)))
        k += 1


@nb.njit(**OPTIONS)
def update_row(w: Array, start: int, stride: int, scale: float, delta: Array) -> None:
    """w[start : start + stride] += scale * delta (stride,)."""
    x = splat(w, w.dtype.type(scale))
    for j in range(0, stride, lanes(w)):
        store(w, start + j, fma(x, load(delta, j), load(w, start + j)))


@nb.njit(**OPTIONS)
def dots(w: Array, base: int, stride: int, rows: Array, n: int, delta: Array, out: Array) -> None:
    """out[k] = row rows[k] . delta."""
    zero = splat(w, w.dtype.type(0))
    k = 0
    while k + 4 <= n:
        r0, r1 = base + rows[k] * stride, base + rows[k + 1] * stride
        r2, r3 = base + rows[k + 2] * stride, base + rows[k + 3] * stride
        s0, s1, s2, s3 = zero, zero, zero, zero
        for j in range(0, stride, lanes(w)):
            d = load(delta, j)
            s0, s1 = fma(load(w, r0 + j), d, s0), fma(load(w, r1 + j), d, s1)
            s2, s3 = fma(load(w, r2 + j), d, s2), fma(load(w, r3 + j), d, s3)
        out[k], out[k + 1], out[k + 2], out[k + 3] = total(s0), total(s1), total(s2), total(s3)
        k += 4
    while k < n:
        r0, s0 = base + rows[k] * stride, zero
        for j in range(0, stride, lanes(w)):
            s0 = fma(load(w, r0 + j), load(delta, j), s0)
        out[k] = total(s0)
        k += 1


@nb.njit(**OPTIONS)
def update(
    w: Array,
    base: int,
    stride: int,
    rows: Array,
    values: Array,
    n: int,
    scale: float,
    delta: Array,
    products: Array | None,
    row_sums: Array | None,
    column_sums: Array | None,
) -> None:
    """Row rows[k] += scale * values[k] * delta: a gradient of rank one, never written down.

    In the same pass, where asked for (the others are None, and cost nothing): products[k] = row rows[k] . delta,
    before the update; and sums of |w| after it, row_sums (inputs,) anew and column_sums (stride,) by the difference.
    """
    kind = w.dtype.type
    zero = splat(w, kind(0))
    k = 0
    while k + 4 <= n:
        r0, r1 = base + rows[k] * stride, base + rows[k + 1] * stride
        r2, r3 = base + rows[k + 2] * stride, base + rows[k + 3] * stride
        x0, x1 = splat(w, kind(scale * values[k])), splat(w, kind(scale * values[k + 1]))
        x2, x3 = splat(w, kind(scale * values[k + 2])), splat(w, kind(scale * values[k + 3]))
        s0, s1, s2, s3 = zero, zero, zero, zero
        m0, m1, m2, m3 = zero, zero, zero, zero
        for j in range(0, stride, lanes(w)):
            d = load(delta, j)
            v0, v1, v2, v3 = load(w, r0 + j), load(w, r1 + j), load(w, r2 + j), load(w, r3 + j)
            u0, u1, u2, u3 = fma(x0, d, v0), fma(x1, d, v1), fma(x2, d, v2), fma(x3, d, v3)
            store(w, r0 + j, u0)
            store(w, r1 + j, u1)
            store(w, r2 + j, u2)
            store(w, r3 + j, u3)
            if products is not None:
                s0, s1, s2, s3 = fma(v0, d, s0), fma(v1, d, s1), fma(v2, d, s2), fma(v3, d, s3)
            if column_sums is not None:
                before = (magnitude(v0) + magnitude(v1)) + (magnitude(v2) + magnitude(v3))
                u0, u1, u2, u3 = magnitude(u0), magnitude(u1), magnitude(u2), magnitude(u3)
                m0, m1, m2, m3 = m0 + u0, m1 + u1, m2 + u2, m3 + u3
                store(column_sums, j, load(column_sums, j) + (((u0 + u1) + (u2 + u3)) - before))
        if products is not None:
            products[k], products[k + 1], products[k + 2], products[k + 3] = total(s0), total(s1), total(s2), total(s3)
        if row_sums is not None:
            row_sums[rows[k]], row_sums[rows[k + 1]] = total(m0), total(m1)
            row_sums[rows[k + 2]], row_sums[rows[k + 3]] = total(m2), total(m3)
        k += 4
    while k < n:
        r0, x0, s0, m0 = base + rows[k] * stride, splat(w, kind(scale * values[k])), zero, zero
        for j in range(0, stride, lanes(w)):
            d, v0 = load(delta, j), load(w, r0 + j)
            u0 = fma(x0, d, v0)
            store(w, r0 + j, u0)
            if products is not None:
                s0 = fma(v0, d, s0)
            if column_sums is not None:
                u0 = magnitude(u0)
                m0 = m0 + u0
                store(column_sums, j, load(column_sums, j) + (u0 - magnitude(v0)))
        if products is not None:
            products[k] = total(s0)
        if row_sums is not None:
            row_sums[rows[k]] = total(m0)
        k += 1


@nb.njit(**OPTIONS)
def sum_magnitudes(w: Array, base: int, stride: int, inputs: int, row_sums: Array, column_sums: Array) -> None:
    """row_sums (inputs,) and column_sums (stride,) of |w|, from scratch."""
    zero = splat(w, w.dtype.type(0))
    for j in range(0, stride, lanes(w)):
        store(column_sums, j, zero)
    for r in range(inputs):
        m = zero
        for j in range(0, stride, lanes(w)):
            v = magnitude(load(w, base + r * stride + j))
            m = m + v
            store(column_sums, j, load(column_sums, j) + v)
        row_sums[r] = total(m)
