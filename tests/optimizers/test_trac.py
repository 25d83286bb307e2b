"""TRAC around other optimisers: whose options are whose, and what a reset or a restart makes of its reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lop_sweeps
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.muon import Muon
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.trac import START, TRAC, PackedTRAC
from lop_sweeps.training.learner import TorchLearner

CONF = Path(lop_sweeps.__file__).parents[1] / "conf"


def make(options: TRAC, *, resets_units: bool = False) -> tuple[PackedTRAC, Tensor]:
    learner = TorchLearner(lambda: MLP(5, 3, [4]), [options] * 2, [], [0, 1], "cross_entropy", torch.float64)
    packed = options.pack([options] * 2, learner.parameters, resets_units=resets_units)
    packed.attach(learner)
    return packed, learner.parameters


def gradient(step: int, like: Tensor) -> Tensor:
    return torch.from_numpy(np.random.default_rng(step).normal(size=tuple(like.shape)))


def test_step_size_and_weight_decay_are_the_bases() -> None:
    assert TRAC(Adam(0.1, weight_decay=0.2)).base == Adam(0.1, weight_decay=0.2)
    assert TRAC(Adam(0.1, weight_decay=0.2), step_size=0.3).base == Adam(0.3, weight_decay=0.2)
    assert TRAC(Muon(), weight_decay=0.3).base == Muon(weight_decay=0.3)


def test_every_other_optimiser_may_be_its_base() -> None:
    choices = {path.stem for path in (CONF / "optimizer").glob("*.yaml")}
    assert {path.stem for path in (CONF / "optimizer" / "base").glob("*.yaml")} == choices - {"trac"}


WRONG: dict[str, Any] = {
    "base": TRAC(),
    "step_size": -1.0,
    "betas": [],
    "betas[1]": [0.9, 1.0],
    "eps": 1e-12,
    "erfi": "scipy",
}


@pytest.mark.parametrize("key", WRONG)
def test_wrong_options_are_refused(key: str) -> None:
    with pytest.raises(ConfigError) as error:
        TRAC(**{key.partition("[")[0]: WRONG[key]})
    assert error.value.key == key


def test_a_new_weight_is_its_own_reference() -> None:
    """At a small scale its distance from the old one would be divided by next to nothing."""
    packed, parameters = make(TRAC(SGD(0.1), s_prev=0.01), resets_units=True)
    always = gradient(0, parameters)
    for _ in range(3):
        packed.update(parameters, always.clone())
    for name, value in packed.fresh().items():
        packed.state()[name][1, 4:6] = value
    parameters[1, 4:6] = 7.0
    references = packed.reference.clone()
    packed.update(parameters, always.clone())
    references[1, 4:6] = 7.0
    assert torch.equal(packed.reference, references)
    scale = packed.scale()[1]
    assert scale > 0
    torch.testing.assert_close(parameters[1, 4:6], 7.0 - scale * 0.1 * always[1, 4:6])


def test_after_a_restart_it_goes_on_from_where_it_is() -> None:
    packed, parameters = make(TRAC(Adam(0.1), s_prev=0.01))
    always = gradient(0, parameters)
    for _ in range(3):
        packed.update(parameters, always.clone())
    packed.restart(0)
    assert (packed.sums[0] == START).all()
    assert not any(value[0].any() for value in packed.base.state().values() if value.shape == parameters.shape)
    fresh, alone = make(TRAC(Adam(0.1), s_prev=0.01))
    alone.copy_(parameters)
    for _ in range(3):
        packed.update(parameters, always.clone())
        fresh.update(alone, always.clone())
    assert torch.equal(parameters[0], alone[0])
    assert not torch.equal(parameters[1], alone[1])
