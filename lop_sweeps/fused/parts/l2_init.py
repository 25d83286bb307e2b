"""L2 Init: under plain SGD, a row that nobody reads is pulled when it is next read, by the power of what was left out.

A step makes theta = (1 - c)(theta - theta_0) + theta_0 - alpha g, c = alpha x strength. Rows whose input is 0 have no
gradient, so k steps leave (1 - c)^k of their distance. A row in use has its step's pull still before it when it is
updated: the update is alpha / (1 - c), which that pull makes alpha.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numba as nb
import numpy as np

from lop_sweeps.fused.arrays import SGD, Array, Net, Optimizer
from lop_sweeps.fused.rows import OPTIONS
from lop_sweeps.fused.vector import fma, lanes, load, splat, store

LEAST = 0.5  # of the distance must be left after a step
POWERS = 256  # of what a step leaves, ready-made: most rows are read again before long


class Memory(NamedTuple):
    """anchor: theta_0, like net.w. strength: of the pull. left: log of what a step leaves of the distance; powers
    (POWERS,): what 0, 1, ... steps leave.

    pulled (rows of all layers,): the step up to which each row has been pulled; first (layers,): where a layer's begin.
    """

    anchor: Array
    strength: float
    left: float
    powers: Array
    pulled: Array
    first: Array


def obstacle(options: Any, optimizer: Any) -> str | None:
    plain = type(optimizer).__name__ == "SGD" and not optimizer.momentum
    if (options.anchor, options.penalty) != ("initial", "l2"):
        return "it knows L2 Init with anchor=initial and penalty=l2 only"
    if options.coupling == "decoupled" and not plain:
        return "it knows decoupled L2 Init with plain SGD only"
    if plain and optimizer.weight_decay:
        return "it cannot pull weights towards 0 and towards their initial values at once"
    if plain and optimizer.step_size * options.strength > 1.0 - LEAST:
        return "each step of L2 Init leaves less than half of the distance"
    return None


def hooks(rule: Optimizer) -> Sequence[str]:
    return ("begin_interval", "before_rows", "end_interval") if rule.kind == SGD else ("before_update",)


def rule_with(packed: Any, rule: Optimizer) -> Optimizer:
    """The optimiser's rule beside it."""
    if rule.kind != SGD:
        return rule
    return rule._replace(step_size=rule.step_size / (1.0 - rule.step_size * float(packed.options[0].strength)))


def make(packed: Any, net: Net, rule: Optimizer) -> Memory:
    strength, rows = float(packed.options[0].strength), net.layers[:, 2] + 1
    left = math.log1p(-rule.step_size * strength) if rule.kind == SGD else 0.0
    first = np.zeros(len(rows), np.int64)
    np.cumsum(rows[:-1], out=first[1:])
    powers = np.exp(left * np.arange(POWERS))
    return Memory(packed.initial[0].numpy(), strength, left, powers, np.zeros(int(rows.sum()), np.int64), first)


@nb.njit(**OPTIONS)
def begin_interval(memory: Memory, net: Net, step: int) -> None:
    memory.pulled[:] = step


@nb.njit(**OPTIONS)
def before_rows(memory: Memory, net: Net, layer: int, rows: Array, n: int, step: int) -> None:
    """What these rows have not been pulled yet, up to `step`."""
    w, anchor, pulled, powers = net.w, memory.anchor, memory.pulled, memory.powers
    base, stride, first = net.layers[layer, 0], net.layers[layer, 1], memory.first[layer]
    if memory.left == 0.0:  # with strength 0, weights stay what they are to the last bit
        return
    for k in range(n):
        row = rows[k]
        steps = step - pulled[first + row]
        if steps == 0:
            continue
        pulled[first + row] = step
        power = powers[steps] if steps < POWERS else math.exp(memory.left * steps)
        left, start = splat(w, w.dtype.type(power)), base + row * stride
        for j in range(start, start + stride, lanes(w)):
            towards = load(anchor, j)  # of a weight that is where it began, the distance is 0, and stays it
            store(w, j, fma(load(w, j) - towards, left, towards))


@nb.njit(**OPTIONS)
def end_interval(memory: Memory, net: Net, step: int) -> None:
    for layer in range(len(net.layers)):
        rows = np.arange(net.layers[layer, 2] + 1).astype(np.int32)
        before_rows(memory, net, layer, rows, len(rows), step)


@nb.njit(**OPTIONS)
def before_update(memory: Memory, net: Net, gradient: Array, step: int) -> None:
    w = net.w
    strength = splat(w, w.dtype.type(memory.strength))
    for layer in range(len(net.layers)):
        start, stride, inputs = net.layers[layer, 0], net.layers[layer, 1], net.layers[layer, 2]
        for i in range(start, start + (inputs + 1) * stride, lanes(w)):
            store(gradient, i, fma(load(w, i) - load(memory.anchor, i), strength, load(gradient, i)))
