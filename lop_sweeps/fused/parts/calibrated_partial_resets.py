"""Calibrated partial resets: how much each unit's incoming weights learn, and the way back to fresh ones.

With one example a gradient is an outer product, so its mean magnitude is that of the inputs times the unit's delta.
The draws of fresh weights are those of the torch engine.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from lop_sweeps.algorithms.calibrated_partial_resets import EPS
from lop_sweeps.counter_random import step_key, uniform
from lop_sweeps.fused.arrays import Array, Net, Optimizer, Seen
from lop_sweeps.fused.rows import OPTIONS

# What comes before it and adds to the gradient, it would have to see.
MEASURES_GRADIENT = True


class Memory(NamedTuple):
    """utility (hidden units,): the packed intervention's own. bounds, keys (hidden layers,): of fresh weights, and of
    their draws. sums (units of the widest layer,): scratch space. eps: beside a layer's mean. exponential: whether the
    law is that.
    """

    utility: Array
    bounds: Array
    keys: Array
    sums: Array
    period: int
    rate: float
    sharpness: float
    threshold: float
    decay: float
    eps: float
    exponential: int


def make(packed: Any, net: Net, rule: Optimizer) -> Memory:
    graph, options = packed.learner.graph, packed.options[0]
    return Memory(
        packed.utility[0].numpy(),
        np.array([layer.bound for layer in graph]),
        np.array([packed.resets.keys[i].keys[0] for i in range(len(graph))], np.uint64),
        np.zeros(max(layer.units for layer in graph)),
        packed.period,
        float(options.replacement_rate),
        float(options.sharpness),
        float(options.threshold),
        float(options.decay_rate),
        EPS,
        int(packed.transform == "exp"),
    )


@nb.njit(**OPTIONS)
def magnitudes(net: Net, seen: Seen, layer: int, sums: Array) -> None:
    """Into `sums`, of each unit of a layer, the sum over its incoming weights of |gradient of the mean loss|."""
    batch, first = len(seen.h), net.units[layer]
    inputs, units = net.layers[layer, 2], net.layers[layer, 3]
    if batch == 1:
        total = 0.0
        for k in range(seen.active[0, layer]):
            total += abs(seen.values[0, layer, k])
        for unit in range(units):
            sums[unit] = total * abs(seen.delta[0, first + unit])
        return
    x = np.zeros((inputs, batch), seen.values.dtype)
    for b in range(batch):
        for k in range(seen.active[b, layer]):
            x[seen.rows[b, layer, k], b] = seen.values[b, layer, k]
    sums[:units] = 0
    gradient = np.empty(units)
    for r in range(inputs):
        gradient[:] = 0
        any_active = False
        for b in range(batch):
            value = x[r, b]
            if value != 0:
                any_active = True
                for unit in range(units):
                    gradient[unit] += value * seen.delta[b, first + unit]
        if any_active:
            for unit in range(units):
                sums[unit] += abs(gradient[unit])


@nb.njit(**OPTIONS)
def share_of(memory: Memory, utility: float) -> float:
    """How far a unit goes back to fresh weights."""
    distance = -memory.sharpness * (utility - memory.threshold)
    law = math.exp(distance) if memory.exponential else 2.0 / (1.0 + math.exp(-distance))
    return memory.rate * min(law, 1.0)


@nb.njit(**OPTIONS)
def go_back(memory: Memory, net: Net, layer: int, first: int, scale: float, step: int) -> None:
    """Mix a layer's incoming weights with fresh ones, shrink its outgoing weights, and begin to measure anew."""
    w, kind = net.w, net.w.dtype.type
    base, stride = net.layers[layer, 0], net.layers[layer, 1]
    inputs, units = net.layers[layer, 2], net.layers[layer, 3]
    draws = step_key(memory.keys[layer], step)
    for unit in range(units):
        share = kind(share_of(memory, memory.utility[first + unit]))
        kept = kind(1) - share
        for r in range(inputs):
            fresh = kind((2.0 * uniform(draws, unit * inputs + r) - 1.0) * memory.bounds[layer])
            i = base + r * stride + unit
            w[i] = kept * w[i] + share * kind(fresh / scale)
        for feature in range(net.features):
            start = net.layers[layer + 1, 0] + (unit + feature * units) * net.layers[layer + 1, 1]
            for i in range(start, start + net.layers[layer + 1, 3]):
                w[i] *= kept
        memory.utility[first + unit] = 1


@nb.njit(**OPTIONS)
def after_update(memory: Memory, net: Net, seen: Seen, scale: float, step: int, t: int) -> None:
    first, kind = 0, net.w.dtype.type
    for layer in range(len(memory.bounds)):
        units, inputs = net.layers[layer, 3], net.layers[layer, 2]
        magnitudes(net, seen, layer, memory.sums)
        mean = memory.sums[:units].sum() / (units * inputs)
        for unit in range(units):
            score = memory.sums[unit] / inputs / (mean + memory.eps)
            u = first + unit
            memory.utility[u] = kind(memory.decay * memory.utility[u] + (1.0 - memory.decay) * score)
        first += units
    if step > 0 and step % memory.period == 0:
        first = 0
        for layer in range(len(memory.bounds)):
            go_back(memory, net, layer, first, scale, step)
            first += net.layers[layer, 3]
