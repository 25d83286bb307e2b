"""Muon against its authors' code, on given gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.muon import Muon, newton_schulz
from tests.field.golden import PACKS, Golden, needs_field

BFLOAT16 = 5e-2  # what rounding makes of the parameters; of the iteration alone, twice that


class Weights(Network):
    """Nothing but parameters of these shapes, all of them hidden."""

    def __init__(self, shapes: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.given = nn.ParameterList(torch.zeros(tuple(shape)) for shape in shapes)

    def heads(self) -> tuple[str, ...]:
        return ()


class Given:
    """The layout of a pack of such networks."""

    def __init__(self, shapes: Sequence[Sequence[int]], runs: int) -> None:
        self.network, self.seeds = Weights(shapes), range(runs)
        self.places = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)])

    def view(self, flat: Tensor, name: str) -> Tensor:
        at = int(name.rpartition(".")[2])
        return flat[:, self.places[at] : self.places[at + 1]].view(len(flat), *self.network.given[at].shape)


def flat(golden: Golden, name: str, step: int | None = None) -> Tensor:
    """All parameters' arrays of this name as one vector."""
    keys = [name.format(i) for i in range(len(golden.meta["shapes"]))]
    arrays = [golden[key] if step is None else golden[key][step] for key in keys]
    return torch.from_numpy(np.concatenate([array.ravel() for array in arrays]))


@needs_field
@pytest.mark.parametrize("bfloat16", [False, True])
@pytest.mark.parametrize("pack", PACKS)
def test_parity(pack: int, bfloat16: bool) -> None:
    golden = Golden("muon")
    meta: dict[str, Any] = golden.meta
    options = Muon(
        step_size=meta["lr"],
        momentum=meta["momentum"],
        weight_decay=meta["weight_decay"],
        iterations=meta["ns_steps"],
        bfloat16=bfloat16,
        adam_step_size=meta["adam_lr"],
        adam_beta1=meta["adam_betas"][0],
        adam_beta2=meta["adam_betas"][1],
        adam_eps=meta["adam_eps"],
    )
    parameters = flat(golden, "init{}").expand(pack, -1).clone()
    layout = Given(meta["shapes"], pack)
    optimizer = options.pack([options] * pack, parameters, resets_units=False)
    optimizer.attach(layout)
    atol = BFLOAT16 if bfloat16 else 1e-10
    for step in range(len(golden["grad0"])):
        gradient = flat(golden, "grad{}", step)
        beside = torch.arange(1, pack).unsqueeze(1) * gradient.flip(0)
        optimizer.update(parameters, torch.cat((gradient[None], beside)))
        recorded = flat(golden, "param{}_bf16" if bfloat16 else "param{}_f64", step)
        torch.testing.assert_close(parameters[0], recorded, rtol=0, atol=atol)
        for i, shape in enumerate(meta["shapes"]):
            if len(shape) > 1:
                ours = layout.view(optimizer.moment1, f"given.{i}")[0]
                np.testing.assert_allclose(ours.numpy(), golden[f"momentum{i}"][step], rtol=0, atol=1e-10)


@needs_field
@pytest.mark.parametrize(("dtype", "suffix", "atol"), [(torch.float64, "", 1e-10), (torch.bfloat16, "_bf16", 0.1)])
def test_iteration(dtype: torch.dtype, suffix: str, atol: float) -> None:
    golden = Golden("muon")
    names = [name for name in golden.arrays if name.startswith("ns_in")]
    assert names
    for name in names:
        given = torch.from_numpy(golden[name])[None]
        ours = newton_schulz(given.to(dtype), golden.meta["ns_steps"])[0].double()
        np.testing.assert_allclose(ours.numpy(), golden[f"ns_out{name[5:]}{suffix}"], rtol=0, atol=atol)
