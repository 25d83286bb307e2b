"""Parseval regularisation (Chung et al. 2024, arXiv 2412.07224), with the options of FIRE's code for it.

FIRE: github.com/isaac7778/FIRE, `interventions/parseval.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.networks.network import Network


@dataclass(frozen=True)
class Parseval(Intervention):
    """Pull the rows of each weight matrix towards being orthogonal, of length sqrt(scale).

    The loss gets strength * ||V V^T - scale I||_F^2 for each matrix V (a convolution as units x the rest), so the
    gradient 4 strength (V V^T - scale I) V.
    output: also the output layers' matrices (the paper leaves them out, FIRE's code has them in).
    norm_scales: also strength * sum (gamma^2 - scale)^2 for the scales gamma of normalisations, as in FIRE's code.
    effective: V's rows are scaled to length 1 first, so that only their angles count; scales of normalisations are
        treated as before (FIRE's code computes a normalised one and does not use it).

    Biases, shifts of normalisations and parameters of activations are left out. Strength 0 adds zeros. A matrix with
    more rows than columns cannot be orthogonal; it is pulled to be as near as it can.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"strength", "scale"})

    strength: float = 1e-3
    scale: float = 1.0
    output: bool = False
    norm_scales: bool = False
    effective: bool = False

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0)
        checks.number("scale", self.scale, 0.0, above=True)
        for name in ("output", "norm_scales", "effective"):
            checks.flag(name, getattr(self, name))

    def check(self, network: Network) -> None:
        matrices.check_weights(network, output=self.output)

    def pack(self, peers: Sequence[Parseval], learner: Learner) -> PackedParseval:
        return PackedParseval(peers, learner)


class PackedParseval(PackedIntervention[Parseval]):
    """Parseval regularisation on a pack."""

    def __init__(self, runs: Sequence[Parseval], learner: Learner) -> None:
        super().__init__(runs, learner)
        first = runs[0]
        self.strength, self.scale, self.effective = self.per_run("strength"), self.per_run("scale"), first.effective
        self.names = matrices.weights(learner, output=first.output)
        self.scales = [scale.weight for scale in matrices.scales(learner.network)] if first.norm_scales else []

    def before_update(self, gradient: Tensor, step: int) -> None:
        for weight, slope in matrices.each(self.learner, gradient, self.names):
            pull = self.pull(matrices.rows(weight))
            slope.addcmul_(pull.view(slope.shape), matrices.along(self.strength, slope))
        for gamma, slope in matrices.each(self.learner, gradient, self.scales):
            slope.addcmul_(gamma, 4.0 * self.strength * (gamma.square() - self.scale))

    def pull(self, matrix: Tensor) -> Tensor:
        """Slope of the penalty at matrices (runs, rows, columns), of strength 1."""
        scale = self.scale.unsqueeze(2)
        if not self.effective:
            return matrices.isometry_gradient(matrix, scale)
        length = matrix.norm(dim=2, keepdim=True)
        length = torch.where(length > 0, length, torch.ones_like(length))
        rows = matrix / length
        slope = matrices.isometry_gradient(rows, scale)
        return (slope - (slope * rows).sum(2, keepdim=True) * rows) / length
