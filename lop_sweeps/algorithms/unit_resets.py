"""Hidden units that a method has found useless are made new: what those methods share once they have chosen.

A new unit has incoming weights from the network's initial law, bias 0, outgoing weights 0, and a fresh normalisation
where it has one. Layers are treated one after the other, from input to output, so that a weight between two units that
are reset together ends fresh, not 0, as in the authors' code of all these methods.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lop_sweeps import checks, counter_random, streams
from lop_sweeps.algorithms import new_units
from lop_sweeps.algorithms.intervention import Learner, Options, PackedIntervention
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network

# What becomes of the optimiser's state of a new unit's weights.
OPTIMIZER_STATE = ("all", "moments", "none")


def check_optimizer_state(key: str, value: str) -> str:
    """all: fresh moments and step counts. moments: the counts go on. none: nothing is reset."""
    return checks.choice(key, value, OPTIMIZER_STATE)


def check_hidden_units(network: Network) -> None:
    """Raise `ConfigError` for a network that has none."""
    if not network.unit_graph():
        raise ConfigError("", None, "needs a network with hidden units, such as network=mlp")


class UnitResets:
    """Resets of the units of a pack, by masks, and how many there were.

    purpose: of the draws of new weights. optimizer_state: one of `OPTIMIZER_STATE`. replaced: of each hidden layer,
    (runs,) since the last report.
    """

    def __init__(self, learner: Learner, purpose: str, optimizer_state: str) -> None:
        self.learner, self.optimizer_state = learner, optimizer_state
        device = learner.parameters.device
        self.units = [new_units.HiddenUnits(learner, layer) for layer in learner.graph]
        keys = [[streams.counter_key(seed, purpose, i) for seed in learner.seeds] for i in range(len(learner.graph))]
        self.keys = [counter_random.Keys(of_runs, device) for of_runs in keys]
        self.keys_of_runs = [[counter_random.Keys([key], device) for key in of_runs] for of_runs in keys]
        self.replaced = [torch.zeros(len(learner.seeds), dtype=torch.int64, device=device) for _ in learner.graph]

    def reset(self, step: int, masks: Sequence[Tensor]) -> None:
        """Make those units new for which masks[i] (runs, units of layer i) is true; draws of this step."""
        for i, mask in enumerate(masks):
            self.reset_layer(step, i, mask)

    def reset_layer(self, step: int, i: int, mask: Tensor) -> None:
        """Those of hidden layer i alone; mask (runs, units)."""
        if mask.is_cuda:
            self._by_mask(step, i, mask)
        else:
            for run in torch.nonzero(mask.any(1)).flatten().tolist():
                self._one_run(step, i, run, torch.nonzero(mask[run]).flatten())
        self.replaced[i] += mask.sum(1)

    def draw(self, step: int, i: int, run: int, units: Tensor) -> Tensor:
        """(n, fan_in): new incoming weights of units (n,) of a run."""
        return new_units.draw_incoming(self.keys_of_runs[i][run], step, self.learner.graph[i], units)[0]

    def draw_all(self, step: int, i: int) -> Tensor:
        """(runs, units, fan_in): new incoming weights of all units of layer i; the same draws."""
        layer = self.learner.graph[i]
        return new_units.draw_incoming(
            self.keys[i], step, layer, torch.arange(layer.units, device=self.learner.parameters.device)
        )

    def _owned(self, i: int) -> list[new_units.Part]:
        state = self.optimizer_state
        return self.units[i].owned(optimizer=state != "none", counts=state == "all")

    def _one_run(self, step: int, i: int, run: int, units: Tensor) -> None:
        """Only what is reset is drawn."""
        self.units[i].set_incoming(run, units, self.draw(step, i, run, units))
        for part in self._owned(i):
            part.reset(run, units)

    def _by_mask(self, step: int, i: int, mask: Tensor) -> None:
        """Of all runs, without waiting for the device to say which units it is: all are drawn."""
        self.units[i].set_incoming_where(mask, self.draw_all(step, i))
        for part in self._owned(i):
            part.reset_where(mask)

    def state(self) -> dict[str, Tensor]:
        return {f"{i}.replaced": replaced for i, replaced in enumerate(self.replaced)}

    def report(self, run: int) -> dict[str, list[float]]:
        return {"replaced_units": [int(replaced[run]) for replaced in self.replaced]}

    def clear_report(self) -> None:
        for replaced in self.replaced:
            replaced.zero_()


class PackedUnitResets(PackedIntervention[Options]):
    """Base of methods that keep nothing but how many units they have reset."""

    resets: UnitResets

    def state(self) -> dict[str, Tensor]:
        return self.resets.state()

    def report(self, run: int) -> dict[str, list[float]]:
        return self.resets.report(run)

    def clear_report(self) -> None:
        self.resets.clear_report()
