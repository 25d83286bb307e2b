"""Utility-based perturbed gradient descent, UPGD, in its first-order forms."""

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
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers import upgd_kernel
from lop_sweeps.optimizers.optimizer import Layout, Optimizer, PackedOptimizer, check_decay, decayed, per_run
from lop_sweeps.optimizers.unit_gates import UnitGates

# Whether M is the maximum of the corrected utility, and the factor c of the step.
PROFILES = {"paper": (True, 1.0), "experiments": (False, 1.0), "readme": (False, 2.0)}
DRAWS = "upgd noise"
SCOPES = ("global", "local", "feature_wise")


@dataclass(frozen=True)
class UPGD(Optimizer):
    """Gradient descent that protects useful weights from change and perturbs useless ones.

    theta <- (1 - step_size weight_decay) theta - c step_size (g + xi) (1 - sigmoid(U^ / M)), xi ~ N(0, noise_std^2).
    The utility U is a running average of -g theta, U <- beta_utility U - (1 - beta_utility) g theta, by gradient and
    parameters before the update; U^ = U / (1 - beta_utility^t) is corrected for its start at zero. Decay has no gate.
    Source: Elsayed & Mahmood 2024, arXiv 2404.00781; mohmdelsayed/upgd. (Second order needs curvatures of another
    package.)

    profile: which of the released variants. paper: M is the maximum of U^ over the network, c = 1 (Algorithm 1).
        experiments: that of U, not corrected, c = 1; the code behind the published curves. readme: the same, c = 2;
        what their front page recommends. Without the correction U^ / M is up to 1 / (1 - beta_utility^t), so gates are
        nearly 0 or 1 as long as averages are young.
    scope: of gates. global: one for each weight, as above. local: instead of being divided by M, U^ of the weights that
        feed a unit is scaled to length 1, and so is that of a vector, such as biases. (Their code scales along the last
        dimension; of a convolution that would be one row of a kernel.) feature_wise: one for each hidden unit and all
        of its own parameters; U is that of a factor 1 behind the unit, whose gradient is the sum of g theta over the
        weights that read the unit. The rest, such as the output layer, has no gate and no noise.
    protecting: false = only the noise has gates: ... - c step_size (g + xi (1 - sigmoid(U^ / M))).
    decay_at: in training by epochs, shares of each task's epochs after which the step size is multiplied by decay_by.

    Where their code divides by M = 0, ours has the gates of the limit. Beside methods that reset units, each weight has
    a step count of its own.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset(
        {"step_size", "noise_std", "beta_utility", "weight_decay", "decay_at", "decay_by"}
    )

    step_size: float = 0.01
    noise_std: float = 0.001
    beta_utility: float = 0.999
    weight_decay: float = 0.001
    profile: str = "experiments"
    scope: str = "global"
    protecting: bool = True
    decay_at: Sequence[float] = ()
    decay_by: float = 0.1

    def __post_init__(self) -> None:
        checks.number("step_size", self.step_size, 0.0, above=True)
        checks.number("noise_std", self.noise_std, 0.0)
        checks.number("beta_utility", self.beta_utility, 0.0, 1.0, below=True)
        checks.number("weight_decay", self.weight_decay, 0.0)
        checks.choice("profile", self.profile, PROFILES)
        checks.choice("scope", self.scope, SCOPES)
        checks.flag("protecting", self.protecting)
        check_decay(self.decay_at, self.decay_by)

    def check(self, network: Network) -> None:
        if self.scope == "feature_wise" and not network.unit_graph():
            allowed = "needs a network with hidden units, such as network=mlp; here, use global or local"
            raise ConfigError("scope", self.scope, allowed)

    def pack(self, peers: Sequence[UPGD], parameters: Tensor, *, resets_units: bool) -> PackedUPGD:
        return PackedUPGD(peers, parameters, per_parameter=resets_units)


class PackedUPGD(PackedOptimizer):
    """UPGD on parameters (runs, parameters).

    `power` is beta_utility^t, per parameter or per run: setting it to 1 sets a step count to 0.
    """

    counts = frozenset({"power"})

    def __init__(self, runs: Sequence[UPGD], parameters: Tensor, *, per_parameter: bool) -> None:
        self.step_size = self.undecayed = per_run([run.step_size for run in runs], parameters)
        self.decay = [(run.decay_at, run.decay_by) for run in runs]
        self.noise_std = per_run([run.noise_std for run in runs], parameters)
        self.beta_utility = per_run([run.beta_utility for run in runs], parameters)
        self.weight_decay = per_run([run.weight_decay for run in runs], parameters)
        self.noisy, self.decays = any(run.noise_std for run in runs), any(run.weight_decay for run in runs)
        self.of_corrected, self.factor = PROFILES[runs[0].profile]
        self.scope, self.protecting = runs[0].scope, runs[0].protecting
        self.per_parameter, self.shape = per_parameter, tuple(parameters.shape)
        self.utility = torch.zeros_like(parameters)
        self.power = torch.ones_like(parameters if per_parameter else self.beta_utility)

    def attach(self, layout: Layout) -> None:
        self.layout = layout
        self.names = [name for name, _ in layout.network.named_parameters()]
        self.units = UnitGates(layout, self.utility) if self.scope == "feature_wise" else None
        self.keys = counter_random.Keys(
            [streams.counter_key(seed, DRAWS) for seed in layout.seeds], self.utility.device
        )

    @cached_property
    def room(self) -> NDArray[np.floating]:
        """(runs, parameters): for one step's draws on the host, in the parameters' precision."""
        room: NDArray[np.floating] = torch.empty(self.shape, dtype=self.utility.dtype).numpy()
        return room

    @cached_property
    def gate(self) -> Tensor:
        """(runs, parameters): for one step's gates."""
        return torch.empty(self.shape, dtype=self.utility.dtype)

    def draws(self) -> Tensor:
        """(runs, parameters): this step's standard normal draws, by the run's seed and the step alone."""
        if self.utility.is_cuda:
            return self.keys.normals(self.step, self.shape[1])
        draw = counter_random.single_normals if self.room.dtype == np.float32 else counter_random.normals
        for key, row in zip(self.keys.keys, self.room, strict=True):
            draw(key, self.step, row)
        return torch.from_numpy(self.room)

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        if self.scope == "global" and not parameters.is_cuda:
            self._update_in_few_passes(parameters, gradient)
        else:
            self._update_with_tensors(parameters, gradient)

    def _update_with_tensors(self, parameters: Tensor, gradient: Tensor) -> None:
        self.utility.mul_(self.beta_utility).sub_((1.0 - self.beta_utility) * gradient * parameters)
        self.power.mul_(self.beta_utility)
        gate = self.gates()
        change = self.direction(gradient)
        if self.protecting:
            change = (change + self.noise()) * gate if self.noisy else change * gate
        elif self.noisy:
            change = change + self.noise() * gate
        if self.decays:
            parameters.mul_(1.0 - self.step_size * self.weight_decay)
        parameters.addcmul_(change, self.step_size * -self.factor)

    def _update_in_few_passes(self, parameters: Tensor, gradient: Tensor) -> None:
        state = (self.utility, gradient.contiguous(), parameters, self.power, self.beta_utility, self.gate)
        upgd_kernel.follow_utilities(*(one.numpy() for one in state))
        largest = self._largest(self.gate if self.of_corrected else self.utility)
        gate = torch.sigmoid(self.gate.mul_(-1.0 / largest), out=self.gate)
        direction = self.direction(gradient).contiguous()
        noise = self.draws().mul_(self.noise_std) if self.noisy else parameters[:, :0]
        rate, shrink = self.step_size * self.factor, 1.0 - self.step_size * self.weight_decay
        terms = (parameters, direction, noise, gate, rate, shrink)
        upgd_kernel.step(*(one.numpy() for one in terms), self.protecting)

    def direction(self, gradient: Tensor) -> Tensor:
        """What is descended along before gates and noise, (runs, parameters)."""
        return gradient

    def noise(self) -> Tensor:
        """xi, (runs, parameters)."""
        noise = self.draws().to(self.utility.dtype) * self.noise_std
        return noise if self.units is None else noise.mul_(self.units.gated)

    def gates(self) -> Tensor:
        """1 - sigmoid of the scaled utility, (runs, parameters)."""
        corrected = self.utility / (1.0 - self.power)
        if self.scope == "local":
            return torch.sigmoid(self._of_rows(corrected).neg_())
        if self.units is None:
            largest = self._largest(corrected if self.of_corrected else self.utility)
            return torch.sigmoid(corrected.div_(largest).neg_())
        of_units = self.units.sums(corrected)
        largest = self._largest(of_units if self.of_corrected else self.units.sums(self.utility))
        return self.units.spread(torch.sigmoid(-of_units / largest))

    def _largest(self, utility: Tensor) -> Tensor:
        """The maximum (runs, 1) of utilities (runs, n), but not 0."""
        largest = utility.amax(1, keepdim=True)
        return torch.where(largest == 0, torch.finfo(largest.dtype).tiny, largest)

    def _of_rows(self, corrected: Tensor) -> Tensor:
        """Each unit's weights scaled to length 1, and each vector, in place."""
        for name in self.names:
            rows = self.layout.view(corrected, name)
            rows = rows.flatten(2) if rows.dim() > 2 else rows.view(len(rows), -1) if rows.dim() < 2 else rows
            rows.div_(torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp_(min=1e-12))
        return corrected

    def state(self) -> dict[str, Tensor]:
        return {"utility": self.utility, "power": self.power}

    def fresh(self) -> dict[str, float]:
        return {"utility": 0.0, **({"power": 1.0} if self.per_parameter else {})}

    def progress(self, share: float) -> None:
        self.step_size = self.undecayed * decayed(self.decay, share, self.undecayed) * self.pace

    def restart(self, run: int, *, counts_only: bool = False) -> None:
        if not counts_only:
            self.utility[run] = 0
        self.power[run] = 1

    def tidy(self) -> None:
        # 1 - power is exactly 1 long before this; denormal numbers would only make the products slow.
        self.power[self.power < 1e-20] = 0.0
