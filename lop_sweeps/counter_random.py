"""Counter-based random numbers: draw i of step t is a hash of (key, t, i).

The hash is the output function of SplitMix64 (Steele, Lea & Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), applied to the key and step and again to the index; it passes BigCrush as a sequential
generator. Keys come from `streams.counter_key`. Compiled with numba, so that the same functions serve Python code
and compiled training loops, at a few nanoseconds a draw; and written with tensors, for devices that nobody should wait
for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba as nb
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.compiling import njit

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


@njit(nogil=True)
def uniforms(key: np.uint64, step: int, first: int, out: NDArray[np.float64]) -> None:
    """Fill `out` (n,) with draws first, first + 1, … of `step`: uniform on [0, 1)."""
    stepkey = step_key(key, step)
    for i in range(out.size):
        out[i] = uniform(stepkey, first + i)


_LOG2, _SQRT2 = math.log(2.0), math.sqrt(2.0)
_MANTISSA, _ONE = np.uint64(0x000FFFFFFFFFFFFF), np.uint64(0x3FF0000000000000)


@njit(nogil=True, error_model="numpy")
def normals(key: np.uint64, step: int, out: NDArray[np.float64]) -> None:
    """Fill `out` (n,) with standard normal draws of `step`, by Box & Muller's method.

    With m = ceil(n / 2), pair i (two uniforms) gives draws i and m + i. Logarithm, sine and cosine are series, exact
    to 1e-14, in plain arithmetic that the compiler turns into vector instructions: ten times faster than calls.
    """
    half = (out.size + 1) // 2
    stepkey = step_key(key, step)
    a, b = np.empty(half), np.empty(half)
    for i in range(half):
        a[i] = 1.0 - uniform(stepkey, 2 * i)  # in (0, 1]
        b[i] = uniform(stepkey, 2 * i + 1)
    bits, exponent = a.view(np.uint64), np.empty(half)
    for i in range(half):  # a = mantissa * 2^exponent, mantissa in [1, 2)
        exponent[i] = np.float64(np.int64(bits[i] >> np.uint64(52)) - 1023)
        bits[i] = (bits[i] & _MANTISSA) | _ONE
    for i in range(half):
        s = (a[i] - _SQRT2) / (a[i] + _SQRT2)  # log(mantissa / sqrt 2) = 2 artanh(s)
        z = s * s
        series = 1.0 / 21.0
        for k in (19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
            series = series * z + 1.0 / k
        logarithm = (exponent[i] + 0.5) * _LOG2 + 2.0 * s * series
        radius = math.sqrt(max(-2.0 * logarithm, 0.0))
        quarter = math.floor(4.0 * b[i] + 0.5)  # the angle is this many right angles, and t in [-pi/4, pi/4]
        t = (b[i] - 0.25 * quarter) * (2.0 * math.pi)
        w = t * t
        sine, cosine = 1.0, 1.0
        for k in (14.0, 12.0, 10.0, 8.0, 6.0, 4.0, 2.0):
            sine = 1.0 - sine * w / (k * (k + 1.0))
        for k in (15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0, 1.0):
            cosine = 1.0 - cosine * w / (k * (k + 1.0))
        sine *= t
        odd = quarter - 2.0 * math.floor(0.5 * quarter)
        sign = 1.0 - 2.0 * (math.floor(0.5 * quarter) - 2.0 * math.floor(0.25 * quarter))
        a[i] = radius * sign * ((1.0 - odd) * cosine - odd * sine)
        b[i] = radius * sign * ((1.0 - odd) * sine + odd * cosine)
    out[:half] = a
    out[half:] = b[: out.size - half]


@njit(nogil=True, error_model="numpy")
def single_normals(key: np.uint64, step: int, out: NDArray[np.float32]) -> None:
    """Fill `out` (n,) float32 with the draws of `normals` up to single precision, by shorter series: four times faster.

    A draw differs by some 1e-7, and by at most 1e-3 where both of a pair are nearer to 0 than that.
    """
    half = (out.size + 1) // 2
    stepkey = step_key(key, step)
    one, two, fourth = np.float32(1.0), np.float32(2.0), np.float32(0.25)
    a, b, exponent = np.empty(half, np.float32), np.empty(half, np.float32), np.empty(half, np.float32)
    quarters, bits = np.empty(half, np.float32), np.empty(half)
    for i in range(half):
        bits[i] = 1.0 - uniform(stepkey, 2 * i)
        turn = uniform(stepkey, 2 * i + 1)
        quarter = math.floor(4.0 * turn + 0.5)
        quarters[i] = np.float32(quarter)
        b[i] = np.float32((turn - 0.25 * quarter) * (2.0 * math.pi))
    whole = bits.view(np.uint64)
    for i in range(half):
        exponent[i] = np.float32(np.float64(np.int64(whole[i] >> np.uint64(52)) - 1023))
        whole[i] = (whole[i] & _MANTISSA) | _ONE
    for i in range(half):
        a[i] = np.float32((bits[i] - _SQRT2) / (bits[i] + _SQRT2))
    for i in range(half):
        s, t, quarter = a[i], b[i], quarters[i]
        z, w = s * s, t * t
        series = np.float32(1.0 / 9.0)
        series = series * z + np.float32(1.0 / 7.0)
        series = series * z + np.float32(1.0 / 5.0)
        series = series * z + np.float32(1.0 / 3.0)
        series = series * z + one
        logarithm = (exponent[i] + np.float32(0.5)) * np.float32(_LOG2) + two * s * series
        radius = math.sqrt(max(np.float32(-2.0) * logarithm, np.float32(0.0)))
        sine = np.float32(-1.0 / 5040.0) * w + np.float32(1.0 / 120.0)
        sine = (sine * w - np.float32(1.0 / 6.0)) * w * t + t
        cosine = np.float32(1.0 / 40320.0) * w - np.float32(1.0 / 720.0)
        cosine = ((cosine * w + np.float32(1.0 / 24.0)) * w - np.float32(0.5)) * w + one
        halves = math.floor(np.float32(0.5) * quarter)
        odd = quarter - two * halves
        sign = one - two * (halves - two * math.floor(fourth * quarter))
        a[i] = radius * sign * ((one - odd) * cosine - odd * sine)
        b[i] = radius * sign * ((one - odd) * sine + odd * cosine)
    out[:half] = a
    out[half:] = b[: out.size - half]


def _shifted(z: Tensor, bits: int) -> Tensor:
    """z >> bits of unsigned numbers, in tensors of signed ones."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


_SIGNED = tuple(int(np.uint64(constant).astype(np.int64)) for constant in (_GOLDEN, _MIX1, _MIX2))


def _mixed(z: Tensor) -> Tensor:
    _, mix1, mix2 = _SIGNED
    z = (z ^ _shifted(z, 30)) * mix1
    z = (z ^ _shifted(z, 27)) * mix2
    return z ^ _shifted(z, 31)


def _uniforms(stepkey: int | Tensor, index: Tensor) -> Tensor:
    """The draws `index` of the steps whose keys these are, which broadcast."""
    return _shifted(_mixed((index + 1) * _SIGNED[0] + stepkey), 11).to(torch.float64) * 2.0**-53


@njit(nogil=True)
def _draw_rows(key: np.uint64, step: int, rows: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    stepkey, each = step_key(key, step), out.shape[1]
    for i in range(rows.size):
        for j in range(each):
            out[i, j] = uniform(stepkey, rows[i] * each + j)


@njit(nogil=True)
def _draw(stepkey: np.uint64, index: NDArray[np.int64], out: NDArray[np.float64]) -> None:
    for i in range(index.size):
        out[i] = uniform(stepkey, index[i])


def uniforms_at(key: np.uint64, step: int, index: Tensor) -> Tensor:
    """The draws `index` (int64, any shape, any device) of `step`: those of `uniforms`, bit for bit, float64.

    Nothing waits for the device, even if only it knows the indices.
    """
    if index.device.type == "cpu":
        out = np.empty(index.numel())
        _draw(np.uint64(step_key(key, step)), index.contiguous().view(-1).numpy(), out)
        return torch.from_numpy(out).view(index.shape)
    return _uniforms(int(np.uint64(step_key(key, step)).astype(np.int64)), index)


class Keys:
    """Streams of several runs. Their keys are brought to a device once, since a transfer waits; the draws are made
    where they are used, and nothing waits for them.
    """

    def __init__(self, keys: Sequence[np.uint64], device: torch.device | str = "cpu") -> None:
        self.keys, self.device = list(keys), torch.device(device)
        signed = torch.from_numpy(np.array(self.keys, np.uint64).astype(np.int64))
        self._column = signed.to(self.device).unsqueeze(1)

    def uniforms(self, step: int, count: int) -> Tensor:
        """The first `count` draws of `step`, (keys, count) float64."""
        if self.device.type != "cpu":
            return self.uniforms_at(step, torch.arange(count, device=self.device))
        rows = np.empty((len(self.keys), count))
        for key, row in zip(self.keys, rows, strict=True):
            uniforms(key, step, 0, row)
        return torch.from_numpy(rows)

    def uniforms_at(self, step: int, index: Tensor) -> Tensor:
        """The draws `index` (...) of `step`, (keys, ...) float64."""
        if len(self.keys) == 1 or index.device.type == "cpu":
            return torch.stack([uniforms_at(key, step, index) for key in self.keys])
        golden = int(np.uint64((step + 1) * int(_GOLDEN) % 2**64).astype(np.int64))
        stepkeys = _mixed(self._column + golden)
        return _uniforms(stepkeys.view(-1, *[1] * index.dim()), index)

    def uniforms_of_rows(self, step: int, rows: Tensor, each: int) -> Tensor:
        """Draws row * each, ..., row * each + each - 1 of `step` for each of rows (n,): (keys, n, each) float64."""
        if rows.device.type != "cpu":
            return self.uniforms_at(step, rows.unsqueeze(1) * each + torch.arange(each, device=rows.device))
        out = np.empty((len(self.keys), len(rows), each))
        for key, of_key in zip(self.keys, out, strict=True):
            _draw_rows(key, step, rows.numpy(), of_key)
        return torch.from_numpy(out)

    def normals(self, step: int, count: int) -> Tensor:
        """The first draws of `step`, (keys, count) float64: those of `normals`, up to rounding."""
        half = (count + 1) // 2
        pairs = self.uniforms(step, 2 * half).view(-1, half, 2)
        radius, angle = (-2.0 * torch.log1p(-pairs[..., 0])).sqrt(), 2.0 * math.pi * pairs[..., 1]
        return torch.cat([radius * angle.cos(), radius * angle.sin()], 1)[:, :count]
