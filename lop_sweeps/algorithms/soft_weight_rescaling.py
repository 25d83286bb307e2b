"""Soft weight rescaling (Oh et al. 2025, arXiv 2507.04683; not the selective weight reinitialisation of 2508.00212)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.normalization import OnlineNorm

MATRIX = 2  # dimensions of a fully connected layer's weights; a convolution's have more


@dataclass(frozen=True)
class SoftWeightRescaling(Intervention):
    """After each update, rescale each layer's weights towards the length that they began with, and keep the function.

    W <- c W with c = (strength ||W_0|| + (1 - strength) ||W||) / ||W||, Frobenius norms; a matrix of zeros stays. A
    bias is multiplied by the product of c over its layer and all before it, so that a ReLU network's outputs are only
    multiplied by a number. Scale and shift of a normalisation are rescaled like weights and bias of a layer, and the
    product begins anew there, since what comes before it does not matter. So it does at the first layer of each of
    several networks side by side, and at the convolutions of shortcuts.
    classifier_strength: of the fully connected layers of a network with convolutions; null: the same. (The paper has
        two coefficients where there is batch normalisation.)

    The optimiser's state stays as it is. No code of the authors was found. Strength 0 multiplies by 1.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"strength", "classifier_strength"})

    strength: float = 1e-4
    classifier_strength: float | None = None

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0, 1.0)
        if self.classifier_strength is not None:
            checks.number("classifier_strength", self.classifier_strength, 0.0, 1.0)

    @property
    def of_classifier(self) -> float:
        return self.strength if self.classifier_strength is None else self.classifier_strength

    def check(self, network: Network) -> None:
        convolutions = any(network.get_parameter(name).dim() > MATRIX for name in network.weights())
        if self.classifier_strength is not None and not convolutions:
            allowed = "is for networks with convolutions; here `strength` is that of all layers"
            raise ConfigError("classifier_strength", self.classifier_strength, allowed)

    def pack(self, peers: Sequence[SoftWeightRescaling], learner: Learner) -> PackedSoftWeightRescaling:
        return PackedSoftWeightRescaling(peers, learner)


class _Layer(NamedTuple):
    """What is rescaled by a number of its own. bias: follows, by the product of these numbers up to here.

    after: the place in the list of the layer from which the product goes on; None: it begins here. matrix: the one
    that it is part of, or that a normalisation comes after.
    """

    weight: str
    bias: str | None
    after: int | None
    matrix: str


class PackedSoftWeightRescaling(PackedIntervention[SoftWeightRescaling]):
    """Soft weight rescaling on a pack; initial, strength and factors are (runs, layers)."""

    def __init__(self, runs: Sequence[SoftWeightRescaling], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.layers = _layers(learner)
        self.initial = self.lengths()
        dimensions = {name: learner.view(learner.parameters, name).dim() - 1 for name in learner.weight_names}
        convolutions = max(dimensions.values()) > MATRIX
        features, classifier = self.per_run("strength"), self.per_run("of_classifier")
        self.strength = torch.cat(
            [classifier if convolutions and dimensions[layer.matrix] == MATRIX else features for layer in self.layers],
            dim=1,
        )

    def lengths(self) -> Tensor:
        parameters, view = self.learner.parameters, self.learner.view
        return torch.stack([matrices.lengths(view(parameters, layer.weight)) for layer in self.layers], 1)

    def after_update(self, step: int) -> None:
        parameters, view = self.learner.parameters, self.learner.view
        lengths = self.lengths()
        factors = matrices.ratio(self.strength * self.initial + (1.0 - self.strength) * lengths, lengths)
        products: list[Tensor] = []
        for layer, factor in zip(self.layers, factors.unbind(1), strict=True):
            products.append(factor if layer.after is None else factor * products[layer.after])
            for name, by in ((layer.weight, factor), (layer.bias, products[-1])):
                if name is not None:
                    place = view(parameters, name)
                    place.mul_(matrices.along(by, place))


def _layers(learner: Learner) -> list[_Layer]:
    """From input to output, each weight matrix and, after it, the normalisation of the units that it feeds."""
    found: list[_Layer] = []
    last: dict[int, int] = {}  # hidden layer -> the place from which the product goes on behind it
    left, graph = matrices.scales(learner.network), learner.graph
    for weight in learner.weight_names:
        read = [i for i, layer in enumerate(graph) if any(reader.weight == weight for reader in layer.readers)]
        fed = [i for i, layer in enumerate(graph) if any(rows.weight == weight for rows in layer.incoming)]
        found.append(_Layer(weight, matrices.bias_of(learner, weight), last.get(read[0]) if read else None, weight))
        for i in fed:
            norms = {name for name, _ in graph[i].norm}
            for scale in [one for one in left if one.weight in norms]:
                found.append(_Layer(scale.weight, scale.bias, None, weight))
                left.remove(scale)
            last[i] = len(found) - 1
            if any(isinstance(learner.network.get_submodule(name.rpartition(".")[0]), OnlineNorm) for name in norms):
                del last[
                    i
                ]  # it divides by the layer's length after scale and shift (its running statistics follow later)
    first = learner.weight_names[0]
    return found + [_Layer(scale.weight, scale.bias, None, first) for scale in left]
