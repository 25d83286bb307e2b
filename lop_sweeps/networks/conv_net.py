"""Convolutions with max-pooling, then fully connected layers: the network of Continual ImageNet, and small ones alike.

The authors' ConvNet (conv_net.py; Nature 632, Methods): 3 convolutions of 32, 64, 128 channels, each with ReLU and 2x2
max-pooling, two hidden layers of 128 units, linear outputs; PyTorch's default initialisation. Those of other papers are
choices of their own (network=cnn_l2_init, cnn_soft_weight_rescaling, cnn_upgd).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks import activations
from lop_sweeps.networks.activations import Activation
from lop_sweeps.networks.affine import Affine
from lop_sweeps.networks.convolution import Convolution, apart, as_maps, beside
from lop_sweeps.networks.initialization import LAWS, bias_bound, weight_bound
from lop_sweeps.networks.network import Network, fill_uniform
from lop_sweeps.networks.normalization import BatchNorm, ImageBatchNorm, Normalization
from lop_sweeps.networks.unit_graph import UnitLayer


class ConvNet(Network):
    """images -> convolutions -> hidden layers -> linear outputs.

    shape: of an input image, (channels, height, width). channels: of each convolution. kernels: their sides; stride 1.
    padding: zeros around the maps that each convolution reads. pool: side of the max-pooling after each convolution,
    or a list of them; 1: none. hidden: units of each fully connected hidden layer. activation (with its options),
    init, dropout: as in `MLP`; the law of `init` holds for convolutions too, with kernel area x input channels as
    fan_in. conv_activation: that of convolutions, with the same options; null: the same. norm: none, or batch, before
    the activation.

    Hidden activations are those after pooling, (batch, channels, height, width) for a convolution.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = True
    packs_on: ClassVar[frozenset[str]] = frozenset({"cuda"})
    hidden_norm: ClassVar[bool] = True  # whether `norm` is for fully connected layers, too

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        channels: Sequence[int] = (32, 64, 128),
        kernels: Sequence[int] = (5, 3, 3),
        hidden: Sequence[int] = (128, 128),
        activation: str = "relu",
        init: str = "default",
        dropout: float = 0.0,
        norm: str = "none",
        leaky_slope: float = 0.01,
        prelu_per: str = "unit",
        slope_bounds: Sequence[float] = (1 / 8, 1 / 3),
        smooth_leaky: Sequence[float] = (0.1, 3.0, 5.0),
        aid_p: float = 0.9,
        adalin_of: str = "relu",
        padding: int = 0,
        pool: int | Sequence[int] = 2,
        conv_activation: str | None = None,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.channels = checks.integers("channels", channels, 1)
        self.kernels = checks.integers("kernels", kernels, 1)
        self.hidden = checks.integers("hidden", hidden, 1)
        self.padding = checks.integer("padding", padding, 0)
        options: dict[str, Any] = {
            "channels": True,
            "leaky_slope": leaky_slope,
            "prelu_per": prelu_per,
            "slope_bounds": slope_bounds,
            "smooth_leaky": smooth_leaky,
            "aid_p": aid_p,
            "adalin_of": adalin_of,
        }
        self.kind = activations.choose(activation, **options)
        of_maps = self.kind
        if conv_activation is not None:
            checks.choice("conv_activation", conv_activation, activations.ACTIVATIONS)
            of_maps = activations.choose(conv_activation, **options)
        self.activation = self.kind.name
        self.init = checks.choice("init", init, LAWS)
        self.dropout = checks.number("dropout", dropout, 0.0, 1.0, below=True)
        self.norm = checks.choice("norm", norm, ("none", "batch"))
        if not self.channels:
            raise ConfigError(
                "channels", list(channels), "must name at least one convolution; without any, use network=mlp"
            )
        if len(self.channels) != len(self.kernels):
            allowed = f"must list one side for each of the {len(self.channels)} convolutions"
            raise ConfigError("kernels", list(kernels), allowed)
        self.pools = self._pools(pool)
        self._kinds: list[Activation] = [of_maps] * len(self.channels) + [self.kind] * len(self.hidden)
        self._maps = self._sides()
        units_of = (*self.channels, *self.hidden)
        features = self._features = [kind.features * n for kind, n in zip(self._kinds, units_of, strict=True)]
        last = len(self.channels) - 1
        positions = math.prod(self._maps[last])
        # Of each weight: the channels or numbers that it reads, and how many it makes.
        read = (self.shape[0], *features[:last], features[last] * positions, *features[last + 1 :])
        self._sizes = tuple(zip(read, (*self.channels, *self.hidden, outputs), strict=True))
        self.convolutions = nn.ModuleList(
            Convolution(a, b, kernel, padding=self.padding)
            for (a, b), kernel in zip(self._sizes, self.kernels, strict=False)
        )
        self.layers = nn.ModuleList(Affine(a, b) for a, b in self._sizes[last + 1 :])
        self.norms = nn.ModuleList()
        if self.norm == "batch":
            self.norms.extend(ImageBatchNorm(units) for units in self.channels)
            self.norms.extend(BatchNorm(units) for units in (self.hidden if self.hidden_norm else ()))
        self._functions = [of_maps.layer(units, maps=True) for units in self.channels]
        self._functions += [self.kind.layer(units) for units in self.hidden]
        self.activations = activations.modules(self._functions)
        self.at_zero = [kind.at_zero for kind in self._kinds]

    def _pools(self, pool: int | Sequence[int]) -> tuple[int, ...]:
        """Side of the max-pooling after each convolution."""
        if isinstance(pool, Sequence):
            sides = checks.integers("pool", pool, 1)
            if len(sides) != len(self.channels):
                allowed = f"must be a number, or a list of one for each of the {len(self.channels)} convolutions"
                raise ConfigError("pool", list(pool), allowed)
            return sides
        return (checks.integer("pool", pool, 1),) * len(self.channels)

    def _sides(self, *, pooled: bool = True) -> list[tuple[int, int]]:
        """Height and width of each convolution's maps, after pooling or before it."""
        _, height, width = self.shape
        sides = []
        for kernel, pool in zip(self.kernels, self.pools, strict=True):
            before = height + 2 * self.padding - kernel + 1, width + 2 * self.padding - kernel + 1
            height, width = before[0] // pool, before[1] // pool
            if min(height, width) < 1:
                allowed = f"leaves nothing of images of {self.shape[1]} x {self.shape[2]} pixels after pooling"
                raise ConfigError("kernels", list(self.kernels), allowed)
            sides.append((height, width) if pooled else before)
        return sides

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        runs = len(x) if x.dim() == 3 else None
        x = as_maps(x, self.shape, channels_last=self.channels_last)
        found: list[Tensor] = []
        draws = iter(uniforms or ())
        for layer in itertools.chain(self.convolutions, self.layers[:-1]):
            i = len(found)
            maps = i < len(self.convolutions)
            if i == len(self.convolutions):
                x = apart(x, runs).flatten(-3)
            z = layer(x)
            if i < len(self.norms):
                z = self.norms[i](z)
            drawn = next(draws) if uniforms and self._kinds[i].draws else None
            if maps:
                x = activations.on_maps(self._functions[i], z, runs, drawn)
                x = F.max_pool2d(x, self.pools[i]) if self.pools[i] > 1 else x
            else:
                x = self._functions[i](z) if drawn is None else self._functions[i](z, drawn)
            found.append(apart(x, runs) if maps else x)
            if uniforms and self.dropout:
                kept = beside(next(draws), runs) if maps else next(draws)
                x = x * (kept >= self.dropout).to(x.dtype) / (1.0 - self.dropout)
        return self.layers[-1](x if self.hidden else apart(x, runs).flatten(-3)), found

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        shapes: list[tuple[int, ...]] = []
        before = self._sides(pooled=False)
        for i, units in enumerate((*self.channels, *self.hidden)):
            maps = i < len(self.channels)
            shapes += [(batch_size, units, *(before[i] if maps else ()))] * self._kinds[i].draws
            shapes += [(batch_size, self._features[i], *(self._maps[i] if maps else ()))] * (self.dropout > 0)
        return tuple(shapes)

    def weights(self) -> tuple[str, ...]:
        return (
            *(f"convolutions.{i}.weight" for i in range(len(self.convolutions))),
            *(f"layers.{i}.weight" for i in range(len(self.layers))),
        )

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        graph, weights = [], self.weights()
        last = len(self.channels) - 1
        for i, units in enumerate((*self.channels, *self.hidden)):
            fan_in, bound = self._law(i)
            norm = ImageBatchNorm if i <= last else BatchNorm
            graph.append(
                UnitLayer(
                    weight=weights[i],
                    bias=weights[i].removesuffix("weight") + "bias",
                    next_weight=weights[i + 1],
                    next_bias=weights[i + 1].removesuffix("weight") + "bias",
                    units=units,
                    fan_in=fan_in,
                    bound=bound,
                    norm=(
                        *((f"norms.{i}.{name}", value) for name, value in norm.fresh.items() if i < len(self.norms)),
                        *self._kinds[i].fresh(f"activations.{i}", maps=i <= last),
                    ),
                    spread=math.prod(self._maps[last]) if i == last else 1,
                    features=self._kinds[i].features_of_units(units),
                )
            )
        return tuple(graph)

    def _law(self, i: int) -> tuple[int, float]:
        """fan_in and bound of weight i."""
        area = self.kernels[i] ** 2 if i < len(self.channels) else 1
        read, made = self._sizes[i]
        output = i == len(self._sizes) - 1
        kind = self.kind if output else self._kinds[i]
        bound = weight_bound(self.init, kind, read * area, made * area, output=output)
        return read * area, bound

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        for i, layer in enumerate(itertools.chain(self.convolutions, self.layers)):
            assert isinstance(layer, Convolution | Affine)
            fan_in, bound = self._law(i)
            generator = draw(i)
            fill_uniform(layer.weight, bound, generator)
            fill_uniform(layer.bias, bias_bound(self.init, fan_in), generator)
        for norm in self.norms:
            assert isinstance(norm, Normalization)
            norm.initialize()
        activations.initialize(self)

    def check(self, batch_size: int) -> None:
        if self.norm == "batch" and batch_size == 1:
            raise ConfigError("norm", "batch", "needs benchmark.batch_size > 1")
