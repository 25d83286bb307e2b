"""What the resets of units have in common on every arrangement of units, and each method's rule in a few lines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.calibrated_partial_resets import CalibratedPartialResets
from lop_sweeps.algorithms.new_units import HiddenUnits
from lop_sweeps.algorithms.redo import ReDo
from lop_sweeps.algorithms.regrama import PackedReGraMa, ReGraMa
from lop_sweeps.algorithms.selective_weight_reinitialization import (
    PackedSelectiveWeightReinitialization,
    SelectiveWeightReinitialization,
)
from lop_sweeps.algorithms.self_normalized_resets import PackedSelfNormalizedResets, SelfNormalizedResets
from lop_sweeps.algorithms.unit_resets import UnitResets
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.learner import TorchLearner
from tests.algorithms.test_arrangements import ADAM, learn, make
from tests.networks.arrangements import NETWORKS


def small(method: Any, runs: int = 2, **options: Any) -> TorchLearner:
    return TorchLearner(
        lambda: MLP(6, 3, [8, 7], **options),
        [Adam(0.01)] * runs,
        [[method] * runs],
        range(runs),
        "cross_entropy",
        torch.float64,
    )


def step(learner: TorchLearner, number: int, batch: int = 4) -> None:
    generator = torch.Generator().manual_seed(number)
    runs = len(learner.seeds)
    x = torch.randn(runs, batch, 6, generator=generator, dtype=torch.float64)
    learner.plan(number, 1)
    learner.learn(x, torch.randint(3, (runs, batch), generator=generator), number)


@pytest.mark.parametrize("name", NETWORKS)
def test_to_mix_with_nothing_old_is_to_reset_and_with_nothing_fresh_to_leave(name: str) -> None:
    """Shares of 1 and 0, unit by unit, on units with several rows, columns and readers."""
    mixed, reset = (make(name, [ReDo(0.0, 10**9)] * 3, ADAM) for _ in range(2))
    generator = np.random.default_rng(1)
    with torch.no_grad():
        for i, layer in enumerate(mixed.graph):
            mask = torch.from_numpy(generator.random((3, layer.units)) < 0.5)
            share, drawn = mask.double(), UnitResets(mixed, "test", "none").draw_all(5, i)
            halves = HiddenUnits(mixed, layer)
            halves.mix_incoming(share, drawn)
            halves.scale_outgoing(1 - share)
            fresh = HiddenUnits(reset, layer)
            fresh.set_incoming_where(mask, drawn)
            for _, part in fresh.reading():
                part.reset_where(mask)
    torch.testing.assert_close(mixed.parameters, reset.parameters, rtol=0, atol=0)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("state", ["all", "moments", "none"])
def test_what_becomes_of_the_optimisers_state(name: str, state: str) -> None:
    """Of a unit's weights: moments, and step counts only with `all`; nothing else moves."""
    learner = make(name, [ReDo(0.0, 10**9)] * 3, ADAM)
    for t in range(2):
        learn(learner, name, t)
    before = {key: value.clone() for key, value in learner.optimizer.state().items()}
    with torch.no_grad():
        everything = [torch.ones(3, layer.units, dtype=torch.bool) for layer in learner.graph]
        UnitResets(learner, "test", state).reset(2, everything)
    for key, value in learner.optimizer.state().items():
        changes = state == "all" or (state == "moments" and key.startswith("moment"))
        for layer in learner.graph:
            for rows in layer.incoming:
                if rows.rows is None and changes:
                    assert bool((learner.view(value, rows.weight) == learner.optimizer.fresh()[key]).all())
        assert torch.equal(value, before[key]) != changes


def silences(fired: list[list[bool]], threshold: int, batch: int) -> tuple[list[int], list[list[int]]]:
    """Ages, and the ages counted, of units that fire or not in each step; a reset sets an age back."""
    ages, counted = [0] * len(fired[0]), [[] for _ in fired[0]]
    for row in fired:
        for unit, fires in enumerate(row):
            if fires:
                counted[unit].append(ages[unit])
            ages[unit] = 0 if fires else ages[unit] + batch
            if ages[unit] >= threshold:
                counted[unit].append(ages[unit])
                ages[unit] = 0
    return ages, counted


@pytest.mark.parametrize("empty", ["keep", "authors"])
def test_ages_histograms_and_thresholds(empty: str) -> None:
    """By steps, with units made to fire at will; the quantile by sorting what was counted."""
    method = SelfNormalizedResets(0.7, 40, "steps", 2, 30, initial_threshold=12, floor=5, empty=empty)
    learner = small(method)
    packed = learner.interventions[0]
    assert isinstance(packed, PackedSelfNormalizedResets)
    generator, rows = np.random.default_rng(0), []
    often = np.array([1.0, 0.9, 0.5, 0.3, 0.1] * 3)
    for number in range(39):
        rows.append([(generator.random(15) < often).tolist() for _ in range(2)])
        packed.fired = lambda row=rows[-1]: torch.tensor(row)  # type: ignore[method-assign]
        step(learner, number)
    for run in range(2):
        ages, counted = silences([row[run] for row in rows], 12, 4)
        assert packed.ages[run].tolist() == ages
        for unit, values in enumerate(counted):
            histogram = np.bincount([value for value in values if value <= 30], minlength=31)
            assert packed.histograms[run, unit].tolist() == histogram.tolist()
        before = packed.thresholds.clone()
        packed.refresh(run)
        for unit, values in enumerate(counted):
            gaps = sorted(value for value in values if 0 < value <= 30)
            smallest = [gap for gap in gaps if np.mean(np.array(gaps) <= gap) >= 0.7]
            new = smallest[0] if smallest else 1
            expected = max(min(new if new < 12 else 24, 30), 5)
            expected = 12 if not gaps and empty == "keep" else expected
            assert (before[run, unit], packed.thresholds[run, unit]) == (12, expected)
        assert not packed.histograms[run].any()
        assert packed.ages[run].tolist() == ages
    assert int(packed.thresholds[0, 0]) == (12 if empty == "keep" else 5)  # it fires in every step
    assert len(packed.thresholds.unique()) > 2


def test_thresholds_are_refreshed_after_so_many_tasks_or_steps() -> None:
    for method, moments in (
        (SelfNormalizedResets(refresh_every=2, tau_max=50), [("task", 2), ("task", 4)]),
        (SelfNormalizedResets(refresh_every=3, refresh_in="steps", tau_max=50), [("step", 2), ("step", 5)]),
    ):
        learner, seen = small(method, runs=1), []
        packed = learner.interventions[0]
        assert isinstance(packed, PackedSelfNormalizedResets)
        now: list[Any] = [None]
        packed.refresh = lambda run, found=seen, at=now: found.append(at[0])  # type: ignore[method-assign]
        for number in range(6):
            now[0] = ("step", number)
            step(learner, number)
            now[0] = ("task", number)
            packed.before_task(0, number)
        assert seen == moments


def test_a_unit_with_several_features_fires_with_any_of_them() -> None:
    learner = make("crelu", [SelfNormalizedResets(tau_max=20)])
    packed = learner.interventions[0]
    assert isinstance(packed, PackedSelfNormalizedResets)
    for t in range(2):
        learn(learner, "crelu", t)
    assert packed.fired().all()
    learner.activations = [h.clone() for h in learner.activations]
    learner.activations[0][:, :, [1, 6]] = 0  # both halves of unit 1
    learner.activations[0][:, :, 2] = 0  # one of unit 2
    assert (~packed.fired()).nonzero()[:, 1].tolist() == [1]


@pytest.mark.parametrize("activation", ["tanh", "leaky_relu", "elu"])
def test_units_that_never_fall_silent_have_nothing_to_be_reset_by(activation: str) -> None:
    with pytest.raises(ConfigError, match="fall silent"):
        SelfNormalizedResets().check(MLP(6, 3, [4], activation=activation))


@pytest.mark.parametrize("method", [SelfNormalizedResets(), ReGraMa(), CalibratedPartialResets()])
def test_a_network_without_hidden_units_is_refused(method: Any) -> None:
    with pytest.raises(ConfigError, match="hidden units"):
        method.check(Linear(6, 3))


@pytest.mark.parametrize("network", ["mlp", "crelu", "maps"])
def test_signal_of_activations_is_the_gradient_that_autograd_has(network: str) -> None:
    """Mean |dL/dh| over examples, positions and features of a unit, relative to the layer's."""
    method = ReGraMa(0.5, 2)
    learner = small(method, 1) if network == "mlp" else make(network, [method])
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReGraMa)
    scores: list[list[Tensor]] = []
    scores_of = packed.scores
    packed.scores = lambda gradient: scores.append(scores_of(gradient)) or scores[-1]  # type: ignore[method-assign,func-returns-value]
    for t in range(3):
        before = learner.parameters.clone()
        step(learner, t) if network == "mlp" else learn(learner, network, t)
    x, y = learner.inputs[0], learner.targets[0]
    with torch.no_grad():
        learner.parameters.copy_(before)
    output, hidden = learner.network_of(0).requires_grad_(True)(x)
    gradients = torch.autograd.grad(torch.nn.functional.cross_entropy(output, y), hidden)
    for layer, gradient, score in zip(learner.graph, gradients, scores[0], strict=True):
        of_features = gradient.abs().transpose(0, 1).flatten(1).mean(1)
        of_units = torch.stack([of_features[list(own)].mean() for own in layer.features_of_units()])
        torch.testing.assert_close(score[0], of_units / of_units.mean(), rtol=1e-5, atol=1e-6)


def test_units_that_are_dormant_have_no_weight_gradient() -> None:
    """With ReLU and without normalisation, whom ReDo finds with threshold 0, ReGraMa finds with the weights' signal."""
    learner = small(ReGraMa(0.0, 1, "weight_gradient"), 1)
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReGraMa)
    with torch.no_grad():
        learner.view(learner.parameters, "layers.0.bias")[0, [2, 5]] = -100.0
        learner.view(learner.parameters, "layers.1.bias")[0, 3] = -100.0
    for number in (0, 1):
        step(learner, number, batch=200)  # in which every other unit fires
    assert [mask[0].nonzero().flatten().tolist() for mask in packed.chosen] == [[2, 5], [3]]
    assert packed.report(0)["replaced_units"] == [2, 1]


def test_a_layer_that_no_gradient_reaches_is_left_alone() -> None:
    """As when the outputs begin a task at 0; it tells nothing of single units."""
    learner = small(ReGraMa(0.5), 2)
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReGraMa)
    score = torch.stack([torch.zeros(8), torch.tensor([0.0] * 4 + [2.0] * 4)]).double()
    assert packed.inactive(0, score).tolist() == [[False] * 8, [True] * 4 + [False] * 4]


def test_no_more_than_a_share_is_reset_and_of_equal_units_the_first() -> None:
    learner = small(ReGraMa(0.5, max_reset_fraction=0.26), 2)  # of eight units, two
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReGraMa)
    score = torch.tensor([[0.4, 0.1, 0.9, 0.1, 0.1, 0.3, 0.6, 2.0], [0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.4, 0.9]])
    assert [row.nonzero().flatten().tolist() for row in packed.inactive(0, score.double())] == [[1, 3], [6]]


def test_how_many_weights_a_share_is() -> None:
    """floor(n factor), and one more as often as the fraction says."""
    learner = small(SelectiveWeightReinitialization(1, 0.03, "proportional"), 3)
    packed = learner.interventions[0]
    assert isinstance(packed, PackedSelectiveWeightReinitialization)
    numbers = torch.cat([packed.number(0, 48, number) for number in range(1_000)], 1).double()
    assert numbers.unique().tolist() == [1, 2]
    assert ((numbers.mean(1) - 1.44).abs() < 0.07).all()  # four standard errors
    for i in range(3):
        assert not torch.equal(numbers[i], numbers[i - 1])


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        (SelfNormalizedResets, {"percentile": 0}, "percentile"),
        (SelfNormalizedResets, {"refresh_in": "epochs"}, "refresh_in"),
        (SelfNormalizedResets, {"empty": "none"}, "empty"),
        (SelfNormalizedResets, {"reset_optimizer": True}, "reset_optimizer"),
        (SelectiveWeightReinitialization, {"pruning": "share"}, "pruning"),
        (SelectiveWeightReinitialization, {"decay_rate": 1}, "decay_rate"),
        (ReGraMa, {"signal": "gradient"}, "signal"),
        (ReGraMa, {"max_reset_fraction": 0}, "max_reset_fraction"),
        (CalibratedPartialResets, {"transform": "linear"}, "transform"),
        (ReDo, {"score": "authors"}, "score"),
        (ReDo, {"step_counts": "layers", "reset_optimizer": False}, "step_counts"),
    ],
)
def test_wrong_options_name_their_key(kind: type, options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**options)
    assert caught.value.key == key
