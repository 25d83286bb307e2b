"""Fully connected network of any depth and width (the authors' DeepFFNN and FFNN; spec: Nature 632, Methods)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks import activations
from lop_sweeps.networks.affine import Affine
from lop_sweeps.networks.initialization import LAWS, bias_bound, weight_bound
from lop_sweeps.networks.injection import Injection
from lop_sweeps.networks.network import Network, fill_uniform
from lop_sweeps.networks.normalization import NORMALIZATIONS, Normalization
from lop_sweeps.networks.unit_graph import UnitLayer


class MLP(Network):
    """inputs -> hidden layers with one activation -> linear outputs.

    hidden: units of each hidden layer, e.g. [100, 100, 100]; an empty list gives a linear network.
    activation: one of `activations.ACTIVATIONS`; its options, from leaky_slope on, are those of `activations.Options`.
    Where it gives a unit two features (crelu, fourier), the next layer reads twice as many as there are units.
    init: one of `initialization.LAWS`, also for the weights of new units.
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
        leaky_slope: float = 0.01,
        prelu_per: str = "unit",
        slope_bounds: Sequence[float] = (1 / 8, 1 / 3),
        smooth_leaky: Sequence[float] = (0.1, 3.0, 5.0),
        aid_p: float = 0.9,
        adalin_of: str = "relu",
        injection: int = 0,
    ) -> None:
        super().__init__()
        self.hidden = checks.integers("hidden", hidden, 1)
        self.kind = activations.choose(
            activation,
            channels=False,
            leaky_slope=leaky_slope,
            prelu_per=prelu_per,
            slope_bounds=slope_bounds,
            smooth_leaky=smooth_leaky,
            aid_p=aid_p,
            adalin_of=adalin_of,
        )
        self.activation = self.kind.name
        self.init = checks.choice("init", init, LAWS)
        self.dropout = checks.number("dropout", dropout, 0.0, 1.0, below=True)
        self.norm = checks.choice("norm", norm, ("none", *NORMALIZATIONS))
        self.norm_after = checks.flag("norm_after", norm_after)
        self._features = tuple(self.kind.features * units for units in self.hidden)
        # Of each weight matrix: what it reads, and how many it makes.
        self._sizes = tuple(zip((inputs, *self._features), (*self.hidden, outputs), strict=True))
        self.layers = nn.ModuleList(Affine(a, b) for a, b in self._sizes)
        normalized = self._features if self.norm_after else self.hidden
        self.norms = nn.ModuleList(
            NORMALIZATIONS[self.norm](numbers) for numbers in (normalized if self.norm != "none" else ())
        )
        self._functions = [self.kind.layer(units) for units in self.hidden]
        self.activations = activations.modules(self._functions)
        self.at_zero = self.kind.at_zero
        self.injection: Injection | None = None
        if checks.integer("injection", injection, 0, len(self.layers)):
            first = len(self.layers) - int(injection)
            size, of_activation = (
                self._sizes[first][0],
                (leaky_slope, prelu_per, slope_bounds, smooth_leaky, aid_p, adalin_of),
            )

            def make_head() -> MLP:
                hidden = self.hidden[first:]
                return MLP(size, outputs, hidden, activation, init, dropout, norm, norm_after, *of_activation)

            self.injection = Injection(make_head, first)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        found = []
        into: list[Tensor] = []  # of each layer
        draws = iter(uniforms or ())
        for i, layer in enumerate(self.layers[:-1]):
            into.append(x)
            z = layer(x)
            if self.norms and not self.norm_after:
                z = self.norms[i](z)
            function = self._functions[i]
            x = function(z, next(draws)) if uniforms and self.kind.draws else function(z)
            found.append(x)
            if self.norms and self.norm_after:
                x = self.norms[i](x)
            if uniforms and self.dropout:
                x = x * (next(draws) >= self.dropout).to(x.dtype) / (1.0 - self.dropout)
        output = self.layers[-1](x)
        if self.injection is not None:
            output = output + self.injection([*into, x][self.injection.first], uniforms)
        return output, found

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        shapes: list[tuple[int, ...]] = []
        for units, features in zip(self.hidden, self._features, strict=True):
            shapes += [(batch_size, units)] * self.kind.draws
            shapes += [(batch_size, features)] * (self.dropout > 0)
        return tuple(shapes)

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
                    fan_in=self._sizes[i][0],
                    bound=self._bound(i),
                    norm=(
                        *((f"norms.{i}.{name}", value) for name, value in fresh),
                        *self.kind.fresh(f"activations.{i}"),
                    ),
                    norm_after=bool(self.norms) and self.norm_after,
                    features=self.kind.features_of_units(units),
                )
            )
        return tuple(graph)

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        for i, layer in enumerate(self.layers):
            assert isinstance(layer, Affine)
            generator = draw(i)
            fill_uniform(layer.weight, self._bound(i), generator)
            fill_uniform(layer.bias, bias_bound(self.init, self._sizes[i][0]), generator)
        activations.initialize(self.activations)
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
        return weight_bound(self.init, self.kind, *self._sizes[i], output=i == len(self.hidden))
