"""Layers that write their gradients where the optimiser reads them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lop_sweeps.networks.affine import Affine, Slot
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training import packed_network as engine
from lop_sweeps.training.learner import TorchLearner


def stacked(runs: int, inputs: int, outputs: int) -> Affine:
    torch.manual_seed(0)
    layer = Affine(inputs, outputs).double()
    layer.weight = nn.Parameter(torch.randn(runs, outputs, inputs, dtype=torch.float64))
    layer.bias = nn.Parameter(torch.randn(runs, outputs, dtype=torch.float64))
    return layer


@pytest.mark.parametrize("times", [1, 2])
def test_gradients_in_slots_are_autograds(times: int) -> None:
    """Also where a layer is used twice in one step; what was in the slots before does not matter."""
    layer, x = stacked(3, 4, 4), torch.randn(3, 5, 4, dtype=torch.float64, requires_grad=True)

    def loss() -> Tensor:
        h = x
        for _ in range(times):
            h = layer(h).tanh()
        return h.square().sum()

    leaves = (layer.weight, layer.bias, x)
    expected = torch.autograd.grad(loss(), leaves)
    slots = [Slot(torch.full_like(leaf, torch.nan)) for leaf in leaves[:2]]
    for leaf, slot in zip(leaves, slots, strict=False):
        leaf.slot = slot  # type: ignore[attr-defined]
    *others, of_x = torch.autograd.grad(loss(), leaves, allow_unused=True)
    assert others == [None, None]
    assert all(slot.written for slot in slots)
    torch.testing.assert_close([slot.into for slot in slots], list(expected[:2]))
    torch.testing.assert_close(of_x, expected[2])


class Tied(nn.Module):
    """Not used by a learner: a weight that is read outside its layer, too."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = stacked(2, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.layer(x) + self.layer.weight.sum()
        return result


def test_a_weight_that_is_also_read_elsewhere_gets_both_gradients() -> None:
    module, x = Tied(), torch.randn(2, 5, 3, dtype=torch.float64)
    (expected,) = torch.autograd.grad(module(x).square().sum(), [module.layer.weight])
    for leaf in (module.layer.weight, module.layer.bias):
        leaf.slot = Slot(torch.empty_like(leaf))  # type: ignore[attr-defined]
    (rest,) = torch.autograd.grad(module(x).square().sum(), [module.layer.weight])
    torch.testing.assert_close(module.layer.weight.slot.into + rest, expected)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize(("norm", "dropout"), [("none", 0.0), ("layer", 0.2)])
def test_a_learner_that_writes_gradients_in_place_learns_the_same(
    norm: str, dropout: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    learners = []
    for least in (0, 10**9):
        monkeypatch.setitem(engine.WRITTEN_FROM, "cpu", least)
        learners.append(
            TorchLearner(
                lambda: MLP(6, 3, [5, 4], dropout=dropout, norm=norm),
                [SGD(0.1, 0.9, 0.01)] * 3,
                [],
                [0, 1, 2],
                "cross_entropy",
                torch.float64,
            )
        )
    assert [bool(one._slots) for one in learners] == [True, False]
    generator = torch.Generator().manual_seed(1)
    for step in range(30):
        x = torch.randn(3, 2, 6, dtype=torch.float64, generator=generator)
        y = torch.randint(0, 3, (3, 2), generator=generator)
        for one in learners:
            one.plan(step, 1)
            one.learn(x, y, step)
    torch.testing.assert_close(learners[0].parameters, learners[1].parameters, rtol=1e-12, atol=1e-12)
