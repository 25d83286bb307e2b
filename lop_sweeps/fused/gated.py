"""UPGD and AdaUPGD: every weight moves at every step, by gradient and noise behind a gate that its utility closes.

The rule is that of `lop_sweeps.optimizers.upgd` with global gates, and so are the draws; in float32 they and the gates
are of single precision, as on the torch engine. The gradient is written down, since the largest utility of all weights
must be known before the first of them moves; from there on everything passes over flat arrays in order.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from lop_sweeps.counter_random import normals, single_normals
from lop_sweeps.fused.activations import PRELU, exponential
from lop_sweeps.fused.arrays import ADAUPGD, Array, Net, Optimizer
from lop_sweeps.fused.rows import OPTIONS
from lop_sweeps.fused.unit_rows import SHIFT, row_of_units
from lop_sweeps.fused.vector import float32_of_bits, fma, highest, lanes, larger, load, splat, store
from lop_sweeps.optimizers.upgd_kernel import follow_utility

_ARITHMETIC = {**OPTIONS, "fastmath": {"contract"}}
BLOCK = 16  # rows whose draws are put in place together: as many as a cache line has of float32 numbers
_LOG2_E, _LN2_HIGH, _LN2_LOW = 1.0 / math.log(2.0), 0.693359375, math.log(2.0) - 0.693359375
_SERIES = tuple(1.0 / math.factorial(i) for i in range(7, -1, -1))


@nb.njit(**OPTIONS)
def write_gradient(
    rule: Optimizer, base: int, stride: int, rows: int, batch: int, x: Array, delta: Array, more: Array
) -> None:
    """`rows` of the gradient from `base` on; row r is the sum over b of x[b, r] * delta[b], and what is in `more`."""
    out, added = rule.gates.gradient, more.size > 0
    for r in range(rows):
        for i in range(base + r * stride, base + (r + 1) * stride, lanes(out)):
            g = load(more, i) if added else splat(out, out.dtype.type(0))
            for b in range(batch):
                g = fma(splat(out, x[b, r]), load(delta[b], i - base - r * stride), g)
            store(out, i, g)


@nb.njit(**OPTIONS)
def put_in_place(net: Net, draws: Array, noise: Array) -> None:
    """Draws in the torch engine's order of parameters, into `noise`, which is like net.w."""
    at, hidden = 0, len(net.layers) - 1
    for layer in range(len(net.layers)):
        base, stride, inputs, units = net.layers[layer]
        for first in range(0, inputs, BLOCK):
            rows = min(BLOCK, inputs - first)
            for j in range(units):
                source, target = at + j * inputs + first, base + first * stride + j
                if rows == BLOCK:
                    for k in range(BLOCK):  # so many that the compiler knows
                        noise[target + k * stride] = draws[source + k]
                else:
                    for k in range(rows):
                        noise[target + k * stride] = draws[source + k]
        at += units * inputs
        for j in range(units):
            noise[base + inputs * stride + j] = draws[at + j]
        at += units
    for layer in range(hidden if net.normed else 0):
        for number in range(SHIFT + 1):
            at = _put_row(net, layer, number, draws, at, noise)
    for layer in range(hidden if net.activation == PRELU else 0):
        at = _put_row(net, layer, len(net.fresh) - 1, draws, at, noise)


@nb.njit(**OPTIONS)
def _put_row(net: Net, layer: int, number: int, draws: Array, at: int, noise: Array) -> int:
    start, units = row_of_units(net, layer, number), net.layers[layer, 3]
    for j in range(units):
        noise[start + j] = draws[at + j]
    return at + units


@nb.njit(**OPTIONS)
def largest(net: Net, values: Array) -> float:
    """Of all parameters, padding left out; not 0."""
    most, wide, vectors = -np.inf, splat(values, values.dtype.type(-np.inf)), False
    for layer in range(len(net.layers)):
        base, stride, inputs, units = net.layers[layer]
        own = len(net.fresh) if layer < len(net.layers) - 1 else 0
        whole = units // lanes(values) * lanes(values)
        vectors = vectors or whole > 0
        for start in range(base, base + (inputs + 1 + own) * stride, stride):
            for i in range(start, start + whole, lanes(values)):
                wide = larger(wide, load(values, i))
            for i in range(start + whole, start + units):
                most = max(most, values[i])
    if vectors:
        most = max(most, highest(wide))
    tiny = np.finfo(np.float32).tiny if lanes(values) == 16 else np.finfo(np.float64).tiny
    return tiny if most == 0 else most


@nb.njit(**_ARITHMETIC)
def close(gate: Array, by: float) -> None:
    """gate = 1 - sigmoid(gate * by)."""
    if lanes(gate) == 8:
        for i in range(gate.size):
            gate[i] = 1.0 / (1.0 + exponential(np.float64(gate[i]) * by))
        return
    one, times = np.float32(1), np.float32(by)
    for i in range(gate.size):
        x = min(max(np.float32(gate[i]) * times, np.float32(-87.0)), np.float32(87.0))
        k = np.floor(x * np.float32(_LOG2_E) + np.float32(0.5))
        r = (x - k * np.float32(_LN2_HIGH)) - k * np.float32(_LN2_LOW)
        p = np.float32(_SERIES[0])
        for c in _SERIES[1:]:
            p = p * r + np.float32(c)
        gate[i] = one / (one + p * float32_of_bits((np.int32(k) + np.int32(127)) << np.int32(23)))


@nb.njit(**_ARITHMETIC)
def along_adam(rule: Optimizer) -> None:
    """The gradient becomes Adam's m^ / (sqrt(v^) + eps)."""
    g, m, v, power1, power2 = rule.gates.gradient, rule.moment1, rule.moment2, rule.power1, rule.power2
    kind = g.dtype.type
    one, beta1, beta2, eps = kind(1), kind(rule.beta1), kind(rule.beta2), kind(rule.eps)
    each = power1.size > 1
    if not each:
        power1[0] *= beta1
        power2[0] *= beta2
    for i in range(g.size):
        at = i if each else 0
        if each:
            power1[i] *= beta1
            power2[i] *= beta2
        m[i] += (one - beta1) * (g[i] - m[i])
        v[i] += (one - beta2) * (g[i] * g[i] - v[i])
        g[i] = m[i] / (one - power1[at]) / (kind(math.sqrt(v[i] / (one - power2[at]))) + eps)


@nb.njit(**_ARITHMETIC)
def update(net: Net, rule: Optimizer, step: int) -> None:
    """One step along what `write_gradient` has written."""
    w, gates, kind = net.w, rule.gates, net.w.dtype.type
    noise, gate, noisy = gates.noise, gates.gate, gates.noise_std > 0
    follow_utility(gates.utility, gates.gradient, w, gates.power, kind(gates.beta), gate)
    close(gate, 1.0 / largest(net, gate if gates.corrected else gates.utility))
    if rule.kind == ADAUPGD:
        along_adam(rule)
    direction = gates.gradient
    if noisy:
        if lanes(w) == 16:
            single_normals(gates.key, step, gates.single_draws)
            put_in_place(net, gates.single_draws, noise)
        else:
            normals(gates.key, step, gates.draws)
            put_in_place(net, gates.draws, noise)
    by, std = kind(rule.step_size) * kind(gates.factor), kind(gates.noise_std)
    keep = kind(1) - kind(rule.step_size) * kind(rule.weight_decay)
    if gates.protecting:
        for i in range(w.size):
            w[i] = keep * w[i] - by * ((direction[i] + noise[i] * std) * gate[i])
    else:
        for i in range(w.size):
            w[i] = keep * w[i] - by * (direction[i] + noise[i] * std * gate[i])
