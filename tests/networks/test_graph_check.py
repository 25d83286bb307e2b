"""A unit graph that does not describe its network is refused when a run is planned (cases 4.9)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.graph_check import check_graph
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.networks.unit_graph import UnitLayer

IMAGE = (3, 16, 16)
NETWORKS: dict[str, tuple[Callable[[], Network], int, int]] = {
    "linear": (lambda: Linear(3, 2), 3, 2),
    "mlp": (lambda: MLP(4, 2, [7, 7, 7]), 4, 2),
    "layer norm": (lambda: MLP(4, 2, [7, 7], norm="layer", dropout=0.5), 4, 2),
    "online norm": (lambda: MLP(4, 2, [7, 7], norm="online"), 4, 2),
    "batch norm behind": (lambda: MLP(4, 2, [7, 5], norm="batch", norm_after=True), 4, 2),
    "conv net": (lambda: ConvNet(IMAGE, 2, [3, 4], [3, 3], [5]), 768, 2),
    "conv net with norm": (lambda: ConvNet(IMAGE, 2, [3, 4], [3, 3], [], norm="batch"), 768, 2),
    "residual": (lambda: ResNet18(IMAGE, 4, width=1), 768, 4),
    "actor critic": (lambda: ActorCritic(5, 2, [6, 6]), 5, 2),
}


@pytest.mark.parametrize(("make", "inputs", "outputs"), NETWORKS.values(), ids=list(NETWORKS))
def test_the_graphs_of_this_package_are_true(make: Callable[[], Network], inputs: int, outputs: int) -> None:
    check_graph(make(), inputs, outputs)


class Changed(MLP):
    """A network with one thing wrong in the graph of layer 1, or in what it gives back."""

    changes: dict[str, Any]
    given: Callable[[Tensor, list[Tensor]], Any] | None = None

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        graph = super().unit_graph()
        return (graph[0], replace(graph[1], **self.changes), *graph[2:])

    def forward(self, x: Tensor, uniforms: Any = None) -> Any:
        outputs, activations = super().forward(x, uniforms)
        return self.given(outputs, activations) if self.given else (outputs, activations)


def refusal(given: Callable[[Tensor, list[Tensor]], Any] | None = None, **changes: Any) -> str:
    network = Changed(4, 2, [7, 7, 7, 5])
    network.changes, network.given = changes, given
    with pytest.raises(ConfigError) as caught:
        check_graph(network, 4, 2)
    return str(caught.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"weight": "layers.9.weight"}, ["weight", "layers.9.weight"]),
        ({"weight": "layers.0.weight"}, ["weight", "layers.0.weight"]),  # of another shape
        ({"bias": "layers.4.bias"}, ["bias", "layers.4.bias", "7 units"]),
        ({"bias": "layers.0.bias"}, ["bias", "layers.0.bias", "layer 1"]),  # of the right shape
        ({"units": 5}, ["weight", "layers.1.weight", "5 units"]),
        ({"spread": 2}, ["next_weight", "layers.2.weight", "14"]),
        ({"next_weight": "layers.1.weight"}, ["next_weight", "must read layer 1", "layer 0"]),
        ({"next_weight": "layers.3.weight", "next_bias": "layers.3.bias"}, ["next_weight", "reads layer 2"]),
        ({"next_bias": "layers.3.bias"}, ["next_bias", "layers.3.bias", "7 next units"]),
        ({"fan_in": 8}, ["fan_in", "7"]),
        ({"norm": (("norms.0.weight", 1.0),)}, ["norm", "norms.0.weight"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_named_with_its_layer(changes: dict[str, Any], words: list[str]) -> None:
    message = refusal(**changes)
    assert "\n" not in message
    for word in ["unit_graph()[1]", *words]:
        assert word in message


def test_what_the_forward_pass_gives_is_checked() -> None:
    assert "4 layers" in refusal(lambda outputs, activations: (outputs, activations[:-1]))
    assert "7 units" in refusal(lambda outputs, activations: (outputs, [a[:, :3] for a in activations]))
    assert "outputs" in refusal(lambda outputs, activations: (outputs[:, :1], activations))
    message = refusal(lambda outputs, activations: torch.zeros(2, 3) @ torch.zeros(2, 3))
    assert "Changed.forward fails" in message


def test_activations_that_are_copies_cannot_be_followed_and_pass() -> None:
    network = Changed(4, 2, [7, 7])
    network.changes, network.given = {}, lambda outputs, activations: (outputs, [a.detach() for a in activations])
    check_graph(network, 4, 2)
    network.given = lambda outputs, activations: (outputs, [a * 1.0 for a in activations])
    check_graph(network, 4, 2)
