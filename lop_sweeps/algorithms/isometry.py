"""The isometry pull of AdamO (2026, arXiv 2606.09762, ICML; not the AdamO of 2602.05136), beside any optimiser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.networks.network import Network


@dataclass(frozen=True)
class Isometry(Intervention):
    """Pull each weight matrix towards an isometry, beside the optimiser's step and unseen by its moments.

    theta <- theta - step_size * strength * slope of R, with R = ||W^T W - I||_F^2 for a matrix with at least as many
    rows as columns, ||W W^T - I||_F^2 for others; in both cases the slope is 4 (W W^T - I) W, taken where the
    optimiser's step began. With `optimizer=adam` this is AdamO.
    step_size: of the pull; null: the optimiser's own at this step.
    output: also the output layers' matrices.

    A convolution is the matrix units x the rest. Biases, normalisations and parameters of activations are left out. No
    code of the authors was found; whether they leave out the output layer is not known. Strength 0 subtracts zeros.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"strength"})

    strength: float = 1e-3
    step_size: float | None = None
    output: bool = True

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0)
        if self.step_size is not None:
            checks.number("step_size", self.step_size, 0.0, above=True)
        checks.flag("output", self.output)

    def check(self, network: Network) -> None:
        matrices.check_weights(network, output=self.output)

    def pack(self, peers: Sequence[Isometry], learner: Learner) -> PackedIsometry:
        return PackedIsometry(peers, learner)


class PackedIsometry(PackedIntervention[Isometry]):
    """The pull on a pack."""

    def __init__(self, runs: Sequence[Isometry], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.strength = self.per_run("strength")
        self.names = matrices.weights(learner, output=runs[0].output)
        self.step_size = None if runs[0].step_size is None else self.per_run("step_size")

    def after_optimizer(self, before: Tensor, step: int) -> None:
        step_size = self.learner.optimizer.step_size if self.step_size is None else self.step_size
        pull = -step_size * self.strength
        for weight, was in matrices.each(self.learner, before, self.names):
            slope = matrices.isometry_gradient(matrices.rows(was))
            weight.addcmul_(slope.view(weight.shape), matrices.along(pull, weight))
