"""Selective weight reinitialisation against its authors' trajectories: which entries, when, and what follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps.algorithms.selective_weight_reinitialization import (
    PackedSelectiveWeightReinitialization,
    SelectiveWeightReinitialization,
)
from lop_sweeps.optimizers.sgd import SGD, PackedSGD
from tests.field.golden import PACKS, GivenMLP, Golden, needs_field, run_of

pytestmark = needs_field


class DecoupledSGD(SGD):
    """The authors': weights decay first, beside momentum."""

    def pack(self, peers: Sequence[SGD], parameters: Tensor, *, resets_units: bool) -> PackedSGD:
        return PackedDecoupledSGD(peers, parameters)


class PackedDecoupledSGD(PackedSGD):
    def update(self, parameters: Tensor, gradient: Tensor) -> None:
        parameters.mul_(1 - self.step_size * self.weight_decay)
        self.decays = False
        super().update(parameters, gradient)


def names(golden: Golden) -> list[str]:
    """The tensors of a file, by the names of our network."""
    found = []
    for tensor in golden.meta["tensors"]:
        module, _, kind = tensor.partition(".")
        layer = golden.meta["depth"] if module == "out" else int(module.partition("_")[2]) - 1
        found.append(f"{'norms' if module.startswith('ln') else 'layers'}.{layer}.{kind}")
    return found


def of_file(golden: Golden, prefix: str) -> dict[str, NDArray[Any]]:
    return {name: golden[f"{prefix}{i}"] for i, name in enumerate(names(golden)) if f"{prefix}{i}" in golden.arrays}


def network(golden: Golden) -> GivenMLP:
    given = of_file(golden, "init_p")
    weights = [value for name, value in given.items() if name.startswith("layers") and name.endswith("weight")]
    norm = {"norm": "layer", "norm_after": True} if golden.meta["layer_norm"] else {}
    widths = [len(weight) for weight in weights]
    return GivenMLP(
        given, weights[0].shape[1], widths[-1], hidden=widths[:-1], activation=golden.meta["activation"], **norm
    )


@pytest.mark.parametrize("pack", PACKS)
@pytest.mark.parametrize("name", ["swr_threshold_gradient", "swr_proportional_gradient", "swr_layernorm_ema"])
def test_selective_weight_reinitialization(name: str, pack: int) -> None:
    golden, run = Golden(name), pack // 2
    meta, tensors = golden.meta, names(golden)
    method = SelectiveWeightReinitialization(
        period=meta["reinit_freq"],
        reinit_factor=meta["reinit_factor"],
        pruning=meta["pruning_method"],
        utility=meta["utility_function"],
        decay_rate=meta["decay_rate"],
        reinitialisation=meta["reinit_strat"],
    )
    optimizer = DecoupledSGD(meta["lr"], meta["momentum"], meta["weight_decay"])
    learner = golden.learner(optimizer, [method], pack, lambda: network(golden))
    packed = learner.interventions[0]
    assert isinstance(packed, PackedSelectiveWeightReinitialization)
    events = golden["events"]
    tests = {(int(step), int(tensor)): row for step, tensor, *row in golden["tests"].tolist()}
    chosen, number, drawn, ours = packed.chosen, packed.number, packed.drawn, []

    def theirs(step: int, tensor: int) -> NDArray[np.bool_]:
        """Which events are of this step and tensor."""
        return (events[:, 0] == step) & (events[:, 1] == tensor)

    def watched(i: int, utility: Tensor, step: int) -> Tensor:
        """Our choice, except of which of several equal entries is the last."""
        mask, tensor = chosen(i, utility, step), tensors.index(learner.parameter_names[i])
        of_run = utility[run]
        found = torch.zeros_like(mask[run])
        found[events[theirs(step, tensor), 2]] = True
        ours.append([step, tensor, float(of_run.mean()), float(of_run.min()), int(mask[run].sum())])
        if meta["pruning_method"] == "threshold":
            assert torch.equal(mask[run], found)
        else:
            assert torch.equal(of_run[mask[run]].sort().values, of_run[found].sort().values)
        mask[run] = found
        return mask

    def counted(i: int, entries: int, step: int) -> Tensor:
        """The authors' rounding."""
        count, tensor = number(i, entries, step), tensors.index(learner.parameter_names[i])
        assert abs(int(tests[step, tensor][-1]) - meta["reinit_factor"] * entries) < 1
        count[run] = int(tests[step, tensor][-1])
        return count

    def injected(of: int, step: int) -> dict[str, Tensor]:
        """Their draws; entries without one do not begin anew."""
        new = dict(drawn(of, step))
        if of == run:
            for tensor, key in enumerate(tensors):
                which = theirs(step, tensor)
                if meta["param_stds"][tensor] == 0:
                    np.testing.assert_array_equal(golden["event_values"][which], meta["param_means"][tensor])
                    continue
                flat = new[key].flatten()
                flat[events[which, 2]] = torch.from_numpy(golden["event_values"][which])
                new[key] = flat.view_as(new[key])
        return new

    packed.chosen, packed.number, packed.drawn = watched, counted, injected  # type: ignore[method-assign]
    losses = golden.replay(learner)
    expected = sorted(golden["tests"].tolist())
    np.testing.assert_allclose(sorted(ours), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(losses, golden["losses"], rtol=0, atol=1e-10)
    state = learner.optimizer.state()
    for prefix, flat in (
        ("final_p", learner.parameters),
        ("final_m_p", state.get("momentum")),
        ("final_utility_p", packed.averages),
    ):
        for key, value in of_file(golden, prefix).items():
            assert flat is not None
            np.testing.assert_allclose(run_of(learner, flat, key), value, rtol=0, atol=1e-10, err_msg=f"{prefix} {key}")
