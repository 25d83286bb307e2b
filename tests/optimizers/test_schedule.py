"""Gradients that are cut, and step sizes that rise and fall within a task, whatever the optimiser is."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam, AdamW
from lop_sweeps.optimizers.muon import Muon
from lop_sweeps.optimizers.optimizer import Optimizer, PackedOptimizer, per_run
from lop_sweeps.optimizers.schedule import Schedule, taken_out
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.trac import TRAC
from lop_sweeps.optimizers.upgd import UPGD
from lop_sweeps.training.learner import TorchLearner
from tests import runs

STREAM = ["benchmark=stream", "benchmark/data=digits", "scale=tiny", "network.hidden=[12,12]"]
EPOCHS = [*STREAM, "benchmark/protocol=epochs", "benchmark.epochs=2"]


@dataclass(frozen=True)
class Plain(Optimizer):
    """A user's own, which knows nothing of schedules."""

    step_size: float = 0.01

    def pack(self, peers: Sequence[Any], parameters: Tensor, *, resets_units: bool) -> PackedOptimizer:
        return PackedPlain(peers, parameters)


class PackedPlain(PackedOptimizer):
    def __init__(self, peers: Sequence[Plain], parameters: Tensor) -> None:
        self.step_size = per_run([peer.step_size for peer in peers], parameters)

    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        parameters.sub_(self.step_size * gradient)


def learner(optimizer: Optimizer, schedule: Schedule, runs_of_it: int = 2) -> TorchLearner:
    made = TorchLearner(
        lambda: MLP(6, 3, [5]),
        [optimizer] * runs_of_it,
        [],
        range(runs_of_it),
        "cross_entropy",
        torch.float64,
        schedule=schedule,
    )
    made.plan(0, 10)
    return made


def step(made: TorchLearner, number: int = 0) -> Tensor:
    """By how much one update moves the parameters, (runs, parameters)."""
    generator, before = np.random.default_rng(number), made.parameters.clone()
    x = torch.from_numpy(generator.normal(size=(len(made.seeds), 4, 6)) * 10)
    made.learn(x, torch.from_numpy(generator.integers(0, 3, (len(made.seeds), 4))), number)
    return made.parameters - before


def test_a_longer_gradient_is_cut_run_by_run_and_a_shorter_one_is_not() -> None:
    whole = step(learner(SGD(1.0), Schedule())).norm(dim=1)
    between = float(whole.mean())
    assert whole.min() < between < whole.max()
    cut = step(learner(SGD(1.0), Schedule(max_gradient_norm=between)))
    torch.testing.assert_close(cut.norm(dim=1), whole.clamp(max=between))


def test_the_factor_rises_linearly_then_falls_along_half_a_cosine() -> None:
    rising = Schedule(warm_up=0.2)
    assert [rising.factor(a, b) for a, b in ((0, 0.1), (0.1, 0.2), (0.2, 0.3), (0.9, 1))] == [0.5, 1, 1, 1]
    falling = Schedule(cosine=True)
    assert falling.factor(0, 0.01) == 1
    assert falling.factor(0.5, 0.6) == pytest.approx(0.5)
    assert falling.factor(0.99, 1) < 0.001
    both = Schedule(warm_up=0.5, cosine=True)
    assert [both.factor(a, a + 0.25) for a in (0, 0.25, 0.5)] == [0.5, 1, 1]
    assert both.factor(0.75, 1) == pytest.approx(0.5)


@pytest.mark.parametrize(
    "optimizer",
    [SGD(), SGD(0.1, 0.9), Adam(), AdamW(), UPGD(), Muon(), TRAC(base=Adam()), Plain()],
    ids=lambda one: type(one).__name__,
)
def test_every_optimiser_takes_the_pace_and_gives_it_up_again(optimizer: Optimizer) -> None:
    """Before each stretch anew: the factors are not multiplied with one another."""
    made = learner(optimizer, Schedule(warm_up=0.5))
    whole = made.optimizer.step_size.clone()
    for end, factor in ((0.25, 0.5), (0.25, 0.5), (0.5, 1.0), (0.05, 0.1)):
        made.optimizer.pace = made.schedule.factor(0.0, end)
        made.optimizer.progress(0.0)
        torch.testing.assert_close(made.optimizer.step_size, whole * factor)
    slow = step(made)
    quick = step(learner(optimizer, Schedule()))
    if not isinstance(optimizer, TRAC):  # whose first step does not depend on it
        torch.testing.assert_close(slow, quick * 0.1, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize("line", [["optimizer.warm_up=0.2"], ["optimizer.cosine=true"]])
def test_step_sizes_move_in_epochs_only(tmp_path: Path, line: list[str]) -> None:
    with pytest.raises(ConfigError, match="needs a benchmark that trains in epochs"):
        runs.point(tmp_path, *STREAM, *line)
    assert runs.point(tmp_path, *EPOCHS, *line).directory.name != runs.point(tmp_path, *EPOCHS).directory.name


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "muon", "upgd"])
def test_they_go_with_every_choice_and_count_where_given(tmp_path: Path, optimizer: str) -> None:
    line = [*EPOCHS, f"optimizer={optimizer}"]
    plain = runs.point(tmp_path, *line).directory.name
    for more, same in (("warm_up=0", True), ("max_gradient_norm=null", True), ("max_gradient_norm=1", False)):
        assert (runs.point(tmp_path, *line, f"optimizer.{more}").directory.name == plain) == same


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("optimizer.max_gradient_norm=0", "must be a finite number > 0"),
        ("optimizer.warm_up=1.5", "must be a finite number >= 0 and <= 1"),
        ("optimizer.cosine=3", "must be"),
        ("optimizer.warm=0.1", "did you mean"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, line: str, words: str) -> None:
    with pytest.raises(Exception, match=words):
        runs.point(tmp_path, *EPOCHS, line)


def test_online_gradients_are_cut_on_the_torch_engine(tmp_path: Path) -> None:
    line = [*STREAM, "optimizer.max_gradient_norm=0.1", "benchmark.examples_per_task=40"]
    assert runs.point(tmp_path, *line).engine == "torch"
    with pytest.raises(ConfigError, match="cuts no gradients"):
        runs.point(tmp_path, *line, "engine=fused")
    logs = []
    for more in ([], ["optimizer.max_gradient_norm=null"]):
        plan = runs.plan(tmp_path / str(len(more)), *line, *more, "engine=torch")
        runs.train(plan)
        logs.append(json.loads(runs.metrics(plan.points[0]).splitlines()[-1])["weight_magnitude"])
    assert logs[0] != logs[1]


def test_in_control_the_agent_has_that_option(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.max_gradient_norm"):
        runs.point(tmp_path, "benchmark=ant", "scale=tiny", "optimizer.max_gradient_norm=0.5")


def test_a_class_with_an_option_of_that_name_keeps_it() -> None:
    node = {"_target_": "mine.Own", "warm_up": 3, "cosine": True}
    assert taken_out(node, {"warm_up"}) == ({"_target_": "mine.Own", "warm_up": 3}, {"cosine": True})
