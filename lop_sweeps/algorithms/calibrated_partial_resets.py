"""CPR, calibrated partial resets: every unit goes some way back to fresh weights, the less it learns the further.

arXiv 2607.24996; LucMc/continual-learning (JAX), read at commit 6fc2af3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.algorithms.unit_resets import UnitResets, check_hidden_units
from lop_sweeps.networks.network import Network

EPS = 1e-8


@dataclass(frozen=True)
class CalibratedPartialResets(Intervention):
    """Every `period` updates, mix each unit's incoming weights with fresh ones and shrink its outgoing weights.

    Source: arXiv 2607.24996 and its code.

    In every step u <- decay_rate u + (1 - decay_rate) g, where g is the mean over a unit's incoming weights of the
    absolute gradient of the mini-batch, divided by its mean over the layer + 1e-8; u begins at 1. After updates number
    period + 1, 2 period + 1, ..., with r = replacement_rate min(1, f(u)): incoming weights <- (1 - r) w + r fresh,
    outgoing ones <- (1 - r) w, layer by layer from the input on, so that weights between two hidden layers are first
    shrunk, then mixed; then u <- 1. Biases, normalisation and the optimiser's state stay.
    transform: sigmoid, f(u) = 2 / (1 + exp(sharpness (u - threshold))); or exp, f(u) = exp(-sharpness (u - threshold)).

    The gradient is that of the loss, before it is cut, with what methods further up in the configuration have added.
    Fresh weights are from the network's initial law (theirs: He's).
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"replacement_rate", "sharpness", "threshold", "decay_rate"})
    compiled_part: ClassVar[str | None] = "lop_sweeps.fused.parts.calibrated_partial_resets"

    replacement_rate: float = 0.015
    period: int = 1000
    sharpness: float = 16.0
    threshold: float = 1.0
    decay_rate: float = 0.99
    transform: str = "sigmoid"

    def __post_init__(self) -> None:
        checks.number("replacement_rate", self.replacement_rate, 0.0, 1.0)
        checks.integer("period", self.period, 1)
        checks.number("sharpness", self.sharpness, 0.0)
        checks.number("threshold", self.threshold)
        checks.number("decay_rate", self.decay_rate, 0.0, 1.0, below=True)
        checks.choice("transform", self.transform, ("sigmoid", "exp"))

    def check(self, network: Network) -> None:
        check_hidden_units(network)

    def pack(self, peers: Sequence[CalibratedPartialResets], learner: Learner) -> PackedCalibratedPartialResets:
        return PackedCalibratedPartialResets(peers, learner)


class PackedCalibratedPartialResets(PackedIntervention[CalibratedPartialResets]):
    """CPR on a pack. utility: (runs, units of all hidden layers), and utilities its parts by layer."""

    def __init__(self, runs: Sequence[CalibratedPartialResets], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.period, self.transform = int(runs[0].period), runs[0].transform
        self.rate, self.sharpness = self.per_run("replacement_rate"), self.per_run("sharpness")
        self.threshold, self.decay = self.per_run("threshold"), self.per_run("decay_rate")
        self.resets = UnitResets(learner, "partial resets", "none")
        like = learner.parameters
        sizes = [layer.units for layer in learner.graph]
        self.utility = like.new_ones(len(runs), sum(sizes))
        self.utilities = self.utility.split(sizes, 1)

    def before_update(self, gradient: Tensor, step: int) -> None:
        for utility, hidden in zip(self.utilities, self.resets.units, strict=True):
            magnitude = hidden.incoming_magnitude(gradient)
            score = magnitude / (magnitude.mean(1, keepdim=True) + EPS)
            utility.mul_(self.decay).add_((1 - self.decay) * score)

    def after_update(self, step: int) -> None:
        if step == 0 or step % self.period:
            return
        for i, (utility, hidden) in enumerate(zip(self.utilities, self.resets.units, strict=True)):
            share = self.share(utility)
            hidden.mix_incoming(share, self.resets.draw_all(step, i))
            hidden.scale_outgoing(1 - share)
            utility.fill_(1.0)

    def share(self, utility: Tensor) -> Tensor:
        """(runs, units): how far each unit goes back to fresh weights."""
        distance = -self.sharpness * (utility - self.threshold)
        law = 2 * torch.sigmoid(distance) if self.transform == "sigmoid" else torch.exp(distance)
        return self.rate * law.clamp(max=1.0)

    def state(self) -> dict[str, Tensor]:
        return {f"{i}.utility": utility for i, utility in enumerate(self.utilities)}
