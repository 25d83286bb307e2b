"""Networks whose units own more than one row, column or reader, for tests; each describes itself by a unit graph."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.network import Network, fill_normal, fill_uniform
from lop_sweeps.networks.unit_graph import Reader, Rows, UnitLayer


def bound(weight: Tensor) -> float:
    return math.sqrt(3.0 / weight[0].numel())


class Tested(Network):
    """Weights uniform on +-sqrt(3 / fan_in), biases normal (so that none is 0), in the order of the parameters.

    normal: names of weights that are N(0, 1 / fan_in) instead.
    """

    normal: tuple[str, ...] = ()

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        for i, (name, parameter) in enumerate(self.named_parameters()):
            if "norm" in name:
                nn.init.constant_(parameter, float(name.endswith("weight")))
            elif parameter.dim() == 1:
                fill_normal(parameter, 0.1, draw(i))
            elif name in self.normal:
                fill_normal(parameter, 1.0 / math.sqrt(parameter[0].numel()), draw(i))
            else:
                fill_uniform(parameter, bound(parameter), draw(i))

    def weights(self) -> tuple[str, ...]:
        return tuple(name for name, parameter in self.named_parameters() if parameter.dim() > 1)

    def rows(self, name: str, **options: Any) -> Rows:
        """Rows of linear layer or convolution `name`."""
        layer = self.get_submodule(name)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor)
        fan_in = weight[0].numel()
        law: Any = {"std": 1.0 / math.sqrt(fan_in)} if f"{name}.weight" in self.normal else {"bound": bound(weight)}
        return Rows(f"{name}.weight", None if bias is None else f"{name}.bias", fan_in, **law, **options)

    def reader(self, name: str, **options: Any) -> Reader:
        bias = self.get_submodule(name).bias
        return Reader(f"{name}.weight", None if bias is None else f"{name}.bias", **options)


class CReLU(Tested):
    """inputs -> 5 units, 10 features -> 4 units, 8 features -> outputs: [max(z, 0), max(-z, 0)]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(inputs, 5), nn.Linear(10, 4), nn.Linear(8, outputs)

    def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
        z = self.first(x)
        a = torch.cat((z.relu(), (-z).relu()), -1)
        z = self.second(a)
        b = torch.cat((z.relu(), (-z).relu()), -1)
        return self.third(b), [a, b]

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        names, units = ("first", "second", "third"), (5, 4)
        return tuple(
            UnitLayer(
                units=n,
                incoming=[self.rows(names[i])],
                readers=[self.reader(names[i + 1])],
                features=[(unit, unit + n) for unit in range(n)],
            )
            for i, n in enumerate(units)
        )


class Maps(Tested):
    """An image of 2 x 4 x 4 -> 3 channels, sin z and cos z of each in turn -> 4 channels of 2 x 2, CReLU.

    The latter are read position by position by one output layer, and as means over positions by another; a
    normalisation with a scale for each feature comes between (its own statistics are left out).
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        assert inputs == 32
        self.first, self.second = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(6, 4, 3, stride=2, padding=1)
        self.norm = nn.Module()
        self.norm.weight = nn.Parameter(torch.empty(8))
        self.flat, self.pooled = nn.Linear(8 * 4, outputs), nn.Linear(8, outputs)

    def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
        z = self.first(x.view(-1, 2, 4, 4))
        a = torch.stack((z.sin(), z.cos()), 2).flatten(1, 2)
        z = self.second(a)
        b = torch.cat((z.relu(), (-z).relu()), 1)
        scaled = b * self.norm.weight.view(-1, 1, 1)  # type: ignore[operator]
        return self.flat(scaled.flatten(1)) + self.pooled(scaled.mean((2, 3))), [a, b]

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        first = UnitLayer(
            units=3,
            incoming=[self.rows("first")],
            readers=[self.reader("second")],
            features=[(0, 1), (2, 3), (4, 5)],
        )
        second = UnitLayer(
            units=4,
            incoming=[self.rows("second")],
            readers=[self.reader("flat", spread=4), self.reader("pooled")],
            features=[(i, i + 4) for i in range(4)],
            norm=[("norm.weight", 1.0)],
            norm_after=True,
        )
        return first, second


class SharedTrunk(Tested):
    """inputs -> 7 tanh -> 6 tanh -> two heads, one behind a layer of its own that reads the trunk and the inputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, 7), nn.Linear(7, 6)
        self.policy, self.between, self.value = nn.Linear(6, outputs - 1), nn.Linear(inputs + 6, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
        a = self.first(x).tanh()
        b = self.second(a).tanh()
        c = self.between(torch.cat((x, b), -1)).tanh()
        return torch.cat((self.policy(b), self.value(c)), -1), [a, b, c]

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        after_inputs = range(self.first.in_features, self.first.in_features + 6)
        heads = [self.reader("policy"), self.reader("between", columns=after_inputs)]
        return (
            UnitLayer(units=7, incoming=[self.rows("first")], readers=[self.reader("second")]),
            UnitLayer(units=6, incoming=[self.rows("second")], readers=heads),
            UnitLayer(units=5, incoming=[self.rows("between")], readers=[self.reader("value")]),
        )

    def heads(self) -> tuple[str, ...]:
        return "policy.weight", "value.weight"


class Gated(Tested):
    """inputs -> 5 maxout units of 2 rows -> 6 units silu(gate) * up -> outputs, the gated ones without biases."""

    normal = ("gate.weight",)

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, 10)
        self.gate, self.up = nn.Linear(5, 6, bias=False), nn.Linear(5, 6, bias=False)
        self.down = nn.Linear(6, outputs, bias=False)

    def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
        a = self.first(x).unflatten(-1, (2, 5)).amax(-2)
        b = F.silu(self.gate(a)) * self.up(a)
        return self.down(b), [a, b]

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        rows = [(i, i + 5) for i in range(5)]
        both = [self.reader("gate"), self.reader("up")]
        return (
            UnitLayer(units=5, incoming=[self.rows("first", rows=rows)], readers=both),
            UnitLayer(units=6, incoming=[self.rows("gate"), self.rows("up")], readers=[self.reader("down")]),
        )


class Transformer(Tested):
    """4 tokens of `inputs` / 4 numbers -> a block of width 8 -> the mean over tokens -> outputs.

    Attention has 4 heads of 2 dimensions for queries, `value_heads` for keys and values, read by 4 / value_heads heads
    each; all three are rows of one matrix. Units: the dimensions of the values, then the hidden units of the MLP.
    """

    TOKENS, WIDTH, HEADS, SIZE = 4, 8, 4, 2

    def __init__(self, inputs: int, outputs: int, value_heads: int = 4) -> None:
        super().__init__()
        width, values = self.WIDTH, value_heads * self.SIZE
        self.value_heads = value_heads
        self.embed = nn.Linear(inputs // self.TOKENS, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.projection = nn.Linear(width, width + 2 * values), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 12), nn.Linear(12, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, x: Tensor, uniforms: Any = None) -> tuple[Tensor, list[Tensor]]:
        h = self.embed(x.unflatten(-1, (self.TOKENS, -1)))  # (batch, tokens, width)
        values = self.value_heads * self.SIZE
        q, k, v = self.qkv(self.norm1(h)).split([self.WIDTH, values, values], -1)
        units = v.mT  # (batch, units, tokens)
        groups = self.HEADS // self.value_heads
        q = q.unflatten(-1, (self.value_heads, groups, self.SIZE))
        k, v = (t.unflatten(-1, (self.value_heads, self.SIZE)) for t in (k, units.mT))
        weights = (torch.einsum("bihgd,bjhd->bhgij", q, k) / math.sqrt(self.SIZE)).softmax(-1)
        mixed = torch.einsum("bhgij,bjhd->bihgd", weights, v)
        h = h + self.projection(mixed.flatten(-3))
        hidden = self.up(self.norm2(h)).relu().mT
        h = h + self.down(hidden.mT)
        return self.head(h.mean(-2)), [units, hidden]

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        values, groups = self.value_heads * self.SIZE, self.HEADS // self.value_heads
        before = self.WIDTH + values  # rows of q and k
        columns = [
            [(head * groups + group) * self.SIZE + d for group in range(groups)]
            for head in range(self.value_heads)
            for d in range(self.SIZE)
        ]
        return (
            UnitLayer(
                units=values,
                incoming=[self.rows("qkv", rows=range(before, before + values))],
                readers=[self.reader("projection", columns=columns)],
            ),
            UnitLayer(units=12, incoming=[self.rows("up")], readers=[self.reader("down")]),
        )


def convolutional(activation: str) -> Callable[[int, int], Network]:
    """An image of 6 x 6 -> 3 channels of 2 x 2 -> 4 units; initial weights as those of the others."""
    return lambda inputs, outputs: ConvNet((1, 6, 6), outputs, [3], [3], [4], activation, init="lecun")


# The name of a network, how to make it for numbers of inputs and outputs, and its inputs.
NETWORKS: dict[str, tuple[Callable[[int, int], Network], int]] = {
    "crelu": (CReLU, 6),
    "maps": (Maps, 32),
    "shared trunk": (SharedTrunk, 6),
    "gated": (Gated, 6),
    "transformer": (Transformer, 12),
    "grouped transformer": (lambda inputs, outputs: Transformer(inputs, outputs, value_heads=2), 12),
    "conv crelu": (convolutional("crelu"), 36),
    "conv prelu": (convolutional("prelu"), 36),
}
