"""What every network offers to the engines, the interventions and the diagnostics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps import streams
from lop_sweeps.networks.unit_graph import UnitLayer


class Network(nn.Module):
    """An ordinary module for one run: `forward` maps a mini-batch to outputs and hidden activations.

    version: raise it when a change alters results; it is part of every run's identity.
    stackable: whether `forward` also takes inputs (runs, batch, ...) when each parameter and buffer has a leading
        run dimension. Packs of other networks are mapped with `torch.vmap`, which costs about three times as much
        for small networks.
    packs_on: the devices on which packs are faster than one run after another, where the network is stackable.
    channels_last: set by a learner of one run on a CPU: maps are to lie in memory with their channels last.
    at_zero: what the hidden layers' activation makes of 0; where layers differ, of each layer.

    A constructor takes `outputs`, and either `inputs`, the number of inputs, or `shape`, that of an input image.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = False
    packs_on: ClassVar[frozenset[str]] = frozenset({"cpu", "cuda"})
    channels_last: bool = False
    at_zero: float | Sequence[float] = 0.0

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        """x (batch, inputs) -> outputs (batch, outputs), hidden activations [(batch, features, *positions), ...].

        Images are flat, too: channel by channel, row by row. Activations are what the layers of the unit graph give to
        their readers, one tensor for each layer: a feature is a unit's activation; of units with several (CReLU: the
        2n numbers max(z, 0), max(-z, 0) that the next layer reads) `UnitLayer.features` says whose is which.
        Diagnostics measure features; methods that choose units put a unit's together. Positions (of a map, of tokens)
        come last.

        uniforms: in training, one tensor for each entry of `draws`: numbers uniform on [0, 1) from the run's own
        stream. None in evaluation.
        """
        raise TypeError(f"{type(self).__name__} must define forward(x, uniforms)")

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        """Fill the parameters in place; `draw(i)` is the generator of the i-th weight matrix."""
        raise TypeError(f"{type(self).__name__} must define initialize(draw)")

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        """The hidden layers from input to output; empty for a linear network."""
        return ()

    def weights(self) -> tuple[str, ...]:
        """Names of the weight matrices from input to output (no biases, no normalisation)."""
        raise TypeError(f"{type(self).__name__} must define weights()")

    def heads(self) -> tuple[str, ...]:
        """Names of the weight matrices of the output layers."""
        return self.weights()[-1:]

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        """Shapes of the uniform numbers that a training step needs; empty without dropout."""
        return ()

    def check(self, batch_size: int) -> None:
        """Raise `ConfigError` if the network cannot learn from mini-batches of this size."""


def output_parameters(network: Network) -> list[str]:
    """Names of the weights and biases of the output layers."""
    return [name for weight in network.heads() for name in (weight, weight.removesuffix("weight") + "bias")]


def draw_network(make: Callable[[], Network], dtype: torch.dtype, seed: int, purpose: str, *position: int) -> Network:
    """A network with parameters drawn from its initial law; the draws belong to seed, purpose and position."""
    network = make().to(dtype)
    network.initialize(lambda i: streams.generator(seed, purpose, *position, i))
    return network


def named_state(network: Network) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Parameters and buffers by name."""
    return {name: p.detach() for name, p in network.named_parameters()}, dict(network.named_buffers())


def fill_uniform(weight: Tensor, bound: float, generator: np.random.Generator) -> None:
    """Set `weight` to i.i.d. uniform(-bound, bound), drawn in float64 so that every precision starts alike."""
    with torch.no_grad():
        weight.copy_(torch.from_numpy(generator.uniform(-bound, bound, tuple(weight.shape))))


def fill_normal(weight: Tensor, std: float, generator: np.random.Generator) -> None:
    """Set `weight` to i.i.d. N(0, std^2), drawn in float64 so that every precision starts alike."""
    with torch.no_grad():
        weight.copy_(torch.from_numpy(generator.normal(0.0, std, tuple(weight.shape))))
