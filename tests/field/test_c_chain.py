"""C-CHAIN's churn term against a trajectory of its authors' code: PPO on given mini-batches."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.c_chain import CChain, PackedCChain, of_classes
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.learner import TorchLearner
from tests.field.golden import PACKS, GivenMLP, Golden, needs_field, run_of

ABSENT = 3  # mini-batches of the run without the term, as its README says


class Given:
    """The observations that the term is to be measured on, by step and run."""

    task = 0

    def __init__(self, batches: Tensor, chosen: Tensor) -> None:
        self.batches, self.chosen = batches, chosen

    def other_batch(self, step: int) -> tuple[Tensor, None]:
        return self.batches[self.chosen[:, step]], None

    def asked(self, output: Tensor) -> Tensor:
        return output


def names(golden: Golden, prefix: str) -> dict[str, np.ndarray]:
    """The arrays of a network by the names of ours: fc1, fc2, ... are layers 0, 1, ..."""
    found = {key.removeprefix(prefix): value for key, value in golden.arrays.items() if key.startswith(prefix)}
    return {f"layers.{int(key[2]) - 1}.{key[4:]}": value for key, value in found.items()}


def make_learner(golden: Golden, network: str, interventions: list[CChain], pack: int) -> TorchLearner:
    given, slope = names(golden, f"init_{network}_"), golden.meta["negative_slope"]
    sizes = [len(given[f"layers.{i}.bias"]) for i in range(len(given) // 2)]

    def make() -> GivenMLP:
        options = {"hidden": sizes[:-1], "activation": "leaky_relu", "leaky_slope": slope}
        return GivenMLP(given, given["layers.0.weight"].shape[1], sizes[-1], **options)

    optimizers = [Adam(golden.meta["lr"])] * pack
    return TorchLearner(
        make, optimizers, [[one] * pack for one in interventions], range(pack), "cross_entropy", torch.float64
    )


def take_step(learner: TorchLearner, x: Tensor, step: int, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """One update by the gradient of losses (runs,) of the outputs."""
    output = learner.predict(x, step)
    leaf = output.detach().requires_grad_()
    losses = loss(leaf)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    learner.learn_from(output, gradient, step)
    return losses.detach()


@needs_field
@pytest.mark.parametrize("pack", PACKS)
def test_parity(pack: int) -> None:
    golden = Golden("c_chain")
    meta, own = golden.meta, pack // 2
    batches = {
        name.removeprefix("train_"): torch.from_numpy(golden[name]) for name in golden.arrays if "train_" in name
    }
    count = len(batches["actions"])
    orders = [torch.arange(count).repeat(meta["epochs"]), torch.arange(count).flip(0).repeat(meta["epochs"])]
    chosen = torch.stack(orders[:1] if pack == 1 else [orders[1], orders[0], orders[1]])
    term = CChain(form="cross_entropy", coefficient=meta["coefficient"], rule="fixed", absent=ABSENT)
    policy = make_learner(golden, "pi", [term], pack)
    value = make_learner(golden, "v", [], pack)
    policy.source = Given(torch.from_numpy(golden["reg_observations"]), chosen)  # type: ignore[assignment]
    packed = policy.interventions[0]
    assert isinstance(packed, PackedCChain)
    reference, low, high = torch.from_numpy(golden["ref_observations"]), 1 - meta["clip"], 1 + meta["clip"]
    policy_losses, value_losses, churns = [], [], []
    for step in range(chosen.shape[1]):
        at = {name: batch[chosen[:, step]] for name, batch in batches.items()}

        def of_policy(logits: Tensor, at: dict[str, Tensor] = at) -> Tensor:
            log = logits.log_softmax(2)
            taken = log.gather(2, at["actions"].long().unsqueeze(2)).squeeze(2)
            ratio = (taken - at["old_log_probabilities"]).exp()
            gain = torch.minimum(ratio * at["advantages"], ratio.clamp(low, high) * at["advantages"])
            entropy = -(log.exp() * log).sum(2)
            return -gain.mean(1) - meta["entropy_coef"] * entropy.mean(1)

        def of_value(values: Tensor, at: dict[str, Tensor] = at) -> Tensor:
            return meta["value_coef"] * (values.squeeze(2) - at["returns"]).square().mean(1)

        if step >= ABSENT:
            looked_at = reference[chosen[:, step]]
            churns.append(of_classes(policy.outputs_of(looked_at), policy.outputs_of(looked_at, packed.previous))[own])
        policy_losses.append(take_step(policy, at["observations"], step, of_policy)[own])
        value_losses.append(take_step(value, at["observations"], step, of_value)[own])
    for learner, network in ((policy, "pi"), (value, "v")):
        for name, final in names(golden, f"final_{network}_").items():
            ours = run_of(learner, learner.parameters, name).numpy()
            np.testing.assert_allclose(ours, final, rtol=0, atol=1e-10)
    assert sum(policy_losses) / len(policy_losses) == pytest.approx(float(golden["mean_p_loss"]), abs=1e-10)
    assert sum(value_losses) / len(value_losses) == pytest.approx(float(golden["mean_v_loss"]), abs=1e-10)
    assert packed.report(own)["output_churn"] == pytest.approx(float(golden["mean_p_reg_loss"]), abs=1e-10)
    assert sum(churns) / len(policy_losses) == pytest.approx(float(golden["mean_policy_churn"]), abs=1e-10)
