"""Gaussian noise on every weight at every step (shrink and perturb): drawn at each step, or only when it is seen.

A sum of independent normal variables is normal. So the noise of many steps on one row of weights may be drawn at
once, with the sum of their variances, when the row is next read: the joint distribution of everything that the
network ever computes is the same (`lazy`). Rows whose input is zero are not read, and most are zero.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from lop_sweeps.counter_random import _GOLDEN, _mix, normals
from lop_sweeps.fused.arrays import Array, Net, Noise
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


@nb.njit(**OPTIONS)
def draw_normals(key: np.uint64, draws: Array) -> None:
    """Fill float32 `draws` (even length) with standard normals by Box & Muller's method, 24 bits a uniform number.

    Accurate to float32; none exceeds 5.8 (of normal variables, one in 10^8 does).
    """
    half = draws.size // 2
    a, b = draws[:half], draws[half:]
    for i in range(half):
        bits = _mix(key + np.uint64(i + 1) * _GOLDEN)
        a[i] = np.float32(np.int32(bits >> np.uint64(40)) + np.int32(1)) * np.float32(2.0**-24)
        b[i] = np.float32(np.int32(bits & np.uint64(0xFFFFFF))) * np.float32(2.0**-24)
    two = np.float32(2.0)
    for i in range(half):
        radius = math.sqrt(max(-two * _logarithm(a[i]), np.float32(0.0)))
        quarter = np.float32(math.floor(np.float32(4.0) * b[i] + np.float32(0.5)))  # see counter_random.normals
        t = (b[i] - np.float32(0.25) * quarter) * np.float32(2.0 * math.pi)
        u = t * t
        sine = t * (np.float32(1) - u * (np.float32(1 / 6) - u * (np.float32(1 / 120) - u * np.float32(1 / 5040))))
        cosine = np.float32(1 / 24) - u * (np.float32(1 / 720) - u * np.float32(1 / 40320))
        cosine = np.float32(1) - u * (np.float32(0.5) - u * cosine)
        turns = np.float32(math.floor(np.float32(0.5) * quarter))
        odd = quarter - two * turns
        sign = np.float32(1) - two * (turns - two * np.float32(math.floor(np.float32(0.5) * turns)))
        even = np.float32(1) - odd
        a[i] = radius * sign * (even * cosine - odd * sine)
        b[i] = radius * sign * (even * sine + odd * cosine)


@nb.njit(**OPTIONS)
def add_to_row(w: Array, start: int, units: int, std: float, key: np.uint64, draws: Array) -> None:
    """Noise of standard deviation `std` on w[start : start + units]; draws: float32, an even number >= units."""
    draw_normals(key, draws)
    scale = np.float32(std)
    for j in range(units):
        w[start + j] += scale * draws[j]
