"""State that is put back: of a run, to what it was before its first step; of a new unit, weight by weight."""

from __future__ import annotations

import pytest
import torch

from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adaupgd import AdaUPGD
from lop_sweeps.optimizers.muon import Muon
from lop_sweeps.optimizers.optimizer import Optimizer, PackedOptimizer
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.trac import TRAC
from lop_sweeps.optimizers.upgd import UPGD
from lop_sweeps.training.learner import TorchLearner

RULES: dict[str, Optimizer] = {
    "upgd": UPGD(),
    "adaupgd": AdaUPGD(),
    "muon": Muon(),
    "trac": TRAC(),
    "trac_upgd": TRAC(UPGD()),
    "trac_momentum": TRAC(SGD(momentum=0.9)),
}
COUNTS = {"power", "power1", "power2"}
LATE = {"reference"}  # is taken at the first step, whatever it was


def make(rule: Optimizer, *, resets_units: bool) -> tuple[PackedOptimizer, torch.Tensor]:
    learner = TorchLearner(lambda: MLP(5, 3, [4, 4]), [rule] * 2, [], [0, 1], "cross_entropy", torch.float64)
    optimizer = rule.pack([rule] * 2, learner.parameters, resets_units=resets_units)
    optimizer.attach(learner)
    return optimizer, learner.parameters


def trained(rule: Optimizer, *, resets_units: bool) -> tuple[PackedOptimizer, dict[str, torch.Tensor]]:
    """After some steps, and its state before them."""
    optimizer, parameters = make(rule, resets_units=resets_units)
    before = {name: value.clone() for name, value in optimizer.state().items()}
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(parameters.shape, generator=generator, dtype=torch.float64)
    for step in range(3):
        optimizer.step = step
        optimizer.update(parameters, gradient.clone())
    return optimizer, before


@pytest.mark.parametrize("resets_units", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_a_restarted_run_has_the_state_of_its_start(name: str, resets_units: bool) -> None:
    optimizer, before = trained(RULES[name], resets_units=resets_units)
    after = {key: value.clone() for key, value in optimizer.state().items()}
    optimizer.restart(0)
    for key, value in optimizer.state().items():
        if key not in LATE:
            assert torch.equal(value[0], before[key][0]), key
            assert not torch.equal(after[key][0], before[key][0]), key
        assert torch.equal(value[1], after[key][1]), key


@pytest.mark.parametrize("name", RULES)
def test_counts_alone_can_be_restarted(name: str) -> None:
    optimizer, before = trained(RULES[name], resets_units=False)
    after = {key: value.clone() for key, value in optimizer.state().items()}
    optimizer.restart(0, counts_only=True)
    for key, value in optimizer.state().items():
        of_counts = key.rpartition(".")[2] in COUNTS
        assert torch.equal(value[0], (before if of_counts else after)[key][0]), key


@pytest.mark.parametrize("name", RULES)
def test_what_a_new_weight_begins_with_is_what_every_weight_began_with(name: str) -> None:
    """Where units are reset, all that has the parameters' shape has a fresh value, step counts, too."""
    optimizer, before = trained(RULES[name], resets_units=True)
    shape = before["begun" if name.startswith("trac") else "power1" if name == "muon" else "power"].shape
    fresh = optimizer.fresh()
    assert all((before[key] == value).all() and before[key].shape == shape for key, value in fresh.items())
    momentum = {"base.momentum"}  # stays, unless the option says so
    assert set(fresh) == {key for key, value in before.items() if value.shape == shape} - LATE - momentum
