"""Counter-based random numbers: draw i of step t is a hash of (key, t, i).

The hash is the output function of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), applied to the key and step and again to the index; it passes BigCrush as a sequential
generator. Keys come from `streams.counter_key`. Compiled with numba, so that the same functions serve Python code
and compiled training loops, at a few nanoseconds a draw.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX2 = np.uint64(0x94D049BB133111EB)


@nb.njit(inline="always")
def _mix(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> np.uint64(30))) * _MIX1
    z = (z ^ (z >> np.uint64(27))) * _MIX2
    return z ^ (z >> np.uint64(31))


@nb.njit(inline="always")
def step_key(key: np.uint64, step: int) -> np.uint64:
    """The key of one step's draws."""
    return _mix(key + np.uint64(step + 1) * _GOLDEN)


@nb.njit(inline="always")
def uniform(stepkey: np.uint64, index: int) -> float:
    """Draw `index` of a step: uniform on [0, 1), 53 bits."""
    return np.float64(_mix(stepkey + np.uint64(index + 1) * _GOLDEN) >> np.uint64(11)) * 2.0**-53


@nb.njit(cache=True, nogil=True)
def uniforms(key: np.uint64, step: int, first: int, out: NDArray[np.float64]) -> None:
    """Fill `out` (n,) with draws first, first + 1, … of `step`: uniform on [0, 1)."""
    stepkey = step_key(key, step)
    for i in range(out.size):
        out[i] = uniform(stepkey, first + i)


@nb.njit(cache=True, nogil=True)
def normals(key: np.uint64, step: int, out: NDArray[np.float64]) -> None:
    """Fill `out` (n,) with standard normal draws of `step` (Box-Muller, two a pair of uniforms)."""
    stepkey = step_key(key, step)
    for i in range(0, out.size, 2):
        radius = math.sqrt(-2.0 * math.log(1.0 - uniform(stepkey, i)))
        angle = 2.0 * math.pi * uniform(stepkey, i + 1)
        out[i] = radius * math.cos(angle)
        if i + 1 < out.size:
            out[i + 1] = radius * math.sin(angle)
