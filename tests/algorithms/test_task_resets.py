"""Head resetting and the retrained network: what they redraw before a task, from which draws, and what they leave."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.head_resetting import HeadResetting
from lop_sweeps.algorithms.retrained_network import RetrainedNetwork
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.linear import Linear
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests.fused import engines
from tests.fused.engines import assert_same_state
from tests.runs import SMALL, TORCH, metrics, plan, train

Floats = NDArray[np.float64]
State = dict[str, Tensor]
SEEDS, CLASSES = [5, 2, 9], 3
# network: how to make it; inputs; name, shape and initial law of its output layer (half-width, or deviation)
NETWORKS: dict[str, tuple[Callable[[], Network], int, str, tuple[int, int], str, float]] = {
    "mlp": (lambda: MLP(7, CLASSES, [6, 5]), 7, "layers.2", (3, 5), "uniform", math.sqrt(3 / 5)),
    "linear": (lambda: Linear(7, CLASSES), 7, "layers.0", (3, 7), "uniform", math.sqrt(3 / 7)),
    "batch": (lambda: MLP(7, CLASSES, [6], norm="batch"), 7, "layers.1", (3, 6), "uniform", math.sqrt(3 / 6)),
    "conv": (
        lambda: ConvNet((1, 8, 8), CLASSES, [4], [3], [5], norm="batch"),
        64, "layers.1", (3, 5), "uniform", 1 / math.sqrt(5),
    ),
    "residual": (lambda: ResNet18((1, 8, 8), CLASSES, width=2), 64, "outputs", (3, 16), "normal", 1 / math.sqrt(16)),
}  # fmt: skip
HAS_STATISTICS = {"batch", "conv", "residual"}
ADAM, MOMENTUM = Adam(0.01), SGD(0.05, 0.9)
HEAD, RETRAINED = HeadResetting(), RetrainedNetwork()


def make(network: str, *interventions: Any, optimizer: Any = ADAM, seeds: Sequence[int] = SEEDS) -> TorchLearner:
    return TorchLearner(
        NETWORKS[network][0],
        [optimizer] * len(seeds),
        [[one] * len(seeds) for one in interventions],
        seeds,
        "cross_entropy",
        torch.float64,
    )


def learn(learner: TorchLearner, network: str, first: int, steps: int) -> None:
    learner.plan(first, steps)
    for step in range(first, first + steps):
        generators = [np.random.default_rng([seed, step]) for seed in learner.seeds]
        x = np.stack([generator.normal(size=(4, NETWORKS[network][1])) for generator in generators])
        y = np.stack([generator.integers(0, CLASSES, 4) for generator in generators])
        learner.learn(torch.from_numpy(x), torch.from_numpy(y), step)


def before_task(learner: Any, task: int) -> None:
    """As the training loop does."""
    with torch.no_grad():
        for intervention in learner.interventions:
            if hasattr(intervention, "before_task"):
                for run in range(len(learner.seeds)):
                    intervention.before_task(run, task)


def kept(learner: Any) -> State:
    return {name: value.clone() for name, value in learner.state().items()}


def head(learner: TorchLearner, network: str, parameters: Tensor) -> list[Tensor]:
    name = NETWORKS[network][2]
    return [learner.view(parameters, f"{name}.{part}") for part in ("weight", "bias")]


def drawn(network: str, seed: int, purpose: str, task: int) -> tuple[Floats, Floats]:
    """Weight and bias of the output layer as numpy draws them at the address seed, purpose, task, weight matrix."""
    make_network, _, _, shape, law, scale = NETWORKS[network]
    generator = streams.generator(seed, purpose, task, len(make_network().weights()) - 1)
    if law == "normal":
        return generator.normal(0, scale, shape), np.zeros(shape[0])
    weight = generator.uniform(-scale, scale, shape)
    return weight, generator.uniform(-scale, scale, shape[0]) if network == "conv" else np.zeros(shape[0])


# Head resetting


@pytest.mark.parametrize("optimizer", [ADAM, MOMENTUM])
@pytest.mark.parametrize("network", NETWORKS)
def test_head_resetting_redraws_the_output_layer_and_nothing_else(network: str, optimizer: Any) -> None:
    """From the initial law, with each run's and each task's own draws; statistics and optimiser state stay."""
    learner = make(network, HEAD, optimizer=optimizer)
    learn(learner, network, 0, 5)
    heads = []
    for task in (1, 2, 17):
        before = kept(learner)
        before_task(learner, task)
        after = learner.state()
        weight, bias = head(learner, network, learner.parameters)
        heads.append(weight.clone())
        for run, seed in enumerate(SEEDS):
            expected_weight, expected_bias = drawn(network, seed, "head reset", task)
            np.testing.assert_allclose(weight[run], expected_weight, rtol=1e-15, atol=0)
            np.testing.assert_allclose(bias[run], expected_bias, rtol=1e-15, atol=0)
        for part, old in zip((weight, bias), head(learner, network, before["parameters"]), strict=True):
            part.copy_(old)  # the output layer as it was
        assert_same_state(after, before)
    for a, b in ((heads[0], heads[1]), (heads[1], heads[2]), (heads[0][0], heads[0][1])):
        assert not torch.isclose(a, b).any()


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    "intervention", [HEAD, RETRAINED, RetrainedNetwork(reset_statistics=True, reset_optimizer=True)]
)
def test_nothing_happens_before_the_first_task_nor_within_one(network: str, intervention: Any) -> None:
    learner, plain = make(network, intervention, seeds=[4]), make(network, seeds=[4])
    before_task(learner, 0)
    for first in (0, 3):
        learn(learner, network, first, 3)
        learn(plain, network, first, 3)
        assert_same_state(learner.state(), plain.state())
    assert learner.interventions[0].state() == {}
    assert learner.interventions[0].report(0) == {}


@pytest.mark.parametrize("intervention", [HEAD, RETRAINED])
@pytest.mark.parametrize("network", NETWORKS)
def test_draws_do_not_depend_on_the_pack_nor_on_what_was_learned(network: str, intervention: Any) -> None:
    together, alone = make(network, intervention), make(network, intervention, seeds=[SEEDS[1]])
    learn(together, network, 0, 3)
    for task in (1, 3, 4):
        before_task(together, task)
    before_task(alone, 4)
    for a, b in zip(head(together, network, together.parameters), head(alone, network, alone.parameters), strict=True):
        assert torch.equal(a[1], b[0])
    if intervention is RETRAINED:
        assert torch.equal(together.parameters[1], alone.parameters[0])


def test_interventions_and_the_start_draw_from_streams_of_their_own() -> None:
    """The new head is neither the initial one nor the one that retraining would draw for the same task."""
    heads = []
    for intervention, task in ((HEAD, 0), (HEAD, 1), (RETRAINED, 1)):
        learner = make("mlp", intervention)
        before_task(learner, task)
        heads.append(head(learner, "mlp", learner.parameters)[0].clone())
    for i, one in enumerate(heads):
        for other in heads[:i]:
            assert not torch.isclose(one, other).any()


@pytest.mark.parametrize("intervention", [HEAD, RetrainedNetwork(True, True)])
def test_run_that_was_taken_out_of_the_pack_does_not_disturb_the_others(intervention: Any) -> None:
    """Its slot is redrawn like any; the others learn on, bit by bit as with it."""
    whole, masked = (make("residual", intervention) for _ in range(2))
    for learner in (whole, masked):
        learn(learner, "residual", 0, 2)
    masked.parameters[1] = torch.nan  # it diverged
    masked.mask(1)
    for learner in (whole, masked):
        before_task(learner, 1)
        learn(learner, "residual", 2, 2)
    state = masked.state()
    for name, value in whole.state().items():
        assert torch.equal(value[[0, 2]], state[name][[0, 2]]), name


# The retrained network


def test_retraining_draws_every_parameter_from_its_initial_law() -> None:
    """Over many tasks: each layer's weights have their law, biases and scales are fresh, tasks are independent."""
    learner = make("residual", RETRAINED, seeds=[1])
    weights: dict[str, list[Tensor]] = {name: [] for name in learner.weight_names}
    for task in range(1, 40):
        learner.parameters.fill_(7.0)
        before_task(learner, task)
        for name, _ in learner.network.named_parameters():
            value = learner.view(learner.parameters, name)[0]
            if name in weights:
                weights[name].append(value.flatten().clone())
            else:
                assert bool((value == float("norm" in name and name.endswith("weight"))).all()), name
    for name, draws in weights.items():
        fan_in = learner.view(learner.parameters, name)[0, 0].numel()
        std = math.sqrt((1 if name == "outputs.weight" else 2) / fan_in)
        assert stats.kstest(torch.cat(draws).numpy(), "norm", (0, std)).pvalue > 1e-4, name
        assert len(torch.cat(draws).unique()) == sum(map(len, draws)), name
    assert len(weights) == 21


@pytest.mark.parametrize("network", ["mlp", "conv", "residual"])
def test_retraining_draws_are_addressed_by_seed_task_and_layer(network: str) -> None:
    learner = make(network, RETRAINED)
    learn(learner, network, 0, 3)
    before_task(learner, 6)
    for run, seed in enumerate(SEEDS):
        for part, expected in zip(
            head(learner, network, learner.parameters), drawn(network, seed, "retrained network", 6), strict=True
        ):
            np.testing.assert_allclose(part[run], expected, rtol=1e-15, atol=0)
        first = learner.view(learner.parameters, learner.weight_names[0])[run]
        generator, fan_in = streams.generator(seed, "retrained network", 6, 0), first[0].numel()
        shape = tuple(first.shape)
        if network == "residual":
            weight = generator.normal(0, math.sqrt(2 / fan_in), shape)
        else:
            bound = math.sqrt((6 if network == "mlp" else 1) / fan_in)  # kaiming with relu's gain, or default
            weight = generator.uniform(-bound, bound, shape)
        np.testing.assert_allclose(first, weight, rtol=1e-15, atol=1e-18)


@pytest.mark.parametrize("optimizer", [ADAM, MOMENTUM, SGD(0.05)])
@pytest.mark.parametrize("reset_optimizer", [False, True])
@pytest.mark.parametrize("reset_statistics", [False, True])
@pytest.mark.parametrize("network", ["mlp", "batch", "conv", "residual"])
def test_statistics_and_optimiser_state_stay_unless_asked(
    network: str, reset_statistics: bool, reset_optimizer: bool, optimizer: Any
) -> None:
    learner = make(network, RetrainedNetwork(reset_statistics, reset_optimizer), optimizer=optimizer)
    start = kept(learner)
    learn(learner, network, 0, 4)
    before = kept(learner)
    before_task(learner, 1)
    after = learner.state()
    assert any(name.startswith("buffers/") for name in after) == (network in HAS_STATISTICS)
    for name, value in after.items():
        if name == "parameters":
            continue
        reset = reset_optimizer if name.startswith("optimizer/") else reset_statistics
        assert torch.equal(value, start[name] if reset else before[name]), name
        assert not torch.equal(start[name], before[name]), name


@pytest.mark.parametrize("replaces", [False, True])
@pytest.mark.parametrize("optimizer", [ADAM, MOMENTUM])
@pytest.mark.parametrize("network", ["mlp", "conv", "residual"])
def test_with_everything_reset_learning_goes_on_as_from_scratch(network: str, optimizer: Any, replaces: bool) -> None:
    """Bit by bit like a new learner with these parameters; also where every weight has its own step count."""
    cbp = [ContinualBackprop(1e-9, 1_000)] if replaces else []
    old = make(network, RetrainedNetwork(True, True), *cbp, optimizer=optimizer, seeds=SEEDS[:2])
    new = make(network, *cbp, optimizer=optimizer, seeds=SEEDS[:2])
    learn(old, network, 0, 5)
    before_task(old, 1)
    new.parameters.copy_(old.parameters)
    learn(old, network, 5, 5)
    learn(new, network, 5, 5)
    mine = old.state()
    for name, value in new.state().items():
        if not name.startswith("interventions/"):
            assert torch.equal(value, mine[name]), name


@pytest.mark.parametrize("option", ["reset_statistics", "reset_optimizer"])
def test_wrong_options_name_their_key(option: str) -> None:
    wrong: dict[str, Any] = {option: 1}
    with pytest.raises(ConfigError) as caught:
        RetrainedNetwork(**wrong)
    assert caught.value.key == option


# The fused engine


FUSED: dict[str, tuple[Any, list[Any]]] = {
    "head": (SGD(0.01), [HEAD]),
    "head_l2": (SGD(0.01, weight_decay=0.01), [HEAD]),
    "head_adam": (ADAM, [HEAD]),
    "head_cbp": (SGD(0.01), [ContinualBackprop(0.01, 20), HEAD]),
    "retrained": (SGD(0.01), [RETRAINED]),
    "retrained_momentum": (MOMENTUM, [RetrainedNetwork(reset_optimizer=True)]),
    "retrained_adam": (ADAM, [RetrainedNetwork(reset_optimizer=True)]),
    "retrained_adam_kept": (ADAM, [RETRAINED]),
    "retrained_adam_cbp": (ADAM, [RetrainedNetwork(reset_optimizer=True), ContinualBackprop(0.01, 20)]),
    "retrained_cbp": (
        SGD(0.01),
        [ContinualBackprop(0.01, 20, utility="adaptable_contribution"), RETRAINED],
    ),
}


@pytest.mark.parametrize("case", FUSED)
def test_fused_engine_does_as_the_torch_engine(case: str) -> None:
    """Three tasks; right after a reset, and after what is learned next. State, losses and weight magnitudes."""
    optimizer, interventions = FUSED[case]
    fused = engines.fused("cross_entropy", optimizer, interventions)
    unfused = engines.unfused("cross_entropy", optimizer, interventions)
    fresh = kept(fused)
    task, steps = engines.image_task(3), 120
    for number in range(3):
        before_task(fused, number)
        before_task(unfused, number)
        assert_same_state(fused.state(), unfused.state(), 1e-9)
        assert torch.equal(fused.state()["parameters"], fresh["parameters"]) == (number == 0)
        results = [
            one.run([task], 1, first=number * steps, start=0, steps=steps, interval=40) for one in (fused, unfused)
        ]
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)
        assert_same_state(fused.state(), unfused.state(), 1e-9)


@pytest.mark.parametrize("intervention", [HEAD, RETRAINED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_both_engines_draw_the_same_bits(intervention: Any, dtype: torch.dtype) -> None:
    """Retraining leaves nothing of the task before; of head resetting, the output layer."""
    fused = engines.fused("cross_entropy", SGD(0.01), [intervention], dtype=dtype)
    unfused = engines.unfused("cross_entropy", SGD(0.01), [intervention], dtype=dtype)
    fused.run([engines.image_task(3)], 1, first=0, start=0, steps=50, interval=50)
    for learner in (fused, unfused):
        before_task(learner, 2)
    names = [name for name, _ in MLP(30, 10, [17, 20]).named_parameters()]
    for name in names if intervention is RETRAINED else names[-2:]:
        ours = fused.view(fused.parameters, name)
        assert torch.equal(ours, unfused.view(unfused.parameters, name)), name


# In a run


@pytest.mark.parametrize("algorithm", ["head_resetting", "retrained_network"])
def test_runs_of_both_engines_agree_and_differ_from_backprop_after_the_first_task(
    tmp_path: Path, algorithm: str
) -> None:
    """Through the training loop. What is measured before task 1 is still of what task 0 left."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, *options in (
        ("torch", f"algorithm={algorithm}", TORCH),
        ("fused", f"algorithm={algorithm}", "engine=fused"),
        ("backprop", "algorithm=backprop", TORCH),
    ):
        made = plan(tmp_path / name, *SMALL, "benchmark=permuted_digits", "precision=float64", *options)
        assert [outcome.state for outcome in train(made)] == ["done"]
        rows[name] = [json.loads(line) for line in metrics(made.points[0]).splitlines()]
    for ours, theirs in zip(rows["torch"], rows["fused"], strict=True):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            np.testing.assert_allclose(value, theirs[key], rtol=1e-9, atol=1e-9, err_msg=key)
    first, second = (rows[name][:2] for name in ("backprop", "torch"))
    assert second[0] == first[0]
    for key in ("weight_magnitude", "dead_fraction", "effective_rank"):
        assert second[1][key] == first[1][key]
    assert second[1]["weight_magnitude_task"] != first[1]["weight_magnitude_task"]
