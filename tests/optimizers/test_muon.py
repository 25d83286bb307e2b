"""Muon beside what the authors' trajectory shows: which parameters are hidden matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.muon import Muon, PackedMuon, newton_schulz
from lop_sweeps.training.learner import TorchLearner

HIDDEN: dict[str, tuple[Callable[[], Network], set[str]]] = {
    "mlp": (lambda: MLP(6, 3, [5, 4], norm="layer"), {"layers.0.weight", "layers.1.weight"}),
    "actor_critic": (lambda: ActorCritic(6, 3, [5]), {"policy.layers.0.weight", "value.layers.0.weight"}),
}


@pytest.mark.parametrize("runs", [1, 3])
@pytest.mark.parametrize("name", HIDDEN)
def test_hidden_matrices_are_all_weights_but_those_of_the_outputs(name: str, runs: int) -> None:
    """In a pack, too, where biases have two dimensions."""
    make, expected = HIDDEN[name]
    learner = TorchLearner(make, [Muon()] * runs, [], range(runs), "cross_entropy", torch.float64)
    assert isinstance(learner.optimizer, PackedMuon)
    assert set(learner.optimizer.matrices) == expected


def test_convolutions_and_shortcuts_are_hidden_matrices() -> None:
    learner = TorchLearner(lambda: ResNet18((3, 32, 32), 4, width=2), [Muon()], [], [0], "cross_entropy", torch.float64)
    assert isinstance(learner.optimizer, PackedMuon)
    kernels = {name for name, value in learner.network.named_parameters() if value.dim() == 4}
    assert set(learner.optimizer.matrices) == kernels


def test_a_network_without_hidden_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="hidden layers"):
        Muon().check(Linear(4, 2))


def test_singular_values_come_close_to_one_and_vectors_stay() -> None:
    matrices = torch.randn(2, 6, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours = newton_schulz(matrices, 5)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    turned = left.mT @ ours @ right.mT
    values = turned.diagonal(dim1=1, dim2=2)
    assert ((values > 0.5) & (values < 1.5)).all()
    torch.testing.assert_close(turned, torch.diag_embed(values), rtol=0, atol=1e-12)
