"""ReGraMa and calibrated partial resets against their authors' trajectories; GraMa's masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.calibrated_partial_resets import CalibratedPartialResets, PackedCalibratedPartialResets
from lop_sweeps.algorithms.regrama import PackedReGraMa, ReGraMa
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.training.learner import TorchLearner
from tests.field.golden import PACKS, Golden, assert_final, needs_field, run_of

pytestmark = needs_field


def adam(golden: Golden) -> Adam:
    beta1, beta2 = golden.meta["betas"]
    return Adam(golden.meta["lr"], beta1, beta2, golden.meta["eps"])


def assert_moments(golden: Golden, learner: TorchLearner) -> None:
    for ours, theirs in (("moment1", "final_m_"), ("moment2", "final_v_")):
        state = learner.optimizer.state()[ours]
        for name, value in golden.parameters(theirs).items():
            np.testing.assert_allclose(run_of(learner, state, name).numpy(), value, rtol=0, atol=1e-10)


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize(("name", "reset_optimizer"), [("regrama_adam", "moments"), ("regrama_adam_clipped", "none")])
def test_regrama(name: str, reset_optimizer: str, pack: int) -> None:
    """Units, scores, parameters and moments; with clipping their reset does not find the moments."""
    golden, run = Golden(name), pack // 2
    method = ReGraMa(
        golden.meta["score_threshold"],
        golden.meta["update_frequency"],
        "weight_gradient",
        reset_optimizer=reset_optimizer,
    )
    learner = golden.learner(adam(golden), [method], pack)
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReGraMa)
    scores, events = [], []
    scores_of, draw, draw_of = packed.scores, packed.resets.draw, golden["events"].tolist()

    def seen(gradient: Tensor) -> list[Tensor]:
        found = scores_of(gradient)
        scores.append(torch.cat([score[run] for score in found]).numpy())
        return found

    def injected(step: int, i: int, of: int, units: Tensor) -> Tensor:
        new = draw(step, i, of, units)
        if of == run:
            for row, unit in enumerate(units.tolist()):
                events.append([step, i, unit])
                theirs = golden["event_incoming_weights"][draw_of.index([step, i, unit])]
                new[row] = torch.from_numpy(theirs[: new.shape[1]])
        return new

    packed.scores, packed.resets.draw = seen, injected  # type: ignore[method-assign]
    losses = golden.replay(learner)
    assert events == golden["events"].tolist()
    assert sorted({step for step, _, _ in events}) == golden["event_steps"].tolist()
    np.testing.assert_allclose(np.stack(scores), golden["scores"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-10)
    assert_final(golden, learner)
    assert_moments(golden, learner)


@pytest.mark.parametrize("pack", PACKS)
def test_calibrated_partial_resets(pack: int) -> None:
    golden, run = Golden("cpr_adam"), pack // 2
    meta = golden.meta
    method = CalibratedPartialResets(
        meta["replacement_rate"],
        meta["update_frequency"],
        meta["sharpness"],
        meta["threshold"],
        meta["decay_rate"],
        meta["transform_type"],
    )
    learner = golden.learner(adam(golden), [method], pack)
    packed = learner.interventions[0]
    assert isinstance(packed, PackedCalibratedPartialResets)
    steps, utilities = golden["event_steps"].tolist(), []
    draw_all = packed.resets.draw_all

    def injected(step: int, i: int) -> Tensor:
        new = draw_all(step, i)
        new[run] = torch.from_numpy(golden[f"fresh_w{i}"][steps.index(step)])
        return new

    def note(step: int) -> None:
        if step % 25 == 0:
            utilities.append(torch.cat([utility[run] for utility in packed.utilities]).numpy())

    packed.resets.draw_all = injected  # type: ignore[method-assign]
    losses = golden.replay(learner, note)
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-10)
    np.testing.assert_allclose(np.stack(utilities), golden["utilities_every_25"], rtol=0, atol=1e-10)
    for i, utility in enumerate(packed.utilities):
        np.testing.assert_allclose(utility[run].numpy(), golden[f"final_utility{i}"], rtol=0, atol=1e-10)
    assert_final(golden, learner)
    assert_moments(golden, learner)
