"""Parity with trajectories of the authors' code, in float64: losses, weights, utilities, ages and replacements.

New incoming weights are injected, since random streams differ. On exact ties of utility the authors' choice is
arbitrary: theirs must be among the minima and is then taken. The fused engine replaces inside its compiled loop, where
nothing can be injected: there, replacements are done between its calls, by the object whose memory it works on, and
tests of its own compare what it does inside with the torch engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop, PackedContinualBackprop
from lop_sweeps.diagnostics import rank, units
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests.shared import SHARED, needs_golden
from tests.tasks import GivenTask

GOLDEN = SHARED / "golden"
FILES = sorted(path.stem for path in GOLDEN.glob("mlp_*.npz"))


class InjectedBackprop(PackedContinualBackprop):
    """Takes the golden new weights, and on a tie the golden unit; records what it replaced."""

    golden: Any
    events: list[tuple[int, int, int]]

    def choose(self, step: int, i: int, run: int, number: int) -> Tensor:
        ours = super().choose(step, i, run, number)
        rows = self.golden["events"]
        theirs = torch.from_numpy(rows[(rows[:, 0] == step) & (rows[:, 1] == i), 2])
        utility = self.corrected_utility(step, i)[run]
        assert len(theirs) == number, f"step {step} layer {i}: {number} replaced, theirs {len(theirs)}"
        if not torch.equal(theirs.sort().values, ours):
            torch.testing.assert_close(utility[theirs].sort().values, utility[ours].sort().values, rtol=0, atol=1e-12)
        if run == 0:
            self.events += [(step, i, int(unit)) for unit in theirs]
        return theirs

    def draw_incoming(self, step: int, i: int, run: int, units: Tensor) -> Tensor:
        rows = self.golden["events"]
        found = [np.flatnonzero((rows == (step, i, int(unit))).all(1))[0] for unit in units]
        fan_in = self.learner.graph[i].fan_in
        return torch.from_numpy(self.golden["event_incoming_weights"][found, :fan_in])


def read(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as file:
        golden = dict(file)
    return golden, json.loads(str(golden["meta"]))


def parts(golden: Any, meta: dict[str, Any]) -> tuple[Callable[[], MLP], Any, list[Any], str]:
    """How to make the network; the optimizer, the interventions and the loss."""
    inputs, outputs = golden["x"].shape[2], golden[f"init_w{meta['depth']}"].shape[0]

    def make() -> MLP:
        return MLP(inputs, outputs, [meta["hidden"]] * meta["depth"], meta["activation"])

    if meta["optimizer"] == "adam":
        optimizer: Any = Adam(meta["step_size"], correction="authors" if meta["algorithm"] == "cbp" else "standard")
    else:
        optimizer = SGD(meta["step_size"], meta.get("momentum", 0.0), meta.get("weight_decay", 0.0))
    interventions: list[Any] = []
    if meta["algorithm"] == "cbp":
        cbp = ContinualBackprop(
            meta["replacement_rate"], meta["maturity_threshold"], meta["decay_rate"], meta["util_type"]
        )
        interventions = [cbp]
    return make, optimizer, interventions, {"nll": "cross_entropy", "mse": "squared_error"}[meta["loss"]]


def inject(learner: TorchLearner | FusedLearner, golden: Any, meta: dict[str, Any]) -> None:
    """The golden initial weights, and the golden choices of continual backprop."""
    for i in range(meta["depth"] + 1):
        with torch.no_grad():
            learner.view(learner.parameters, f"layers.{i}.weight").copy_(torch.from_numpy(golden[f"init_w{i}"]))
            learner.view(learner.parameters, f"layers.{i}.bias").copy_(torch.from_numpy(golden[f"init_b{i}"]))
    if learner.interventions:
        packed: Any = learner.interventions[0]
        packed.__class__ = InjectedBackprop
        packed.golden, packed.events = golden, []


def compare(learner: TorchLearner | FusedLearner, losses: Tensor, golden: Any, meta: dict[str, Any]) -> None:
    """Losses (steps, runs) and everything that was learned, with the golden ones."""
    close: dict[str, Any] = {"rtol": 0, "atol": 1e-9}
    expected = torch.from_numpy(golden["losses"]).unsqueeze(1).expand_as(losses)
    torch.testing.assert_close(losses, expected, **close)
    for i in range(meta["depth"] + 1):
        for kind, key in (("weight", "w"), ("bias", "b")):
            ours = learner.view(learner.parameters, f"layers.{i}.{kind}")
            theirs = torch.from_numpy(golden[f"final_{key}{i}"])
            torch.testing.assert_close(ours, theirs.expand_as(ours), **close)
    if meta["algorithm"] == "cbp":
        packed: Any = learner.interventions[0]
        assert np.array_equal(np.array(packed.events), golden["events"])
        for i, layer in enumerate(packed.layers):
            for ours, key in ((layer.utility, "util"), (layer.mean_activation, "mean"), (layer.age, "age")):
                theirs = torch.from_numpy(golden[f"final_{key}{i}"]).to(ours.dtype)
                torch.testing.assert_close(ours, theirs.expand_as(ours), **close)


@needs_golden
@pytest.mark.parametrize("runs", [1, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", FILES)
def test_trajectory_of_the_authors_code(name: str, runs: int) -> None:
    golden, meta = read(name)
    make, optimizer, interventions, loss = parts(golden, meta)
    packs = [[one] * runs for one in interventions]
    learner = TorchLearner(make, [optimizer] * runs, packs, list(range(runs)), loss, torch.float64)
    inject(learner, golden, meta)
    xs, ys = torch.from_numpy(golden["x"]), torch.from_numpy(golden["y"])
    losses = []
    for step, (x, y) in enumerate(zip(xs, ys, strict=True)):
        if step % 1_000 == 0:
            learner.plan(step, min(1_000, len(xs) - step))
        losses.append(learner.learn(x.expand(runs, *x.shape), y.expand(runs, *y.shape), step)[0])
    compare(learner, torch.stack(losses), golden, meta)


@needs_golden
@pytest.mark.parametrize("longest", [1, 1_000])
@pytest.mark.parametrize("name", FILES)
def test_trajectory_of_the_authors_code_on_the_fused_engine(name: str, longest: int) -> None:
    """One step to a call; and as many as there are to the next replacement, with what the loop carries along."""
    golden, meta = read(name)
    make, optimizer, interventions, loss = parts(golden, meta)
    learner = FusedLearner(make, optimizer, interventions, 0, loss, torch.float64)
    inject(learner, golden, meta)
    task = GivenTask(golden["x"].reshape(-1, golden["x"].shape[2]), golden["y"].reshape(-1, *golden["y"].shape[2:]))
    (steps, batch), step, losses = golden["x"].shape[:2], 0, []
    due = np.zeros(1_000, bool)
    while step < steps:
        t = step % 1_000
        if interventions and t == 0:
            due = schedule(learner, step, min(1_000, steps - step))
        count = min(longest, 1_000 - t, steps - step, *(np.flatnonzero(due[t:])[:1] + 1).tolist())
        losses.append(learner.run([task], batch, first=step, start=step, steps=count, interval=count)[0])
        assert len(losses[-1]) == count
        step += count
        if due[t + count - 1]:
            with torch.no_grad():
                learner.interventions[0].after_update(step - 1)
    compare(learner, torch.cat(losses), golden, meta)


def schedule(learner: FusedLearner, step: int, steps: int) -> NDArray[np.bool_]:
    """Plan replacements for the object to do; the loop itself, at a rate of next to 0, only keeps the averages."""
    packed: Any = learner.interventions[0]
    packed.rates[:] = packed.options[0].replacement_rate
    packed.plan(step, steps)
    packed.rates[:] = 1e-300
    packed.acting = [False] * len(packed.layers)  # the averages are current when it is asked to replace
    due = np.zeros(1_000, bool)
    due[:steps] = packed.due
    return due


@needs_golden
@pytest.mark.parametrize("runs", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_trajectory_of_the_authors_convolutional_code(runs: int) -> None:
    """Also what they do silently otherwise here: the rate is a share of all units."""
    golden, meta = read("conv_cbp")
    names = ConvNet((3, 32, 32), 2).weights()
    cbp = ContinualBackprop(
        meta["replacement_rate"], meta["maturity_threshold"], meta["decay_rate"], meta["util_type"], rate_of="all"
    )
    sgd, seeds = SGD(meta["step_size"], meta["momentum"]), list(range(runs))
    learner = TorchLearner(
        lambda: ConvNet((3, 32, 32), 2), [sgd] * runs, [[cbp] * runs], seeds, "cross_entropy", torch.float64
    )
    packed: Any = learner.interventions[0]
    packed.__class__, packed.golden, packed.events = InjectedBackprop, golden, []

    def pairs(prefix: str) -> list[tuple[Tensor, Tensor]]:
        """(weights or biases of the pack, the golden ones), layer by layer."""
        found = []
        for i, name in enumerate(names):
            for ours, key in ((name, "w"), (name.removesuffix("weight") + "bias", "b")):
                theirs = torch.from_numpy(golden[f"{prefix}_{key}{i}"]).double()
                found.append((learner.view(learner.parameters, ours), theirs))
        return found

    with torch.no_grad():
        for ours, theirs in pairs("init"):
            ours.copy_(theirs)
    images = torch.from_numpy(golden["x"]).double().flatten(2) / 255 * 2 - 1
    labels = torch.from_numpy(golden["y"])
    learner.plan(0, len(images))
    losses = [
        learner.learn(x.expand(runs, *x.shape), y.expand(runs, *y.shape), step)[0]
        for step, (x, y) in enumerate(zip(images, labels, strict=True))
    ]
    expected = torch.from_numpy(golden["losses"]).unsqueeze(1).expand(-1, runs)
    torch.testing.assert_close(torch.stack(losses), expected, rtol=0, atol=1e-8)
    for ours, theirs in pairs("final"):
        tolerance = 1e-7 if theirs.dim() > 1 else 1e-8  # golden weights are rounded to float32
        torch.testing.assert_close(ours, theirs.expand_as(ours), rtol=1e-7, atol=tolerance)
    assert np.array_equal(np.array(packed.events), golden["events"])
    for i, layer in enumerate(packed.layers):
        for ours, key in ((layer.utility, "util"), (layer.age, "age")):
            theirs = torch.from_numpy(golden[f"final_{key}{i}"]).to(ours.dtype)
            torch.testing.assert_close(ours, theirs.expand_as(ours), rtol=0, atol=1e-8)


@needs_golden
@pytest.mark.parametrize("k", range(4))
def test_rank_summaries_of_the_authors_code(k: int) -> None:
    with np.load(GOLDEN / "ranks.npz", allow_pickle=False) as golden:
        h = torch.from_numpy(golden[f"activations{k}"])
        sigma = rank.singular_values(h)
        assert float(rank.effective_rank(sigma)) == pytest.approx(float(golden[f"effective_rank{k}"]), rel=1e-6)
        assert int(rank.approximate_rank(sigma)) == golden[f"approximate_rank{k}"]
        assert int(rank.srank99(sigma)) == golden[f"abs_approximate_rank{k}"]
        assert round(float(units.dead_fraction(units.statistics(h))) * h.shape[1]) == golden[f"dead_units{k}"]
