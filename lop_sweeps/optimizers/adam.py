"""Adam (Kingma & Ba 2015, arXiv 1412.6980) and AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101).

Where an intervention replaces units, every parameter has its own step count, so that the weights of a new unit start
with a fresh bias correction, as the authors' AdamGnT intends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.optimizers import adam_kernel as kernel
from lop_sweeps.optimizers.optimizer import Optimizer, PackedOptimizer, check_decay, decayed, per_run


@dataclass(frozen=True)
class Adam(Optimizer):
    """theta <- theta - step_size * m^ / (sqrt(v^) + eps), moments corrected for their start at zero.

    weight_decay: coefficient of the L2 term, added to the gradient of every parameter. Equal betas (0.99, 0.99) are
    the "proper Adam" of Dohare et al.
    correction: `standard`, or `authors` = the factor (1 - beta2^t) alone, which their AdamGnT applies as coded; only
        for comparing with their trajectories.
    decay_at: in training by epochs, shares of each task's epochs after which the step size is multiplied by decay_by.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset(
        {"step_size", "beta1", "beta2", "eps", "weight_decay", "decay_at", "decay_by"}
    )
    decoupled: ClassVar[bool] = False

    step_size: float = 0.001
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    correction: str = "standard"
    decay_at: Sequence[float] = ()
    decay_by: float = 0.1

    def __post_init__(self) -> None:
        checks.number("step_size", self.step_size, 0.0, above=True)
        checks.number("beta1", self.beta1, 0.0, 1.0, below=True)
        checks.number("beta2", self.beta2, 0.0, 1.0, below=True)
        checks.number("eps", self.eps, 0.0, above=True)
        checks.number("weight_decay", self.weight_decay, 0.0)
        checks.choice("correction", self.correction, ("standard", "authors"))
        check_decay(self.decay_at, self.decay_by)

    def pack(self, peers: Sequence[Adam], parameters: Tensor, *, resets_units: bool) -> PackedAdam:
        return PackedAdam(peers, parameters, per_parameter=resets_units)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled decay: theta <- theta * (1 - step_size * weight_decay) before the step."""

    decoupled: ClassVar[bool] = True

    weight_decay: float = 0.01


class AdamState(PackedOptimizer):
    """What Adam keeps of parameters (runs, parameters): two averages of the gradient, and how far they are filled.

    `power1` and `power2` are beta^t, per parameter or per run: products are cheaper than powers, and setting them to
    1 sets a step count to 0.
    """

    counts = frozenset({"power1", "power2"})

    def _begin(self, parameters: Tensor, *, per_parameter: bool) -> None:
        self.per_parameter = per_parameter
        self.moment1, self.moment2 = torch.zeros_like(parameters), torch.zeros_like(parameters)
        powers = torch.ones_like(parameters if per_parameter else parameters[:, :1])
        self.power1, self.power2 = powers, powers.clone()

    def state(self) -> dict[str, Tensor]:
        return {"moment1": self.moment1, "moment2": self.moment2, "power1": self.power1, "power2": self.power2}

    def fresh(self) -> dict[str, float]:
        return {"moment1": 0.0, "moment2": 0.0, "power1": 1.0, "power2": 1.0} if self.per_parameter else {}

    def restart(self, run: int, *, counts_only: bool = False) -> None:
        if not counts_only:
            self.moment1[run], self.moment2[run] = 0, 0
        self.power1[run], self.power2[run] = 1, 1

    def tidy(self) -> None:
        # 1 - beta^t is exactly 1 long before this; denormal numbers would only make the products slow.
        for power in (self.power1, self.power2):
            power[power < 1e-20] = 0.0


class PackedAdam(AdamState):
    """Adam on parameters (runs, parameters)."""

    def __init__(self, runs: Sequence[Adam], parameters: Tensor, *, per_parameter: bool) -> None:
        self.step_size = self.undecayed = per_run([run.step_size for run in runs], parameters)
        self.decay = [(run.decay_at, run.decay_by) for run in runs]
        self.beta1 = per_run([run.beta1 for run in runs], parameters)
        self.beta2 = per_run([run.beta2 for run in runs], parameters)
        self.eps = per_run([run.eps for run in runs], parameters)
        self.weight_decay = per_run([run.weight_decay for run in runs], parameters)
        self.decays = any(run.weight_decay for run in runs)
        self.decoupled, self.correction = runs[0].decoupled, runs[0].correction
        self._begin(parameters, per_parameter=per_parameter)

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        if parameters.is_cuda:
            self._update_on_gpu(parameters, gradient)
            return
        moments, powers = (self.moment1.numpy(), self.moment2.numpy()), (self.power1.numpy(), self.power2.numpy())
        betas = self.beta1.numpy(), self.beta2.numpy()
        kernel.update(
            parameters.numpy(),
            gradient.numpy(),
            moments,
            powers,
            self.step_size.numpy(),
            betas,
            self.eps.numpy(),
            self.weight_decay.numpy(),
            self.decoupled,
            self.correction == "authors",
        )

    def _update_on_gpu(self, parameters: Tensor, gradient: Tensor) -> None:
        if self.decays and self.decoupled:
            parameters.mul_(1.0 - self.step_size * self.weight_decay)
        elif self.decays:
            gradient.addcmul_(parameters, self.weight_decay)
        self.moment1.lerp_(gradient, 1.0 - self.beta1)
        self.moment2.lerp_(gradient.square_(), 1.0 - self.beta2)
        self.power1.mul_(self.beta1)
        self.power2.mul_(self.beta2)
        if self.correction == "authors":
            step = self.step_size * (self.power2 - 1.0)
            root = self.moment2.sqrt().add_(self.eps)
        else:  # both sides of the fraction times sqrt(1 - beta2^t): a pass over memory less
            fill = (1.0 - self.power2).sqrt_()
            step = self.step_size * fill / (self.power1 - 1.0)
            root = self.moment2.sqrt().add_(fill.mul_(self.eps))
        parameters.addcdiv_(step * self.moment1, root)

    def progress(self, share: float) -> None:
        self.step_size = self.undecayed * decayed(self.decay, share, self.undecayed) * self.pace
