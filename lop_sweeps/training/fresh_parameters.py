"""Fresh parameters of all runs of a pack within a step, drawn where the parameters are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.networks.initial_law import initial_law
from lop_sweeps.networks.network import Network, draw_network


class FreshParameters:
    """Draws from a network's initial law, for one purpose; a run's depend on its seed and the step alone."""

    def __init__(
        self,
        make_network: Callable[[], Network],
        seeds: Sequence[int],
        purpose: str,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.make_network, self.seeds, self.purpose = make_network, seeds, purpose
        self.dtype, self.device = dtype, device
        law = initial_law(make_network)
        self.known = law is not None
        if law is not None:
            self.constant, self.half_width, self.std = (
                part.to(device) for part in (law.constant, law.half_width, law.std)
            )
            self.is_uniform, self.is_normal = bool((law.half_width != 0).any()), bool((law.std != 0).any())
        keys = [[streams.counter_key(seed, purpose, kind) for seed in seeds] for kind in range(2)]
        self.uniforms, self.normals = (counter_random.Keys(of_runs, device) for of_runs in keys)

    def at(self, step: int) -> Tensor:
        """(runs, parameters), in the order of the network's parameters."""
        if not self.known:
            return torch.stack([self._drawn(seed, step) for seed in self.seeds]).to(self.device)
        found = self.constant.expand(len(self.seeds), -1)
        if self.is_uniform:
            found = found + self.half_width * (2 * self.uniforms.uniforms(step, len(self.constant)) - 1)
        if self.is_normal:
            found = found + self.std * self.normals.normals(step, len(self.constant))
        return found.to(self.dtype)

    def _drawn(self, seed: int, step: int) -> Tensor:
        network = draw_network(self.make_network, self.dtype, seed, self.purpose, step)
        return torch.cat([parameter.detach().reshape(-1) for parameter in network.parameters()])
