"""Weight clipping against its authors' code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lop_sweeps.algorithms.weight_clipping import PackedWeightClipping, WeightClipping
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.sgd import SGD
from tests.field.golden import PACKS, Golden, assert_final, needs_field


def optimizer(meta: dict[str, Any]) -> Optimizer:
    """Adam's other settings are PyTorch's where the file does not say."""
    decay = meta.get("weight_decay", 0.0)
    if meta["optimizer"].endswith("SGD"):
        return SGD(meta["lr"], momentum=meta.get("momentum", 0.0), weight_decay=decay)
    return Adam(meta["lr"], *meta.get("betas", (0.9, 0.999)), meta.get("eps", 1e-8), weight_decay=decay)


@needs_field
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("name", ["weight_clipping_sgd", "weight_clipping_adam"])
def test_the_authors_steps(name: str, pack: int) -> None:
    golden = Golden(name)
    method = WeightClipping(golden.meta["zeta"], golden.meta["clip_last_layer"])
    learner = golden.learner(optimizer(golden.meta), [method], pack)
    (packed,) = learner.interventions
    assert isinstance(packed, PackedWeightClipping)
    shares: list[float] = []

    def note(step: int) -> None:
        entries = np.array(packed.entries)
        shares.append(float(np.array(packed.report(pack // 2)["clipped_fraction"]) @ entries / entries.sum()))
        packed.clear_report()

    np.testing.assert_allclose(golden.replay(learner, note), golden["losses"], rtol=0, atol=1e-10)
    assert_final(golden, learner)
    np.testing.assert_allclose(shares, golden["clipped_share"], rtol=0, atol=1e-6)
    assert max(shares) > 0
