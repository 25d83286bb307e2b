"""Muon: momentum whose matrices are made orthogonal before they are a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network, output_parameters
from lop_sweeps.optimizers.adam import AdamState
from lop_sweeps.optimizers.optimizer import Layout, Optimizer, check_decay, decayed, per_run

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of X, X X' X and X X' X X' X


@dataclass(frozen=True)
class Muon(Optimizer):
    """Steps of hidden matrices move all singular directions alike, by momentum made orthogonal; the rest has Adam.

    Hidden matrices are all weights of two dimensions or more but those of the output layers:
    b <- momentum b + (1 - momentum) g, u = (1 - momentum) g + momentum b (Nesterov),
    theta <- (1 - step_size weight_decay) theta - step_size sqrt(max(1, rows / columns)) O(u),
    where O is `iterations` of a quintic Newton-Schulz iteration, begun at u / (||u|| + 1e-7), a convolution's kernels
    being rows of (out, in * kernel). All else: Adam, with the same decay by its own step size.
    Source: Jordan et al. 2024, kellerjordan.github.io/posts/muon; as released with FIRE (arXiv 2602.08040,
    isaac7778/FIRE). As in the code, rows / columns are the last two dimensions of the weight, of a convolution hence
    those of a kernel.

    bfloat16: iterate in bfloat16, as released; in our precision otherwise. A run in a pack and the same alone are then
        equal up to that rounding only.
    adam_step_size, adam_beta1, adam_beta2, adam_eps: of the rest.
    decay_at: in training by epochs, shares of each task's epochs after which step sizes are multiplied by decay_by.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset(
        {"step_size", "momentum", "weight_decay", "adam_step_size", "adam_beta1", "adam_beta2", "adam_eps"}
        | {"decay_at", "decay_by"}
    )

    step_size: float = 0.01
    momentum: float = 0.95
    weight_decay: float = 0.0
    iterations: int = 5
    bfloat16: bool = False
    adam_step_size: float = 0.001
    adam_beta1: float = 0.9
    adam_beta2: float = 0.95
    adam_eps: float = 1e-10
    decay_at: Sequence[float] = ()
    decay_by: float = 0.1

    def __post_init__(self) -> None:
        for key in ("step_size", "adam_step_size", "adam_eps"):
            checks.number(key, getattr(self, key), 0.0, above=True)
        for key in ("momentum", "adam_beta1", "adam_beta2"):
            checks.number(key, getattr(self, key), 0.0, 1.0, below=True)
        checks.number("weight_decay", self.weight_decay, 0.0)
        checks.integer("iterations", self.iterations, 1)
        checks.flag("bfloat16", self.bfloat16)
        check_decay(self.decay_at, self.decay_by)

    def check(self, network: Network) -> None:
        if not hidden_matrices(network, {name: value.shape for name, value in network.named_parameters()}):
            raise ConfigError("", None, "Muon needs a network with hidden layers, such as network=mlp")

    def pack(self, peers: Sequence[Muon], parameters: Tensor, *, resets_units: bool) -> PackedMuon:
        return PackedMuon(peers, parameters, per_parameter=resets_units)


class PackedMuon(AdamState):
    """Muon on parameters (runs, parameters).

    `moment1` is the momentum of matrices and Adam's first moment of the rest; `moment2` and the powers beta^t, per
    parameter or per run, are of the rest.
    """

    def __init__(self, runs: Sequence[Muon], parameters: Tensor, *, per_parameter: bool) -> None:
        self.step_size = self.undecayed = per_run([run.step_size for run in runs], parameters)
        self.rest_step_size = self.rest_undecayed = per_run([run.adam_step_size for run in runs], parameters)
        self.decay = [(run.decay_at, run.decay_by) for run in runs]
        self.momentum = per_run([run.momentum for run in runs], parameters)
        self.weight_decay = per_run([run.weight_decay for run in runs], parameters)
        self.beta1 = per_run([run.adam_beta1 for run in runs], parameters)
        self.beta2 = per_run([run.adam_beta2 for run in runs], parameters)
        self.eps = per_run([run.adam_eps for run in runs], parameters)
        self.iterations = int(runs[0].iterations)
        self.working = torch.bfloat16 if runs[0].bfloat16 else parameters.dtype
        self._begin(parameters, per_parameter=per_parameter)

    def attach(self, layout: Layout) -> None:
        shapes = {
            name: layout.view(self.moment1, name).shape[1:] for name, _ in layout.network.named_parameters()
        }  # a pack's network may have all runs' parameters
        self.view, self.matrices = layout.view, hidden_matrices(layout.network, shapes)
        rest = torch.ones(1, self.moment1.shape[1], dtype=torch.bool)
        for name in self.matrices:
            layout.view(rest, name).fill_(False)
        self.rest = rest[0].nonzero().squeeze(1).to(self.moment1.device)  # (n,): indices

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        self._update_rest(parameters, gradient)
        for name in self.matrices:
            weight, g, b = (self.view(flat, name) for flat in (parameters, gradient, self.moment1))
            runs = len(weight)
            shape = (runs, *[1] * (weight.dim() - 1))
            momentum, step_size = self.momentum.view(shape), self.step_size.view(shape)
            b.lerp_(g, 1.0 - momentum)
            u = (g + momentum * (b - g)).flatten(2)
            orthogonal = newton_schulz(u.to(self.working), self.iterations).to(weight.dtype)
            stretch = max(1.0, weight.shape[-2] / weight.shape[-1]) ** 0.5
            weight.mul_(1.0 - step_size * self.weight_decay.view(shape))
            weight.sub_(step_size * stretch * orthogonal.view(weight.shape))

    def _update_rest(self, parameters: Tensor, gradient: Tensor) -> None:
        values, g, m, v = (
            flat.index_select(1, self.rest) for flat in (parameters, gradient, self.moment1, self.moment2)
        )
        m.lerp_(g, 1.0 - self.beta1)
        v.lerp_(g.square_(), 1.0 - self.beta2)
        self.power1.mul_(self.beta1)
        self.power2.mul_(self.beta2)
        power1, power2 = (
            power.index_select(1, self.rest) if self.per_parameter else power for power in (self.power1, self.power2)
        )
        root = (v / (1.0 - power2)).sqrt_().add_(self.eps)
        values.mul_(1.0 - self.rest_step_size * self.weight_decay)
        values.sub_(self.rest_step_size * (m / (1.0 - power1)).div_(root))
        for flat, new in ((parameters, values), (self.moment1, m), (self.moment2, v)):
            flat.index_copy_(1, self.rest, new)

    def progress(self, share: float) -> None:
        factor = decayed(self.decay, share, self.undecayed) * self.pace
        self.step_size, self.rest_step_size = self.undecayed * factor, self.rest_undecayed * factor


def hidden_matrices(network: Network, shapes: Mapping[str, Sequence[int]]) -> list[str]:
    """Names of the weights of two dimensions or more outside the output layers; those of shortcuts, too."""
    outputs = output_parameters(network)
    return [name for name, shape in shapes.items() if len(shape) >= 2 and name not in outputs]


def newton_schulz(matrices: Tensor, iterations: int) -> Tensor:
    """Nearly orthogonal matrices (runs, rows, columns) with the same singular vectors, and values of 0.7 to 1.2.

    Null directions stay null.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x: Tensor = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x
