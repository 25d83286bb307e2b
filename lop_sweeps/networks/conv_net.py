"""Convolutions with max-pooling, then fully connected layers: the network of Continual ImageNet.

The authors' ConvNet (conv_net.py; Nature 632, Methods): 3 convolutions of 32, 64, 128 channels, each with ReLU and 2x2
max-pooling, two hidden layers of 128 units, linear outputs; PyTorch's default initialisation.
"""

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
from lop_sweeps.networks.convolution import Convolution, apart, as_maps, beside
from lop_sweeps.networks.initialization import LAWS, bias_bound, weight_bound
from lop_sweeps.networks.mlp import ACTIVATIONS
from lop_sweeps.networks.network import Network, fill_uniform
from lop_sweeps.networks.normalization import BatchNorm, ImageBatchNorm, Normalization
from lop_sweeps.networks.unit_graph import UnitLayer

POOL = 2


class ConvNet(Network):
    """images -> convolutions -> hidden layers -> linear outputs.

    shape: of an input image, (channels, height, width). channels: of each convolution. kernels: their sides; no
    padding, stride 1. hidden: units of each fully connected hidden layer. activation, init, dropout: as in `MLP`; the
    law of `init` holds for convolutions too, with kernel area x input channels as fan_in.
    norm: none, or batch, before the activation.

    Hidden activations are those after pooling, (batch, channels, height, width) for a convolution.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = True
    packs_on: ClassVar[frozenset[str]] = frozenset({"cuda"})

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
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.channels = checks.integers("channels", channels, 1)
        self.kernels = checks.integers("kernels", kernels, 1)
        self.hidden = checks.integers("hidden", hidden, 1)
        self.activation = checks.choice("activation", activation, ACTIVATIONS)
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
        self._maps = self._sides()
        inputs = (self.shape[0], *self.channels)
        self.convolutions = nn.ModuleList(
            Convolution(a, b, kernel) for (a, b), kernel in zip(itertools.pairwise(inputs), self.kernels, strict=True)
        )
        height, width = self._maps[-1]
        self._sizes = (self.channels[-1] * height * width, *self.hidden, outputs)
        self.layers = nn.ModuleList(Affine(a, b) for a, b in itertools.pairwise(self._sizes))
        self.norms = nn.ModuleList()
        if self.norm == "batch":
            self.norms.extend(ImageBatchNorm(units) for units in self.channels)
            self.norms.extend(BatchNorm(units) for units in self.hidden)
        self._function = ACTIVATIONS[self.activation]
        self.at_zero = float(self._function(torch.zeros((), device="cpu")))

    def _sides(self) -> list[tuple[int, int]]:
        """Height and width of each convolution's maps after pooling."""
        _, height, width = self.shape
        sides = []
        for kernel in self.kernels:
            height, width = (height - kernel + 1) // POOL, (width - kernel + 1) // POOL
            if min(height, width) < 1:
                allowed = f"leaves nothing of images of {self.shape[1]} x {self.shape[2]} pixels after pooling"
                raise ConfigError("kernels", list(self.kernels), allowed)
            sides.append((height, width))
        return sides

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        runs = len(x) if x.dim() == 3 else None
        x = as_maps(x, self.shape, channels_last=self.channels_last)
        activations: list[Tensor] = []
        for layer in itertools.chain(self.convolutions, self.layers[:-1]):
            i = len(activations)
            maps = i < len(self.convolutions)
            if i == len(self.convolutions):
                x = apart(x, runs).flatten(-3)
            z = layer(x)
            if self.norms:
                z = self.norms[i](z)
            x = self._function(z)
            if maps:
                x = F.max_pool2d(x, POOL)
            activations.append(apart(x, runs) if maps else x)
            if uniforms:
                draws = beside(uniforms[i], runs) if maps else uniforms[i]
                x = x * (draws >= self.dropout).to(x.dtype) / (1.0 - self.dropout)
        return self.layers[-1](x if self.hidden else apart(x, runs).flatten(-3)), activations

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        if not self.dropout:
            return ()
        maps = [(batch_size, units, *sides) for units, sides in zip(self.channels, self._maps, strict=True)]
        return (*maps, *((batch_size, units) for units in self.hidden))

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
            kind = ImageBatchNorm if i <= last else BatchNorm
            graph.append(
                UnitLayer(
                    weight=weights[i],
                    bias=weights[i].removesuffix("weight") + "bias",
                    next_weight=weights[i + 1],
                    next_bias=weights[i + 1].removesuffix("weight") + "bias",
                    units=units,
                    fan_in=fan_in,
                    bound=bound,
                    norm=tuple((f"norms.{i}.{name}", value) for name, value in kind.fresh.items())
                    if self.norms
                    else (),
                    spread=self._maps[last][0] * self._maps[last][1] if i == last else 1,
                )
            )
        return tuple(graph)

    def _law(self, i: int) -> tuple[int, float]:
        """fan_in and bound of weight i."""
        if i < len(self.channels):
            area = self.kernels[i] ** 2
            fan_in = (self.shape[0], *self.channels)[i] * area
            return fan_in, weight_bound(self.init, self.activation, fan_in, self.channels[i] * area)
        fan_in, fan_out = self._sizes[i - len(self.channels) :][:2]
        output = i == len(self.channels) + len(self.hidden)
        return fan_in, weight_bound(self.init, self.activation, fan_in, fan_out, output=output)

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

    def check(self, batch_size: int) -> None:
        if self.norm == "batch" and batch_size == 1:
            raise ConfigError("norm", "batch", "needs benchmark.batch_size > 1")
