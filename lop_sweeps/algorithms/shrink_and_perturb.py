"""Shrink and perturb, per step: weight decay (the optimiser's) and Gaussian noise.

Ash & Adams 2020 (arXiv 1910.08475) shrink and perturb between data sets; Dohare et al. 2024 do both at every step.
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
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention


@dataclass(frozen=True)
class ShrinkAndPerturb(Intervention):
    """After each update add independent N(0, noise_std^2) to every weight and bias.

    noise_std: a standard deviation, not multiplied by the step size. Shrinking is `optimizer.weight_decay`, which
    the choice `algorithm=shrink_and_perturb` sets.
    noise: per_step, or lazy: the noise of many steps on the weights that leave one input is drawn at once, when that
        input is next not zero. A sum of normal variables is normal, so what the network computes has the same
        distribution, by other draws; the fused engine does this, ten times faster.
    normalisation: also add it to the scales and shifts of normalisation layers, as the authors' CIFAR-100 code does.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"noise_std"})

    noise_std: float = 1e-5
    noise: str = "per_step"
    normalisation: bool = False

    def __post_init__(self) -> None:
        checks.number("noise_std", self.noise_std, 0.0)
        checks.choice("noise", self.noise, ("per_step", "lazy"))
        checks.flag("normalisation", self.normalisation)

    def pack(self, peers: Sequence[ShrinkAndPerturb], learner: Learner) -> PackedShrinkAndPerturb:
        return PackedShrinkAndPerturb(peers, learner)


class PackedShrinkAndPerturb(PackedIntervention[ShrinkAndPerturb]):
    """Noise on parameters (runs, parameters); a run's draws depend on its seed and the step alone."""

    def __init__(self, runs: Sequence[ShrinkAndPerturb], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.noise_std = self.per_run("noise_std")
        self.everywhere = runs[0].normalisation
        self.keys = [streams.counter_key(seed, "perturbation") for seed in learner.seeds]
        self.streams = counter_random.Keys(self.keys, learner.parameters.device)

    @cached_property
    def scale(self) -> Tensor:
        """(runs, parameters): the noise's standard deviation for each parameter, 0 where it gets none."""
        learner = self.learner
        scale = torch.zeros_like(learner.parameters)
        weights = learner.weight_names
        named = [name for weight in weights for name in (weight, weight.removesuffix("weight") + "bias")]
        for name in learner.parameter_names if self.everywhere else named:
            learner.view(scale, name).copy_(self.noise_std.view(-1, *[1] * (learner.view(scale, name).dim() - 1)))
        return scale

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
        self.learner.parameters.addcmul_(self.draws(step).to(self.scale.dtype), self.scale)
