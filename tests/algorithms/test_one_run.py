"""Methods written for one run: exact, on both engines, in packs, and after a kill; and what a run offers them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lop_sweeps.algorithms.one_run import OneRun, Run, RunByRun
from lop_sweeps.errors import ConfigError, LopError
from lop_sweeps.fused import learner as fused_learner
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.networks.network import draw_network
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import per_run
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training import online
from lop_sweeps.training.learner import TorchLearner
from tests import extending, runs
from tests.contracts.table import ANT, IMAGENET, small
from tests.fused.engines import assert_same_state, fused, image_task, unfused

EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}
STRENGTHS, SEEDS = (0.3, 0.02), (3, 4)
RULES: dict[str, tuple[Any, Callable[[Any], torch.optim.Optimizer]]] = {
    "sgd": (SGD(0.1), lambda p: torch.optim.SGD(p, 0.1)),
    "momentum": (SGD(0.01, 0.9), lambda p: torch.optim.SGD(p, 0.01, 0.9)),
    "adam": (Adam(0.01), lambda p: torch.optim.Adam(p, 0.01)),
}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    """The classes that docs/extending.md shows, by `module.Class`."""
    folder = tmp_path_factory.mktemp("page")
    for text in extending.sections().values():
        extending.write(folder, extending.files(text))

    def find(name: str) -> Any:
        module, _, kind = name.partition(".")
        return getattr(extending.load(folder, module), kind)

    with extending.fresh_modules(folder):
        yield find


# --- L2 Init, as the page shows it ---


def small_network() -> MLP:
    return MLP(6, 3, [8, 7], activation="tanh")


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("form", ["my_l2_init.MyL2Init", "my_l2_init_packed.MyL2Init"])
def test_l2_init_is_the_gradient_of_its_penalty(form: str, rule: str, page: Callable[[str], Any]) -> None:
    """Against autograd and torch.optim, for two runs side by side with strengths of their own."""
    ours, theirs = RULES[rule]
    methods = [page(form)(strength) for strength in STRENGTHS]
    learner = TorchLearner(small_network, [ours] * 2, [methods], SEEDS, "cross_entropy", torch.float64)
    networks = [draw_network(small_network, torch.float64, seed, "initial weights") for seed in SEEDS]
    firsts = [[p.detach().clone() for p in network.parameters()] for network in networks]
    rules = [theirs(network.parameters()) for network in networks]
    random = torch.Generator().manual_seed(1)
    learner.plan(0, 40)
    for step in range(40):
        x = torch.randn(2, 5, 6, generator=random, dtype=torch.float64)
        y = torch.randint(3, (2, 5), generator=random)
        learner.learn(x, y, step)
        for run, (network, first) in enumerate(zip(networks, firsts, strict=True)):
            away = sum((p - p0).square().sum() for p, p0 in zip(network.parameters(), first, strict=True))
            rules[run].zero_grad()
            (F.cross_entropy(network(x[run])[0], y[run]) + STRENGTHS[run] / 2 * away).backward()
            rules[run].step()
    for run, network in enumerate(networks):
        for name, expected in network.named_parameters():
            torch.testing.assert_close(learner.view(learner.parameters, name)[run], expected.detach(), **EXACT)


@pytest.mark.parametrize("form", ["my_l2_init.MyL2Init", "my_l2_init_packed.MyL2Init"])
def test_in_ppo_the_pull_is_cut_with_the_gradient(form: str, page: Callable[[str], Any]) -> None:
    """To `max_gradient_norm`, together, before the optimiser's own decay."""
    longest, decay = 0.2, 0.25
    methods = [page(form)(strength) for strength in STRENGTHS]
    rule = SGD(0.5, weight_decay=decay)
    learner = TorchLearner(
        lambda: ActorCritic(5, 3, [8, 7], activation="tanh"), [rule] * 2, [methods], SEEDS, "", torch.float64
    )
    first = learner.parameters.clone()
    learner.plan(0, 3)
    random = torch.Generator().manual_seed(1)
    for step in range(3):
        x = torch.randn(2, 4, 5, generator=random, dtype=torch.float64)
        along = torch.randn(2, 4, 7, generator=random, dtype=torch.float64)
        before = learner.parameters.clone()
        expected = []
        for run in range(2):
            network = learner.network_of(run).requires_grad_()
            slopes = torch.autograd.grad((network(x[run])[0] * along[run]).sum(), list(network.parameters()))
            slope = torch.cat([one.flatten() for one in slopes]) + STRENGTHS[run] * (before[run] - first[run])
            assert slope.norm() > longest
            expected.append(before[run] - 0.5 * (slope * (longest / slope.norm()) + decay * before[run]))
        learner.learn_from(learner.predict(x, step), along, step, per_run([longest] * 2, along))
        torch.testing.assert_close(learner.parameters, torch.stack(expected), **EXACT)


# --- a unit reset every 500 steps, as the page shows it ---


@pytest.mark.parametrize("rule", ["sgd", "adam"])
def test_a_unit_reset_every_500_steps_is_the_same_on_both_engines(rule: str, page: Callable[[str], Any]) -> None:
    optimizer = {"sgd": SGD(0.01, weight_decay=0.01), "adam": Adam(0.001)}[rule]
    method = page("reset_unit.ResetUnit")()
    learners = [make("cross_entropy", optimizer, (method,)) for make in (fused, unfused)]
    others = [make("cross_entropy", optimizer) for make in (fused, unfused)]
    for learner in (*learners, *others):
        learner.run([image_task(2)], 1, 0, 0, 500, 500)
    assert_same_state({"": learners[0].state()["parameters"]}, {"": learners[1].state()["parameters"]}, 1e-9)
    for learner, other in zip(learners, others, strict=True):  # the last of them was such a step
        changed = (learner.state()["parameters"] != other.state()["parameters"]).sum()
        assert 30 < changed < 200  # weights of two units of 17 and 20
    for learner in learners:
        learner.run([image_task(3)], 1, 500, 0, 600, 200)
    assert_same_state(learners[0].state(), learners[1].state(), 1e-9)


# --- state, draws, packs, kills ---


@pytest.fixture
def users_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The overrides that choose `users_method.Restless`, which lies in the current folder."""
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(Path(__file__).with_name("users_method.py"), folder)
    monkeypatch.chdir(folder)
    with extending.fresh_modules(folder):
        yield ["+algorithm.mine._target_=users_method.Restless", "trusted=[users_method]"]


@pytest.mark.parametrize("engine", ["torch", "fused"])
def test_killed_and_resumed_it_leaves_the_same_bytes(
    tmp_path: Path, users_method: list[str], engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(online, "INTERVAL", 70)
    line = [*small(["benchmark=permuted_digits", "optimizer=adam", *users_method]), f"engine={engine}"]
    whole = runs.plan(tmp_path / "whole", *line, seeds=2)
    assert {outcome.state for outcome in runs.train(whole)} == {"done"}
    monkeypatch.setattr(fused_learner, "_WORK_PER_CALL", 0)
    for intervals in (1, 2, 0):  # to a boundary between tasks, and to others
        killed = runs.plan(tmp_path / "killed", *line, seeds=2)
        assert runs.train_and_kill(killed.packs[-1], after_intervals=intervals)
    killed = runs.plan(tmp_path / "killed", *line, seeds=2)
    assert {outcome.state for outcome in runs.train(killed)} == {"done"}
    for one, other in zip(whole.points, killed.points, strict=True):
        assert runs.metrics(one) == runs.metrics(other)
    row = json.loads(runs.metrics(whole.points[0]).splitlines()[1])
    assert row["resets"] == [10 + 1, 10]  # 90 steps of 9, and one between tasks


def test_in_a_pack_it_is_what_it_is_alone(tmp_path: Path, users_method: list[str]) -> None:
    line = [*small(["benchmark=permuted_digits", *users_method]), "engine=torch", "precision=float64"]
    together = runs.plan(tmp_path / "together", *line, seeds=3, pack=3)
    alone = runs.plan(tmp_path / "alone", *line, seeds=3, pack=1)
    assert (len(together.packs), len(alone.packs)) == (1, 3)
    for plan in (together, alone):
        runs.train(plan)
    for one, other in zip(together.points, alone.points, strict=True):
        runs.assert_close(runs.metrics(one), runs.metrics(other), 1e-9)


@pytest.mark.parametrize("where", [ANT, IMAGENET], ids=["control", "epochs"])
def test_gradients_of_what_it_is_shown_are_those_it_is_shown(
    tmp_path: Path, users_method: list[str], where: list[str]
) -> None:
    chosen = [users_method[0].replace("Restless", "Checker"), users_method[1]]
    line = [*small(where), *chosen, "precision=float64"]
    line += ["benchmark.num_tasks=1"] if where is IMAGENET else ["agent.max_gradient_norm=0.1"]
    plan = runs.plan(tmp_path, *line, seeds=2, pack=2)
    assert [outcome.state for outcome in runs.train(plan)] == ["done"] * 2


def test_what_is_tested_may_be_other_than_what_is_trained(tmp_path: Path, users_method: list[str]) -> None:
    """Zeros say that all classes are equally likely; what is trained never notices. All of a task's data are seen."""
    chosen = [users_method[0].replace("Restless", "Tested"), users_method[1]]
    logs = []
    for more in (chosen, []):
        plan = runs.plan(tmp_path / str(len(more)), *small(IMAGENET), *more, "precision=float64", seeds=2, pack=2)
        assert [outcome.state for outcome in runs.train(plan)] == ["done"] * 2
        logs.append([json.loads(row) for point in plan.points for row in runs.metrics(point).splitlines()])
    for ours, plain in zip(*logs, strict=True):
        assert ours["test_cross_entropy"] == pytest.approx(np.log(2), abs=1e-12)
        assert ours["train_cross_entropy"] == plain["train_cross_entropy"]
        assert ours["seen_examples"] == [40]  # two classes of 20
    with pytest.raises(ConfigError, match="needs evaluated_parameters, which there is in epochs only"):
        runs.point(tmp_path, *small(["benchmark=permuted_digits", *chosen]))


# --- what a run offers ---


def one_run(network: Callable[[], MLP] = small_network, rule: Any = None, **options: Any) -> tuple[TorchLearner, Run]:
    """A learner of two runs, and the second of them as a method sees it."""
    method = Nothing(**options)
    learner = TorchLearner(network, [rule or Adam(0.01)] * 2, [[method] * 2], SEEDS, "cross_entropy", torch.float64)
    packed = learner.interventions[0]
    assert isinstance(packed, RunByRun)
    return learner, packed.runs[1]


def learn(learner: TorchLearner, steps: Sequence[int]) -> None:
    for step in steps:
        random = torch.Generator().manual_seed(step)
        x = torch.randn(2, 5, 6, generator=random, dtype=torch.float64)
        learner.learn(x, torch.randint(3, (2, 5), generator=random), step)


@dataclass(frozen=True)
class Nothing(OneRun):
    resets_units = True

    def after_update(self, run: Run) -> None:
        """It looks on."""


@dataclass(frozen=True)
class Doubler(OneRun):
    """how: in which words the gradient is doubled."""

    how: str = "assign"

    def before_update(self, run: Run) -> None:
        for name, gradient in run.gradient.items():
            if self.how == "assign":
                run.gradient[name] = gradient + gradient
            elif self.how == "augment":
                run.gradient[name] += gradient.clone()
            else:
                gradient.mul_(2)


@pytest.mark.parametrize("how", ["assign", "augment", "in place"])
def test_whoever_assigns_writes(how: str) -> None:
    learners = [
        TorchLearner(small_network, [SGD(size)] * 2, methods, SEEDS, "cross_entropy", torch.float64)
        for size, methods in ((0.1, [[Doubler(how)] * 2]), (0.2, []))
    ]
    for learner in learners:
        learn(learner, range(3))
    torch.testing.assert_close(learners[0].parameters, learners[1].parameters, **EXACT)


@pytest.mark.parametrize("name", ["gradient", "parameters", "state", "before"])
def test_what_would_be_assigned_in_vain_is_refused(name: str) -> None:
    _, run = one_run()
    with pytest.raises(AttributeError):
        setattr(run, name, {})
    with pytest.raises(KeyError):
        getattr(run, name)["no such name"] = torch.zeros(())


@dataclass(frozen=True)
class TooEarly(OneRun):
    period: int = 10

    def next_step(self, step: int) -> int:
        return step + -(step + 1) % self.period

    def before_update(self, run: Run) -> None:
        run.parameters[run.weight_names[0]] *= 0.5


@pytest.mark.parametrize("make", [fused, unfused])
def test_parameters_are_not_written_before_the_update(make: Any) -> None:
    """The gradient would be of others than those that it is used on."""
    with pytest.raises(LopError, match="before_update may change the gradient only"):
        make("cross_entropy", SGD(0.01), (TooEarly(),)).run([image_task(0)], 1, 0, 0, 20, 20)


@dataclass(frozen=True)
class Misspelt(OneRun):
    def before_updates(self, run: Run) -> None:
        """Nobody calls it."""


def test_a_method_that_does_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="before_update"):
        Misspelt().check(small_network())
    Doubler().check(small_network())


def test_units_that_are_reset_are_new() -> None:
    learner, run = one_run()
    learn(learner, range(5))
    before = learner.parameters.clone()
    layer = run.graph[0]
    run.step = 4
    run.reset_units(0, [2, 5])
    weight, reader = run.parameters[layer.weight], run.parameters[layer.next_weight]
    assert torch.equal(learner.parameters[0], before[0]), "the other run"
    changed = (weight != learner.view(before, layer.weight)[1]).any(1)
    assert torch.nonzero(changed).flatten().tolist() == [2, 5]
    assert weight.abs().max() <= layer.bound
    assert not torch.equal(weight[2], weight[5])
    assert not run.parameters[layer.bias][[2, 5]].any()
    assert not reader[:, [2, 5]].any()
    assert reader[:, [0, 1, 3, 4, 6, 7]].all()
    moments = run.optimizer_state["moment2"]
    assert not moments[layer.weight][[2, 5]].any()
    assert moments[layer.weight][[0, 1, 3, 4, 6, 7]].any(1).all()
    assert (run.optimizer_state["power1"][layer.next_weight][:, [2, 5]] == 1).all()


def test_draws_of_a_reset_belong_to_unit_step_purpose_and_task() -> None:
    def drawn(units: Any, step: int = 7, **options: Any) -> Tensor:
        _, run = one_run()
        run.step = step
        run.reset_units(0, units, **options)
        return run.parameters["layers.0.weight"][3].clone()

    first = drawn([3])
    assert torch.equal(first, drawn([1, 3]))
    assert torch.equal(first, drawn(torch.tensor([3])))
    assert torch.equal(first, drawn(torch.arange(8) == 3))
    assert not torch.equal(first, drawn([3], step=8))
    assert not torch.equal(first, drawn([3], purpose="other units"))

    @dataclass(frozen=True)
    class Between(OneRun):
        def before_task(self, run: Run, task: int) -> None:
            run.reset_units(0, [3])

    weights = []
    for last, task in ((0, 1), (5, 1), (5, 2)):  # whatever the last step was: a resumed run does not know
        learner = TorchLearner(small_network, [SGD(0.1)], [[Between()]], [3], "cross_entropy", torch.float64)
        packed = learner.interventions[0]
        packed.after_update(last)
        packed.before_task(0, task)
        weights.append(learner.view(learner.parameters, "layers.0.weight")[0, 3].clone())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


def test_differentiate_is_autograd_and_leaves_no_trace() -> None:
    learner, run = one_run(lambda: MLP(6, 3, [8, 7], norm="batch"))
    learn(learner, range(3))
    x = torch.randn(5, 6, dtype=torch.float64)
    before = {name: value.clone() for name, value in learner.state().items()}
    found = run.differentiate(lambda outputs, hidden: (outputs[:, 0] * hidden[0].sum(1)).mean(), x)
    assert_same_state(learner.state(), before)
    network = learner.network_of(1).requires_grad_()
    outputs, hidden = network(x)
    penalty = (outputs[:, 0] * hidden[0].sum(1)).mean()
    for (name, _), expected in zip(
        network.named_parameters(), torch.autograd.grad(penalty, list(network.parameters())), strict=True
    ):
        torch.testing.assert_close(found[name], expected, **EXACT)
    head = run.differentiate(lambda _, hidden: hidden[0].sum(), x)["layers.2.weight"]
    assert not head.any()  # which the first layer does not depend on


def test_the_step_size_is_that_of_the_next_step() -> None:
    for rule in (SGD(0.1, decay_at=(0.5,), decay_by=0.1), Adam(0.1, decay_at=(0.5,), decay_by=0.1)):
        learner, run = one_run(rule=rule)
        assert float(run.step_size) == pytest.approx(0.1)
        learner.optimizer.progress(0.6)
        assert float(run.step_size) == pytest.approx(0.01)
