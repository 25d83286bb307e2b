"""Continual backpropagation: backprop plus the steady replacement of the least useful mature units.

Dohare et al. 2024 (Nature 632, Eq. 1 and Algorithm 1). Where the authors' code (commit 63c35f3, gnt.py) differs from
the paper, the code's behaviour is the default here, because it made the published numbers: utilities are corrected
for their start at zero, magnitudes are means instead of sums (the ranking is the same), and the mean contribution of
a removed unit is not moved into the next bias (their line for it always adds 0); `bias_transfer` does move it.

They have three variants that differ silently; here is one, with the differences as options:

| option     | fully connected (gnt.py) | convolutional (convGnT.py) | residual (res_gnt.py) |
|------------|--------------------------|----------------------------|-----------------------|
| rate_of    | mature                   | all                        | all                   |
| averaging  | running                  | running                    | sum                   |

A unit of a convolution is a channel: its activity is averaged over the mini-batch and all positions, its incoming and
outgoing magnitudes over the kernels. Where a linear layer reads a channel's positions one by one, products of activity
and outgoing magnitude are formed for each position and then averaged. So they are for each feature of a unit that has
several (CReLU's two halves); means over outgoing weights are over those of all layers that read the unit, means over
incoming weights over all its rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import checks, counter_random, streams
from lop_sweeps.algorithms import new_units
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.algorithms.replacement_schedule import plan_replacements
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer

UTILITIES = (
    "weight",
    "contribution",
    "adaptation",
    "zero_contribution",
    "adaptable_contribution",
    "feature_by_input",
    "random",
)
DEAD_UTILITY = 1e-30  # below this a utility counts as 0: dead float32 units otherwise rank by their denormals


@dataclass(frozen=True)
class ContinualBackprop(Intervention):
    """After each update, replace the mature units of lowest utility.

    replacement_rate: expected share of the mature units replaced per step; a list gives one rate per hidden layer
        ("layerwise"), 0 = never.
    maturity_threshold: a unit younger than this many steps is safe. decay_rate: of the running averages; 0 =
        instantaneous.
    utility: with h the activation, f its running mean, w_out and w_in mean outgoing and incoming magnitude, the
        running average of: weight = w_out; contribution = w_out |h|; adaptation = 1 / w_in; zero_contribution =
        w_out |h - f|; adaptable_contribution = w_out |h - f| / w_in; feature_by_input = |h - f| / w_in. random: a
        fresh uniform draw at every choice. With decay_rate 0 and batches of one, f is h and |h - f| is 0.
    fractional: how fractions of a unit are handled: accumulate them, or bernoulli = replace one with that
        probability.
    rate_of: whether the rate is a share of the mature units, or of all (once one of them is mature).
    averaging: running; or sum = as coded for the residual network: the outgoing magnitude of this moment times the sum
        of all mean activities |h| since the start of the run, which decays never, and not when the unit is replaced
        (utilities weight and contribution only).
    bias_transfer: add outgoing weight x bias-corrected mean activation of a removed unit to the next bias; a channel's
        mean is one number, over its positions.
    reset_optimizer: false keeps a removed unit's moments and step counts for the new one, as the authors' PPO does.

    A new unit has incoming weights from the network's initial law, bias 0, outgoing weights 0, a fresh normalisation
    where it has one, and, with Adam, fresh moments and step counts of all of these. Activations are those of the
    forward pass before the update, before dropout and before a normalisation that follows them; weights are those
    after the update.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"replacement_rate", "maturity_threshold", "decay_rate"})

    replacement_rate: float | Sequence[float] = 1e-4
    maturity_threshold: int = 100
    decay_rate: float = 0.99
    utility: str = "contribution"
    fractional: str = "accumulate"
    bias_transfer: bool = False
    rate_of: str = "mature"
    averaging: str = "running"
    reset_optimizer: bool = True

    def __post_init__(self) -> None:
        rates = self.replacement_rate
        if isinstance(rates, Sequence) and not isinstance(rates, str):
            for i, rate in enumerate(rates):
                checks.number(f"replacement_rate[{i}]", rate, 0.0, 1.0)
        else:
            checks.number("replacement_rate", rates, 0.0, 1.0)
        checks.integer("maturity_threshold", self.maturity_threshold, 0)
        checks.number("decay_rate", self.decay_rate, 0.0, 1.0, below=True)
        checks.choice("utility", self.utility, UTILITIES)
        checks.choice("fractional", self.fractional, ("accumulate", "bernoulli"))
        checks.flag("bias_transfer", self.bias_transfer)
        checks.flag("reset_optimizer", self.reset_optimizer)
        checks.choice("rate_of", self.rate_of, ("mature", "all"))
        checks.choice("averaging", self.averaging, ("running", "sum"))
        if self.averaging == "sum" and self.utility not in ("weight", "contribution"):
            raise ConfigError("averaging", "sum", "goes with the utilities weight and contribution only")
        if self.averaging == "sum" and self.bias_transfer:
            raise ConfigError("averaging", "sum", "keeps no mean activation that bias_transfer could move")

    @property
    def resets_units(self) -> bool:
        return self.reset_optimizer

    def rates(self, layers: int) -> list[float]:
        """One replacement rate per hidden layer."""
        if isinstance(self.replacement_rate, Sequence):
            return [float(rate) for rate in self.replacement_rate]
        return [float(self.replacement_rate)] * layers

    def check(self, network: Network) -> None:
        graph = network.unit_graph()
        if not graph:
            raise ConfigError("", None, "needs a network with hidden units, such as network=mlp")
        if len(self.rates(len(graph))) != len(graph):
            allowed = f"must be a number, or a list of one rate per hidden layer ({len(graph)} here)"
            raise ConfigError("replacement_rate", self.replacement_rate, allowed)
        if self.bias_transfer and any(layer.norm_after for layer in graph):
            allowed = "must be false where a normalisation follows the activation: a unit's mean contribution is not "
            raise ConfigError("bias_transfer", True, allowed + "outgoing weight x mean activation there")
        if self.bias_transfer and any(layer.residual for layer in graph):
            allowed = "must be false where shortcuts carry a unit past the layer that would compensate for it"
            raise ConfigError("bias_transfer", True, allowed)
        if self.bias_transfer and any(reader.bias is None for layer in graph for reader in layer.readers):
            raise ConfigError("bias_transfer", True, "must be false where a layer that reads units has no bias")

    def pack(self, peers: Sequence[ContinualBackprop], learner: Learner) -> PackedContinualBackprop:
        return PackedContinualBackprop(peers, learner)


class _LayerState:
    """Running averages of one hidden layer, (runs, units) each; on the host, the accumulated fraction, (runs,).

    Of units with several features, the mean activation of each is kept: (runs, units, features of a unit).
    """

    def __init__(self, runs: int, layer: UnitLayer, like: Tensor) -> None:
        of_features = (runs, layer.units, layer.each)
        self.utility = torch.zeros(runs, layer.units, dtype=like.dtype, device=like.device)
        self.mean_activation = self.utility.new_zeros(of_features if layer.each > 1 else of_features[:2])
        self.age = torch.zeros(runs, layer.units, dtype=torch.int64, device=like.device)
        self.accumulated = torch.zeros(runs, dtype=torch.float64)
        self.replaced = torch.zeros(runs, dtype=torch.int64)  # since the last report


class PackedContinualBackprop(PackedIntervention[ContinualBackprop]):
    """Continual backprop on a pack: all runs' utilities at once; replacements, which are rare, one by one."""

    def __init__(self, runs: Sequence[ContinualBackprop], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.device = learner.parameters.device
        self.kind, self.bias_transfer = runs[0].utility, runs[0].bias_transfer
        self.optimizer = runs[0].reset_optimizer
        self.of_all, self.summing = runs[0].rate_of == "all", runs[0].averaging == "sum"
        self.decay = self.per_run("decay_rate")
        self.fill = 1 - self.decay
        graph = learner.graph
        self.units = [new_units.HiddenUnits(learner, layer) for layer in graph]
        self.rates = np.array([run.rates(len(graph)) for run in runs])  # (runs, layers)
        self.layers = [_LayerState(len(runs), layer, learner.parameters) for layer in graph]
        self.acting = [bool(self.rates[:, i].any()) for i in range(len(graph))]
        places = [(seed, i) for seed in learner.seeds for i in range(len(graph))]
        self.rounding_keys = [streams.counter_key(seed, "replacement rounding", i) for seed, i in places]
        self.weight_keys = [streams.counter_key(seed, "new units", i) for seed, i in places]
        self.utility_keys = [streams.counter_key(seed, "random utility", i) for seed, i in places]
        self.weight_draws = [counter_random.Keys([key], self.device) for key in self.weight_keys]
        self.utility_draws = [
            counter_random.Keys(self.utility_keys[i :: len(graph)], self.device) for i in range(len(graph))
        ]
        self.first_step = 0
        self.counts = np.zeros((0, len(graph), len(runs)), np.int64)  # (planned steps, layers, runs)
        self.due: NDArray[np.bool_] = np.zeros(0, bool)  # (planned steps,): whether any unit is replaced

    def plan(self, step: int, steps: int) -> None:
        self.first_step = step
        self.counts = np.zeros((steps, len(self.layers), len(self.options)), np.int64)
        counts = np.empty(steps, np.int64)
        # One transfer, between two intervals: within them nothing waits for a device.
        ages = torch.cat([layer.age for layer in self.layers], 1).cpu().numpy()
        of_layers = np.split(ages, np.cumsum([layer.units for layer in self.learner.graph])[:-1], axis=1)
        for i, layer in enumerate(self.layers):
            for run, options in enumerate(self.options):
                layer.accumulated[run] = plan_replacements(
                    of_layers[i][run],
                    int(options.maturity_threshold),
                    self.rates[run, i],
                    options.fractional == "bernoulli",
                    float(layer.accumulated[run]),
                    self.rounding_keys[run * len(self.layers) + i],
                    step,
                    counts,
                    self.of_all,
                )
                self.counts[:, i, run] = counts
        self.due = np.asarray(self.counts.any(axis=(1, 2)))

    def after_update(self, step: int) -> None:
        for i, acting in enumerate(self.acting):
            if acting:
                self._update_utility(i)
        t = step - self.first_step
        if not self.due[t]:
            return
        chosen = []  # first choose in every layer, then replace: a choice sees no replacement of its own step
        for i, run in zip(*np.nonzero(self.counts[t]), strict=True):
            units = self.choose(step, int(i), int(run), int(self.counts[t, i, run]))
            chosen.append((int(i), int(run), units))
        for i, run, units in chosen:
            self._replace(step, i, run, units)

    def _update_utility(self, i: int) -> None:
        """One step of the running averages of hidden layer i (spec: gnt.py, `update_utility`)."""
        layer, units, kind = self.layers[i], self.units[i], self.kind
        activation = units.by_unit(self.learner.activations[i])
        layer.age += 1
        if self.summing:
            if kind == "contribution":
                mean = units.by_feature(activation.abs().mean(1))
                layer.mean_activation.addcmul_(mean, _like(self.fill, mean))
            return
        alone = activation.shape[1] == 1  # batches of one need no average over the batch
        mean = units.by_feature(activation[:, 0] if alone else activation.mean(1))
        layer.mean_activation.mul_(_like(self.decay, mean)).addcmul_(mean, _like(self.fill, mean))
        if kind == "random":
            return
        instantaneous: Tensor | None = None
        if kind in ("contribution", "zero_contribution", "adaptable_contribution", "feature_by_input"):
            if kind != "contribution":
                average = layer.mean_activation / _like(self._correction(layer), mean)
                activation = activation - units.like_parts(average, activation)
            instantaneous = activation[:, 0].abs() if alone else activation.abs().mean(1)
        if kind in ("weight", "contribution", "zero_contribution", "adaptable_contribution"):
            outgoing = units.outgoing_magnitude()
            instantaneous = outgoing if instantaneous is None else instantaneous * outgoing
        if instantaneous is not None:
            instantaneous = _over_parts(instantaneous)
        if kind in ("adaptation", "adaptable_contribution", "feature_by_input"):
            incoming = units.incoming_magnitude()
            instantaneous = 1 / incoming if instantaneous is None else instantaneous / incoming
        assert instantaneous is not None
        layer.utility.mul_(self.decay).addcmul_(instantaneous, self.fill)

    def _correction(self, layer: _LayerState) -> Tensor:
        """1 - decay^age, (runs, units): how much of a running average is filled."""
        return 1 - self.decay**layer.age

    def corrected_utility(self, step: int, i: int) -> Tensor:
        """Bias-corrected utilities of hidden layer i, (runs, units); tiny ones are 0.

        So are those of dead units whose incoming weights are all zero, 0 / 0 in some definitions: a unit with NaN was
        first to go in the authors' code, too. Infinite ones (1 / 0) are finite here, below those of young units.
        """
        layer = self.layers[i]
        if self.kind == "random":
            index = torch.arange(layer.utility.shape[1], device=layer.utility.device)
            return self.utility_draws[i].uniforms_at(step, index).to(layer.utility.dtype)
        if self.summing:
            utility = self.units[i].by_feature(self.units[i].outgoing_magnitude())
            if self.kind == "contribution":
                utility = utility * layer.mean_activation
            utility = _over_parts(utility)
        else:
            utility = layer.utility / self._correction(layer)
        utility = torch.nan_to_num(utility, nan=0.0, posinf=torch.finfo(utility.dtype).max)
        return torch.where(utility < DEAD_UTILITY, 0, utility)

    def choose(self, step: int, i: int, run: int, number: int) -> Tensor:
        """Indices of the `number` mature units of lowest utility; ties go to the lowest index."""
        utility = self.corrected_utility(step, i)[run]
        mature = self.layers[i].age[run] > int(self.options[run].maturity_threshold)
        order = torch.sort(torch.where(mature, utility, torch.inf), stable=True).indices
        return order[:number].sort().values

    def draw_incoming(self, step: int, i: int, run: int, units: Tensor) -> Tensor:
        """New incoming weights (len(units), fan_in)."""
        draws = self.weight_draws[run * len(self.layers) + i]
        return new_units.draw_incoming(draws, step, self.learner.graph[i], units)[0]

    def _replace(self, step: int, i: int, run: int, units: Tensor) -> None:
        layer, hidden = self.layers[i], self.units[i]
        if self.bias_transfer:
            mean = layer.mean_activation[run, units]
            hidden.transfer(run, units, mean / _like(self._correction(layer)[run, units], mean))
        hidden.set_incoming(run, units, self.draw_incoming(step, i, run, units))
        for part in hidden.owned(optimizer=self.optimizer):
            part.reset(run, units)
        averages = (layer.utility, layer.age) if self.summing else (layer.utility, layer.mean_activation, layer.age)
        for average in averages:
            average[run].index_fill_(0, units, 0)  # an assignment would wait for a GPU
        layer.replaced[run] += len(units)

    def state(self) -> dict[str, Tensor]:
        return {f"{i}.{name}": value for i, layer in enumerate(self.layers) for name, value in vars(layer).items()}

    def report(self, run: int) -> dict[str, list[float]]:
        return {"replaced_units": [int(layer.replaced[run]) for layer in self.layers]}

    def clear_report(self) -> None:
        for layer in self.layers:
            layer.replaced.zero_()


def _over_parts(values: Tensor) -> Tensor:
    """(runs, units) as it is; the mean of (runs, units, parts)."""
    return values if values.dim() == 2 else values.mean(2)


def _like(values: Tensor, mean: Tensor) -> Tensor:
    """Values of units, to broadcast with means of units or of their features, which have one dimension more."""
    return values if values.dim() == mean.dim() else values.unsqueeze(-1)
