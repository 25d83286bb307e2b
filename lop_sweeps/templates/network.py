"""My network, to begin with two hidden layers of squared rectified linear units (So et al. 2021, 2109.08668)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.networks.network import Network, fill_uniform
from lop_sweeps.networks.unit_graph import UnitLayer


class MyNetwork(Network):
    """An ordinary module for one run; the benchmark says how many inputs and outputs there are.

    hidden: units of each hidden layer. Options are the other arguments of the constructor.
    """

    def __init__(self, inputs: int, outputs: int, hidden: int = 50) -> None:
        super().__init__()
        hidden = checks.integer("hidden", hidden, 1)
        self.layers = nn.ModuleList([nn.Linear(inputs, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, outputs)])

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """x (batch, inputs) -> outputs (batch, outputs), and the activations of each hidden layer."""
        activations = []
        for layer in self.layers[:-1]:
            x = torch.relu(layer(x)).square()
            activations.append(x)
        return self.layers[-1](x), activations

    def weights(self) -> tuple[str, ...]:
        """The names of the weight matrices, from input to output."""
        return "layers.0.weight", "layers.1.weight", "layers.2.weight"

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        """Set all parameters; `draw(i)` is the generator of the i-th weight matrix, of the run's seed."""
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, nn.Linear)
            fill_uniform(layer.weight, bound(layer.in_features), draw(i))
            nn.init.zeros_(layer.bias)

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        """Of each hidden layer, what feeds its units and what reads them: for resets, and for what is measured."""
        found = []
        for i, layer in enumerate(self.layers[:-1]):
            assert isinstance(layer, nn.Linear)
            found.append(
                UnitLayer(
                    weight=f"layers.{i}.weight",
                    bias=f"layers.{i}.bias",
                    next_weight=f"layers.{i + 1}.weight",
                    next_bias=f"layers.{i + 1}.bias",
                    units=layer.out_features,
                    fan_in=layer.in_features,
                    bound=bound(layer.in_features),  # a new unit's weights are uniform on (-bound, bound)
                )
            )
        return tuple(found)


def bound(fan_in: int) -> float:
    """Initial weights are uniform on (-bound, bound)."""
    return sqrt(3 / fan_in)
