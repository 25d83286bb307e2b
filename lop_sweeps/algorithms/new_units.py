"""What a hidden unit that starts anew gets: the part that all methods which replace units have in common."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lop_sweeps.algorithms.intervention import Learner
from lop_sweeps.counter_random import Keys
from lop_sweeps.networks.unit_graph import UnitLayer


class Part(NamedTuple):
    """What belongs to the units of a layer: a tensor (runs, ...) with the units along `dimension`, and the value of a
    new one.
    """

    tensor: Tensor
    dimension: int
    fresh: float


def parts(learner: Learner, layer: UnitLayer, *, optimizer: bool) -> list[Part]:
    """Everything of a layer's units but their incoming weights; optimizer: the optimiser's state of them, too."""
    view, parameters = learner.view, learner.parameters
    found = [
        Part(view(parameters, layer.bias), 1, 0.0),
        Part(readers(view(parameters, layer.next_weight), layer), 2, 0.0),
    ]
    for name, value in layer.norm:
        owner = learner.buffers[name] if name in learner.buffers else view(parameters, name)
        found.append(Part(owner, 1, value))
    if optimizer:
        own = [layer.weight, layer.bias, *(name for name, _ in layer.norm if name not in learner.buffers)]
        state = learner.optimizer.state()
        for name, value in learner.optimizer.fresh().items():
            found += [Part(view(state[name], parameter), 1, value) for parameter in own]
            found.append(Part(readers(view(state[name], layer.next_weight), layer), 2, value))
    return found


def readers(weight: Tensor, layer: UnitLayer) -> Tensor:
    """Weights (runs, next units, units * spread, *kernel) that read a layer, as (runs, next units, units, ...)."""
    return weight.unflatten(2, (layer.units, layer.spread)) if layer.spread > 1 else weight


def draw_incoming(keys: Keys, step: int, layer: UnitLayer, units: Tensor) -> Tensor:
    """For each key, new incoming weights (keys, len(units), fan_in) from the network's initial law; a draw belongs to
    its unit.
    """
    each = layer.fan_in if layer.std is None else 2 * layer.fan_in  # Box & Muller's method takes two
    index = units.unsqueeze(1) * each + torch.arange(each, device=units.device)
    draws = keys.uniforms_at(step, index)
    if layer.std is None:
        return (2 * draws - 1) * layer.bound
    radius = (-2 * torch.log1p(-draws[..., ::2])).sqrt()
    return layer.std * radius * torch.cos(2 * math.pi * draws[..., 1::2])


def by_unit(activation: Tensor, layer: UnitLayer) -> Tensor:
    """Activations (runs, samples, units); (runs, batch, units, positions) where a linear layer reads positions."""
    if activation.dim() == 3:
        return activation
    if layer.spread > 1:
        return activation.flatten(3)
    return activation.movedim(2, -1).flatten(1, -2)
