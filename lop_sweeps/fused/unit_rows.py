"""What hidden units have beside incoming weights and a bias: a normalisation's scale and shift, a slope below 0.

They are rows of a layer, after its bias's, in this order: scale, shift (of layer normalisation), slope (of PReLU). Each
is a vector over the units, whose gradient on an example is one, too (`Work.of_rows`); so whoever updates, postpones or
resets rows does with them as with the others. The formulae are those of `lop_sweeps.networks`.
"""

from __future__ import annotations

import math
from typing import Any

import numba as nb
import numpy as np

from lop_sweeps.fused.activations import PRELU, activate
from lop_sweeps.fused.arrays import Array, Net
from lop_sweeps.fused.rows import OPTIONS

SCALE, SHIFT = 0, 1  # of the rows after the bias's
EPS = 1e-5  # of the variance
# Sums may be taken in any order, so that the compiler can use vectors; what is not finite stays so.
_SUMS: dict[str, Any] = {**OPTIONS, "fastmath": {"reassoc", "contract"}}


@nb.njit(**OPTIONS)
def row_of_units(net: Net, layer: int, number: int) -> int:
    """Where a layer's row `number` after its bias's begins."""
    return net.layers[layer, 0] + (net.layers[layer, 2] + 1 + number) * net.layers[layer, 1]


@nb.njit(**_SUMS)
def standardise(units: int, z: Array, standard: Array) -> float:
    """standard[:units] = (z - mean) / deviation, over a layer's units; returns 1 / deviation."""
    kind, mean, squares = z.dtype.type, 0.0, 0.0
    for i in range(units):
        mean += np.float64(z[i])
    mean /= units
    for i in range(units):
        squares += (np.float64(z[i]) - mean) ** 2
    by = 1.0 / math.sqrt(squares / units + EPS)
    for i in range(units):
        standard[i] = kind((np.float64(z[i]) - mean) * by)
    return by


@nb.njit(**OPTIONS)
def with_rows(net: Net, layer: int, scale: float, z: Array, slope: Array, standard: Array, below: Array) -> float:
    """Pre-activations z of a hidden layer become its activations; slope: their derivative by what they are made of.

    The weights are `scale` times those in net.w. standard, below (units,): the standardised pre-activations, and what
    a slope below 0 is multiplied by. Returns 1 / deviation.
    """
    units, w, kind, by = net.layers[layer, 3], net.w, net.w.dtype.type, 1.0
    if net.normed:
        by = standardise(units, z, standard)
        gain, shift = row_of_units(net, layer, SCALE), row_of_units(net, layer, SHIFT)
        for i in range(units):
            z[i] = kind(scale) * (standard[i] * w[gain + i] + w[shift + i])
    if net.activation == PRELU:
        start = row_of_units(net, layer, len(net.fresh) - 1)
        for i in range(units):
            negative = z[i] <= kind(0)
            slope[i] = kind(scale) * w[start + i] if negative else kind(1)
            below[i] = z[i] if negative else kind(0)
            z[i] *= slope[i]
    else:
        activate(net.activation, net.options, units, z, slope)
    return by


@nb.njit(**_SUMS)
def behind_rows(
    net: Net,
    layer: int,
    b: int,
    scale: float,
    rows: Array,
    n: int,
    products: Array,
    below: Array,
    standard: Array,
    by: Array,
    delta: Array,
    of_rows: Array,
) -> None:
    """The gradients of a hidden layer's own rows in example b, of_rows; its delta, until now by what its activations
    are made of, becomes that of its pre-activations.

    rows[:n]: of the next layer that took part; products: with that layer's deltas, to be multiplied by `scale`.
    """
    first, units, w, kind = net.units[layer], net.layers[layer, 3], net.w, net.w.dtype.type
    if net.activation == PRELU:  # of which every row takes part
        of_slope = of_rows[len(net.fresh) - 1, b]
        for k in range(n):
            u = first + rows[k]
            of_slope[u] = kind(scale) * products[k] * below[b, u]
    if not net.normed:
        return
    gain = row_of_units(net, layer, SCALE)
    of_scale, of_shift, mean, along = of_rows[SCALE, b], of_rows[SHIFT, b], 0.0, 0.0
    for i in range(units):
        u = first + i
        of_scale[u], of_shift[u] = delta[b, u] * standard[b, u], delta[b, u]
        d = np.float64(delta[b, u]) * scale * np.float64(w[gain + i])
        mean += d
        along += d * np.float64(standard[b, u])
    mean, along = mean / units, along / units
    for i in range(units):
        u = first + i
        d = np.float64(delta[b, u]) * scale * np.float64(w[gain + i])
        delta[b, u] = kind(by[b, layer] * (d - mean - np.float64(standard[b, u]) * along))
