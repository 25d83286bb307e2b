"""Layer normalisation, learned slopes, units with two features: both engines compute the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.self_normalized_resets import SelfNormalizedResets
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.fused import limits
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.sgd import SGD
from tests.fused.engines import LOSSES, assert_same_state, fused, replaced, task_for
from tests.fused.test_equality import PLAIN, STEPS, TABLE, Algorithm, assert_equal, cbp

UNITS: dict[str, dict[str, Any]] = {
    "layer_norm": {"norm": "layer"},
    "crelu": {"activation": "crelu"},
    "prelu": {"activation": "prelu"},
    "fourier": {"activation": "fourier"},
    "crelu_norm": {"activation": "crelu", "norm": "layer"},
    "prelu_norm": {"activation": "prelu", "norm": "layer"},
    "tanh_norm": {"activation": "tanh", "norm": "layer"},
}
# One of each kind of update, and of each part of the loop.
RULES = ("backprop", "folded", "momentum", "adam", "adamw", "dropout_adam", "shrink_and_perturb", "l2_init")
RULES += ("cbp_adaptable_contribution", "cbp_transfer", "cbp_adam", "cbp_then_noise", "l2_init_adam", "weight_clipping")
RULES += ("upgd", "cbp_adaupgd", "partial_resets", "partial_resets_adam")
RULES += ("weight_clipping_adam", "resets", "resets_adam_all", "noise_after_resets", "l2_init_decoupled", "dropout")
FIRST = ("backprop", "adam", "cbp_adaptable_contribution", "l2_init", "weight_clipping", "resets", "upgd")


def goes(algorithm: Algorithm, units: str) -> bool:
    network = MLP(30, 10, (17, 20), **UNITS[units])
    return limits.obstacle(network, algorithm.optimizer, algorithm.interventions) is None


def cases() -> list[Any]:
    """Every rule with some kind of unit, in a short stretch; over the whole length if slow."""
    chosen = []
    for i, rule in enumerate(RULES):
        for j, units in enumerate(UNITS):
            # Weights that shrink by 2% a step leave a variance so small that dividing by it multiplies rounding errors.
            if not goes(TABLE[rule][-1], units) or (rule == "folded" and "norm" in UNITS[units]):
                continue
            if (i + j) % 3 == 0:
                chosen.append(pytest.param(rule, units, STEPS // 20, LOSSES[i % 2], id=f"{rule}-{units}-shorter"))
            loss = LOSSES[(i + j) % 2]
            # Not of what is made of what the others have; and each rule without one kind of the others.
            if units not in ("crelu_norm", "tanh_norm") and (rule in FIRST or (i + j) % 3):
                chosen.append(pytest.param(rule, units, STEPS // 2, loss, id=f"{rule}-{units}", marks=pytest.mark.slow))
    return chosen


@pytest.mark.parametrize(("rule", "units", "steps", "loss"), cases())
def test_equals_the_torch_engine(rule: str, units: str, steps: int, loss: str) -> None:
    """Two stretches, each of `steps`, with a checkpoint that the other engine goes on from in between."""
    assert_equal(TABLE[rule][-1], loss, steps, **UNITS[units])


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("batch", [3, 16])
def test_mini_batches_and_shapes(units: str, batch: int) -> None:
    for rule, hidden in (("backprop", (5,)), ("adam", (16, 33)), ("dropout", (9, 48, 15))):
        assert_equal(TABLE[rule][-1], "cross_entropy", 30, batch, hidden=hidden, **UNITS[units])


@pytest.mark.parametrize("units", UNITS)
def test_how_a_run_is_cut_changes_no_byte(units: str) -> None:
    task, start = task_for("cross_entropy", 0, 900), 0
    whole, piecewise = (fused("cross_entropy", PLAIN, **UNITS[units]) for _ in range(2))
    whole.run([task], 1, 0, 0, 900, 300)
    for steps in (300, 600):
        piecewise.run([task], 1, start, start, steps, 300)
        state, start = piecewise.state(), start + steps
        piecewise = fused("cross_entropy", PLAIN, **UNITS[units])
        piecewise.load(0, {name: value[0] for name, value in state.items()})
    assert_same_state(whole.state(), piecewise.state())


@pytest.mark.parametrize("units", ["layer_norm", "prelu", "prelu_norm"])
def test_a_new_unit_has_new_rows_of_its_own(units: str) -> None:
    """Scale 1, shift 0, slope 1/4: just after a replacement, which every step makes here."""
    often = cbp(replacement_rate=1.0, maturity_threshold=0)
    learner = fused("cross_entropy", SGD(0.05, weight_decay=0.1), (often,), **UNITS[units])
    learner.run([task_for("cross_entropy", 0, 40)], 1, 0, 0, 40, 40)
    assert sum(replaced(learner.state())) == 40 * 37, "all of them at every step"
    fresh = {name: value for layer in learner.graph for name, value in layer.norm}
    for name, value in fresh.items():
        shown = learner.view(learner.parameters, name)
        torch.testing.assert_close(shown, torch.full_like(shown, value))


@pytest.mark.parametrize(
    ("what", "network", "interventions"),
    [
        ("batch normalisation", {"norm": "batch"}, ()),
        ("layer normalisation after activations", {"norm": "layer", "norm_after": True}, ()),
        ("prelu_per=unit", {"activation": "prelu", "prelu_per": "layer"}, ()),
        ("have two", {"activation": "crelu"}, (ContinualBackprop(),)),
        ("have two", {"activation": "fourier"}, (SelfNormalizedResets(),)),
        ("noise on the parameters", {"norm": "layer"}, (ShrinkAndPerturb(normalisation=True),)),
        ("noise on the parameters", {"activation": "prelu"}, (ShrinkAndPerturb(normalisation=True),)),
    ],
)
def test_what_it_does_not_know_it_says(what: str, network: dict[str, Any], interventions: tuple[Any, ...]) -> None:
    assert what in str(limits.obstacle(MLP(30, 10, (8,), **network), PLAIN, interventions))
