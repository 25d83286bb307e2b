"""Continual backprop inside the compiled loop; what it does is defined in `lop_sweeps.algorithms.continual_backprop`.

Two things are kept up to date while learning, so that no step has to add up whole matrices: for each unit, the sums
of its outgoing and of its incoming |w|; and decay^age, which says how much of a running average is filled.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np

from lop_sweeps.algorithms.continual_backprop import DEAD_UTILITY
from lop_sweeps.counter_random import step_key, uniform
from lop_sweeps.fused.arrays import Array, Net, Optimizer, Replacement
from lop_sweeps.fused.rows import OPTIONS
from lop_sweeps.fused.vector import fma, lanes, larger, load, magnitude, splat, store

_LARGEST32, _LARGEST64 = float(np.finfo(np.float32).max), float(np.finfo(np.float64).max)
TINY = 1e-30  # smaller averages and powers count as this or as 0: denormal numbers are slow


@nb.njit(**OPTIONS)
def start_interval(rep: Replacement, unfilled: Array) -> None:
    """unfilled = decay^age, from scratch; cut what is about to become denormal."""
    for i in range(rep.age.size):
        unfilled[i] = max(rep.decay ** rep.age[i], TINY)
        if abs(rep.utility[i]) < TINY:
            rep.utility[i] = 0
        if abs(rep.mean[i]) < TINY:
            rep.mean[i] = 0


@nb.njit(**OPTIONS)
def update_utility(
    net: Net,
    rep: Replacement,
    layer: int,
    batch: int,
    h: Array,
    scale: float,
    unfilled: Array,
    outgoing: Array,
    incoming: Array,
) -> None:
    """One step of the running averages of hidden layer `layer`.

    h (batch, all units): activations. outgoing, incoming (all units,): sums of |w|, where w is `scale` times smaller.
    """
    kind = net.w.dtype.type
    first, stride, inputs = net.units[layer], net.layers[layer, 1], net.layers[layer, 2]
    readers = net.layers[layer + 1, 3]
    one, tiny = splat(net.w, kind(1)), splat(net.w, kind(TINY))
    decay, fill = splat(net.w, kind(rep.decay)), splat(net.w, kind(1) - kind(rep.decay))
    share = splat(net.w, kind(1.0 / batch))
    out_scale, in_scale = splat(net.w, kind(scale / readers)), splat(net.w, kind(scale / inputs))
    for i in range(first, first + stride, lanes(net.w)):
        power = larger(load(unfilled, i) * decay, tiny)
        store(unfilled, i, power)
        mean = load(h[0], i)
        for b in range(1, batch):
            mean = mean + load(h[b], i)
        mean = fma(mean * share, fill, load(rep.mean, i) * decay)
        store(rep.mean, i, mean)
        if rep.random:
            continue
        now = one
        if rep.by_activity:
            centre = mean / (one - power) if rep.centred else mean - mean
            now = magnitude(load(h[0], i) - centre)
            for b in range(1, batch):
                now = now + magnitude(load(h[b], i) - centre)
            now = now * share
        if rep.by_outgoing:
            now = now * (load(outgoing, i) * out_scale)
        if rep.by_incoming:
            now = now / (load(incoming, i) * in_scale)
        store(rep.utility, i, fma(now, fill, load(rep.utility, i) * decay))


@nb.njit(**OPTIONS)
def choose(
    net: Net, rep: Replacement, layer: int, step: int, t: int, number: int, unfilled: Array, chosen: Array
) -> None:
    """chosen[:number]: the mature units of lowest corrected utility, ties to the lowest; t: step in the interval."""
    first, units = net.units[layer], net.layers[layer, 3]
    draws = step_key(rep.utility_keys[layer], step)
    largest = _LARGEST32 if lanes(net.w) == 16 else _LARGEST64
    for n in range(number):
        best, lowest = -1, math.inf
        for u in range(units):
            if rep.age[first + u] + t + 1 <= rep.threshold:
                continue
            taken = False
            for other in range(n):
                taken = taken or chosen[other] == u
            if taken:
                continue
            if rep.random:
                utility = np.float64(net.w.dtype.type(uniform(draws, u)))
            else:
                utility = np.float64(rep.utility[first + u] / (rep.utility.dtype.type(1) - unfilled[first + u]))
            if not utility >= DEAD_UTILITY:  # NaN too
                utility = 0.0
            utility = min(utility, largest)
            if utility < lowest:
                best, lowest = u, utility
        chosen[n] = best


@nb.njit(**OPTIONS)
def renew(net: Net, layer: int, unit: int, draws: np.uint64, bound: float, scale: float) -> None:
    """A unit's incoming weights are drawn anew, its bias and outgoing weights 0, and its own rows those of a new one;
    weights are `scale` times net.w.

    draws: of the layer and step. bound: of the uniform law.
    """
    w, kind = net.w, net.w.dtype.type
    base, stride, inputs = net.layers[layer, 0], net.layers[layer, 1], net.layers[layer, 2]
    for r in range(inputs):
        w[base + r * stride + unit] = kind(kind((2.0 * uniform(draws, unit * inputs + r) - 1.0) * bound) / scale)
    w[base + inputs * stride + unit] = 0
    for i in range(len(net.fresh)):
        w[base + (inputs + 1 + i) * stride + unit] = kind(net.fresh[i] / scale)
    start = net.layers[layer + 1, 0] + unit * net.layers[layer + 1, 1]
    w[start : start + net.layers[layer + 1, 3]] = 0


@nb.njit(**OPTIONS)
def replace(
    net: Net,
    rule: Optimizer,
    rep: Replacement,
    layer: int,
    step: int,
    t: int,
    chosen: Array,
    number: int,
    scale: float,
    unfilled: Array,
) -> None:
    """Reset the chosen units of hidden layer `layer`, their weights, averages and optimiser state.

    Sums of |w| in this layer and the next are then to be added up again: differences would leave rounding errors
    where a sum becomes 0.
    """
    w, kind = net.w, net.w.dtype.type
    base, stride, inputs = net.layers[layer, 0], net.layers[layer, 1], net.layers[layer, 2]
    next_base, next_stride = net.layers[layer + 1, 0], net.layers[layer + 1, 1]
    units, readers = net.layers[layer, 3], net.layers[layer + 1, 3]
    first = net.units[layer]
    if rep.transfer:
        bias = next_base + units * next_stride
        for n in range(number):
            u = chosen[n]
            mean = rep.mean[first + u] / (kind(1) - unfilled[first + u])
            for j in range(readers):
                w[bias + j] += w[next_base + u * next_stride + j] * mean
    draws = step_key(rep.weight_keys[layer], step)
    for n in range(number):
        u = chosen[n]
        renew(net, layer, u, draws, rep.bounds[layer], scale)
        for r in range(inputs + 1 + len(net.fresh)):
            reset_state(rule, base + r * stride + u)
        for j in range(readers):
            reset_state(rule, next_base + u * next_stride + j)
        rep.utility[first + u] = 0
        rep.mean[first + u] = 0
        rep.age[first + u] = -(t + 1)
        unfilled[first + u] = 1
        rep.replaced[layer] += 1


@nb.njit(**OPTIONS)
def reset_state(rule: Optimizer, i: int) -> None:
    """A new weight's optimiser state."""
    if not rule.fresh:
        return
    gates = rule.gates
    if gates.utility.size > 0:
        gates.utility[i] = 0
        gates.power[i] = 1
    if rule.moment1.size > 0:
        rule.moment1[i] = 0
    if rule.moment2.size > 0:
        rule.moment2[i] = 0
        rule.power1[i] = 1
        rule.power2[i] = 1
