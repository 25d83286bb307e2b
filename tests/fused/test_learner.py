"""The fused learner to those around it: views, probes, magnitudes, checkpoints, divergence."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.fused.activations import CODES
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.sweeps.planning import Plan
from lop_sweeps.training import online
from tests import runs
from tests.fused.engines import LOSSES, assert_same_state, fused, image_task, task_for, unfused

HIDDEN = [(), (1,), (16,), (17, 20), (5, 33, 8)]
both = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
shapes = pytest.mark.parametrize("hidden", HIDDEN, ids=str)


@shapes
@both
def test_a_view_has_pytorchs_orientation_and_shares_memory(hidden: tuple[int, ...], dtype: torch.dtype) -> None:
    learner, twin = (make("cross_entropy", SGD(), dtype=dtype, hidden=hidden) for make in (fused, unfused))
    assert learner.weight_names == twin.weight_names
    named = dict(learner.network.named_parameters())
    for name, parameter in named.items():
        view = learner.view(learner.parameters, name)
        assert torch.equal(view, twin.view(twin.parameters, name))
        assert torch.equal(view[0], parameter)
        place = tuple(size - 1 for size in view.shape[1:])
        view[(0, *place)] = 77.0
        assert parameter[place] == 77.0, "the network sees it, too"
    assert int((learner.parameters == 77.0).sum()) == len(named)
    flat = torch.zeros_like(learner.parameters)
    for name in named:
        learner.view(flat, name).add_(1)
    assert int(flat.sum()) == sum(parameter.numel() for parameter in named.values()), "views do not overlap"
    assert float(flat.max()) == 1.0


@shapes
@both
def test_the_network_computes_with_what_was_learned(hidden: tuple[int, ...], dtype: torch.dtype) -> None:
    """The loss before a step is the loss of the learner's network on that example."""
    learner, task = fused("cross_entropy", SGD(0.05), dtype=dtype, hidden=hidden), image_task(0)
    learner.run([task], 1, 0, 0, 50, 50)
    x, y = task.examples(50, 51)
    output, _ = learner.network(torch.from_numpy(x).to(dtype))
    expected = torch.nn.functional.cross_entropy(output, torch.from_numpy(y))
    losses = learner.run([task], 1, 50, 50, 1, 1)[0]
    assert float(losses[0, 0]) == pytest.approx(float(expected), rel=1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("activation", CODES)
@pytest.mark.parametrize("loss", LOSSES)
def test_probe_is_the_networks_forward_pass(activation: str, loss: str, norm: str) -> None:
    """On images and dense inputs; without dropout."""
    learner = fused(loss, SGD(0.002), activation=activation, norm=norm, hidden=(17, 20, 3), dropout=0.5)
    task = task_for(loss, 0, 200)
    learner.run([task], 1, 0, 0, 100, 50)
    before = learner.state()
    probed = learner.probe([task], 37)
    x, _ = task.examples(0, 37)
    _, expected = learner.network(torch.from_numpy(x.astype(np.float64)))
    each = 2 if activation in ("crelu", "fourier") else 1
    assert [h.shape for h in probed] == [(1, 37, each * units) for units in (17, 20, 3)]
    for h, right in zip(probed, expected, strict=True):
        torch.testing.assert_close(h[0], right, rtol=1e-12, atol=1e-12)
    assert_same_state(learner.state(), before)


def test_probe_of_a_linear_network_is_empty() -> None:
    assert fused("cross_entropy", SGD(), hidden=()).probe([image_task(0)], 10) == []


@shapes
@both
def test_magnitudes(hidden: tuple[int, ...], dtype: torch.dtype) -> None:
    learner = fused("cross_entropy", SGD(0.05, weight_decay=0.1), dtype=dtype, hidden=hidden)
    reported = learner.run([image_task(0)], 1, 0, 0, 130, 50)[2]
    assert reported.shape == (3, 1, len(hidden) + 1)
    expected = [float(learner.view(learner.parameters, name).abs().mean()) for name in learner.weight_names]
    tolerance = 1e-6 if dtype == torch.float32 else 1e-13
    assert reported[-1, 0].tolist() == pytest.approx(expected, rel=tolerance)
    assert learner.magnitudes()[0].tolist() == pytest.approx(expected, rel=tolerance)


def busy() -> dict[str, tuple[Any, list[Any]]]:
    often = ContinualBackprop(0.01, 10, bias_transfer=True)
    return {
        "nothing": (SGD(0.01), []),
        "momentum": (SGD(0.001, 0.9), [often]),
        "adam": (Adam(0.001), []),
        "adam, per parameter": (Adam(0.001), [ShrinkAndPerturb(1e-3), often]),
    }


@pytest.mark.parametrize("name", busy())
def test_state_is_a_copy_in_the_torch_engines_layout(name: str) -> None:
    optimizer, interventions = busy()[name]
    learner, twin = (make("cross_entropy", optimizer, interventions) for make in (fused, unfused))
    assert_same_state(learner.state(), twin.state())
    saved = learner.state()
    before = {key: value.clone() for key, value in saved.items()}
    learner.run([image_task(0)], 1, 0, 0, 100, 50)
    assert_same_state(saved, before)
    assert not torch.equal(learner.state()["parameters"], saved["parameters"])
    learner.load(0, {key: value[0] for key, value in saved.items()})
    assert_same_state(learner.state(), saved)


def test_replaced_units_are_reported_and_cleared() -> None:
    learner = fused("cross_entropy", SGD(0.01), [ContinualBackprop(0.01, 10)])
    learner.run([image_task(0)], 1, 0, 0, 300, 100)
    (packed,) = learner.interventions
    replaced = packed.report(0)["replaced_units"]
    assert min(replaced) > 20
    packed.clear_report()
    learner.run([image_task(0)], 1, 300, 0, 100, 100)
    assert 0 < packed.report(0)["replaced_units"][0] < replaced[0]


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "swish", "identity"])  # not those that saturate
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("batch", [1, 5])
@both
def test_divergence_ends_a_run_at_the_end_of_its_interval(
    activation: str, loss: str, batch: int, dtype: torch.dtype
) -> None:
    learner = fused(loss, SGD(1e200 if dtype == torch.float64 else 1e30), dtype=dtype, activation=activation)
    results = learner.run([task_for(loss, 0, 300 * batch)], batch, 0, 0, 300, 40)
    losses, accuracies, magnitudes = results
    assert len(losses) == len(accuracies) == 40 * len(magnitudes)
    assert 0 < len(losses) < 300
    assert not (torch.isfinite(losses[-40:]).all() and torch.isfinite(magnitudes[-1]).all())
    assert torch.isfinite(losses[:-40]).all()
    learner.mask(0)
    assert all(bool(torch.isfinite(h).all()) for h in learner.probe([task_for(loss, 0, 10)], 10))


def test_not_a_number_is_never_taken_for_learning() -> None:
    """One bad weight anywhere is seen at the end of the interval, also one that no example reads."""
    for name in ("layers.0.weight", "layers.1.weight", "layers.2.weight", "layers.0.bias", "layers.2.bias"):
        learner = fused("cross_entropy", SGD(0.01), activation="tanh")
        view = learner.view(learner.parameters, name)
        view[(0, *(size - 1 for size in view.shape[1:]))] = math.nan
        losses, _, magnitudes = learner.run([image_task(0)], 1, 0, 0, 100, 50)
        assert len(losses) == 50, name
        assert not (torch.isfinite(losses).all() and torch.isfinite(magnitudes).all()), name


def diverging(sweeps: Path, engine: str, *overrides: str) -> Plan:
    line = [*runs.SMALL, "benchmark=slowly_changing_regression", "precision=float64", f"engine={engine}", *overrides]
    return runs.plan(sweeps, *line)


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer.step_size=1e150",),
        ("optimizer.step_size=1e308", "benchmark.examples_per_task=1"),
        ("optimizer.step_size=3.0", "network.activation=identity"),
        ("optimizer.step_size=1e150", "benchmark.batch_size=10"),
        ("optimizer.step_size=1e150", "algorithm=[l2,continual_backprop]", "optimizer.weight_decay=1e-153"),
    ],
    ids=["at once", "in the last step of a task", "slowly", "batches", "with continual backprop"],
)
def test_a_whole_run_diverges_as_on_the_torch_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...]
) -> None:
    monkeypatch.setattr(online, "INTERVAL", 7)
    ends = []
    for engine in ("fused", "torch"):
        plan = diverging(tmp_path / engine, engine, *overrides)
        assert [outcome.state for outcome in runs.train(plan)] == ["diverged"]
        (point,) = plan.points
        rows = [json.loads(line) for line in runs.metrics(point).splitlines()]
        status = point.directory.status()
        ends.append((status["state"], status["task"], status["step"], len(rows)))
        assert diverging(tmp_path / engine, engine, *overrides).finished == 1, "final"
    assert ends[0] == ends[1]
    assert ends[0][0] == "diverged"


@pytest.mark.parametrize("benchmark", ["permuted_digits", "slowly_changing_regression"])
@pytest.mark.parametrize("algorithm", ["backprop", "[l2,continual_backprop]", "shrink_and_perturb", "dropout"])
def test_a_whole_run_logs_what_it_does_on_the_torch_engine(tmp_path: Path, benchmark: str, algorithm: str) -> None:
    logs: list[list[dict[str, Any]]] = []
    for engine in ("fused", "torch"):
        line = [*runs.SMALL, f"benchmark={benchmark}", f"algorithm={algorithm}", "precision=float64"]
        plan = runs.plan(tmp_path / engine, *line, f"engine={engine}")
        assert [outcome.state for outcome in runs.train(plan)] == ["done"]
        logs.append([json.loads(line) for line in runs.metrics(plan.points[0]).splitlines()])
    assert len(logs[0]) > 1
    for one, other in zip(*logs, strict=True):
        assert one == {name: pytest.approx(value, rel=1e-9, abs=1e-9) for name, value in other.items()}


def test_steps_per_call_are_bounded_for_large_networks() -> None:
    """A stop is answered after a call; small networks take many intervals in one."""
    sizes: list[tuple[int, ...]] = [(5,), (300, 300), (2_000, 2_000)]
    at_once = [fused("cross_entropy", SGD(), hidden=hidden).intervals_at_once for hidden in sizes]
    assert at_once[0] == 50
    assert at_once == sorted(at_once, reverse=True)
    assert at_once[-1] == 1


def test_nothing_of_a_run_is_shared_with_another() -> None:
    """Two learners of one process, turn by turn, are each as alone."""

    def step(learner: Any, turn: int) -> Tensor:
        result: Tensor = learner.run([image_task(0)], 1, 50 * turn, 50 * turn, 50, 50)[0]
        return result

    parts = (SGD(0.01), [ContinualBackprop(0.01, 10)])
    one, other, alone = (fused("cross_entropy", *parts, seed) for seed in (1, 2, 1))
    for turn in range(3):
        mixed = step(one, turn)
        step(other, turn)
        assert torch.equal(mixed, step(alone, turn))
    assert_same_state(one.state(), alone.state())
