"""Gaussian noise on every weight at every step (shrink and perturb): drawn at each step, or only when it is seen.

A sum of independent normal variables is normal. So the noise of many steps on one row of weights may be drawn at
once, with the sum of their variances, when the row is next read: the joint distribution of everything that the
network ever computes is the same (`lazy`). Rows whose input is zero are not read, and most are zero.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from lop_sweeps.counter_random import _GOLDEN, _mix, normals, step_key
from lop_sweeps.fused.arrays import BLOCK, Array, Net, Noise
from lop_sweeps.fused.rows import OPTIONS
from lop_sweeps.fused.vector import bits_of_float32, float32_of_bits

_LOG2, _SQRT2 = math.log(2.0), math.sqrt(2.0)


@nb.njit(**OPTIONS)
def add_to_all(net: Net, noise: Noise, step: int, scale: float, draws: Array) -> None:
    """The noise of one step, the draws that the torch engine takes; weights are `scale` times those in net.w."""
    normals(noise.key, step, draws)
    kind = net.w.dtype.type
    at = 0
    for layer in range(len(net.layers)):
        base, stride, inputs, units = net.layers[layer]
        for j in range(units):
            for r in range(inputs):
                net.w[base + r * stride + j] += kind(draws[at]) * kind(noise.std) / kind(scale)
                at += 1
        for j in range(units):
            net.w[base + inputs * stride + j] += kind(draws[at]) * kind(noise.std) / kind(scale)
            at += 1


@nb.njit(inline="always")
def _logarithm(x: np.float32) -> np.float32:
    """Natural logarithm of x in (0, 1], by its exponent and a series; a few units in the last place."""
    bits = bits_of_float32(x)
    exponent = np.float32((bits >> np.int32(23)) - np.int32(127))
    mantissa = float32_of_bits((bits & np.int32(0x7FFFFF)) | np.int32(0x3F800000))
    s = (mantissa - np.float32(_SQRT2)) / (mantissa + np.float32(_SQRT2))  # log(mantissa / sqrt 2) = 2 artanh(s)
    z = s * s
    series = np.float32(2.0) + z * (
        np.float32(2 / 3) + z * (np.float32(2 / 5) + z * (np.float32(2 / 7) + z * np.float32(2 / 9)))
    )
    return (exponent + np.float32(0.5)) * np.float32(_LOG2) + s * series


# Sums may be taken in any order, and nothing here is infinite: the compiler may use vectors.
_ARITHMETIC = {**OPTIONS, "fastmath": {"reassoc", "contract", "nnan", "ninf", "nsz"}}


@nb.njit(**_ARITHMETIC)
def draw_normals(keys: Array, half: int, draws: Array) -> None:
    """Fill float32 `draws` (2, len(keys) * half) with standard normals by Box & Muller's method, 2 * half for a key.

    Accurate to float32. The uniform numbers have 24 bits, so none exceeds 5.8 (of normal variables, one in 10^8 does).
    """
    a, b = draws[0], draws[1]
    for k in range(len(keys)):
        key, at = keys[k], k * half
        for i in range(half):
            bits = _mix(key + np.uint64(i + 1) * _GOLDEN)
            a[at + i] = np.float32(np.int32(bits >> np.uint64(40)) + np.int32(1)) * np.float32(2.0**-24)
            b[at + i] = np.float32(np.int32(bits & np.uint64(0xFFFFFF))) * np.float32(2.0**-24)
    two = np.float32(2.0)
    for i in range(len(keys) * half):
        radius = np.sqrt(max(-two * _logarithm(a[i]), np.float32(0.0)))
        quarter = np.floor(np.float32(4.0) * b[i] + np.float32(0.5))  # see counter_random.normals
        t = (b[i] - np.float32(0.25) * quarter) * np.float32(2.0 * math.pi)
        u = t * t
        sine = t * (np.float32(1) - u * (np.float32(1 / 6) - u * (np.float32(1 / 120) - u * np.float32(1 / 5040))))
        cosine = np.float32(1 / 24) - u * (np.float32(1 / 720) - u * np.float32(1 / 40320))
        cosine = np.float32(1) - u * (np.float32(0.5) - u * cosine)
        turns = np.floor(np.float32(0.5) * quarter)
        odd = quarter - two * turns
        sign = np.float32(1) - two * (turns - two * np.floor(np.float32(0.5) * turns))
        even = np.float32(1) - odd
        a[i] = radius * sign * (even * cosine - odd * sine)
        b[i] = radius * sign * (even * sine + odd * cosine)


@nb.njit(**OPTIONS)
def settle(
    w: Array, layer: Array, rows: Array, n: int, now: float, settled: Array, key: np.uint64, draws: Array
) -> None:
    """Draw the lazy noise that rows[:n] of a layer (base, stride, inputs, units) have not had yet.

    now: variance of all noise on any one weight so far; settled (rows,): how much of it a row has had. key: of this
    layer and step. draws: float32 (2, >= BLOCK * half of the units).
    """
    base, stride, units = layer[0], layer[1], layer[3]
    half = (units + 1) // 2
    keys, due = np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.int64)
    k = 0
    while k < n:
        count = 0
        while k < n and count < BLOCK:
            if settled[rows[k]] < now:
                keys[count], due[count] = step_key(key, rows[k]), rows[k]
                count += 1
            k += 1
        draw_normals(keys[:count], half, draws)
        for c in range(count):
            row, at = due[c], c * half
            scale, start = np.float32(math.sqrt(now - settled[row])), base + row * stride
            for j in range(half):
                w[start + j] += scale * draws[0, at + j]
            for j in range(units - half):
                w[start + half + j] += scale * draws[1, at + j]
            settled[row] = now
