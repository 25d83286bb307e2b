"""The weight matrices of a pack's networks: what regularisers and projections act on, and what they have in common.

A matrix has one row for each unit that it feeds: a convolution's weight (units, inputs, *kernel) is the matrix (units,
inputs x kernel). Parameters of normalisations and of activations are no matrices, and neither are they biases.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lop_sweeps.algorithms.intervention import Learner
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.normalization import Normalization

_NORMALIZATIONS = (Normalization, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.modules.batchnorm._NormBase)


class Scale(NamedTuple):
    """Names of a normalisation's scale (units,) and shift (units,); None: it has no shift."""

    weight: str
    bias: str | None


def weights(learner: Learner, *, output: bool) -> tuple[str, ...]:
    """Names of the weight matrices from input to output; output: with those of the output layers."""
    heads = () if output else learner.network.heads()
    return tuple(name for name in learner.weight_names if name not in heads)


def check_weights(network: Network, *, output: bool) -> None:
    """Raise `ConfigError` for a network without a matrix to act on."""
    if not output and not set(network.weights()) - set(network.heads()):
        raise ConfigError("", None, "leaves out the output layer, and this network has no other: see option `output`")


def bias_of(learner: Learner, weight: str) -> str | None:
    """Name of the bias beside a weight matrix; None if there is none."""
    bias = weight.removesuffix("weight") + "bias"
    return bias if bias in learner.parameter_names else None


def with_biases(learner: Learner, names: Iterable[str]) -> list[str]:
    """Names of weight matrices, each with its bias."""
    return [name for weight in names for name in (weight, bias_of(learner, weight)) if name is not None]


def scales(network: Network) -> list[Scale]:
    """The learned scales and shifts of all normalisations."""
    named = dict(network.named_parameters())
    found = []
    for module, part in network.named_modules():
        weight, bias = f"{module}.weight", f"{module}.bias"
        if isinstance(part, _NORMALIZATIONS) and weight in named:
            found.append(Scale(weight, bias if bias in named else None))
    return found


def at_parameters(learner: Learner, values: Tensor, names: Iterable[str]) -> Tensor:
    """(runs, parameters): the value of each run, (runs, 1), at the named parameters, 0 at the others.

    Where all are named it is `values` itself, which broadcasts.
    """
    names = list(names)
    if set(names) == set(learner.parameter_names):
        return values
    placed = torch.zeros_like(learner.parameters)
    for name in names:
        place = learner.view(placed, name)
        place.copy_(along(values, place).expand_as(place))
    return placed


def along(values: Tensor, like: Tensor) -> Tensor:
    """Values (runs, 1) or (runs,), to broadcast over a tensor (runs, ...)."""
    return values.reshape(len(values), *[1] * (like.dim() - 1))


def rows(weight: Tensor) -> Tensor:
    """A weight (runs, units, ...) as matrices (runs, units, weights of a row)."""
    return weight.flatten(2)


def lengths(*tensors: Tensor) -> Tensor:
    """(runs,): the Euclidean (Frobenius) norm of each run's share of tensors (runs, ...), taken together."""
    squares = [tensor.flatten(1).square().sum(1) for tensor in tensors]
    return torch.stack(squares).sum(0).sqrt() if len(squares) > 1 else squares[0].sqrt()


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator, and 1 where the latter is 0: what has no length is not rescaled."""
    return torch.where(denominator > 0, numerator / denominator, torch.ones_like(denominator))


def isometry_gradient(matrix: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Of ||V V^T - scale I||_F^2, for matrices V (runs, units, inputs): 4 (V V^T - scale I) V.

    The same as 4 V (V^T V - scale I), so the smaller of the two products is taken; that of ||V^T V - scale I||_F^2.
    """
    tall = matrix.shape[1] > matrix.shape[2]
    cubic = matrix @ (matrix.mT @ matrix) if tall else (matrix @ matrix.mT) @ matrix
    return 4.0 * (cubic - scale * matrix)


def each(learner: Learner, flat: Tensor, names: Iterable[str]) -> Iterator[tuple[Tensor, Tensor]]:
    """Of each named parameter its values, and its share of another tensor (runs, parameters), both (runs, *shape)."""
    for name in names:
        yield learner.view(learner.parameters, name), learner.view(flat, name)
