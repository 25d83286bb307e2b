"""Shrink and perturb: weights shrink and something random is added, at every step or between tasks.

Ash & Adams 2020 (arXiv 1910.08475) do it between data sets, with noise; others mix with initial or fresh weights.
Dohare et al. 2024 shrink (by weight decay, the optimiser's) and add noise at every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import checks, counter_random, streams
from lop_sweeps.algorithms.fresh_parameters import FreshParameters
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.errors import ConfigError

WHEN, LAWS = ("step", "task"), ("noise", "initial", "fresh")
# (when, law) -> shrink, perturb_scale, as published; at every step, noise comes with the optimiser's weight decay.
PUBLISHED = {
    ("step", "noise"): (0.0, 0.0),
    ("step", "initial"): (1e-6, 1e-6),  # Plasticine
    ("step", "fresh"): (1e-3, 1e-2),  # Kumar et al. 2023 on Permuted MNIST
    ("task", "noise"): (0.4, 0.0),  # Ash & Adams
    ("task", "initial"): (0.8, 0.8),  # Lee et al. 2024 (Hare & Tortoise); FIRE
    ("task", "fresh"): (0.8, 0.8),
}


@dataclass(frozen=True)
class ShrinkAndPerturb(Intervention):
    """Weights shrink, and noise or a share of other weights is added to them, at every step or between tasks.

    theta <- (1 - shrink) theta + N(0, noise_std^2)              law=noise
    theta <- (1 - shrink) theta + perturb_scale psi              law=initial: psi are the run's initial weights;
                                                                 law=fresh: a new draw of the network's initial law

    when: step: after each update; task: before each task but the first.
    shrink: None: as published for `when` and `law` (`PUBLISHED`); nothing for noise at every step, where the
        optimiser's weight decay shrinks, which the choice `algorithm=shrink_and_perturb` sets.
    perturb_scale: None: as published, or if `shrink` is given, as much as that takes away.
    noise_std: of law=noise, a standard deviation, not multiplied by the step size; Ash & Adams have 0.01 between tasks.
    noise: per_step, or lazy: the noise of many steps on the weights that leave one input is drawn at once, when that
        input is next not zero. A sum of normal variables is normal, so what the network computes has the same
        distribution, by other draws; the fused engine does this, ten times faster.
    normalisation: with law=noise, also act on the scales and shifts of normalisation layers, as the authors' CIFAR-100
        code does. The other laws act on all parameters, as FIRE's repository and Kumar et al. do.

    The optimiser's state stays; running statistics stay.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"noise_std", "shrink", "perturb_scale"})

    noise_std: float = 1e-5
    noise: str = "per_step"
    normalisation: bool = False
    when: str = "step"
    law: str = "noise"
    shrink: float | None = None
    perturb_scale: float | None = None

    def __post_init__(self) -> None:
        checks.number("noise_std", self.noise_std, 0.0)
        checks.choice("noise", self.noise, ("per_step", "lazy"))
        checks.flag("normalisation", self.normalisation)
        checks.choice("when", self.when, WHEN)
        checks.choice("law", self.law, LAWS)
        if self.shrink is not None:
            checks.number("shrink", self.shrink, 0.0, 1.0)
        if self.perturb_scale is not None:
            checks.number("perturb_scale", self.perturb_scale, 0.0)
            if self.law == "noise":
                raise ConfigError(
                    "perturb_scale", self.perturb_scale, "is of law=initial and fresh; noise has noise_std"
                )
        if self.noise == "lazy" and not self.compiled:
            raise ConfigError("noise", "lazy", "must be per_step, but for when=step and law=noise without shrink")

    @property
    def compiled(self) -> bool:
        """Whether this is what the fused engine has in its loop."""
        return (self.when, self.law, self.shares[0]) == ("step", "noise", 0.0)

    @property
    def shares(self) -> tuple[float, float]:
        """shrink and perturb_scale."""
        shrink, scale = PUBLISHED[self.when, self.law]
        if self.shrink is not None:
            shrink, scale = self.shrink, 0.0 if self.law == "noise" else self.shrink
        return shrink, scale if self.perturb_scale is None else self.perturb_scale

    def next_step(self, step: int) -> int | None:
        return step if self.when == "step" else None

    def pack(self, peers: Sequence[ShrinkAndPerturb], learner: Learner) -> PackedIntervention[ShrinkAndPerturb]:
        if self.when == "task":
            return PackedBetweenTasks(peers, learner)
        return PackedShrinkAndPerturb(peers, learner) if self.law == "noise" else PackedMixing(peers, learner)


def noisy(learner: Learner, *, normalisation: bool) -> Sequence[str]:
    """The parameters that noise is added to."""
    weights = learner.weight_names
    named = [name for weight in weights for name in (weight, weight.removesuffix("weight") + "bias")]
    return learner.parameter_names if normalisation else [name for name in named if name in learner.parameter_names]


class PackedShrinkAndPerturb(PackedIntervention[ShrinkAndPerturb]):
    """At every step, noise on parameters (runs, parameters); a run's draws depend on its seed and the step alone."""

    def __init__(self, runs: Sequence[ShrinkAndPerturb], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.noise_std = self.per_run("noise_std")
        self.everywhere = runs[0].normalisation
        # (runs, parameters): the share of each parameter that is kept, if anything is taken.
        self.kept: Tensor | None = None
        if any(run.shares[0] for run in runs):
            self.kept = self._where_it_acts(column([1 - run.shares[0] for run in runs], learner), 1.0)
        self.keys = [streams.counter_key(seed, "perturbation") for seed in learner.seeds]
        self.streams = counter_random.Keys(self.keys, learner.parameters.device)

    @cached_property
    def scale(self) -> Tensor:
        """(runs, parameters): the noise's standard deviation for each parameter, 0 where it gets none."""
        return self._where_it_acts(self.noise_std, 0.0)

    def _where_it_acts(self, values: Tensor, elsewhere: float) -> Tensor:
        learner = self.learner
        found = torch.full_like(learner.parameters, elsewhere)
        for name in noisy(learner, normalisation=self.everywhere):
            part = learner.view(found, name)
            part.copy_(values.view(-1, *[1] * (part.dim() - 1)))
        return found

    @cached_property
    def room(self) -> NDArray[np.float64]:
        """(runs, parameters): for one step's draws on the host."""
        return np.empty(tuple(self.learner.parameters.shape))

    def draws(self, step: int) -> Tensor:
        """(runs, parameters): one step's standard normal draws."""
        parameters = self.learner.parameters
        if parameters.is_cuda:
            return self.streams.normals(step, parameters.shape[1])
        for key, row in zip(self.keys, self.room, strict=True):
            counter_random.normals(key, step, row)
        return torch.from_numpy(self.room)

    def after_update(self, step: int) -> None:
        if self.kept is not None:
            self.learner.parameters.mul_(self.kept)
        self.learner.parameters.addcmul_(self.draws(step).to(self.scale.dtype), self.scale)


class PackedMixing(PackedIntervention[ShrinkAndPerturb]):
    """At every step, a share of all parameters is exchanged for initial or fresh ones."""

    def __init__(self, runs: Sequence[ShrinkAndPerturb], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.kept = column([1 - run.shares[0] for run in runs], learner)
        self.scale = column([run.shares[1] for run in runs], learner)
        initial = learner.parameters.clone()
        fresh = runs[0].law == "fresh"
        self.others = FreshParameters(learner, "perturbation").draw if fresh else lambda step: initial

    def after_update(self, step: int) -> None:
        self.learner.parameters.mul_(self.kept).addcmul_(self.others(step), self.scale)


class PackedBetweenTasks(PackedIntervention[ShrinkAndPerturb]):
    """Before tasks, run by run."""

    def before_task(self, run: int, task: int) -> None:
        if task == 0:
            return
        learner, options = self.learner, self.options[run]
        shrink, scale = options.shares
        if options.law == "noise":
            generator = streams.generator(learner.seeds[run], "perturbation between tasks", task)
            for name in noisy(learner, normalisation=options.normalisation):
                value = learner.view(learner.parameters, name)[run]
                noise = torch.from_numpy(options.noise_std * generator.standard_normal(tuple(value.shape)))
                value.mul_(1 - shrink).add_(noise.to(value))
            return
        address = ("initial weights",) if options.law == "initial" else ("perturbation between tasks", task)
        drawn, _ = learner.redraw(run, *address)
        for name, other in drawn.items():
            value = learner.view(learner.parameters, name)[run]
            value.mul_(1 - shrink).add_(other.to(value), alpha=scale)


def column(values: Sequence[float], learner: Learner) -> Tensor:
    """Numbers of the runs as (runs, 1)."""
    return torch.tensor(values, dtype=learner.parameters.dtype, device=learner.parameters.device).unsqueeze(1)
