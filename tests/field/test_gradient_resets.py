"""ReGraMa and calibrated partial resets against their authors' trajectories; GraMa's masks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lop_sweeps.algorithms.calibrated_partial_resets import CalibratedPartialResets, PackedCalibratedPartialResets
from lop_sweeps.algorithms.regrama import PackedReGraMa, ReGraMa
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import Reader, Rows, UnitLayer
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


# GraMa: the authors' masks are those of a score of gradients; what our class offers of their event is compared.

HIDDEN = ("conv", "f1", "f2")


class Modules(Network):
    """The modules of the file; nothing is computed with them."""

    def __init__(self, golden: Golden) -> None:
        super().__init__()
        self.golden = golden
        for module in golden.meta["modules"]:
            child = nn.Module()
            for kind in ("weight", "bias"):
                child.register_parameter(kind, nn.Parameter(torch.zeros(golden[f"grad_{module}.{kind}"].shape)))
            self.add_module(module, child)
        self.rest = nn.Linear(len(golden["grad_conv.bias"]), 1)  # reads the convolution

    def weights(self) -> tuple[str, ...]:
        return ("conv.weight", "rest.weight", "f1.weight", "f2.weight", "out.weight")

    def initialize(self, draw: Callable[[int], np.random.Generator]) -> None:
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                if f"before_param_{name}" in self.golden.arrays:
                    parameter.copy_(torch.from_numpy(self.golden[f"before_param_{name}"]))

    def unit_graph(self) -> tuple[UnitLayer, ...]:
        readers = {"conv": "rest", "f1": "f2", "f2": "out"}
        return tuple(
            UnitLayer(
                units=len(self.golden[f"grad_{name}.bias"]),
                incoming=[Rows(f"{name}.weight", f"{name}.bias", self.golden[f"grad_{name}.weight"][0].size, 1.0)],
                readers=[Reader(f"{readers[name]}.weight", f"{readers[name]}.bias")],
                norm=[("ln.weight", 1.0), ("ln.bias", 0.0)] if name == "f1" else [],
            )
            for name in HIDDEN
        )


def grama(golden: Golden, pack: int, prefix: str, **options: Any) -> tuple[TorchLearner, PackedReGraMa, Tensor]:
    """A learner, what acts in it, and the gradient of the file in the run that is the file's."""
    method = ReGraMa(signal="weight_gradient", **options)
    learner = TorchLearner(
        lambda: Modules(golden), [Adam()] * pack, [[method] * pack], range(pack), "cross_entropy", torch.float64
    )
    packed = learner.interventions[0]
    assert isinstance(packed, PackedReGraMa)
    gradient = torch.rand_like(learner.parameters)
    for name in learner.parameter_names:
        if f"{prefix}{name}" in golden.arrays:
            run_of(learner, gradient, name).copy_(torch.from_numpy(golden[f"{prefix}{name}"]))
    return learner, packed, gradient


@pytest.mark.parametrize("pack", PACKS)
def test_grama_masks(pack: int) -> None:
    golden, run = Golden("grama"), pack // 2
    for threshold in golden.meta["taus"]:
        _, packed, gradient = grama(golden, pack, "grad_", threshold=threshold)
        for i, score in enumerate(packed.scores(gradient)):
            mask = golden[f"mask_threshold{threshold}_{HIDDEN[i]}"]
            np.testing.assert_array_equal(packed.inactive(i, score)[run], mask)
    share = golden.meta["max_percentage"] / 100
    _, packed, gradient = grama(golden, pack, "grad_", threshold=golden.meta["tau_event"], max_reset_fraction=share)
    for i, score in enumerate(packed.scores(gradient)):
        ours, theirs = packed.inactive(i, score)[run], torch.from_numpy(golden[f"mask_hybrid_{HIDDEN[i]}"])
        # Which of several equal scores is taken is arbitrary there.
        assert torch.equal(score[run][ours].sort().values, score[run][theirs].sort().values)


@pytest.mark.parametrize("pack", PACKS)
def test_grama_event(pack: int) -> None:
    """Incoming weights, biases, their moments and counts of hidden units; outgoing weights they leave, we do not."""
    golden, run = Golden("grama"), pack // 2
    learner, packed, gradient = grama(golden, pack, "before_grad_", threshold=golden.meta["tau_event"])
    state = learner.optimizer.state()
    flats = {"param": learner.parameters, "m": state["moment1"], "v": state["moment2"]}
    for kind, flat in flats.items():
        for name in learner.parameter_names:
            if f"before_{kind}_{name}" in golden.arrays:
                run_of(learner, flat, name).copy_(torch.from_numpy(golden[f"before_{kind}_{name}"]))
    counts = state["power1"].mul_(0.5).clone()
    draw = packed.resets.draw

    def injected(step: int, i: int, of: int, units: Tensor) -> Tensor:
        theirs = torch.from_numpy(golden[f"after_param_{HIDDEN[i]}.weight"])[units].flatten(1)
        return theirs if of == run else draw(step, i, of, units)

    packed.resets.draw = injected  # type: ignore[method-assign]
    with torch.no_grad():
        packed.before_update(gradient, 2)
        packed.after_update(2)
    assert torch.equal(state["power1"], counts)
    silent = {}
    for i, name in enumerate(HIDDEN):
        silent[name] = packed.chosen[i][run].numpy()
        assert silent[name].any()
        for kind, flat in flats.items():
            for part in ("weight", "bias"):
                ours = run_of(learner, flat, f"{name}.{part}").numpy()
                theirs = golden[f"after_{kind}_{name}.{part}"].copy()
                if (name, part) == ("f2", "weight"):
                    theirs[np.ix_(~silent["f2"], silent["f1"])] = 0
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-10, err_msg=f"{kind} {name}.{part}")
