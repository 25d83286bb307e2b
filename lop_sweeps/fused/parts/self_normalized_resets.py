"""Self-normalised resets: which units fire, how long each has been silent, and the reset of those silent too long.

The draws of new weights are those of the torch engine. Thresholds are refreshed between tasks, by the intervention.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba as nb
import numpy as np

from lop_sweeps.counter_random import step_key
from lop_sweeps.fused.arrays import Array, Net, Optimizer, Seen
from lop_sweeps.fused.replacement import renew
from lop_sweeps.fused.rows import OPTIONS

NOTHING, MOMENTS, ALL = range(3)  # of the optimiser's state, what is reset with a unit


class Memory(NamedTuple):
    """ages, thresholds (hidden units,), histograms (hidden units x (longest + 1),): the packed intervention's own.

    bounds, keys, replaced (hidden layers,): of new weights, of their draws, and how many units were reset. state: which
    part of the optimiser's, moment1 ... power, is reset.
    """

    ages: Array
    thresholds: Array
    histograms: Array
    longest: int
    bounds: Array
    keys: Array
    replaced: Array
    state: int
    moment1: Array
    moment2: Array
    power1: Array
    power2: Array
    utility: Array
    power: Array


def obstacle(options: Any, optimizer: Any) -> str | None:
    if options.refresh_in != "tasks":
        return "it knows self-normalised resets with refresh_in=tasks only"
    return None


def make(packed: Any, net: Net, rule: Optimizer) -> Memory:
    layers, state = range(len(packed.sizes)), NOTHING
    if rule.fresh and packed.options[0].reset_optimizer != "none":
        state = ALL if packed.options[0].reset_optimizer == "all" else MOMENTS
    return Memory(
        packed.ages[0].numpy(),
        packed.thresholds[0].numpy(),
        packed.histograms[0].view(-1).numpy(),
        packed.tau_max,
        np.array([packed.learner.graph[i].bound for i in layers]),
        np.array([packed.resets.keys[i].keys[0] for i in layers], np.uint64),
        np.array([int(packed.resets.replaced[i][0]) for i in layers], np.int64),
        state,
        rule.moment1,
        rule.moment2,
        rule.power1,
        rule.power2,
        rule.gates.utility,
        rule.gates.power,
    )


def take_back(packed: Any, memory: Memory) -> None:
    for i, number in enumerate(memory.replaced.tolist()):
        packed.resets.replaced[i][0] = number


@nb.njit(**OPTIONS)
def fresh_state(memory: Memory, i: int) -> None:
    """A new weight's optimiser state."""
    if memory.state == NOTHING:
        return
    if memory.utility.size > 0:
        memory.utility[i] = 0
        if memory.state == ALL:
            memory.power[i] = 1
    if memory.moment1.size > 0:
        memory.moment1[i] = 0
    if memory.moment2.size > 0:
        memory.moment2[i] = 0
        if memory.state == ALL:
            memory.power1[i] = 1
            memory.power2[i] = 1


@nb.njit(**OPTIONS)
def reset(memory: Memory, net: Net, layer: int, unit: int, scale: float, step: int) -> None:
    """New incoming weights, bias and outgoing weights 0."""
    base, stride, inputs = net.layers[layer, 0], net.layers[layer, 1], net.layers[layer, 2]
    renew(net, layer, unit, step_key(memory.keys[layer], step), memory.bounds[layer], scale)
    for r in range(inputs + 1 + len(net.fresh)):
        fresh_state(memory, base + r * stride + unit)
    start = net.layers[layer + 1, 0] + unit * net.layers[layer + 1, 1]
    for i in range(start, start + net.layers[layer + 1, 3]):
        fresh_state(memory, i)
    memory.replaced[layer] += 1


@nb.njit(**OPTIONS)
def after_update(memory: Memory, net: Net, seen: Seen, scale: float, step: int, t: int) -> None:
    ages, thresholds, histograms, longest = memory.ages, memory.thresholds, memory.histograms, memory.longest
    h, batch, u = seen.h, len(seen.h), 0
    for layer in range(len(memory.bounds)):
        first = net.units[layer]
        for unit in range(net.layers[layer, 3]):
            fires = h[0, first + unit] > 0
            for b in range(1, batch):
                fires |= h[b, first + unit] > 0
            age = ages[u]
            if fires:
                if age <= longest:
                    histograms[u * (longest + 1) + age] += 1
                ages[u] = 0
            else:
                age += batch
                ages[u] = age
                if age >= thresholds[u] > 0:
                    if age <= longest:
                        histograms[u * (longest + 1) + age] += 1
                    ages[u] = 0
                    reset(memory, net, layer, unit, scale, step)
            u += 1
