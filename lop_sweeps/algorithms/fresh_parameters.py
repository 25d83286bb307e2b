"""Fresh parameters at every step, for all runs at once: the law that a network's own initialisation draws from."""

from __future__ import annotations

import copy
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.algorithms.intervention import Learner
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network


class FreshParameters:
    """Draws from the network's initial law; those of a run depend on its seed, the purpose and the step alone.

    The law is read from `Network.initialize`: which entries it fills with uniform and with normal numbers, of what mean
    and spread, and which it sets. `Learner.redraw` draws from it with numpy, one run after the other on the host; this
    is for methods that need a whole network at each step. Raises `ConfigError` if it draws in another way.
    """

    def __init__(self, learner: Learner, purpose: str) -> None:
        device, count = learner.parameters.device, len(learner.seeds)
        network = copy.deepcopy(learner.network_of(0))
        self.mean = _filled(learner, network, 0.0, 0.0)
        self.half_width = _spread(_filled(learner, network, 1.0, 0.0) - self.mean)
        self.std = _spread(_filled(learner, network, 0.0, 1.0) - self.mean)
        keys = [[streams.counter_key(seed, purpose, kind) for seed in learner.seeds] for kind in (0, 1)]
        self.uniforms, self.normals = (counter_random.Keys(of_runs, device) for of_runs in keys)
        self.mean = self.mean.expand(count, -1)

    def draw(self, step: int) -> Tensor:
        """(runs, parameters): a fresh network for each run."""
        fresh, size = self.mean.clone(), self.mean.shape[1]
        if self.half_width is not None:
            fresh.addcmul_(self.half_width, (2.0 * self.uniforms.uniforms(step, size) - 1.0).to(fresh.dtype))
        if self.std is not None:
            fresh.addcmul_(self.std, self.normals.normals(step, size).to(fresh.dtype))
        return fresh


class _Standard:
    """In place of a generator: each draw is so many half widths, or standard deviations, from its mean."""

    def __init__(self, half_widths: float, deviations: float) -> None:
        self.half_widths, self.deviations = half_widths, deviations

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> NDArray[np.float64]:
        return np.full(size, (low + high) / 2 + self.half_widths * (high - low) / 2)

    def normal(self, loc: float = 0.0, scale: float = 1.0, size: Any = None) -> NDArray[np.float64]:
        return np.full(size, loc + self.deviations * scale)

    def __getattr__(self, name: str) -> Any:
        raise ConfigError("", None, f"knows uniform and normal initial weights, and this network draws by `{name}`")


def _filled(learner: Learner, network: Network, half_widths: float, deviations: float) -> Tensor:
    """(1, parameters): initial parameters whose draws are all that far from their means."""
    standard = cast(np.random.Generator, _Standard(half_widths, deviations))
    with torch.no_grad():
        network.initialize(lambda i: standard)
    flat = torch.zeros_like(learner.parameters[:1])
    for name, value in network.named_parameters():
        learner.view(flat, name).copy_(value.detach()[None])
    return flat


def _spread(values: Tensor) -> Tensor | None:
    """None where nothing is drawn that way."""
    return values if bool(values.any()) else None
