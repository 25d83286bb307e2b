"""TRAC against trajectories of its authors' code, with erfi as coded and exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import special

from lop_sweeps.optimizers import erfi
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.trac import TRAC, PackedTRAC
from tests.field.golden import PACKS, Golden, assert_final, needs_field, run_of

FILES = ("trac_sgd", "trac_adam", "trac_sgd_exact", "trac_adam_exact", "trac_sgd_stuck")
CPU = torch.device("cpu")


def options(golden: Golden) -> TRAC:
    meta = golden.meta
    base: Optimizer = Adam() if meta["base"] == "Adam" else SGD(momentum=meta.get("momentum", 0.0))
    kind = "authors" if meta["erfi"] == "as coded" else "exact"
    return TRAC(base, meta["lr"], betas=meta["trac_betas"], s_prev=meta["s_prev"], eps=meta["eps"], erfi=kind)


@needs_field
@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("name", FILES)
def test_parity(name: str, pack: int) -> None:
    golden = Golden(name)
    learner = golden.learner(options(golden), pack=pack)
    optimizer = learner.optimizer
    assert isinstance(optimizer, PackedTRAC)
    seen: dict[str, list[np.ndarray]] = {"s": [], "sigma": [], "variance": []}

    def note(step: int) -> None:
        for values, state in zip(seen.values(), (optimizer.scales, optimizer.sums, optimizer.variances), strict=True):
            values.append(state[pack // 2].numpy().copy())

    losses = golden.replay(learner, note)
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-8)
    np.testing.assert_allclose(seen["s"], golden["s"], rtol=1e-7, atol=1e-14)
    for key in ("sigma", "variance"):
        np.testing.assert_allclose(seen[key], golden[key], rtol=1e-8, atol=1e-8)
    assert_final(golden, learner, atol=1e-8)
    names = {
        "final_m_": "base.moment1" if golden.meta["base"] == "Adam" else "base.momentum",
        "final_v_": "base.moment2",
    }
    for prefix, state in names.items():
        for key, value in golden.parameters(prefix).items():
            ours = run_of(learner, optimizer.state()[state], key)
            np.testing.assert_allclose(ours.numpy(), value, rtol=0, atol=1e-8)


@needs_field
@pytest.mark.parametrize("name", ["trac_sgd", "trac_sgd_exact"])
def test_erfi_is_that_of_the_authors_or_exact(name: str) -> None:
    golden = Golden(name)
    kind = "authors" if golden.meta["erfi"] == "as coded" else "exact"
    ours = erfi.chosen(kind, CPU)(torch.from_numpy(golden["erfi_x"]))
    np.testing.assert_allclose(ours.numpy(), golden["erfi_y"], rtol=1e-13, atol=0)


def test_exact_erfi_is_scipys() -> None:
    x = np.concatenate([np.logspace(-14, np.log10(26.6), 400), -np.logspace(-8, 1.4, 50), [0.0]])
    np.testing.assert_allclose(erfi.exact(torch.from_numpy(x)).numpy(), special.erfi(x), rtol=1e-12, atol=0)
