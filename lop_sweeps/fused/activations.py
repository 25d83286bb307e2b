"""Activations with their derivatives, in arithmetic that the compiler turns into vector instructions.

The functions are those of the same names in `lop_sweeps.networks.activations` (a test compares them); of the others
there, none is known here.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np

from lop_sweeps.fused.vector import float_of_bits
from lop_sweeps.networks.activations import Activation

Array = Any
ELEMENTWISE = ("relu", "leaky_relu", "tanh", "sigmoid", "elu", "selu", "swish", "identity", "gelu", "smooth_leaky")
_RELU, _LEAKY, _TANH, _SIGMOID, _ELU, _SELU, _SWISH, _IDENTITY, _GELU, _SMOOTH_LEAKY = range(len(ELEMENTWISE))
_CRELU, _FOURIER, PRELU = range(len(ELEMENTWISE), len(ELEMENTWISE) + 3)
# Two features of a unit, or slopes that are learned: for the training loop alone.
CODES = {name: code for code, name in enumerate((*ELEMENTWISE, "crelu", "fourier", "prelu"))}
_ROOT_HALF, _DENSITY = math.sqrt(0.5), 1.0 / math.sqrt(2.0 * math.pi)
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717

_LOG2_E = 1.0 / math.log(2.0)
_LN2_HIGH = float.fromhex("0x1.62e42fee00000p-1")  # so few digits that multiples of it are exact
_LN2_LOW = float.fromhex("0x1.a39ef35793c76p-33")
_SERIES = tuple(1.0 / math.factorial(i) for i in range(13, -1, -1))
_REST = _SERIES[1:]


def obstacle(activation: Activation) -> str | None:
    """Why a network's activation is not known here, in words that follow "because"; None if it is."""
    if activation.name == "prelu" and activation.options.prelu_per != "unit":
        return "it knows prelu with prelu_per=unit only"
    return None if activation.name in CODES else f"it does not know the activation {activation.name}"


def options_of(activation: Activation) -> Array:
    """What `activate` takes of an activation's options: leaky_slope; alpha, p and c of smooth_leaky."""
    return np.array([activation.options.leaky_slope, *activation.options.smooth_leaky], np.float64)


@nb.njit(inline="always")
def exponential(x: float) -> float:
    """e^x to 1e-15, without a call: 2^k e^r, |r| <= ln(2) / 2, by the series of e^r."""
    x = min(max(x, -708.0), 709.0)
    k = math.floor(x * _LOG2_E + 0.5)
    r = (x - k * _LN2_HIGH) - k * _LN2_LOW
    p = _SERIES[0]
    for i in _REST:
        p = p * r + i
    return p * float_of_bits((np.int64(k) + 1023) << 52)


@nb.njit(nogil=True, error_model="numpy")
def activate(code: int, options: Array, units: int, h: Array, slope: Array) -> None:
    """Replace pre-activations h[:units] by activations; slope[:units] becomes the derivative there.

    Where units have two features, unit i has h[i] and h[units + i], and as many derivatives. PReLU, whose slopes are
    learned, is in `unit_rows`.
    """
    kind = h.dtype.type
    one, zero = kind(1), kind(0)
    if code == _RELU:
        for i in range(units):
            z = h[i]
            h[i] = zero if z <= zero else z  # so that NaN stays NaN
            slope[i] = zero if z <= zero else one
    elif code == _LEAKY:
        below = kind(options[0])
        for i in range(units):
            z = h[i]
            slope[i] = one if z > zero else below
            h[i] = z * slope[i]
    elif code == _TANH:
        for i in range(units):
            z = np.float64(h[i])
            e = exponential(-2.0 * abs(z))  # cannot overflow
            y = (1.0 - e) / (1.0 + e)
            y = y if z > 0.0 else -y
            u = z * z  # near 0 the difference 1 - e would lose digits: the series
            series = 1382 / 155925 - u * (21844 / 6081075)
            series = 1.0 - u * (1 / 3 - u * (2 / 15 - u * (17 / 315 - u * (62 / 2835 - u * series))))
            y = z * series if u < 0.01 else y
            h[i], slope[i] = kind(y), kind(1.0 - y * y)
    elif code == _SIGMOID:
        for i in range(units):
            y = 1.0 / (1.0 + exponential(-np.float64(h[i])))
            h[i], slope[i] = kind(y), kind(y * (1.0 - y))
    elif code == _ELU:
        for i in range(units):
            z = np.float64(h[i])
            e = exponential(min(z, 0.0))
            h[i], slope[i] = kind(z if z > 0.0 else e - 1.0), kind(e)
    elif code == _SELU:
        for i in range(units):
            z = np.float64(h[i])
            e = _SELU_ALPHA * exponential(min(z, 0.0))
            h[i] = kind(_SELU_SCALE * (z if z > 0.0 else e - _SELU_ALPHA))
            slope[i] = kind(_SELU_SCALE * (1.0 if z > 0.0 else e))
    elif code == _SWISH:
        for i in range(units):
            z = np.float64(h[i])
            y = 1.0 / (1.0 + exponential(-z))
            h[i], slope[i] = kind(z * y), kind(y * (1.0 + z * (1.0 - y)))
    elif code == _GELU:
        for i in range(units):
            z = np.float64(h[i])
            y = 0.5 * (1.0 + math.erf(z * _ROOT_HALF))
            h[i], slope[i] = kind(z * y), kind(y + z * _DENSITY * exponential(-0.5 * z * z))
    elif code == _SMOOTH_LEAKY:
        below_0, steep = options[1], options[3] / options[2]
        for i in range(units):
            z = np.float64(h[i])
            y = 1.0 / (1.0 + exponential(-steep * z))
            h[i] = kind(below_0 * z + (1.0 - below_0) * z * y)
            slope[i] = kind(below_0 + (1.0 - below_0) * y * (1.0 + steep * z * (1.0 - y)))
    elif code == _CRELU:
        for i in range(units):
            z = h[i]
            h[i], h[units + i] = zero if z <= zero else z, zero if z >= zero else -z
            slope[i], slope[units + i] = zero if z <= zero else one, zero if z >= zero else -one
    elif code == _FOURIER:
        for i in range(units):
            z = np.float64(h[i])
            sine, cosine = kind(math.sin(z)), kind(math.cos(z))
            h[i], h[units + i], slope[i], slope[units + i] = sine, cosine, cosine, -sine
    else:
        for i in range(units):
            slope[i] = one
