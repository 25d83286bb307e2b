"""Weight clipping: under plain SGD only the rows in use have moved, and only they can have left their bounds.

All rows are looked at in the first step of an interval, since others may have changed weights between tasks, and the
initial ones may lie outside.
"""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from lop_sweeps.fused.arrays import SGD, Array, Net, Optimizer, Seen
from lop_sweeps.fused.rows import OPTIONS
from lop_sweeps.fused.vector import clamped, count_bits, lanes, load, magnitude, not_zero, splat, store

ALONE = True  # who writes rows that are not in use would leave weights beyond their bounds


class Memory(NamedTuple):
    """bounds (layers,): of weights and biases. clipped (layers that are clipped,), updates (1,): as the packed form has
    them. all_rows: whether every row moves at every step.
    """

    bounds: Array
    clipped: Array
    updates: Array
    all_rows: int


def make(packed: Any, net: Net, rule: Optimizer) -> Memory:
    kappa, bounds = float(packed.options[0].kappa), np.full(len(net.layers), np.inf)
    for layer in range(len(packed.groups)):
        fan_in = prod(packed.learner.view(packed.bounds, packed.groups[layer][0]).shape[2:])
        bounds[layer] = kappa / fan_in**0.5
    return Memory(bounds, packed.clipped[0].numpy(), packed.updates.numpy(), int(rule.kind != SGD))


@nb.njit(**OPTIONS)
def clip_row(w: Array, start: int, stride: int, bound: float) -> int:
    """Cut a row; how many were outside."""
    limit, outside = splat(w, w.dtype.type(bound)), 0
    for i in range(start, start + stride, lanes(w)):
        value = load(w, i)
        cut = clamped(value, limit)
        beyond = not_zero(magnitude(value) - magnitude(cut))  # NaN, too, which is counted where the loop stops anyway
        outside += count_bits(beyond)
        store(w, i, cut)
    return outside


@nb.njit(**OPTIONS)
def after_update(memory: Memory, net: Net, seen: Seen, scale: float, step: int, t: int) -> None:
    memory.updates[0] += 1
    for layer in range(len(memory.clipped)):
        base, stride, inputs = net.layers[layer, 0], net.layers[layer, 1], net.layers[layer, 2]
        bound = memory.bounds[layer] / scale
        outside = clip_row(net.w, base + inputs * stride, stride, bound)
        if t == 0 or memory.all_rows:
            for row in range(inputs):
                outside += clip_row(net.w, base + row * stride, stride, bound)
        else:
            for b in range(len(seen.rows)):
                for k in range(seen.active[b, layer]):
                    outside += clip_row(net.w, base + seen.rows[b, layer, k] * stride, stride, bound)
        memory.clipped[layer] += outside
