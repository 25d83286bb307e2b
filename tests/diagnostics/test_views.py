"""What diagnostics are shown of a run: in every protocol, on every engine, and only copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.agents.ppo import Experience
from lop_sweeps.networks.network import draw_network
from lop_sweeps.training.control import ControlStage
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.view import Moment
from tests import runs
from tests.contracts.table import CIFAR, IMAGENET, ROWS
from tests.diagnostics.packs import components, moment

DIGITS = [*runs.SMALL, "benchmark=permuted_digits", "precision=float64", "benchmark.num_tasks=2"]
LINES = {
    "online": [*DIGITS, "engine=torch"],
    "fused": [*DIGITS, "engine=fused"],
    "regression": [*runs.SMALL, "benchmark=slowly_changing_regression", "precision=float64", "engine=torch"],
    "images": ["scale=tiny", *IMAGENET, "precision=float64"],
    "statistics of batches": ["scale=tiny", *CIFAR, "precision=float64"],
    "control": ["scale=tiny", *ROWS["ant_backprop"], "precision=float64"],
}


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sweeps")


def of(sweeps: Path, name: str, *more: str, seeds: tuple[int, ...] = (0, 3)) -> Moment:
    made = components(sweeps, *LINES[name], *more)
    return moment(made, seeds[:1] if made.engine == "fused" else seeds)


@pytest.mark.parametrize("name", LINES)
def test_a_copy_computes_what_the_run_computes(sweeps: Path, name: str) -> None:
    """Its parameters, its weights by name, and the activations that were probed."""
    seen = of(sweeps, name)
    for i, run in enumerate(seen.runs):
        network = run.network()
        assert not network.training
        assert [n for n, _ in network.named_parameters()] == list(run.parameters) == list(seen.learner.parameter_names)
        for parameter, value in zip(network.parameters(), run.parameters.values(), strict=True):
            assert torch.equal(parameter, value)
        for n, weight in zip(run.weight_names, run.weights, strict=True):
            assert torch.equal(weight, seen.learner.view(seen.learner.parameters, n)[i])
        if seen.stage.statistics_of is None:
            with torch.no_grad():
                layers = network(run.inputs)[1]
            pooled = [h if h.dim() == 2 else h.flatten(2).mean(2) for h in layers]
            for h, probed in zip(pooled, run.activations, strict=True):
                torch.testing.assert_close(h, probed, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LINES)
def test_initial_weights_are_drawn_again(sweeps: Path, name: str) -> None:
    seen = of(sweeps, name)
    before = [weight.clone() for weight in seen.runs[0].weights]
    with torch.no_grad():
        seen.learner.parameters.mul_(3.0)
    assert all(torch.equal(a, b) for a, b in zip(seen.runs[0].initial_weights, before, strict=True))
    assert not torch.equal(seen.runs[0].weights[0], before[0])


def _mean_loss(seen: Moment, run: int, output: Tensor, rows: slice) -> Tensor:
    """The loss of the run's benchmark on some of its probe's examples, from the data themselves."""
    benchmark, seed = seen.components[run].benchmark, seen.learner.seeds[run]
    if benchmark.protocol == "online":
        _, y = benchmark.task(seed, 0).examples(rows.start, rows.stop)
        if benchmark.loss == "squared_error":
            return (output - torch.from_numpy(y)).square().mean()
        return torch.nn.functional.cross_entropy(output, torch.from_numpy(y))
    assert benchmark.protocol == "epochs"
    task = benchmark.task(seed, 0)
    labels = dict(zip(task.train.rows.tolist(), task.train.labels.tolist(), strict=True))
    if task.validation is not None:
        labels |= dict(zip(task.validation.rows.tolist(), task.validation.labels.tolist(), strict=True))
    y = torch.tensor([labels[row] for row in task.probe[rows].tolist()])
    return torch.nn.functional.cross_entropy(output if task.outputs is None else output[:, task.outputs], y)


@pytest.mark.parametrize("name", [name for name in LINES if name != "control"])
def test_gradients_are_those_of_the_mean_loss_on_the_probe(sweeps: Path, name: str) -> None:
    seen = of(sweeps, name)
    for i, run in enumerate(seen.runs):
        network, count = run.network(), len(run.inputs)
        if (batch := seen.stage.statistics_of) is None:
            loss = _mean_loss(seen, i, network(run.inputs)[0], slice(0, count))
        else:
            assert count <= batch  # so that there is one batch
            network.train()
            loss = _mean_loss(seen, i, network(run.inputs)[0], slice(0, count))
        expected = torch.autograd.grad(loss, list(network.parameters()))
        for found, gradient in zip(run.gradients.values(), expected, strict=True):
            torch.testing.assert_close(found, gradient, rtol=1e-9, atol=1e-12)


def test_gradients_in_control_are_those_of_the_first_update_on_all_that_is_probed(sweeps: Path) -> None:
    seen = of(sweeps, "control")
    stage, learner = seen.stage, seen.learner
    assert isinstance(stage, ControlStage)
    assert isinstance(learner, TorchLearner)
    found = [run.gradients for run in seen.runs]
    experience, _ = stage._judge(stage._ahead)  # type: ignore[arg-type]
    learner.plan(0, 1)
    taken: list[Tensor] = []
    learner.optimizer.update = lambda parameters, gradient: taken.append(gradient.clone())  # type: ignore[method-assign]
    batch = Experience(*(each for each in experience))
    output = learner.predict(batch.inputs, 0)
    learner.learn_from(output, stage.loss.gradient(output.detach(), batch)[0], 0)
    for i, gradients in enumerate(found):
        for name, gradient in gradients.items():
            torch.testing.assert_close(gradient, learner.view(taken[0], name)[i], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["online", "fused", "images", "control"])
@pytest.mark.parametrize("optimizer", ["adam", "momentum"])
def test_an_update_of_a_copy_is_the_runs_next_step(sweeps: Path, name: str, optimizer: str) -> None:
    """With moments that have been at work for a while; the run stays where it is."""
    more = [f"optimizer={optimizer}", "optimizer.weight_decay=0.01", "algorithm=l2"]
    seen = of(sweeps, name, *more, "optimizer.step_size=0.01")
    learner, run = seen.learner, seen.runs[0]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(3):
            noise = torch.randn(learner.parameters.shape, generator=generator, dtype=torch.float64)
            flat = noise * (learner.parameters != 0)  # the fused engine's padding stays 0
            learner.optimizer.update(learner.parameters, flat)
    kept = learner.parameters.clone()
    rows = slice(0, 4)
    updated = dict(run.updated(rows).named_parameters())
    assert torch.equal(learner.parameters, kept)
    gradients = run._gradients(run.network(), rows)
    with torch.no_grad():
        gradient = torch.zeros_like(learner.parameters)
        for n, value in gradients.items():
            learner.view(gradient, n)[0].copy_(value)
        learner.optimizer.update(learner.parameters, gradient)
    for n, value in updated.items():
        torch.testing.assert_close(value, learner.view(learner.parameters, n)[0], rtol=1e-9, atol=1e-12)


def test_draws_belong_to_run_task_and_purpose(sweeps: Path) -> None:
    made = components(sweeps, *LINES["online"])
    runs_seen = [*moment(made, (0, 1)).runs, *moment(made, (0, 1), task=1).runs]
    draws = [float(run.generator(purpose).random()) for run in runs_seen for purpose in ("a", "b")]
    assert len(set(draws)) == 8
    assert float(moment(made, (1, 0)).runs[1].generator("a").random()) == draws[0]


def test_a_network_that_is_drawn_anew_is_another_one_at_each_task(sweeps: Path) -> None:
    made = components(sweeps, *LINES["online"])
    initial = draw_network(made.make_network, torch.float64, 0, "initial weights")
    fresh = [moment(made, task=task).trial(1)[1] for task in (0, 1)]
    copies = [moment(made, task=task).trial(1)[0] for task in (0, 1)]
    assert not torch.equal(*fresh)
    assert torch.equal(*copies)  # the same network, on the same task that is never shown
    x, y = made.benchmark.task(0, -1).examples(0, 1)  # type: ignore[union-attr, call-arg]
    loss = torch.nn.functional.cross_entropy(initial(torch.from_numpy(np.asarray(x)))[0], torch.from_numpy(y))
    assert float(copies[0][0, 0]) == pytest.approx(loss.item(), rel=1e-12)
