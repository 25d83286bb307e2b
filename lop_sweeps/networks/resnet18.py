"""ResNet-18 for 32x32 images: the network of class-incremental CIFAR-100.

He et al. 2016 (arXiv 1512.03385) with the authors' changes (torchvision_modified_resnet.py; Nature 632, Methods): a
3x3 stem with stride 1 and no max-pooling, and a bias in every convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.affine import Affine
from lop_sweeps.networks.convolution import Convolution, apart, as_maps, beside
from lop_sweeps.networks.network import Network, fill_normal
from lop_sweeps.networks.normalization import ImageBatchNorm
from lop_sweeps.networks.unit_graph import UnitLayer

STRIDES = (1, 1, 2, 1, 2, 1, 2, 1)  # of the eight blocks; a block that halves the sides doubles the channels


class BasicBlock(nn.Module):
    """x -> ReLU(norm2(conv2(ReLU(norm1(conv1(x))))) + shortcut(x)); a 1x1 convolution where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = Convolution(inputs, outputs, 3, stride, padding=1), ImageBatchNorm(outputs)
        self.conv2, self.norm2 = Convolution(outputs, outputs, 3, padding=1), ImageBatchNorm(outputs)
        self.changes = stride != 1 or inputs != outputs
        if self.changes:
            self.shortcut, self.shortcut_norm = Convolution(inputs, outputs, 1, stride), ImageBatchNorm(outputs)

    def forward(self, x: Tensor, hidden: Callable[[Tensor], Tensor]) -> Tensor:
        """hidden: is given the activations between the convolutions, and gives what the second one reads."""
        inside = hidden(self.norm1(self.conv1(x)).relu())
        shortcut = self.shortcut_norm(self.shortcut(x)) if self.changes else x
        return torch.relu(self.norm2(self.conv2(inside)) + shortcut)


class ResNet18(Network):
    """images -> 3x3 stem -> 8 residual blocks -> mean over positions -> linear outputs.

    width: channels of the first stage (published: 64); the stages have 1, 2, 4 and 8 times as many. dropout: after
    each hidden activation.

    Hidden activations: the stem's, then of each block those between its convolutions and its output; those of the last
    block's output are means over positions, (batch, channels), which is what the outputs read. Weights are normal with
    variance 2 / fan_in (1 / fan_in for the outputs), biases 0; so are the incoming weights of new units. The 1x1
    convolutions of shortcuts have no units of their own.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = True
    packs_on: ClassVar[frozenset[str]] = frozenset()  # one run fills a GPU; cuDNN takes groups one by one

    def __init__(self, shape: Sequence[int], outputs: int, width: int = 64, dropout: float = 0.0) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.width = checks.integer("width", width, 1)
        self.dropout = checks.number("dropout", dropout, 0.0, 1.0, below=True)
        channels = self.width
        self.stem, self.stem_norm = Convolution(self.shape[0], channels, 3, padding=1), ImageBatchNorm(channels)
        self.blocks = nn.ModuleList()
        for stride in STRIDES:
            self.blocks.append(BasicBlock(channels, channels * stride, stride))
            channels *= stride
        self.outputs = Affine(channels, outputs)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        runs = len(x) if x.dim() == 3 else None
        activations: list[Tensor] = []

        def hidden(h: Tensor) -> Tensor:
            """Note a layer's activations; what the next layer gets of them."""
            activations.append(apart(h, runs))
            if not uniforms:
                return h
            draws = beside(uniforms[len(activations) - 1], runs)
            return h * (draws >= self.dropout).to(h.dtype) / (1.0 - self.dropout)

        x = hidden(self.stem_norm(self.stem(as_maps(x, self.shape, channels_last=self.channels_last))).relu())
        for i, block in enumerate(self.blocks):
            x = block(x, hidden)
            x = hidden(x.mean((-2, -1)) if i == len(self.blocks) - 1 else x)
        return self.outputs(apart(x, runs)), activations

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        if not self.dropout:
            return ()
        _, height, width = self.shape
        shapes, channels = [(batch_size, self.width, height, width)], self.width
        for stride in STRIDES:
            channels, height, width = channels * stride, -(-height // stride), -(-width // stride)
            shapes += [(batch_size, channels, height, width)] * 2
        return (*shapes[:-1], shapes[-1][:2])

    def weights(self) -> tuple[str, ...]:
        return tuple(
            name for name, parameter in self.named_parameters() if name.endswith("weight") and parameter.dim() > 1
        )

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        places = [("stem", "stem_norm", True)]
        for i in range(len(self.blocks)):
            places += [
                (f"blocks.{i}.conv1", f"blocks.{i}.norm1", False),
                (f"blocks.{i}.conv2", f"blocks.{i}.norm2", True),
            ]
        readers = [name for name, _, _ in places[1:]] + ["outputs"]
        graph = []
        for (name, norm, residual), reader in zip(places, readers, strict=True):
            weight = self.get_parameter(f"{name}.weight")
            fan_in = weight[0].numel()
            graph.append(
                UnitLayer(
                    weight=f"{name}.weight",
                    bias=f"{name}.bias",
                    next_weight=f"{reader}.weight",
                    next_bias=f"{reader}.bias",
                    units=len(weight),
                    fan_in=fan_in,
                    bound=0.0,
                    norm=tuple((f"{norm}.{key}", value) for key, value in ImageBatchNorm.fresh.items()),
                    std=math.sqrt(2.0 / fan_in),
                    residual=residual and reader != "outputs",
                )
            )
        return tuple(graph)

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        for i, name in enumerate(self.weights()):
            layer = self.get_submodule(name.removesuffix(".weight"))
            assert isinstance(layer, Convolution | Affine)
            gain = 2.0 if isinstance(layer, Convolution) else 1.0
            fill_normal(layer.weight, math.sqrt(gain / layer.weight[0].numel()), draw(i))
            nn.init.zeros_(layer.bias)
        for module in self.modules():
            if isinstance(module, ImageBatchNorm):
                module.initialize()

    def check(self, batch_size: int) -> None:
        if batch_size == 1:
            raise ConfigError("", None, "has batch normalisation, which needs benchmark.batch_size > 1")
