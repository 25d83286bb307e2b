"""TRAC: a parameter-free scale of how far any optimiser may go from where it began."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers import erfi
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import Layout, Optimizer, PackedOptimizer, per_run

START = 1e-8  # of the sums sigma_j


@dataclass(frozen=True)
class TRAC(Optimizer):
    """Scales the distance from the initial parameters that a base optimiser has gone, by a rule without a step size.

    The base proposes u. With D = (theta - theta_ref) / (sum_j s_j + eps) and h = <D, g>, for each discount beta_j:
    v_j <- beta_j^2 v_j + h^2, sigma_j <- beta_j sigma_j - h (1e-8 at the start),
    s_j = s_prev erfi(sigma_j / (sqrt(2 v_j) + eps)) / erfi(1 / sqrt(2)); then S = max(sum_j s_j, 0) and
    theta <- theta_ref + S (D + u). theta_ref are the parameters before the run's first step, or before the first one
    after its optimiser is restarted. Source: Muppidi, Zhang & Yang 2024, arXiv 2405.16642;
    ComputationalRobotics/TRAC.

    base: the optimiser. step_size, weight_decay: of the base; null = as the base itself says.
    betas: the discounts. s_prev: the smallest scale.
    erfi: exact, or authors = their series, which lost its first term (about 1 % less), for comparing with their runs.

    If the first products h are positive, S is 0 for a very long time, in which nothing is learned; with mini-batches of
    one, each of another class, that is usual. The log has S after each task as `trac_scale`. Scales are computed in
    float64 (theirs in float32). A weight that is made new with its unit has its new value as its theta_ref; otherwise
    D would be as large as 1/S.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"step_size", "weight_decay", "s_prev", "eps"})
    PARTS: ClassVar[Mapping[str, frozenset[str]]] = {"base": frozenset({"step_size", "weight_decay"})}

    base: Optimizer = field(default_factory=Adam)
    step_size: float | None = None
    weight_decay: float | None = None
    betas: Sequence[float] = (0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
    s_prev: float = 1e-8
    eps: float = 1e-8
    erfi: str = "exact"

    def __post_init__(self) -> None:
        base: Any = self.base
        if isinstance(base, TRAC) or not hasattr(base, "pack"):
            allowed = "must be another optimiser than trac, such as optimizer/base=adam"
            raise ConfigError("base", base if isinstance(base, str) else type(base).__name__, allowed)
        for name in sorted(self.PARTS["base"]):
            if (value := getattr(self, name)) is None:
                continue
            if name not in {one.name for one in fields(base)}:
                raise ConfigError(name, value, f"must be null: {type(base).__name__} has no such option")
            base = replace(base, **{name: value})
        object.__setattr__(self, "base", base)
        if not isinstance(self.betas, Sequence) or isinstance(self.betas, str) or not self.betas:
            raise ConfigError("betas", self.betas, "must be a list of discounts, such as [0.9,0.99]")
        for i, beta in enumerate(self.betas):
            checks.number(f"betas[{i}]", beta, 0.0, 1.0, below=True)
        checks.number("s_prev", self.s_prev, 0.0, above=True)
        checks.number("eps", self.eps, 0.1 * START)  # the first scales are erfi(START / eps), hardly finite beyond
        checks.choice("erfi", self.erfi, erfi.KINDS)

    @property
    def decay_at(self) -> Sequence[float]:
        """The base's."""
        places: Sequence[float] = getattr(self.base, "decay_at", ())
        return places

    def check(self, network: Network) -> None:
        if check := getattr(self.base, "check", None):
            check(network)

    def pack(self, peers: Sequence[TRAC], parameters: Tensor, *, resets_units: bool) -> PackedTRAC:
        return PackedTRAC(peers, parameters, resets_units=resets_units)


class PackedTRAC(PackedOptimizer):
    """TRAC on parameters (runs, parameters).

    reference: theta_ref. begun: per parameter or per run, 0 where it is to be taken at the next step. scales (s_j),
    sums (sigma_j), variances (v_j): (runs, betas), float64.
    """

    def __init__(self, runs: Sequence[TRAC], parameters: Tensor, *, resets_units: bool) -> None:
        self.base = runs[0].base.pack([run.base for run in runs], parameters, resets_units=resets_units)
        self.step_size, self.counts = self.base.step_size, frozenset(f"base.{name}" for name in self.base.counts)
        wide = parameters.new_zeros(len(runs), 1, dtype=torch.float64)
        self.betas = per_run(runs[0].betas, wide).T
        self.smallest, self.eps = (per_run([getattr(run, name) for run in runs], wide) for name in ("s_prev", "eps"))
        self.erfi = erfi.chosen(runs[0].erfi, parameters.device)
        self.unit = self.erfi(torch.full_like(wide, math.sqrt(0.5)))
        self.reference = torch.zeros_like(parameters)
        self.per_parameter = resets_units
        self.begun = torch.zeros_like(parameters if resets_units else parameters[:, :1])
        self.scales = wide.expand(-1, self.betas.shape[1]).clone()
        self.sums, self.variances = torch.full_like(self.scales, START), self.scales.clone()

    def attach(self, layout: Layout) -> None:
        self.base.attach(layout)

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        self.reference.copy_(torch.where(self.begun == 0, parameters, self.reference))
        self.begun.fill_(1.0)
        before = parameters.clone()
        total = self.scales.sum(1, keepdim=True) + self.eps
        direction = (parameters - self.reference).div_(total.to(parameters.dtype))
        product = (direction * gradient).sum(1, keepdim=True).double()
        self.base.step = self.step
        self.base.update(parameters, gradient)
        scale = self._rescale(product).to(parameters.dtype)
        parameters.sub_(before).add_(direction).mul_(scale).add_(self.reference)

    def _rescale(self, product: Tensor) -> Tensor:
        """S (runs, 1), by h (runs, 1)."""
        self.variances.mul_(self.betas.square()).add_(product.square())
        self.sums.mul_(self.betas).sub_(product)
        argument = self.sums / (math.sqrt(2.0) * self.variances.sqrt() + self.eps)
        self.scales.copy_(self.smallest * self.erfi(argument) / self.unit)
        return self.scale()

    def scale(self) -> Tensor:
        """S, (runs, 1)."""
        return self.scales.sum(1, keepdim=True).clamp_(min=0.0)

    def state(self) -> dict[str, Tensor]:
        own = {"reference": self.reference, "begun": self.begun}
        own |= {"scales": self.scales, "sums": self.sums, "variances": self.variances}
        return own | {f"base.{name}": value for name, value in self.base.state().items()}

    def fresh(self) -> dict[str, float]:
        own = {"begun": 0.0} if self.per_parameter else {}
        return own | {f"base.{name}": value for name, value in self.base.fresh().items()}

    def progress(self, share: float) -> None:
        self.base.pace = self.pace
        self.base.progress(share)
        self.step_size = self.base.step_size

    def restart(self, run: int, *, counts_only: bool = False) -> None:
        self.base.restart(run, counts_only=counts_only)
        if not counts_only:
            self.begun[run], self.scales[run], self.variances[run] = 0, 0, 0
            self.sums[run] = START

    def tidy(self) -> None:
        self.base.tidy()

    def report(self, run: int) -> dict[str, float]:
        return {"trac_scale": float(self.scale()[run])}
