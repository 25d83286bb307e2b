"""L2 Init, or regenerative regularisation (Kumar, Marklund & Van Roy 2023, arXiv 2308.11958, section 3).

Their code: github.com/skumar9876/L2_Init, which also has the penalties l1 and huber, and the resampled anchor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.fresh_parameters import FreshParameters
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention


@dataclass(frozen=True)
class L2Init(Intervention):
    """Pull all weights and biases towards the values that they began with.

    The gradient becomes g + strength * pull(theta - theta_0), that of the loss + strength * sum of penalties:
    penalty: l2: d^2 / 2, so pull(d) = d (the code's form; the paper's text leaves out the 1/2, so that its strength is
        half of this one). l1: |d|, pull(d) = sign(d), 0 at 0; of a weight that the loss does not move, rounding decides
        it. huber: d^2 / 2 up to |d| = 1, |d| - 1/2 beyond; d cut to [-1, 1].
    anchor: initial: theta_0 is what the run began with. resampled: a fresh draw of the network's initial law at each
        step.
    coupling: coupled: the optimiser sees the pull, and Adam's moments with it, as in the authors' code. decoupled: it
        moves the parameters by -step size * strength * pull beside the optimiser, as AdamW decays them.

    Weights, output layer too, and their biases; not the parameters of normalisations, as in the authors' code (FIRE's
    has them in), nor of activations, nor the log standard deviations of a policy's actions.
    Strength 0 adds zeros.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"strength"})
    compiled_part: ClassVar[str | None] = "lop_sweeps.fused.parts.l2_init"

    strength: float = 1e-2
    anchor: str = "initial"
    penalty: str = "l2"
    coupling: str = "coupled"

    def __post_init__(self) -> None:
        checks.number("strength", self.strength, 0.0)
        checks.choice("anchor", self.anchor, ("initial", "resampled"))
        checks.choice("penalty", self.penalty, ("l2", "l1", "huber"))
        checks.choice("coupling", self.coupling, ("coupled", "decoupled"))

    def pack(self, peers: Sequence[L2Init], learner: Learner) -> PackedL2Init:
        return PackedL2Init(peers, learner)


class PackedL2Init(PackedIntervention[L2Init]):
    """L2 Init on a pack: parameters and pulls are (runs, parameters)."""

    def __init__(self, runs: Sequence[L2Init], learner: Learner) -> None:
        super().__init__(runs, learner)
        first = runs[0]
        names = matrices.with_biases(learner, matrices.weights(learner, output=True))
        self.strength = matrices.at_parameters(learner, self.per_run("strength"), names)
        self.penalty = first.penalty
        resampled = first.anchor == "resampled"
        self.fresh = FreshParameters(learner, "resampled anchor") if resampled else None
        self.initial = learner.parameters[:0] if resampled else learner.parameters.clone()
        self.without = frozenset({"after_optimizer" if first.coupling == "coupled" else "before_update"})

    def before_update(self, gradient: Tensor, step: int) -> None:
        gradient.addcmul_(self.pull(self.learner.parameters, step), self.strength)

    def after_optimizer(self, before: Tensor, step: int) -> None:
        self.learner.parameters.addcmul_(self.pull(before, step), -self.learner.optimizer.step_size * self.strength)

    def pull(self, parameters: Tensor, step: int) -> Tensor:
        """Slope of the penalty."""
        distance = parameters - self.anchor(step)
        if self.penalty == "l1":
            return distance.sign_()
        return distance.clamp_(-1.0, 1.0) if self.penalty == "huber" else distance

    def anchor(self, step: int) -> Tensor:
        """theta_0 of a step."""
        return self.initial if self.fresh is None else self.fresh.draw(step)
