"""ReDo: recycle dormant units (Sokar et al. 2023, arXiv 2302.12902, Algorithm 1).

Dohare et al. 2024 compare PPO with it. Their code (gntRedo.py) scores units by the current mini-batch, and leaves the
optimiser's state alone. Reinforcement learners mostly use timoklein/redo; its rules are the second value of each option
here:

| option      | default    | timoklein/redo                                                                          |
|-------------|------------|-----------------------------------------------------------------------------------------|
| score       | layer_mean | eps: 1e-9 is added to the layer's mean, so a silent layer is replaced as a whole; with  |
|             |            | threshold 0, scores up to 1e-8 count as 0                                               |
| new_bias    | zero       | initial: from the network's initial law (zero again where that is 0)                    |
| step_counts | units      | layers: also those of the weights that stay, in all layers                              |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, every
from lop_sweeps.algorithms.new_units import Part
from lop_sweeps.algorithms.unit_resets import PackedUnitResets, UnitResets, check_hidden_units
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network

EPS, ZERO = 1e-9, 1e-8  # of timoklein/redo


@dataclass(frozen=True)
class ReDo(Intervention):
    """Every `period` updates, replace each unit whose score is at most `threshold` (arXiv 2302.12902).

    The score of a unit is its mean |h| over the mini-batch (and over its features, if it has several), divided by the
    mean of that over its layer; in a layer that is silent on the whole mini-batch nothing is replaced. A new unit has
    incoming weights from the network's initial law, bias 0, outgoing weights 0, and a fresh normalisation where it has
    one.
    reset_optimizer: also fresh moments and step counts of all of these, as Sokar et al. do. (Momentum is reset if the
        optimiser's own option says so as well.)
    score: layer_mean, or eps: divided by that mean + 1e-9, which replaces a silent layer as a whole; a threshold of 0
        then means 1e-8.
    new_bias: zero, or initial: from the network's initial law.
    outgoing: zero, or initial: the weights that read a new unit are drawn anew (an option of Sokar et al.).
    step_counts: units, or layers: every replacement step sets the step counts of all hidden layers' weights and biases
        and of all weights that read them to 0, also where no unit is replaced; the biases of the output layer alone
        keep theirs.

    We score by the mini-batch of the update, before it; timoklein/redo by another one, after it.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"threshold"})

    threshold: float = 0.1
    period: int = 100
    reset_optimizer: bool = True
    score: str = "layer_mean"
    new_bias: str = "zero"
    outgoing: str = "zero"
    step_counts: str = "units"

    def __post_init__(self) -> None:
        checks.number("threshold", self.threshold, 0.0)
        checks.integer("period", self.period, 1)
        checks.flag("reset_optimizer", self.reset_optimizer)
        checks.choice("score", self.score, ("layer_mean", "eps"))
        checks.choice("new_bias", self.new_bias, ("zero", "initial"))
        checks.choice("outgoing", self.outgoing, ("zero", "initial"))
        checks.choice("step_counts", self.step_counts, ("units", "layers"))
        if self.step_counts == "layers" and not self.reset_optimizer:
            raise ConfigError("step_counts", "layers", "goes with reset_optimizer=true")

    @property
    def resets_units(self) -> bool:
        return self.reset_optimizer

    def check(self, network: Network) -> None:
        check_hidden_units(network)

    def next_step(self, step: int) -> int:
        return every(int(self.period), step)

    def pack(self, peers: Sequence[ReDo], learner: Learner) -> PackedReDo:
        return PackedReDo(peers, learner)


class PackedReDo(PackedUnitResets[ReDo]):
    """ReDo on a pack."""

    def __init__(self, runs: Sequence[ReDo], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.one = runs[0]
        self.optimizer = runs[0].reset_optimizer
        self.resets = UnitResets(learner, "recycled units", "all" if self.optimizer else "none")
        self.units = self.resets.units
        thresholds = [run.threshold for run in runs]
        if self.one.score == "eps":
            thresholds = [threshold or ZERO for threshold in thresholds]
        device = learner.parameters.device
        self.thresholds = torch.tensor(thresholds, dtype=torch.float64, device=device).unsqueeze(1)

    def after_update(self, step: int) -> None:
        dormant = [self.dormant(i) for i in range(len(self.learner.graph))]  # all before any is replaced
        drawn: dict[str, Tensor] | None = None
        for i, mask in enumerate(dormant):
            self.resets.reset_layer(step, i, mask)
            if parts := self._drawn_parts(i, mask):
                drawn = self._redrawn(step) if drawn is None else drawn
                for name, part in parts:
                    part.take_where(mask, drawn[name])
        if self.one.step_counts == "layers":
            self._restart_counts()

    def _drawn_parts(self, i: int, mask: Tensor) -> list[tuple[str, Part]]:
        """What else of the units of layer i is to have the initial law; on a CPU, if any of them is replaced."""
        hidden = self.units[i]
        parts = hidden.biases() if self.one.new_bias == "initial" else []
        parts = parts + (hidden.reading() if self.one.outgoing == "initial" else [])
        return parts if parts and (mask.is_cuda or bool(mask.any())) else []

    def _redrawn(self, step: int) -> dict[str, Tensor]:
        """By name (runs, *shape), parameters from the network's initial law, drawn on the host."""
        learner = self.learner
        drawn = [learner.redraw(run, "recycled units' readers", step)[0] for run in range(len(learner.seeds))]
        device = learner.parameters.device
        return {name: torch.stack([one[name] for one in drawn]).to(device, non_blocking=True) for name in drawn[0]}

    def _restart_counts(self) -> None:
        optimizer, state = self.learner.optimizer, self.learner.optimizer.state()
        names = {
            name
            for layer in self.learner.graph
            for name in (
                *(name for rows in layer.incoming for name in (rows.weight, rows.bias)),
                *(reader.weight for reader in layer.readers),
            )
            if name is not None
        }
        for key, value in optimizer.fresh().items():
            if key in optimizer.counts:
                for name in names:
                    self.learner.view(state[key], name).fill_(value)

    def dormant(self, i: int) -> Tensor:
        """(runs, units): which units of hidden layer i the current mini-batch finds dormant."""
        activation = self.learner.activations[i]
        magnitude = self.units[i].of_units(activation.abs().double().movedim(2, 1).flatten(2).mean(2))
        average = magnitude.mean(1, keepdim=True)
        if self.one.score == "eps":
            return magnitude / (average + EPS) <= self.thresholds
        return (magnitude <= self.thresholds * average) & (average > 0) & torch.isfinite(average)
