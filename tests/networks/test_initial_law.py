"""The law that a network's parameters come from, as one initialisation tells it, and draws from it within a step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import stats

from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.initial_law import initial_law
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network, draw_network, fill_normal, named_state
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.training.fresh_parameters import FreshParameters

NETWORKS: dict[str, Callable[[], Network]] = {
    "biases": lambda: MLP(40, 5, [30], init="default", norm="layer"),
    "residual": lambda: ResNet18((3, 8, 8), 3, width=3),
    "control": lambda: ActorCritic(20, 3, [16, 16], log_std=-0.5),
}


class Orthogonal(MLP):
    """Its weights come from no law of single numbers."""

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        super().initialize(draw)
        with torch.no_grad():
            weight = self.get_parameter("layers.0.weight")
            weight.copy_(torch.linalg.qr(torch.from_numpy(draw(9).standard_normal(tuple(weight.mT.shape))))[0].mT)


class Mixed(MLP):
    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        super().initialize(draw)
        fill_normal(self.get_parameter("layers.0.weight")[:2].detach(), 1.0, draw(7))


@pytest.mark.parametrize("name", NETWORKS)
def test_fresh_parameters_have_the_distribution_of_initial_ones(name: str) -> None:
    fresh = FreshParameters(NETWORKS[name], [1, 2], "test", torch.float64, torch.device("cpu"))
    assert fresh.known
    drawn = torch.stack([fresh.at(step) for step in range(20)])
    initial = [named_state(draw_network(NETWORKS[name], torch.float64, seed, "test"))[0] for seed in range(40)]
    start = 0
    for key, value in initial[0].items():
        ours = drawn[..., start : start + value.numel()].flatten().numpy()
        theirs = torch.stack([one[key] for one in initial]).flatten().numpy()
        start += value.numel()
        if np.ptp(theirs) == 0:
            assert set(ours) == set(theirs)
        else:
            assert stats.ks_2samp(ours, theirs).pvalue > 1e-4
            assert np.abs(ours).max() == pytest.approx(np.abs(theirs).max(), rel=0.5)
    assert start == drawn.shape[2]


def test_draws_belong_to_the_seed_the_purpose_and_the_step() -> None:
    def at(seeds: list[int], purpose: str, step: int) -> torch.Tensor:
        fresh = FreshParameters(NETWORKS["residual"], seeds, purpose, torch.float64, torch.device("cpu"))
        return fresh.at(step)[:, :50]  # of the first convolution

    whole = at([4, 5], "a", 3)
    torch.testing.assert_close(at([5], "a", 3)[0], whole[1], rtol=0, atol=0)
    for other in (at([4], "a", 3), at([5], "b", 3), at([5], "a", 4)):
        assert not bool((other[0] == whole[1]).any())


@pytest.mark.parametrize("kind", [Orthogonal, Mixed])
def test_a_network_without_such_a_law_is_drawn_as_a_whole(kind: type[MLP]) -> None:
    def make() -> Network:
        return kind(7, 3, [5])

    assert initial_law(make) is None
    found = FreshParameters(make, [3], "test", torch.float64, torch.device("cpu")).at(11)
    expected, _ = named_state(draw_network(make, torch.float64, 3, "test", 11))
    assert torch.equal(found[0], torch.cat([value.flatten() for value in expected.values()]))
