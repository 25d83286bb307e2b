"""Spectral regularisation (Lewandowski et al. 2025, arXiv 2406.06811, ICLR)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import checks, streams
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.errors import ConfigError


@dataclass(frozen=True)
class Spectral(Intervention):
    """Keep the largest singular value of each weight matrix near 1, biases small and scales of normalisations near 1.

    The loss gets strength times, for each matrix (a convolution as units x the rest), (sigma^k - 1)^2, whose gradient
    is 2k (sigma^k - 1) sigma^(k-1) u v^T. sigma, u and v come from power iteration that goes on from step to step.
    power_steps: iterations in each step; the vectors begin at random.
    bias_exponent: p of ||b||^p for each bias; null: 2k, as the ICLR paper has been read (a summary of it has k); 0: no
        pull.
    norm_scales: (gamma - 1)^2 for each scale of a normalisation; the paper says "towards 1", and not by which law.

    The output layer is included. Shifts of normalisations and parameters of activations are left out. No code of the
    authors was found. Strength 0 adds zeros.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"strength", "k"})

    strength: float = 1e-3
    k: float = 2.0
    power_steps: int = 1
    bias_exponent: float | None = None
    norm_scales: bool = True

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0)
        checks.number("k", self.k, 1.0)
        checks.integer("power_steps", self.power_steps, 1)
        if self.bias_exponent is not None and 0 < checks.number("bias_exponent", self.bias_exponent, 0.0) < 1:
            raise ConfigError("bias_exponent", self.bias_exponent, "must be null (for 2k), 0 (no pull), or at least 1")
        checks.flag("norm_scales", self.norm_scales)

    def pack(self, peers: Sequence[Spectral], learner: Learner) -> PackedSpectral:
        return PackedSpectral(peers, learner)


class PackedSpectral(PackedIntervention[Spectral]):
    """Spectral regularisation on a pack; left (runs, units) of each matrix are the kept vectors u."""

    def __init__(self, runs: Sequence[Spectral], learner: Learner) -> None:
        super().__init__(runs, learner)
        first = runs[0]
        self.strength, self.k = self.per_run("strength"), self.per_run("k")
        self.names, self.power_steps = matrices.weights(learner, output=True), int(first.power_steps)
        self.left = [self._begin(i, name) for i, name in enumerate(self.names)]
        biases = [matrices.bias_of(learner, name) for name in self.names] if first.bias_exponent != 0 else []
        self.biases = [name for name in biases if name is not None]
        self.exponent = 2.0 * self.k if first.bias_exponent is None else torch.full_like(self.k, first.bias_exponent)
        self.scales = [scale.weight for scale in matrices.scales(learner.network)] if first.norm_scales else []

    def _begin(self, i: int, name: str) -> Tensor:
        """(runs, units): random directions."""
        units, like = self.learner.view(self.learner.parameters, name).shape[1], self.learner.parameters
        drawn = [streams.generator(seed, "singular vectors", i).normal(size=units) for seed in self.learner.seeds]
        vectors = torch.from_numpy(np.stack(drawn)).to(like.device, like.dtype)
        return _unit(vectors)[0]

    def before_update(self, gradient: Tensor, step: int) -> None:
        for (weight, slope), left in zip(matrices.each(self.learner, gradient, self.names), self.left, strict=True):
            sigma, right = self._power(matrices.rows(weight), left)
            pull = self.strength * 2.0 * self.k * (sigma**self.k - 1.0) * sigma ** (self.k - 1.0)
            slope.add_(torch.einsum("ru,rv->ruv", pull * left, right).view(slope.shape))
        for bias, slope in matrices.each(self.learner, gradient, self.biases):
            length = bias.norm(dim=1, keepdim=True).clamp(min=1e-30)  # one of length 0 is not pulled
            slope.addcmul_(bias, self.strength * self.exponent * length ** (self.exponent - 2.0))
        for scale, slope in matrices.each(self.learner, gradient, self.scales):
            slope.addcmul_(scale - 1.0, 2.0 * self.strength)

    def _power(self, matrix: Tensor, left: Tensor) -> tuple[Tensor, Tensor]:
        """Go on with the iteration: sigma (runs, 1) and v (runs, inputs), both 0 for a matrix of zeros."""
        for _ in range(self.power_steps):
            right, _ = _unit(torch.einsum("ruv,ru->rv", matrix, left))
            through, sigma = _unit(torch.einsum("ruv,rv->ru", matrix, right))
            left.copy_(torch.where(sigma > 0, through, left))  # zeros have no direction, and may not stay zeros
        return sigma, right

    def state(self) -> dict[str, Tensor]:
        return {f"{i}.left": left for i, left in enumerate(self.left)}


def _unit(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (runs, n) of length 1, or 0; and the lengths (runs, 1) that they had."""
    length = vectors.norm(dim=1, keepdim=True)
    return vectors / torch.where(length > 0, length, torch.ones_like(length)), length
