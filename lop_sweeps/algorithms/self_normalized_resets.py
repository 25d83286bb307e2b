"""SNR, self-normalised resets: a unit that is silent for longer than it ever is starts anew.

Farias & Jozefiak 2025 (arXiv 2410.20098, Algorithm 1); ajozefiak/SelfNormalizedResets (JAX), read at commit 8b84f0c.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.algorithms.unit_resets import UnitResets, check_hidden_units, check_optimizer_state
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network

FALLS_SILENT = ("relu",)  # activations that are exactly 0 for a range of inputs
AT_ONCE = 64  # units whose histograms are added up together


@dataclass(frozen=True)
class SelfNormalizedResets(Intervention):
    """Reset a unit once it has been silent for longer than its own past silences make plausible (arXiv 2410.20098).

    A unit fires if one of its features is above 0 for one example of the mini-batch, at one position. Its age is how
    many examples ago it last did: it grows by the size of each mini-batch in which the unit does not fire, and each
    firing counts the age before it in the unit's histogram and sets it to 0. After the update, a unit whose age has
    reached its threshold is reset; that age is counted, too.
    Now and then thresholds are refreshed: q is the smallest age >= 1 that at least `percentile` of those counted did
    not exceed (ages of 0, and above tau_max, are left out); the threshold becomes q if that is less, otherwise
    `expansion` times what it was, then at most tau_max and at least floor; the histogram begins anew, ages go on.

    percentile: 1 minus the paper's rejection percentile.
    refresh_every, refresh_in: thresholds are refreshed every so many tasks, or steps. (In control a task is a change of
        the environment; where there is none, steps it must be.)
    tau_max: also the size of the histograms: each unit has tau_max + 1 numbers of four bytes, in checkpoints, too.
    initial_threshold: null = half of tau_max.
    floor: 100, whatever the mini-batch, as in the authors' code (their mini-batches have 100 examples).
    empty: what a unit gets that has counted nothing, because it fires in every mini-batch, or in none: keep its
        threshold; or authors: q = 1, hence the floor, so that its first short silence resets it.
    reset_optimizer: moments = the step counts of a new unit's weights go on, as in the authors' code; all, or none.

    A new unit has incoming weights from the network's initial law, bias 0, outgoing weights 0, and a fresh
    normalisation where it has one.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"percentile", "expansion", "initial_threshold", "floor"})
    compiled_part: ClassVar[str | None] = "lop_sweeps.fused.parts.self_normalized_resets"

    percentile: float = 0.99
    refresh_every: int = 16
    refresh_in: str = "tasks"
    expansion: float = 2.0
    tau_max: int = 20000
    initial_threshold: int | None = None
    floor: int = 100
    empty: str = "keep"
    reset_optimizer: str = "moments"

    def __post_init__(self) -> None:
        checks.number("percentile", self.percentile, 0.0, 1.0, above=True)
        checks.integer("refresh_every", self.refresh_every, 1)
        checks.choice("refresh_in", self.refresh_in, ("tasks", "steps"))
        checks.number("expansion", self.expansion, 1.0)
        checks.integer("tau_max", self.tau_max, 1)
        if self.initial_threshold is not None:
            checks.integer("initial_threshold", self.initial_threshold, 1)
        checks.integer("floor", self.floor, 1)
        checks.choice("empty", self.empty, ("keep", "authors"))
        check_optimizer_state("reset_optimizer", self.reset_optimizer)

    @property
    def resets_units(self) -> bool:
        return self.reset_optimizer != "none"

    def check(self, network: Network) -> None:
        check_hidden_units(network)
        activation = getattr(getattr(network, "policy", network), "activation", None)
        if isinstance(activation, str) and activation not in FALLS_SILENT:
            allowed = f"needs units that fall silent: with network.activation={activation} none is ever exactly 0"
            raise ConfigError("", None, f"{allowed}; use {' or '.join(FALLS_SILENT)}")

    def pack(self, peers: Sequence[SelfNormalizedResets], learner: Learner) -> PackedSelfNormalizedResets:
        return PackedSelfNormalizedResets(peers, learner)


class PackedSelfNormalizedResets(PackedIntervention[SelfNormalizedResets]):
    """SNR on a pack. ages, thresholds: (runs, units of all hidden layers); histograms: (..., tau_max + 1)."""

    def __init__(self, runs: Sequence[SelfNormalizedResets], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.resets = UnitResets(learner, "self-normalised resets", runs[0].reset_optimizer)
        self.tau_max, self.every = int(runs[0].tau_max), int(runs[0].refresh_every)
        self.by_steps, self.keeps = runs[0].refresh_in == "steps", runs[0].empty == "keep"
        self.sizes = [layer.units for layer in learner.graph]
        device = learner.parameters.device
        first = [run.tau_max // 2 or 1 if run.initial_threshold is None else run.initial_threshold for run in runs]
        self.ages = torch.zeros(len(runs), sum(self.sizes), dtype=torch.int64, device=device)
        self.thresholds = torch.tensor(first, device=device).long().unsqueeze(1).repeat(1, sum(self.sizes))
        self.histograms = torch.zeros(*self.ages.shape, self.tau_max + 1, dtype=torch.int32, device=device)

    def after_update(self, step: int) -> None:
        fired = self.fired()
        self._count(fired)
        batch = self.learner.activations[0].shape[1]
        self.ages.add_(batch).masked_fill_(fired, 0)
        overdue = (self.ages >= self.thresholds) & (self.thresholds > 0)  # no threshold: taken out of the pack
        if overdue.is_cuda or bool(overdue.any()):
            self._count(overdue)
            self.ages.masked_fill_(overdue, 0)
            self.resets.reset(step, overdue.split(self.sizes, 1))
        if self.by_steps and (step + 1) % self.every == 0:
            for run in range(len(self.options)):
                self.refresh(run)

    def before_task(self, run: int, task: int) -> None:
        if not self.by_steps and task > 0 and task % self.every == 0:
            self.refresh(run)

    def fired(self) -> Tensor:
        """(runs, units of all hidden layers): which units the current mini-batch makes fire."""
        found = []
        for activation, hidden in zip(self.learner.activations, self.resets.units, strict=True):
            fires = activation > 0
            features = (fires.flatten(3).any(3) if fires.dim() > 3 else fires).any(1)
            of_units = features if hidden.features is None else features[:, hidden.features]
            found.append(of_units.any(2) if of_units.dim() > 2 else of_units)
        return torch.cat(found, 1)

    def _count(self, mask: Tensor) -> None:
        """The ages of the units for which mask is true go into their histograms."""
        counted = (mask & (self.ages <= self.tau_max)).unsqueeze(2)
        self.histograms.scatter_add_(2, self.ages.clamp(max=self.tau_max).unsqueeze(2), counted.int())

    def refresh(self, run: int) -> None:
        """Thresholds of a run from its histograms, which begin anew."""
        options, thresholds = self.options[run], self.thresholds[run]
        found = [self._quantile(part, options.percentile) for part in self.histograms[run].split(AT_ONCE)]
        quantile, nothing = (torch.cat(parts) for parts in zip(*found, strict=True))
        expanded = (thresholds.double() * options.expansion).long()
        new = torch.where(quantile < thresholds, quantile, expanded).clamp(max=self.tau_max).clamp(min=options.floor)
        thresholds.copy_(torch.where(nothing, thresholds, new) if self.keeps else new)
        self.histograms[run].zero_()

    def _quantile(self, histograms: Tensor, percentile: float) -> tuple[Tensor, Tensor]:
        """(units,) of histograms (units, tau_max + 1): the age that has the percentile, and whether there is none."""
        counts = histograms[:, 1:]
        total = counts.sum(1, keepdim=True)
        share = counts.cumsum(1).double() / total
        return (share >= percentile).int().argmax(1) + 1, total.squeeze(1) == 0

    def state(self) -> dict[str, Tensor]:
        kept = {"ages": self.ages, "thresholds": self.thresholds, "histograms": self.histograms}
        return kept | self.resets.state()

    def report(self, run: int) -> dict[str, list[float]]:
        return self.resets.report(run)

    def clear_report(self) -> None:
        self.resets.clear_report()
