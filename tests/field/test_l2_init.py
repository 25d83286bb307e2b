"""L2 Init, with all its penalties and anchors, against its authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lop_sweeps.algorithms.l2_init import L2Init, PackedL2Init
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.learner import TorchLearner
from tests.field.golden import Golden, alone_and_in_a_pack, assert_final, needs_field, run_of

FILES = {
    "l2init_sgd": 1e-10,
    "l2init_adam": 1e-10,
    "l2init_resampled_adam": 1e-10,
    "l1init_sgd": 1e-10,
    "huberinit_adam": 1e-9,
}


def optimizer(meta: dict[str, Any]) -> Optimizer:
    if meta["optimizer"] == "SGD":
        return SGD(meta["lr"])
    return Adam(meta["lr"], *meta["betas"], meta["eps"])


def method(meta: dict[str, Any]) -> L2Init:
    (penalty,) = [key for key in ("l2", "l1", "huber") if f"{key}_weight" in meta]
    anchor = "resampled" if meta["sample_init_values"] else "initial"
    return L2Init(meta[f"{penalty}_weight"], anchor, penalty)


@needs_field
@alone_and_in_a_pack(FILES)
def test_the_authors_steps(name: str, pack: int, monkeypatch: pytest.MonkeyPatch) -> None:
    golden = Golden(name)
    learner = golden.learner(optimizer(golden.meta), [method(golden.meta)], pack)
    if golden.meta["pool"]:
        monkeypatch.setattr(PackedL2Init, "anchor", pooled(golden, learner))
    losses = golden.replay(learner)
    tolerance = FILES[name]
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=tolerance)
    assert_final(golden, learner, tolerance)
    for kind, ours in (("m", "moment1"), ("v", "moment2")):
        for i in range(len(learner.network.weights()) if f"final_{kind}_w0" in golden.arrays else 0):
            for letter, part in (("w", "weight"), ("b", "bias")):
                moment = run_of(learner, learner.optimizer.state()[ours], f"layers.{i}.{part}")
                expected = golden[f"final_{kind}_{letter}{i}"]
                np.testing.assert_allclose(moment.numpy(), expected, rtol=0, atol=tolerance)


def pooled(golden: Golden, learner: TorchLearner) -> Any:
    """The authors' draws, in place of ours."""
    rows = golden.parameters("fresh_")
    fresh = []
    for row in range(golden.meta["pool"]):
        flat = torch.zeros_like(learner.parameters)
        for name, values in rows.items():
            learner.view(flat, name).copy_(torch.from_numpy(values[row]).expand(len(flat), *values.shape[1:]))
        fresh.append(flat)
    return lambda self, step: fresh[step % len(fresh)]


def test_decoupled_the_optimiser_does_not_see_the_pull() -> None:
    """theta <- theta - a lambda (theta - theta_0) beside Adam's step, both from the parameters before it."""

    def network() -> MLP:
        return MLP(5, 3, [6], norm="layer")

    x = torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(2, 4, dtype=torch.int64)
    strengths = (0.3, 0.7)
    plain, pulled = (
        TorchLearner(network, [Adam(0.01)] * 2, methods, (0, 1), "cross_entropy", torch.float64)
        for methods in ([], [[L2Init(strength, coupling="decoupled") for strength in strengths]])
    )
    for learner in (plain, pulled):
        learner.plan(0, 2)
    initial = pulled.parameters.clone()
    plain.learn(x, y, 0)
    pulled.learn(x, y, 0)
    assert torch.equal(plain.parameters, pulled.parameters)  # theta is theta_0
    plain.learn(x, y, 1)
    before = pulled.parameters.clone()
    pulled.learn(x, y, 1)
    for name in pulled.parameter_names:
        ours, theirs = pulled.view(pulled.parameters, name), plain.view(plain.parameters, name)
        distance = pulled.view(before - initial, name)
        strength = torch.tensor(strengths, dtype=torch.float64).view(2, *[1] * (distance.dim() - 1))
        expected = theirs if name.startswith("norms") else theirs - 0.01 * strength * distance
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-15)
