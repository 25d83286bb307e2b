"""Interventions that are not compiled, on the fused engine: what they see, what they change, and what a stop costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every
from lop_sweeps.algorithms.one_run import OneRun, Run
from lop_sweeps.algorithms.redo import ReDo
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.optimizers.adam import Adam, AdamW
from lop_sweeps.optimizers.sgd import SGD
from tests.fused.engines import assert_same_state, fused, image_task, task_for, unfused

EXACT = 1e-9
OPTIMIZERS: dict[str, Any] = {
    "sgd": SGD(0.01),
    "decay": SGD(0.02, weight_decay=1.0),
    "momentum": SGD(0.001, 0.9, 0.01),
    "adam": Adam(0.001, weight_decay=0.01),
    "adamw": AdamW(0.001),
}
CBP = ContinualBackprop(0.002, 40, utility="adaptable_contribution")
NOISE = ShrinkAndPerturb(1e-4)


@dataclass(frozen=True)
class Everything(Intervention):
    """Uses all that a step offers, every `period` steps, on each engine; strength 0 changes nothing."""

    needs: ClassVar[frozenset[str]] = frozenset({"activation_gradients"})

    strength: float = 0.1
    period: int = 7

    def next_step(self, step: int) -> int:
        return every(self.period, step)

    def pack(self, peers: Sequence[Any], learner: Learner) -> PackedEverything:
        return PackedEverything(peers, learner)


class PackedEverything(PackedIntervention[Everything]):
    def __init__(self, runs: Sequence[Everything], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.strength, self.calls = self.per_run("strength"), 0

    def before_update(self, gradient: Tensor, step: int) -> None:
        learner, self.calls = self.learner, self.calls + 1
        expected = learner.gradient_of(learner.inputs, learner.targets)
        for name in learner.parameter_names if not learner.network.dropout else ():
            ours, theirs = learner.view(gradient, name), learner.view(expected, name)
            assert torch.allclose(ours, theirs, rtol=1e-6, atol=1e-6)
        gradient += self.strength * (learner.parameters + 0.1 * gradient)

    def after_optimizer(self, before: Tensor, step: int) -> None:
        self.calls += 1
        parameters = self.learner.parameters
        parameters += self.strength * 0.01 * (before - parameters)

    def after_update(self, step: int) -> None:
        learner, self.calls = self.learner, self.calls + 1
        for layer, h, g in zip(learner.graph, learner.activations, learner.activation_gradients, strict=True):
            by = (h * g).mean(1) + learner.outputs_of(learner.inputs).mean((1, 2))[:, None]
            weight = learner.view(learner.parameters, layer.weight)
            weight += 0.1 * self.strength * torch.tanh(by)[:, :, None] * weight


def orders() -> list[tuple[Any, ...]]:
    """The intervention alone, and before, between and after those that are compiled."""
    return [(None,), (CBP, None), (None, CBP), (NOISE, None, CBP), (CBP, None, NOISE), (None, NOISE)]


def cases() -> list[Any]:
    """Each order with each optimiser, with or without dropout in turn; the rest if slow."""
    found = []
    for i, name in enumerate(OPTIMIZERS):
        for j, order in enumerate(orders()):
            for dropout in (0.0, 0.2):
                marks = [] if bool(dropout) == bool((i + j) % 2) else [pytest.mark.slow]
                words = "-".join(type(one).__name__[:4] for one in order)
                found.append(pytest.param(name, order, dropout, id=f"{name}-{words}-{dropout}", marks=marks))
    return found


@pytest.mark.parametrize(("name", "order", "dropout"), cases())
def test_equals_the_torch_engine(name: str, order: tuple[Any, ...], dropout: float) -> None:
    interventions = tuple(Everything() if one is None else one for one in order)
    loss, batch, steps, interval = ("squared_error", 3, 90, 40) if dropout else ("cross_entropy", 1, 200, 70)
    parts = (loss, OPTIMIZERS[name], interventions)
    ours, theirs = fused(*parts, dropout=dropout), unfused(*parts, dropout=dropout)
    task = task_for(loss, 0, steps * batch)
    results = [one.run([task], batch, 0, 0, steps, interval) for one in (ours, theirs)]
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=EXACT, atol=EXACT)
    assert_same_state(ours.state(), theirs.state(), EXACT)
    calls = [one.interventions[order.index(None)].calls for one in (ours, theirs)]  # type: ignore[attr-defined]
    assert calls == [steps // 7 * 3] * 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("order", orders(), ids=lambda o: "-".join(type(one).__name__[:4] for one in o))
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_stop_at_which_nothing_changes_leaves_every_byte(
    name: str, order: tuple[Any, ...], dtype: torch.dtype
) -> None:
    """Whatever the loop has postponed stays postponed; and it was called."""
    others = tuple(one for one in order if one is not None)
    with_it = tuple(Everything(strength=0.0) if one is None else one for one in order)
    learners = [fused("cross_entropy", OPTIMIZERS[name], each, dtype=dtype) for each in (others, with_it)]
    results = [one.run([image_task(0)], 1, 0, 0, 500, 200) for one in learners]
    for one, other in zip(*results, strict=True):
        assert one.numpy().tobytes() == other.numpy().tobytes()
    assert learners[1].interventions[order.index(None)].calls == 3 * (500 // 7)  # type: ignore[attr-defined]
    states = [list(one.state().items()) for one in learners]
    for key in ("parameters", "optimizer/moment1"):
        one, other = (dict(state).get(key) for state in states)
        assert (one is None) == (other is None)
        assert one is None or other is None or one.numpy().tobytes() == other.numpy().tobytes()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_redo_is_what_it_is_on_the_torch_engine(name: str) -> None:
    redo = ReDo(0.6, 25)
    learners = [make("cross_entropy", OPTIMIZERS[name], (redo,)) for make in (fused, unfused)]
    for learner in learners:
        learner.run([image_task(1)], 1, 0, 0, 400, 150)
    assert_same_state(learners[0].state(), learners[1].state(), EXACT)
    assert all(int(value) > 0 for key, value in learners[0].state().items() if key.endswith("replaced"))


@dataclass(frozen=True)
class ForOne(OneRun):
    """The same pulls as a user writes them, for one run; it keeps a mean of the gradient."""

    strength: float = 0.1
    period: int = 5

    def next_step(self, step: int) -> int:
        return every(self.period, step)

    def start(self, run: Run) -> dict[str, Tensor]:
        return {name: torch.zeros_like(value) for name, value in run.parameters.items()}

    def before_update(self, run: Run) -> None:
        for name, gradient in run.gradient.items():
            run.state[name].lerp_(gradient, 0.1)
            gradient += self.strength * (run.parameters[name] - run.initial[name]) + 0.1 * run.state[name]

    def after_optimizer(self, run: Run) -> None:
        for name, value in run.parameters.items():
            value.lerp_(run.before[name], 0.1)

    def after_update(self, run: Run) -> None:
        output, activations = run.network(run.inputs, None)
        assert torch.isfinite(output).all()
        assert len(activations) == len(run.activations) == len(run.graph)
        draw = run.generator("shake", run.step).normal()
        run.parameters[run.weight_names[0]].mul_(1 + 0.01 * float(draw))


def test_a_method_for_one_run_is_the_same_on_both_engines_and_survives_a_checkpoint() -> None:
    parts = ("cross_entropy", OPTIMIZERS["adam"], (ForOne(),))
    ours, theirs = fused(*parts), unfused(*parts)
    for one in (ours, theirs):
        one.run([image_task(0)], 1, 0, 0, 200, 100)
    assert_same_state(ours.state(), theirs.state(), EXACT)
    resumed = unfused(*parts)
    resumed.load(0, {name: value[0] for name, value in ours.state().items()})
    for one in (ours, resumed):
        one.run([image_task(0)], 1, 200, 200, 150, 100)
    assert_same_state(ours.state(), resumed.state(), EXACT)
