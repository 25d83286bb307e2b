"""SNR against its authors' trajectories: every integer exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.self_normalized_resets import PackedSelfNormalizedResets, SelfNormalizedResets
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from tests.field.golden import PACKS, Golden, assert_final, needs_field, run_of

pytestmark = needs_field


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("name", ["snr_sgd", "snr_adam"])
def test_self_normalized_resets(name: str, pack: int) -> None:
    golden, run = Golden(name), pack // 2
    meta = golden.meta
    method = SelfNormalizedResets(
        percentile=meta["threshold_percentile"],
        refresh_every=meta["threshold_reset_freq"],
        expansion=meta["threshold_expansion_factor"],
        tau_max=meta["tau_max"],
        initial_threshold=meta["threshold"],
        floor=meta["threshold_floor"],
        empty="authors",
    )
    adam = Adam(meta["lr"], *meta["betas"], meta["eps"])
    optimizer: Any = adam if meta["optimizer"] == "adam" else SGD(meta["lr"])
    learner = golden.learner(optimizer, [method], pack)
    packed = learner.interventions[0]
    assert isinstance(packed, PackedSelfNormalizedResets)
    rows, events = golden["events"].tolist(), []
    draw, shape = packed.resets.draw, golden["thresholds"].shape[1:]

    def injected(step: int, i: int, of: int, units: Tensor) -> Tensor:
        new = draw(step, i, of, units)
        if of == run:
            for row, unit in enumerate(units.tolist()):
                events.append([step, i, unit])
                theirs = golden["event_incoming_weights"][rows.index([step, i, unit])]
                new[row] = torch.from_numpy(theirs[: new.shape[1]])
        return new

    thresholds, histograms = [], []

    def end_of_task(step: int) -> None:
        task, within = divmod(step + 1, meta["task_length"])
        if within:
            return
        if task % meta["threshold_reset_freq"] == 0:
            histograms.append(packed.histograms[run].numpy().copy())
        for of in range(pack):
            packed.before_task(of, task)
        thresholds.append(packed.thresholds[run].numpy().copy())

    packed.resets.draw = injected  # type: ignore[method-assign]
    losses = golden.replay(learner, end_of_task)
    assert events == rows
    theirs = golden["histograms_at_refresh"]
    np.testing.assert_array_equal(np.stack(histograms).reshape(theirs.shape), theirs)
    np.testing.assert_array_equal(np.stack(thresholds).reshape(-1, *shape), golden["thresholds"])
    np.testing.assert_array_equal(packed.ages[run].view(shape), golden["final_age"])
    np.testing.assert_array_equal(packed.histograms[run].view(*shape, -1), golden["final_hist"])
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-10)
    assert_final(golden, learner)
    for ours, prefix in (("moment1", "final_m_"), ("moment2", "final_v_")):
        for parameter, value in golden.parameters(prefix).items():
            moment = run_of(learner, learner.optimizer.state()[ours], parameter)
            np.testing.assert_allclose(moment.numpy(), value, rtol=0, atol=1e-10)
