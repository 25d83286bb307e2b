"""Selective weight reinitialisation: now and then the least useful single weights are drawn anew.

Hernandez-Garcia et al., CoLLAs 2025 (arXiv 2508.00212); JFernando4/collas_2025_swr_paper, read at commit 5c8ef03.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks, counter_random, streams
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every

DRAWS = "reinitialised weights"


@dataclass(frozen=True)
class SelectiveWeightReinitialization(Intervention):
    """Every `period` updates, reinitialise the weights of lowest utility in each parameter tensor (arXiv 2508.00212).

    All tensors count: weights, biases, normalisation, output layer. Of each entry w with gradient g of this step's
    mini-batch (before it is cut, with what methods further up in the configuration have added):
    utility: gradient = |w g|, or magnitude = |w|, with w after the update.
    decay_rate: above 0, a running average takes the place of the utility, average <- decay_rate average + (1 -
        decay_rate) utility in every step, from 0; that of a tensor is cleared when one of its entries is reinitialised.
    pruning: threshold = entries whose utility is at most reinit_factor times its mean over the tensor, hence also all
        whose utility is 0; or proportional = the share reinit_factor of the tensor's n entries with the lowest (of
        equal ones, the first): floor(n reinit_factor), and one more with the probability of the fraction.
    reinitialisation: resample = from the tensor's initial law (what is not drawn, such as biases of 0 and scales of 1,
        gets its initial value); or mean = the mean of that law, which is 0 where it is drawn.

    The optimiser's state stays. (A bias in front of batch normalisation has a gradient of rounding errors alone, and so
    it is these that choose among such biases.)
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"reinit_factor"})

    period: int = 2048
    reinit_factor: float = 1e-5
    pruning: str = "threshold"
    utility: str = "gradient"
    decay_rate: float = 0.0
    reinitialisation: str = "resample"

    def __post_init__(self) -> None:
        checks.integer("period", self.period, 1)
        checks.number("reinit_factor", self.reinit_factor, 0.0, 1.0)
        checks.choice("pruning", self.pruning, ("threshold", "proportional"))
        checks.choice("utility", self.utility, ("gradient", "magnitude"))
        checks.number("decay_rate", self.decay_rate, 0.0, 1.0, below=True)
        checks.choice("reinitialisation", self.reinitialisation, ("resample", "mean"))

    def next_step(self, step: int) -> int:
        return step if self.decay_rate else every(int(self.period), step)

    def pack(
        self, peers: Sequence[SelectiveWeightReinitialization], learner: Learner
    ) -> PackedSelectiveWeightReinitialization:
        return PackedSelectiveWeightReinitialization(peers, learner)


class PackedSelectiveWeightReinitialization(PackedIntervention[SelectiveWeightReinitialization]):
    """Selective weight reinitialisation on a pack; averages has the parameters' layout."""

    def __init__(self, runs: Sequence[SelectiveWeightReinitialization], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.one, self.period = runs[0], int(runs[0].period)
        device = learner.parameters.device
        self.factor = torch.tensor([run.reinit_factor for run in runs], dtype=torch.float64, device=device).unsqueeze(1)
        self.averages = torch.zeros_like(learner.parameters) if self.one.decay_rate else None
        self.gradient = learner.parameters[:, :0]  # of this step
        keys = [streams.counter_key(seed, "reinitialised share") for seed in learner.seeds]
        self.keys = counter_random.Keys(keys, device)
        self.means = self._means() if self.one.reinitialisation == "mean" else {}

    def before_update(self, gradient: Tensor, step: int) -> None:
        if self.one.utility == "gradient":
            self.gradient = gradient.clone()  # the optimiser may use it up

    def after_update(self, step: int) -> None:
        if self.averages is not None:
            self.averages.mul_(self.one.decay_rate).add_((1 - self.one.decay_rate) * self.utility())
        if (step + 1) % self.period == 0:
            self.reinitialise(step, self.utility() if self.averages is None else self.averages)

    def utility(self) -> Tensor:
        """(runs, parameters), of this moment."""
        parameters = self.learner.parameters
        return (parameters * self.gradient).abs() if self.one.utility == "gradient" else parameters.abs()

    def reinitialise(self, step: int, utility: Tensor) -> None:
        """The entries of lowest utility (runs, parameters) of every tensor."""
        learner = self.learner
        masks = [
            self.chosen(i, learner.view(utility, name).flatten(1), step)
            for i, name in enumerate(learner.parameter_names)
        ]
        if utility.is_cuda:  # nobody waits for it to say what is chosen
            everyone = [self.drawn(run, step) for run in range(len(learner.seeds))]
            for name, mask in zip(learner.parameter_names, masks, strict=True):
                new = torch.stack([drawn[name] for drawn in everyone]).to(utility.device, non_blocking=True)
                self._write(name, slice(None), mask, new)
            return
        for run in range(len(learner.seeds)):
            chosen = [
                (name, mask[run]) for name, mask in zip(learner.parameter_names, masks, strict=True) if mask[run].any()
            ]
            drawn = self.drawn(run, step) if chosen else {}
            for name, mask in chosen:
                self._write(name, slice(run, run + 1), mask[None], drawn[name][None])

    def chosen(self, i: int, utility: Tensor, step: int) -> Tensor:
        """(runs, n): which entries of tensor i, with these utilities (runs, n), are to be reinitialised."""
        if self.one.pruning == "threshold":
            return utility <= self.factor * utility.double().mean(1, keepdim=True)
        first = torch.arange(utility.shape[1], device=utility.device) < self.number(i, utility.shape[1], step)
        return torch.zeros_like(first).scatter(1, utility.argsort(dim=1, stable=True), first)

    def number(self, i: int, entries: int, step: int) -> Tensor:
        """(runs, 1): how many entries of tensor i, which has so many, are to be reinitialised."""
        exact = self.factor * entries
        whole = exact.floor()
        draw = self.keys.uniforms(step, len(self.learner.parameter_names))[:, i : i + 1]
        return (whole + (draw < exact - whole)).long()

    def drawn(self, run: int, step: int) -> dict[str, Tensor]:
        """New values of all entries, by name."""
        return self.means or self.learner.redraw(run, DRAWS, step)[0]

    def _means(self) -> dict[str, Tensor]:
        """Laws are symmetric about 0, and what two draws agree in is not drawn."""
        one, other = (self.learner.redraw(0, DRAWS, position)[0] for position in (0, 1))
        return {name: torch.where(value == other[name], value, 0.0) for name, value in one.items()}

    def _write(self, name: str, runs: slice, mask: Tensor, new: Tensor) -> None:
        """New values (runs, *shape) where mask (runs, n) is true."""
        value = self.learner.view(self.learner.parameters, name)[runs]
        value.copy_(torch.where(mask.view(value.shape), new, value))
        if self.averages is not None:
            average = self.learner.view(self.averages, name)[runs]
            average.masked_fill_(mask.any(1).view(-1, *[1] * (average.dim() - 1)), 0.0)

    def state(self) -> dict[str, Tensor]:
        return {} if self.averages is None else {"averages": self.averages}
