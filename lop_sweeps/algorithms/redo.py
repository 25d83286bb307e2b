"""ReDo: recycle dormant units (Sokar et al. 2023, arXiv 2302.12902, Algorithm 1).

Dohare et al. 2024 compare PPO with it. Their code (gntRedo.py) scores units by the current mini-batch, and leaves the
optimiser's state alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks, counter_random, streams
from lop_sweeps.algorithms import new_units
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network


@dataclass(frozen=True)
class ReDo(Intervention):
    """Every `period` updates, replace each unit whose score is at most `threshold`.

    The score of a unit is its mean |h| over the mini-batch (and over its features, if it has several), divided by the
    mean of that over its layer; in a layer that is silent on the whole mini-batch nothing is replaced. A new unit has
    incoming weights from the network's initial law, bias 0, outgoing weights 0, and a fresh normalisation where it has
    one.
    reset_optimizer: also fresh moments and step counts of all of these, as Sokar et al. do. (Momentum is reset if the
        optimiser's own option says so as well.)
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"threshold"})

    threshold: float = 0.1
    period: int = 100
    reset_optimizer: bool = True

    def __post_init__(self) -> None:
        checks.number("threshold", self.threshold, 0.0)
        checks.integer("period", self.period, 1)
        checks.flag("reset_optimizer", self.reset_optimizer)

    @property
    def resets_units(self) -> bool:
        return self.reset_optimizer

    def check(self, network: Network) -> None:
        if not network.unit_graph():
            raise ConfigError("", None, "needs a network with hidden units, such as network=mlp")

    def next_step(self, step: int) -> int:
        return every(int(self.period), step)

    def pack(self, peers: Sequence[ReDo], learner: Learner) -> PackedReDo:
        return PackedReDo(peers, learner)


class PackedReDo(PackedIntervention[ReDo]):
    """ReDo on a pack."""

    def __init__(self, runs: Sequence[ReDo], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.optimizer = runs[0].reset_optimizer
        graph, device = learner.graph, learner.parameters.device
        self.units = [new_units.HiddenUnits(learner, layer) for layer in graph]
        self.thresholds = torch.tensor([run.threshold for run in runs], dtype=torch.float64, device=device).unsqueeze(1)
        keys = [[streams.counter_key(seed, "recycled units", i) for seed in learner.seeds] for i in range(len(graph))]
        self.keys = [counter_random.Keys(of_runs, device) for of_runs in keys]
        self.keys_of_runs = [[counter_random.Keys([key], device) for key in of_runs] for of_runs in keys]
        self.replaced = [
            torch.zeros(len(runs), dtype=torch.int64, device=device) for _ in graph
        ]  # since the last report

    def after_update(self, step: int) -> None:
        dormant = [self.dormant(i) for i in range(len(self.learner.graph))]  # all before any is replaced
        for i, mask in enumerate(dormant):
            self._replace(step, i, mask)

    def dormant(self, i: int) -> Tensor:
        """(runs, units): which units of hidden layer i the current mini-batch finds dormant."""
        activation = self.learner.activations[i]
        magnitude = self.units[i].of_units(activation.abs().double().movedim(2, 1).flatten(2).mean(2))
        average = magnitude.mean(1, keepdim=True)
        return (magnitude <= self.thresholds * average) & (average > 0) & torch.isfinite(average)

    def _replace(self, step: int, i: int, mask: Tensor) -> None:
        if mask.is_cuda:
            self._replace_by_mask(step, i, mask)
        else:
            for run in torch.nonzero(mask.any(1)).flatten().tolist():
                self._replace_units(step, i, run, torch.nonzero(mask[run]).flatten())
        self.replaced[i] += mask.sum(1)

    def _replace_units(self, step: int, i: int, run: int, units: Tensor) -> None:
        """Of one run; only what is dormant is drawn."""
        layer, hidden = self.learner.graph[i], self.units[i]
        hidden.set_incoming(run, units, new_units.draw_incoming(self.keys_of_runs[i][run], step, layer, units)[0])
        for part in hidden.owned(optimizer=self.optimizer):
            part.reset(run, units)

    def _replace_by_mask(self, step: int, i: int, mask: Tensor) -> None:
        """Of all runs, without waiting for the device to say which units are dormant: all are drawn."""
        layer, hidden = self.learner.graph[i], self.units[i]
        units = torch.arange(layer.units, device=mask.device)
        hidden.set_incoming_where(mask, new_units.draw_incoming(self.keys[i], step, layer, units))
        for part in hidden.owned(optimizer=self.optimizer):
            part.reset_where(mask)

    def state(self) -> dict[str, Tensor]:
        return {f"{i}.replaced": replaced for i, replaced in enumerate(self.replaced)}

    def report(self, run: int) -> dict[str, list[float]]:
        return {"replaced_units": [int(replaced[run]) for replaced in self.replaced]}

    def clear_report(self) -> None:
        for replaced in self.replaced:
            replaced.zero_()
