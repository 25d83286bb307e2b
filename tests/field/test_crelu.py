"""A concatenated-ReLU network against that of skumar9876/L2_Init."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lop_sweeps.optimizers.sgd import SGD
from tests.field.golden import PACKS, Golden, assert_final, needs_field

GOLDEN = Golden("crelu")


@needs_field
@pytest.mark.parametrize("pack", PACKS)
def test_trajectory_is_the_authors(pack: int) -> None:
    network = GOLDEN.network(activation="crelu")
    learner = GOLDEN.learner(SGD(GOLDEN.meta["lr"]), pack=pack, network=network)
    losses = GOLDEN.replay(learner)
    np.testing.assert_allclose(losses, GOLDEN["losses"], rtol=0, atol=1e-10)
    assert_final(GOLDEN, learner)


@needs_field
def test_hidden_is_the_number_of_units_that_are_left() -> None:
    """Their option removes a share of the units; here one says how many there are."""
    left = math.floor((1 - GOLDEN.meta["fraction_to_remove"]) * GOLDEN.meta["hidden_before"])
    assert [layer.units for layer in GOLDEN.network(activation="crelu")().unit_graph()] == [left] * 2
