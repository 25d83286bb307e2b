"""The unit graph: which parameters feed a hidden unit, which read it.

Continual backprop, the other resets and the per-unit diagnostics walk this list and nothing else, so that they work
on every network that can describe itself by it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class UnitLayer:
    """One hidden layer. Parameter names are as in `Module.named_parameters()`; shapes are those of one run.

    A unit is a hidden neuron or a channel of a convolution; a channel's activations are (batch, units, *positions).

    weight, bias: incoming parameters; `weight` is (units, inputs, *kernel), `bias` is (units,).
    next_weight, next_bias: the parameters that read the layer; `next_weight` is (next units, units * spread, *kernel).
    fan_in: incoming weights of a unit.
    bound: new incoming weights are uniform on (-bound, bound), the law that drew the initial ones.
    norm: parameters and buffers, (units,) each, of a normalisation that belongs to the layer, with the value that a
        fresh unit has.
    norm_after: whether that normalisation comes after the activation, hence between a unit and its readers.
    spread: flattened positions of a channel that a linear layer reads one by one; unit i has the columns
        i * spread, ..., (i + 1) * spread - 1 of `next_weight`, in the order of its positions.
    std: if given, new incoming weights are normal with this standard deviation instead.
    residual: whether a shortcut carries the units past `next_weight`, to layers that are not in the graph.
    """

    weight: str
    bias: str
    next_weight: str
    next_bias: str
    units: int
    fan_in: int
    bound: float
    norm: tuple[tuple[str, float], ...] = ()
    norm_after: bool = False
    spread: int = 1
    std: float | None = None
    residual: bool = False
