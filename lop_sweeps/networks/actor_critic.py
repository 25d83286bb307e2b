"""A policy and a value network side by side, for control (Nature 632; the authors' policies.py, valuefs.py)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps import checks
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer


class ActorCritic(Network):
    """Two MLPs that share nothing: a policy over actions, and the value of a state.

    hidden, activation (with its options), init, dropout, norm, norm_after, injection: of both networks, as in `MLP`.
    log_std: initial log standard deviation of every action; it is learned and does not depend on the state.
    discrete: whether actions are numbered, which the benchmark says. The policy is then their softmax, without a
        log_std; otherwise a diagonal Gaussian.

    Its outputs are (batch, 2 * actions + 1): means, log standard deviations, value; or, where actions are numbered,
    (batch, actions + 1): logits, value. Hidden layers, weight matrices and
    with them diagnostics and lists of replacement rates are those of the policy, then those of the value network.
    """

    version: ClassVar[int] = 1
    stackable: ClassVar[bool] = True

    def __init__(
        self,
        inputs: int,
        outputs: int,
        hidden: Sequence[int] = (256, 256),
        activation: str = "relu",
        init: str = "lecun",
        dropout: float = 0.0,
        norm: str = "none",
        norm_after: bool = False,
        log_std: float = 0.0,
        leaky_slope: float = 0.01,
        prelu_per: str = "unit",
        slope_bounds: Sequence[float] = (1 / 8, 1 / 3),
        smooth_leaky: Sequence[float] = (0.1, 3.0, 5.0),
        aid_p: float = 0.9,
        adalin_of: str = "relu",
        injection: int = 0,
        discrete: bool = False,
    ) -> None:
        super().__init__()
        self.discrete = discrete
        rest = (leaky_slope, prelu_per, slope_bounds, smooth_leaky, aid_p, adalin_of, injection)
        self.policy = MLP(inputs, outputs, hidden, activation, init, dropout, norm, norm_after, *rest)
        self.value = MLP(inputs, 1, hidden, activation, init, dropout, norm, norm_after, *rest)
        self.at_zero = self.policy.at_zero
        self._initial_log_std = checks.number("log_std", log_std)
        if not discrete:
            self.log_std = nn.Parameter(torch.empty(outputs))

    def forward(self, x: Tensor, uniforms: Sequence[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        half = len(uniforms) // 2 if uniforms else 0
        mean, of_policy = self.policy(x, uniforms[:half] if uniforms else None)
        value, of_value = self.value(x, uniforms[half:] if uniforms else None)
        if self.discrete:
            return torch.cat((mean, value), -1), [*of_policy, *of_value]
        log_std = self.log_std.unsqueeze(-2).expand_as(mean)
        return torch.cat((mean, log_std, value), -1), [*of_policy, *of_value]

    def mean(self, x: Tensor) -> Tensor:
        """x (..., batch, inputs) -> mean actions, or logits of the actions, (..., batch, actions)."""
        mean: Tensor = self.policy(x)[0]
        return mean

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        self.policy.initialize(draw)
        matrices = len(self.policy.weights())
        self.value.initialize(lambda i: draw(matrices + i))
        if not self.discrete:
            nn.init.constant_(self.log_std, self._initial_log_std)

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        return tuple(layer.within(name) for name in ("policy", "value") for layer in getattr(self, name).unit_graph())

    def weights(self) -> tuple[str, ...]:
        return tuple(f"{name}.{w}" for name, part in self.named_children() for w in part.weights())  # type: ignore[operator]

    def heads(self) -> tuple[str, ...]:
        return f"policy.{self.policy.weights()[-1]}", f"value.{self.value.weights()[-1]}"

    def draws(self, batch_size: int) -> tuple[tuple[int, ...], ...]:
        return self.policy.draws(batch_size) + self.value.draws(batch_size)

    def check(self, batch_size: int) -> None:
        self.policy.check(batch_size)
