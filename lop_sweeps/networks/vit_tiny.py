"""ViT-tiny for small images: the network of warm start, chunks and classes that are added, on CIFAR-100.

Dosovitskiy et al. 2021 (arXiv 2010.11929), of the size that Touvron et al. 2021 (arXiv 2012.12877) call tiny, in
patches of 4x4 pixels, as FIRE's authors have it (isaac7778/FIRE, vision/models/vit.py): patches are normalised before
and after they are embedded; queries, keys and values have no biases.

What a unit is
    A hidden unit of a block's MLP: a row of `up`, a column of `down`.
    A dimension of the values in a head: a row of `value`, a column of `projection`, which reads it linearly, as a mean
    over tokens. It has no activation function, so that it is never exactly 0; it may be dormant, though.
    Queries and keys make no units: they are multiplied with each other, and nothing that reads one of their dimensions
    alone could be set to 0. The numbers of a token (the sums from block to block) are none either, since shortcuts
    carry them on. Their weight matrices are among `weights()` like all others, for diagnostics and regularisers.
    The normalisations before attention and MLP belong to those numbers, hence to no unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks import activations
from lop_sweeps.networks.affine import Affine, LinearMap
from lop_sweeps.networks.attention import Block, over_tokens
from lop_sweeps.networks.network import Network, fill_normal, fill_uniform
from lop_sweeps.networks.normalization import LayerNorm
from lop_sweeps.networks.unit_graph import Reader, Rows, UnitLayer


class ViTTiny(Network):
    """images -> tokens, one for each patch behind a class token -> blocks -> the class token -> linear outputs.

    patch: side of a patch. width: numbers of a token. heads: of attention. depth: blocks. mlp_ratio: hidden units of a
    block's MLP, in widths. patch_norm: normalise patches, before and after they are embedded. qkv_bias: whether
    queries, keys and values have biases. (With patch_norm=false and qkv_bias=true it is the original, DeiT's tiny with
    patches of 16 pixels, but for their initialisation.) activation (with its options): as in `MLP`; published: gelu.
    dropout: probability of setting a hidden activation of an MLP to 0 in training; not in attention.

    Hidden activations: of each block the values and those of the MLP, (batch, features, tokens). In the last block
    only the class token asks and goes on, so that its MLP's are (batch, features, 1); nothing would read the others.

    Weights and biases are uniform on +-1 / sqrt(fan_in), PyTorch's default; so are the incoming weights of new units.
    Class token and position embedding are N(0, 1), and are kept as vectors, for what acts on matrices leaves them be.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = True
    packs_on: ClassVar[frozenset[str]] = frozenset({"cuda"})

    def __init__(
        self,
        shape: Sequence[int],
        outputs: int,
        patch: int = 4,
        width: int = 192,
        heads: int = 3,
        depth: int = 12,
        mlp_ratio: int = 4,
        patch_norm: bool = True,
        qkv_bias: bool = False,
        dropout: float = 0.0,
        activation: str = "gelu",
        leaky_slope: float = 0.01,
        prelu_per: str = "unit",
        slope_bounds: Sequence[float] = (1 / 8, 1 / 3),
        smooth_leaky: Sequence[float] = (0.1, 3.0, 5.0),
        aid_p: float = 0.9,
        adalin_of: str = "relu",
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        inputs, *sides = self.shape
        self.patch = checks.integer("patch", patch, 1)
        if any(side % self.patch for side in sides):
            raise ConfigError("patch", patch, f"must divide the sides of images, {sides[0]} x {sides[1]} pixels")
        self.width = checks.integer("width", width, 1)
        if self.width % checks.integer("heads", heads, 1):
            raise ConfigError("heads", heads, f"must divide the width, {self.width}")
        self.depth = checks.integer("depth", depth, 1)
        self.units = self.width * checks.integer("mlp_ratio", mlp_ratio, 1)
        self.dropout = checks.number("dropout", dropout, 0.0, 1.0, below=True)
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
        self.activation, self.at_zero = self.kind.name, [0.0, self.kind.at_zero] * self.depth
        self.patches, pixels = math.prod(side // self.patch for side in sides), inputs * self.patch**2
        self.patch_norm, self.qkv_bias = checks.flag("patch_norm", patch_norm), checks.flag("qkv_bias", qkv_bias)
        self.pixel_norm, self.embed = LayerNorm(pixels) if self.patch_norm else None, Affine(pixels, self.width)
        self.embed_norm = LayerNorm(self.width) if self.patch_norm else None
        self.class_token = nn.Parameter(torch.empty(self.width))
        self.positions = nn.Parameter(torch.empty((1 + self.patches) * self.width))
        features = self.kind.features * self.units
        self.blocks = nn.ModuleList(
            Block(self.width, int(heads), self.units, features, qkv_bias=self.qkv_bias) for _ in range(self.depth)
        )
        self.last_norm, self.outputs = LayerNorm(self.width), Affine(self.width, outputs)
        self._functions = [self.kind.layer(self.units) for _ in range(self.depth)]
        self.activations = activations.modules(self._functions)

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        found: list[Tensor] = []
        draws = iter(uniforms or ())

        def activate(z: Tensor) -> Tensor:
            function = self._functions[len(found) // 2]
            if uniforms and self.kind.draws:
                return function(z, next(draws).flatten(-3, -2))
            h: Tensor = function(z)
            return h

        def hidden(h: Tensor) -> Tensor:
            """Note a layer's activations; what is read of them."""
            found.append(h)
            if not uniforms or not self.dropout or len(found) % 2:
                return h
            return h * (next(draws) >= self.dropout).to(h.dtype) / (1.0 - self.dropout)

        x = self._tokens(x)
        for i, block in enumerate(self.blocks):
            x = block(x, activate, hidden, 1 if i == self.depth - 1 else None)
        return self.outputs(self.last_norm(x.squeeze(-2))), found

    def _tokens(self, x: Tensor) -> Tensor:
        """Flat images (..., batch, inputs) as (..., batch, tokens, width)."""
        channels, height, length = self.shape
        side, batch = self.patch, x.shape[:-1]
        x = x.view(*batch, channels, height // side, side, length // side, side)
        x = x.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)  # patch by patch, of each channel by channel
        for layer in (self.pixel_norm, self.embed, self.embed_norm):
            x = x if layer is None else over_tokens(layer, x)
        first = self.class_token[..., None, None, :].expand(*batch, 1, self.width)
        positions: Tensor = self.positions.unflatten(-1, (-1, self.width)).unsqueeze(-3)
        return torch.cat((first, x), -2) + positions

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        shapes: list[tuple[int, ...]] = []
        for i in range(self.depth):
            tokens = 1 if i == self.depth - 1 else 1 + self.patches
            shapes += [(batch_size, tokens, self.units)] * self.kind.draws
            shapes += [(batch_size, self.kind.features * self.units, tokens)] * (self.dropout > 0)
        return tuple(shapes)

    def weights(self) -> tuple[str, ...]:
        parts = [f"attention.{part}" for part in ("query", "key", "value", "projection")] + ["up", "down"]
        of_blocks = (f"blocks.{i}.{part}.weight" for i in range(self.depth) for part in parts)
        return "embed.weight", *of_blocks, "outputs.weight"

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        def layer(units: int, made: str, read: str, *, bias: bool, **options: Any) -> UnitLayer:
            rows = Rows(f"{made}.weight", f"{made}.bias" if bias else None, self.width, 1.0 / math.sqrt(self.width))
            reader = Reader(f"{read}.weight", f"{read}.bias")
            return UnitLayer(units=units, incoming=[rows], readers=[reader], **options)

        graph = []
        for i in range(self.depth):
            block = f"blocks.{i}"
            value, projection = f"{block}.attention.value", f"{block}.attention.projection"
            graph += [
                layer(self.width, value, projection, bias=self.qkv_bias),
                layer(
                    self.units,
                    f"{block}.up",
                    f"{block}.down",
                    bias=True,
                    norm=self.kind.fresh(f"activations.{i}"),
                    features=self.kind.features_of_units(self.units),
                ),
            ]
        return tuple(graph)

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        names = self.weights()
        for i, name in enumerate(names):
            layer, generator = self.get_submodule(name.removesuffix(".weight")), draw(i)
            assert isinstance(layer, Affine | LinearMap)
            bound = 1.0 / math.sqrt(layer.weight.shape[1])
            fill_uniform(layer.weight, bound, generator)
            if isinstance(layer, Affine):
                fill_uniform(layer.bias, bound, generator)
        generator = draw(len(names))
        for vector in (self.class_token, self.positions):
            fill_normal(vector, 1.0, generator)
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.initialize()
        activations.initialize(self)
