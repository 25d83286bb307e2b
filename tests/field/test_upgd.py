"""UPGD and AdaUPGD against trajectories of their authors' code, with the authors' noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lop_sweeps.optimizers.adaupgd import AdaUPGD
from lop_sweeps.optimizers.upgd import UPGD, PackedUPGD
from lop_sweeps.training.learner import TorchLearner
from tests.field.golden import Golden, alone_and_in_a_pack, assert_final, needs_field, run_of

FILES: dict[str, dict[str, Any]] = {
    "upgd_global": {},
    "upgd_global_nonprotecting": {"protecting": False},
    "upgd_local": {"scope": "local"},
    "upgd_readme": {"profile": "readme"},
    "upgd_feature_global": {"scope": "feature_wise"},
    "adaupgd": {},
}
TOLERANCE: dict[str, Any] = {"rtol": 0, "atol": 1e-10}


def options(golden: Golden) -> UPGD:
    meta, names = golden.meta, ("beta1", "beta2", "eps")
    kind = AdaUPGD if "beta1" in meta else UPGD
    return kind(
        step_size=meta["lr"],
        noise_std=meta["sigma"],
        beta_utility=meta["beta_utility"],
        weight_decay=meta["weight_decay"],
        **{name: meta[name] for name in names if name in meta},
        **FILES[golden.name],
    )


def with_the_authors_noise(golden: Golden, learner: TorchLearner) -> PackedUPGD:
    optimizer = learner.optimizer
    assert isinstance(optimizer, PackedUPGD)
    rows = golden.parameters("noise_")
    drawn = torch.cat(
        [torch.from_numpy(rows[name]).flatten(1) for name, _ in learner.network.named_parameters()], dim=1
    )

    def draws() -> Tensor:
        return drawn[optimizer.step % len(drawn)].expand(len(learner.seeds), -1).clone()

    optimizer.draws = draws  # type: ignore[method-assign]
    return optimizer


@needs_field
@alone_and_in_a_pack(FILES)
def test_parity(name: str, pack: int) -> None:
    golden = Golden(name)
    learner = golden.learner(options(golden), pack=pack)
    optimizer = with_the_authors_noise(golden, learner)
    np.testing.assert_allclose(golden.replay(learner), golden["losses"], **TOLERANCE)
    assert_final(golden, learner)
    for prefix, state in (("final_utility_", "utility"), ("final_m_", "moment1"), ("final_v_", "moment2")):
        for key, value in golden.parameters(prefix).items():
            np.testing.assert_allclose(run_of(learner, optimizer.state()[state], key).numpy(), value, **TOLERANCE)
    if optimizer.units is not None:
        of_units = optimizer.units.sums(optimizer.utility)[pack // 2]
        recorded = np.concatenate([golden[f"final_gate_utility{i}"] for i in range(len(learner.graph))])
        np.testing.assert_allclose(of_units.numpy(), recorded, **TOLERANCE)
