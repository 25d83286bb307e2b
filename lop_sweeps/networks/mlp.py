"""Fully connected network of any depth and width (the authors' DeepFFNN and FFNN; spec: Nature 632, Methods)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.affine import Affine
from lop_sweeps.networks.initialization import GAINS, LAWS, bias_bound, weight_bound
from lop_sweeps.networks.injection import Injection
from lop_sweeps.networks.network import Network, fill_uniform
from lop_sweeps.networks.normalization import NORMALIZATIONS, Normalization
from lop_sweeps.networks.unit_graph import UnitLayer

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,  # slope 0.01
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "elu": F.elu,  # alpha 1
    "selu": F.selu,
    "swish": F.silu,
    "identity": lambda z: z,
}
assert set(ACTIVATIONS) == set(GAINS)


class MLP(Network):
    """inputs -> hidden layers with one activation -> linear outputs.

    hidden: units of each hidden layer, e.g. [100, 100, 100]; an empty list gives a linear network.
    activation: one of `ACTIVATIONS`. init: one of `initialization.LAWS`, also for the weights of new units.
    dropout: probability of setting a hidden activation to 0 in training (kept ones are scaled by 1/(1 - dropout)).
    norm: none, layer, batch, or online (for batch size 1). norm_after: normalise after the activation instead of
        before it.
    injection: for plasticity injection, how many layers at the end, the output's included, are the head.

    Interventions and diagnostics see a layer's activations before dropout and before a norm that follows them.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (100, 100, 100),
        activation: str = "relu",
        init: str = "kaiming",
        dropout: float = 0.0,
        norm: str = "none",
        norm_after: bool = False,
        injection: int = 0,
    ) -> None:
        super().__init__()
        self.hidden = checks.integers("hidden", hidden, 1)
        self.activation = checks.choice("activation", activation, ACTIVATIONS)
        self.init = checks.choice("init", init, LAWS)
        self.dropout = checks.number("dropout", dropout, 0.0, 1.0, below=True)
        self.norm = checks.choice("norm", norm, ("none", *NORMALIZATIONS))
        self.norm_after = checks.flag("norm_after", norm_after)
        sizes = (inputs, *self.hidden, outputs)
        self.layers = nn.ModuleList(Affine(a, b) for a, b in itertools.pairwise(sizes))
        self._sizes = sizes
        self.norms = nn.ModuleList(
            NORMALIZATIONS[self.norm](units) for units in (self.hidden if self.norm != "none" else ())
        )
        self._function = ACTIVATIONS[self.activation]
        self.at_zero = float(self._function(torch.zeros((), device="cpu")))
        self.injection: Injection | None = None
        if checks.integer("injection", injection, 0, len(self.layers)):
            first = len(self.layers) - int(injection)
            rest = activation, init, dropout, norm, norm_after
            self.injection = Injection(lambda: MLP(sizes[first], outputs, self.hidden[first:], *rest), first)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        activations = []
        into: list[Tensor] = []  # of each layer
        for i, layer in enumerate(self.layers[:-1]):
            into.append(x)
            z = layer(x)
            if self.norms and not self.norm_after:
                z = self.norms[i](z)
            x = self._function(z)
            activations.append(x)
            if self.norms and self.norm_after:
                x = self.norms[i](x)
            if uniforms:
                x = x * (uniforms[i] >= self.dropout).to(x.dtype) / (1.0 - self.dropout)
        output = self.layers[-1](x)
        if self.injection is not None:
            output = output + self.injection([*into, x][self.injection.first], uniforms)
        return output, activations

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        return tuple((batch_size, units) for units in self.hidden) if self.dropout > 0 else ()

    def weights(self) -> tuple[str, ...]:
        return tuple(f"layers.{i}.weight" for i in range(len(self.layers)))

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        graph = []
        for i, units in enumerate(self.hidden):
            fresh = NORMALIZATIONS[self.norm].fresh.items() if self.norms else ()
            graph.append(
                UnitLayer(
                    weight=f"layers.{i}.weight",
                    bias=f"layers.{i}.bias",
                    next_weight=f"layers.{i + 1}.weight",
                    next_bias=f"layers.{i + 1}.bias",
                    units=units,
                    fan_in=self._sizes[i],
                    bound=self._bound(i),
                    norm=tuple((f"norms.{i}.{name}", value) for name, value in fresh),
                    norm_after=bool(self.norms) and self.norm_after,
                )
            )
        return tuple(graph)

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, Affine)
            generator = draw(i)
            fill_uniform(layer.weight, self._bound(i), generator)
            fill_uniform(layer.bias, bias_bound(self.init, self._sizes[i]), generator)
        for norm in self.norms:
            assert isinstance(norm, Normalization)
            norm.initialize()
        if self.injection is not None:
            self.injection.initialize()

    def check(self, batch_size: int) -> None:
        if self.norm == "online" and batch_size != 1:
            raise ConfigError("norm", "online", f"needs benchmark.batch_size = 1 (here {batch_size})")
        if self.norm == "batch" and batch_size == 1:
            raise ConfigError("norm", "batch", "needs benchmark.batch_size > 1; with batches of one, use norm=online")

    def _bound(self, i: int) -> float:
        fan_in, fan_out = self._sizes[i : i + 2]
        return weight_bound(self.init, self.activation, fan_in, fan_out, output=i == len(self.hidden))
