"""Gradients of a network in the terms of its unit graph, for checks of that graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.networks.unit_graph import Places

Sources = tuple[list[Tensor], set[int]]  # parameters, and layers by number
TOLERANCE = 1e-3  # of magnitudes, in float32


class Terms:
    """Sums of values * gradient, for each index of the second dimension of the values; sizes: of the magnitudes.

    Where a layer's features h are read by weights w, and what lies between is f with f(a h) = a f(h) for a > 0 (where
    it is linear, say), a feature has the same sum as all the columns of w that read it.
    """

    def __init__(self, values: Tensor, gradient: Tensor) -> None:
        products = (values * gradient).detach().transpose(0, 1).flatten(1)
        self.sums, self.sizes = products.sum(1), products.abs().sum(1)

    def without(self, reader: Terms, columns: Places) -> Terms:
        """What is left of a layer's sums without those of the columns that read each feature."""
        left, index = Terms.__new__(Terms), torch.tensor(columns)
        left.sums = self.sums - reader.sums[index].sum(1)
        left.sizes = self.sizes + reader.sizes[index].sum(1)
        return left

    def excess(self) -> Tensor:
        """How far each sum is from 0, beyond rounding."""
        return self.sums.abs() - TOLERANCE * self.sizes


def random(like: Tensor) -> Tensor:
    """Numbers of magnitude 1 to 2 and either sign."""
    generator = streams.generator(like.numel(), "directions of a graph check")
    values = torch.from_numpy(generator.uniform(-1.0, 1.0, tuple(like.shape))).to(like.dtype)
    return values + values.sign()


def nonzero(values: Tensor) -> list[int]:
    """The indices of the first dimension at which a value is not 0."""
    found: list[int] = values.flatten(1).abs().amax(1).nonzero().flatten().tolist()
    return found


def listed(what: str, numbers: Sequence[int]) -> str:
    """`row 3`, `rows 3, 5, 7, ...`"""
    plural = "s" if len(numbers) > 1 else ""
    return f"{what}{plural} {', '.join(map(str, numbers[:3]))}{', ...' if len(numbers) > 3 else ''}"


def matrices(some: Sequence[Tensor], parameters: Mapping[str, Tensor]) -> list[str]:
    """The names of those parameters that have rows and columns."""
    ids = {id(one) for one in some if one.dim() > 1}
    return [name for name, parameter in parameters.items() if id(parameter) in ids]


def sources(node: Any, cuts: Sequence[Any]) -> Sources:
    """The parameters and the activations (by number) that a tensor is made of, without what those are made of.

    node: what autograd has noted for the tensor; cuts: for the activations.
    """
    parameters: list[Tensor] = []
    layers: set[int] = set()
    seen, waiting = {node}, [node]
    while waiting:
        for source, _ in getattr(waiting.pop(), "next_functions", ()):
            if source is None or source in seen:
                continue
            seen.add(source)
            if source in cuts:
                layers.add(list(cuts).index(source))
            elif hasattr(source, "variable"):
                parameters.append(source.variable)
            else:
                waiting.append(source)
    return parameters, layers
