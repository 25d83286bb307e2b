"""AdaUPGD: UPGD along Adam's direction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.optimizers.optimizer import per_run
from lop_sweeps.optimizers.upgd import UPGD, PackedUPGD


@dataclass(frozen=True)
class AdaUPGD(UPGD):
    """Adam that protects useful weights from change and perturbs useless ones.

    The rule and the options are UPGD's with Adam's m^ / (sqrt(v^) + eps) for g where the step is made; utilities are of
    g itself, and the noise is not divided by sqrt(v^). Source: mohmdelsayed/upgd, for control; arXiv 2404.00781.
    It has two releases: profile: readme with eps 1e-5 there, and profile: experiments with eps 1e-8 in
    mohmdelsayed/weight-clipping. Both have global gates and are protecting; the other scopes are ours.
    """

    PER_RUN: ClassVar[frozenset[str]] = UPGD.PER_RUN | {"beta1", "beta2", "eps"}

    step_size: float = 1e-4
    profile: str = "readme"
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-5

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.number("beta1", self.beta1, 0.0, 1.0, below=True)
        checks.number("beta2", self.beta2, 0.0, 1.0, below=True)
        checks.number("eps", self.eps, 0.0, above=True)

    def pack(self, peers: Sequence[UPGD], parameters: Tensor, *, resets_units: bool) -> PackedAdaUPGD:
        return PackedAdaUPGD([run for run in peers if isinstance(run, AdaUPGD)], parameters, per_parameter=resets_units)


class PackedAdaUPGD(PackedUPGD):
    """AdaUPGD on parameters (runs, parameters). `power1` and `power2` are as in Adam."""

    counts = frozenset({"power", "power1", "power2"})

    def __init__(self, runs: Sequence[AdaUPGD], parameters: Tensor, *, per_parameter: bool) -> None:
        super().__init__(runs, parameters, per_parameter=per_parameter)
        self.beta1 = per_run([run.beta1 for run in runs], parameters)
        self.beta2 = per_run([run.beta2 for run in runs], parameters)
        self.eps = per_run([run.eps for run in runs], parameters)
        self.moment1, self.moment2 = torch.zeros_like(parameters), torch.zeros_like(parameters)
        self.power1, self.power2 = torch.ones_like(self.power), torch.ones_like(self.power)

    def direction(self, gradient: Tensor) -> Tensor:
        self.moment1.lerp_(gradient, 1.0 - self.beta1)
        self.moment2.lerp_(gradient.square(), 1.0 - self.beta2)
        self.power1.mul_(self.beta1)
        self.power2.mul_(self.beta2)
        root = (self.moment2 / (1.0 - self.power2)).sqrt_().add_(self.eps)
        return (self.moment1 / (1.0 - self.power1)).div_(root)

    def state(self) -> dict[str, Tensor]:
        adam = {"moment1": self.moment1, "moment2": self.moment2, "power1": self.power1, "power2": self.power2}
        return super().state() | adam

    def fresh(self) -> dict[str, float]:
        counts = {"power1": 1.0, "power2": 1.0} if self.per_parameter else {}
        return super().fresh() | {"moment1": 0.0, "moment2": 0.0} | counts

    def restart(self, run: int, *, counts_only: bool = False) -> None:
        super().restart(run, counts_only=counts_only)
        if not counts_only:
            self.moment1[run], self.moment2[run] = 0, 0
        self.power1[run], self.power2[run] = 1, 1

    def tidy(self) -> None:
        for power in (self.power, self.power1, self.power2):
            power[power < 1e-20] = 0.0
