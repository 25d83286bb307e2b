"""A block of a transformer: attention, then an MLP of one hidden layer, each normalised before and added to its input.

Tokens of an example and examples of a batch are rows alike to everything but attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from lop_sweeps.networks.affine import Affine, LinearMap
from lop_sweeps.networks.normalization import LayerNorm


def over_tokens(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """A layer of rows (..., rows, numbers) on tokens (..., batch, tokens, numbers)."""
    rows: Tensor = layer(x.flatten(-3, -2)).unflatten(-2, x.shape[-3:-1])
    return rows


class Attention(nn.Module):
    """Each token takes a mean of the values of all tokens, weighted by how its query meets their keys, in each head.

    x (..., batch, tokens, width) -> (..., batch, queries, width). The dimensions of values are units, linear ones:
    `projection` reads of each a mean over tokens whose weights add up to 1.
    """

    def __init__(self, width: int, heads: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        kind = Affine if qkv_bias else LinearMap
        self.query, self.key, self.value = (kind(width, width) for _ in range(3))
        self.projection = Affine(width, width)

    def forward(self, x: Tensor, asking: Tensor, hidden: Callable[[Tensor], Tensor]) -> Tensor:
        """asking: the tokens that have queries. hidden: is given the values (..., batch, width, tokens)."""
        query, key = over_tokens(self.query, asking), over_tokens(self.key, x)
        values = hidden(over_tokens(self.value, x).mT)
        size = x.shape[-1] // self.heads
        q, k = (t.unflatten(-1, (self.heads, size)).transpose(-3, -2) for t in (query, key))
        v = values.unflatten(-2, (self.heads, size))  # (..., heads, size, tokens)
        # Written out: the kernels for it differ between devices and shapes, and not all have second derivatives.
        weights = (q @ k.mT / math.sqrt(size)).softmax(-1)
        mixed = (weights @ v.mT).transpose(-3, -2).flatten(-2)
        return over_tokens(self.projection, mixed)


class Block(nn.Module):
    """x + attention(norm1(x)), then y + down(f(up(norm2(y)))).

    units: of the MLP. features: numbers that f, the activation, makes of them.
    """

    def __init__(self, width: int, heads: int, units: int, features: int, *, qkv_bias: bool) -> None:
        super().__init__()
        self.norm1, self.attention = LayerNorm(width), Attention(width, heads, qkv_bias=qkv_bias)
        self.norm2, self.up, self.down = LayerNorm(width), Affine(width, units), Affine(features, width)

    def forward(
        self,
        x: Tensor,
        activate: Callable[[Tensor], Tensor],
        hidden: Callable[[Tensor], Tensor],
        tokens: int | None = None,
    ) -> Tensor:
        """x (..., batch, tokens, width) -> the same, or its first `tokens` tokens alone.

        activate: f, on (..., rows, units). hidden: is given the values and the MLP's activations, (..., batch,
        features, tokens), and gives what is read of them.
        """
        normalized = over_tokens(self.norm1, x)
        x = x[..., :tokens, :] + self.attention(normalized, normalized[..., :tokens, :], hidden)
        inside = over_tokens(lambda rows: activate(self.up(self.norm2(rows))), x)
        return x + over_tokens(self.down, hidden(inside.mT).mT)
