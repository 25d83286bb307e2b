"""ResNet-18 for 32x32 images: the network of class-incremental CIFAR-100.

He et al. 2016 (arXiv 1512.03385) with the authors' changes (torchvision_modified_resnet.py; Nature 632, Methods): a
3x3 stem with stride 1 and no max-pooling, and a bias in every convolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks import activations
from lop_sweeps.networks.activations import Activation
from lop_sweeps.networks.affine import Affine
from lop_sweeps.networks.convolution import Convolution, apart, as_maps, beside
from lop_sweeps.networks.network import Network, fill_normal
from lop_sweeps.networks.normalization import ImageBatchNorm
from lop_sweeps.networks.unit_graph import UnitLayer

STRIDES = (1, 1, 2, 1, 2, 1, 2, 1)  # of the eight blocks; a block that halves the sides doubles the channels


class BasicBlock(nn.Module):
    """x -> f(norm2(conv2(f(norm1(conv1(x))))) + shortcut(x)); a 1x1 convolution where the shape changes.

    f: the activation, which may give each of the `outputs` units several features.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, kind: Activation) -> None:
        super().__init__()
        self.conv1, self.norm1 = Convolution(inputs, outputs, 3, stride, padding=1), ImageBatchNorm(outputs)
        self.conv2 = Convolution(kind.features * outputs, outputs, 3, padding=1)
        self.norm2 = ImageBatchNorm(outputs)
        self.changes = stride != 1 or inputs != outputs
        if self.changes:
            self.shortcut, self.shortcut_norm = Convolution(inputs, outputs, 1, stride), ImageBatchNorm(outputs)

    def forward(self, x: Tensor, activate: Callable[[Tensor], Tensor], hidden: Callable[[Tensor], Tensor]) -> Tensor:
        """activate: f, of the layer whose turn it is. hidden: is given the activations between the convolutions, and
        gives what the second one reads.
        """
        inside = hidden(activate(self.norm1(self.conv1(x))))
        shortcut = self.shortcut_norm(self.shortcut(x)) if self.changes else x
        return activate(self.norm2(self.conv2(inside)) + shortcut)


class ResNet18(Network):
    """images -> 3x3 stem -> 8 residual blocks -> mean over positions -> linear outputs.

    width: channels of the first stage (published: 64); the stages have 1, 2, 4 and 8 times as many. dropout: after
    each hidden activation. activation (with its options): as in `MLP`. With two features of a unit (crelu, fourier)
    every shortcut has its 1x1 convolution, since a block reads twice as many as it makes.

    Hidden activations: the stem's, then of each block those between its convolutions and its output; those of the last
    block's output are means over positions, (batch, channels), which is what the outputs read. Weights are normal with
    variance 2 / fan_in (with relu; in general `Activation.variance`; for the outputs 1 / fan_in), biases 0; so are the
    incoming weights of new units. The 1x1 convolutions of shortcuts have no units of their own.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = True
    packs_on: ClassVar[frozenset[str]] = frozenset()  # one run fills a GPU; cuDNN takes groups one by one

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        width: int = 64,
        dropout: float = 0.0,
        activation: str = "relu",
        leaky_slope: float = 0.01,
        prelu_per: str = "unit",
        slope_bounds: Sequence[float] = (1 / 8, 1 / 3),
        smooth_leaky: Sequence[float] = (0.1, 3.0, 5.0),
        aid_p: float = 0.9,
        adalin_of: str = "relu",
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.width = checks.integer("width", width, 1)
        self.dropout = checks.number("dropout", dropout, 0.0, 1.0, below=True)
        self.kind = activations.choose(
            activation,
            channels=True,
            leaky_slope=leaky_slope,
            prelu_per=prelu_per,
            slope_bounds=slope_bounds,
            smooth_leaky=smooth_leaky,
            aid_p=aid_p,
            adalin_of=adalin_of,
        )
        self.activation, self.at_zero = self.kind.name, self.kind.at_zero
        channels, each = self.width, self.kind.features
        self.stem, self.stem_norm = Convolution(self.shape[0], channels, 3, padding=1), ImageBatchNorm(channels)
        self.blocks = nn.ModuleList()
        functions = [self.kind.layer(channels, maps=True)]
        for stride in STRIDES:
            self.blocks.append(BasicBlock(each * channels, channels * stride, stride, self.kind))
            channels *= stride
            functions += [self.kind.layer(channels, maps=True) for _ in range(2)]
        self.outputs = Affine(each * channels, outputs)
        self._functions = functions
        self.activations = activations.modules(functions)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        runs = len(x) if x.dim() == 3 else None
        found: list[Tensor] = []
        draws = iter(uniforms or ())

        def activate(z: Tensor) -> Tensor:
            drawn = next(draws) if uniforms and self.kind.draws else None
            return activations.on_maps(self._functions[len(found)], z, runs, drawn)

        def hidden(h: Tensor) -> Tensor:
            """Note a layer's activations; what the next layer gets of them."""
            found.append(apart(h, runs))
            if not uniforms or not self.dropout:
                return h
            return h * (beside(next(draws), runs) >= self.dropout).to(h.dtype) / (1.0 - self.dropout)

        x = as_maps(x, self.shape, channels_last=self.channels_last)
        x = hidden(activate(self.stem_norm(self.stem(x))))
        for i, block in enumerate(self.blocks):
            x = block(x, activate, hidden)
            x = hidden(x.mean((-2, -1)) if i == len(self.blocks) - 1 else x)
        return self.outputs(apart(x, runs)), found

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        _, height, width = self.shape
        layers, channels = [(self.width, height, width)], self.width
        for stride in STRIDES:
            channels, height, width = channels * stride, -(-height // stride), -(-width // stride)
            layers += [(channels, height, width)] * 2
        shapes: list[tuple[int, ...]] = []
        for i, (channels, *sides) in enumerate(layers):
            shapes += [(batch_size, channels, *sides)] * self.kind.draws
            pooled = () if i == len(layers) - 1 else sides
            shapes += [(batch_size, self.kind.features * channels, *pooled)] * (self.dropout > 0)
        return tuple(shapes)

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
        for i, ((name, norm, residual), reader) in enumerate(zip(places, readers, strict=True)):
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
                    norm=(
                        *((f"{norm}.{key}", value) for key, value in ImageBatchNorm.fresh.items()),
                        *self.kind.fresh(f"activations.{i}", maps=True),
                    ),
                    std=math.sqrt(self.kind.variance / fan_in),
                    residual=residual and reader != "outputs",
                    features=self.kind.features_of_units(len(weight)),
                )
            )
        return tuple(graph)

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        for i, name in enumerate(self.weights()):
            layer = self.get_submodule(name.removesuffix(".weight"))
            assert isinstance(layer, Convolution | Affine)
            variance = self.kind.variance if isinstance(layer, Convolution) else 1.0
            fill_normal(layer.weight, math.sqrt(variance / layer.weight[0].numel()), draw(i))
            nn.init.zeros_(layer.bias)
        for module in self.modules():
            if isinstance(module, ImageBatchNorm):
                module.initialize()
        activations.initialize(self)

    def check(self, batch_size: int) -> None:
        if batch_size == 1:
            raise ConfigError("", None, "has batch normalisation, which needs benchmark.batch_size > 1")
