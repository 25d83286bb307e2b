"""The fused engine computes what the torch engine computes: every algorithm, activation and loss, all of the state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lop_sweeps.algorithms.calibrated_partial_resets import CalibratedPartialResets
from lop_sweeps.algorithms.continual_backprop import UTILITIES, ContinualBackprop
from lop_sweeps.algorithms.l2_init import L2Init
from lop_sweeps.algorithms.self_normalized_resets import SelfNormalizedResets
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.algorithms.weight_clipping import WeightClipping
from lop_sweeps.fused.activations import ELEMENTWISE
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.networks.activations import choose
from lop_sweeps.networks.initialization import LAWS
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam, AdamW
from lop_sweeps.optimizers.adaupgd import AdaUPGD
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.upgd import UPGD
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.learner import TorchLearner
from tests.fused.engines import (
    LOSSES,
    SIZES,
    assert_same_state,
    fused,
    image_task,
    replaced,
    task_for,
    unfused,
)

STEPS, INTERVAL = 3_000, 700
EXACT = 1e-9


@dataclass(frozen=True)
class Algorithm:
    optimizer: Any  # an Optimizer
    interventions: tuple[Any, ...] = ()  # Interventions
    dropout: float = 0.0


def cbp(utility: str = "contribution", **options: Any) -> ContinualBackprop:
    """Continual backprop that replaces often."""
    return ContinualBackprop(**{"replacement_rate": 0.002, "maturity_threshold": 40, "utility": utility, **options})


def perturb(std: float = 1e-4, noise: str = "per_step") -> ShrinkAndPerturb:
    return ShrinkAndPerturb(std, noise)


def snr(**options: Any) -> SelfNormalizedResets:
    """Self-normalised resets of units that are silent for a short while."""
    return SelfNormalizedResets(**{"tau_max": 60, "initial_threshold": 25, **options})


def cpr(**options: Any) -> CalibratedPartialResets:
    """Calibrated partial resets that go back often and far."""
    return CalibratedPartialResets(**{"period": 40, "replacement_rate": 0.1, **options})


PLAIN, L2 = SGD(0.01), SGD(0.01, weight_decay=0.01)
MOMENTUM = SGD(0.001, 0.9)
FOLDED = SGD(0.02, weight_decay=1.0)  # the scale of the weights is multiplied into them within an interval

# What may share a pack of the torch engine shares a row.
TABLE: dict[str, list[Algorithm]] = {
    "backprop": [Algorithm(PLAIN), Algorithm(L2), Algorithm(FOLDED)],
    "folded": [Algorithm(FOLDED, (cbp(),))],
    "momentum": [Algorithm(MOMENTUM), Algorithm(SGD(0.001, 0.9, weight_decay=0.01))],
    "adam": [Algorithm(Adam(0.001)), Algorithm(Adam(0.001, 0.99, 0.99, weight_decay=0.01))],
    "adam_authors": [Algorithm(Adam(0.001, correction="authors"))],
    "adamw": [Algorithm(AdamW(0.001))],
    "dropout": [Algorithm(PLAIN, dropout=0.2), Algorithm(L2, dropout=0.2)],
    "dropout_adam": [Algorithm(Adam(0.001), dropout=0.5)],
    "shrink_and_perturb": [Algorithm(PLAIN, (perturb(),)), Algorithm(L2, (perturb(1e-3),))],
    "shrink_and_perturb_adam": [Algorithm(Adam(0.001), (perturb(),))],
    **{f"cbp_{u}": [Algorithm(PLAIN, (cbp(u),)), Algorithm(L2, (cbp(u),))] for u in UTILITIES},
    "cbp_options": [
        Algorithm(PLAIN, (cbp("adaptable_contribution", fractional="bernoulli", bias_transfer=True),)),
        Algorithm(L2, (cbp("adaptable_contribution", fractional="bernoulli", bias_transfer=True, decay_rate=0.5),)),
    ],
    "cbp_transfer": [Algorithm(L2, (cbp(bias_transfer=True),))],
    "cbp_first_layer": [Algorithm(PLAIN, (cbp("adaptable_contribution", replacement_rate=[0.005, 0]),))],
    "cbp_second_layer": [Algorithm(PLAIN, (cbp("adaptable_contribution", replacement_rate=[0, 0.005]),))],
    "cbp_adam": [Algorithm(Adam(0.001, weight_decay=decay), (cbp("adaptable_contribution"),)) for decay in (0, 0.01)],
    "cbp_adamw": [Algorithm(AdamW(0.001), (cbp(bias_transfer=True),))],
    "cbp_momentum": [Algorithm(MOMENTUM, (cbp(),))],
    "cbp_momentum_reset": [Algorithm(SGD(0.001, 0.9, reset_momentum=True), (cbp("adaptable_contribution"),))],
    "cbp_then_noise": [Algorithm(L2, (cbp("adaptable_contribution"), perturb()))],
    "noise_then_cbp": [Algorithm(L2, (perturb(), cbp("adaptable_contribution")))],
    "l2_init": [Algorithm(PLAIN, (L2Init(0.1),)), Algorithm(SGD(0.02), (L2Init(1.0),))],
    "l2_init_decoupled": [Algorithm(PLAIN, (L2Init(1.0, coupling="decoupled"),), dropout=0.2)],
    "l2_init_adam": [Algorithm(Adam(0.001, weight_decay=decay), (L2Init(0.1),)) for decay in (0, 0.01)],
    "l2_init_momentum": [Algorithm(MOMENTUM, (L2Init(0.1),))],
    "weight_clipping": [Algorithm(PLAIN, (WeightClipping(0.5),)), Algorithm(FOLDED, (WeightClipping(0.3),))],
    "weight_clipping_hidden": [Algorithm(L2, (WeightClipping(0.3, output=False),), dropout=0.2)],
    "weight_clipping_adam": [Algorithm(Adam(0.001), (WeightClipping(0.5),))],
    "cbp_after_resets": [Algorithm(one, (snr(), cbp("adaptable_contribution"))) for one in (PLAIN, L2)],
    "cbp_after_resets_adam": [Algorithm(Adam(0.001), (snr(), cbp()))],
    "noise_after_resets": [Algorithm(PLAIN, (snr(), perturb()))],
    "resets": [Algorithm(PLAIN, (snr(),)), Algorithm(L2, (snr(),))],
    "resets_adam": [Algorithm(Adam(0.001), (snr(),))],
    "resets_adam_all": [Algorithm(AdamW(0.001), (snr(reset_optimizer="all"),), dropout=0.2)],
    "resets_adam_none": [Algorithm(Adam(0.001), (snr(reset_optimizer="none"),))],
    "resets_momentum": [Algorithm(SGD(0.001, 0.9, reset_momentum=True), (snr(),))],
    "l2_init_clipped_momentum": [Algorithm(MOMENTUM, (L2Init(0.1), WeightClipping(0.5)))],
    "partial_resets": [Algorithm(PLAIN, (cpr(),)), Algorithm(L2, (cpr(sharpness=4.0, decay_rate=0.9),))],
    "partial_resets_exp": [Algorithm(L2, (cpr(transform="exp", sharpness=2.0),), dropout=0.2)],
    "partial_resets_adam": [Algorithm(Adam(0.001), (cpr(), WeightClipping(0.5)))],
    "partial_resets_upgd": [Algorithm(UPGD(), (cpr(),))],
    "cbp_after_partial_resets": [Algorithm(L2, (cpr(), cbp("adaptable_contribution")))],
    "upgd": [Algorithm(UPGD()), Algorithm(UPGD(noise_std=0.0, weight_decay=0.0))],
    "upgd_paper": [Algorithm(UPGD(profile="paper"), dropout=0.2)],
    "upgd_readme": [Algorithm(UPGD(profile="readme", protecting=False), (WeightClipping(0.5),))],
    "upgd_l2_init": [Algorithm(UPGD(noise_std=0.01), (L2Init(0.1),))],
    "adaupgd": [Algorithm(AdaUPGD(0.001)), Algorithm(AdaUPGD(0.001, beta1=0.5))],
    "cbp_upgd": [Algorithm(UPGD(), (cbp(),))],
    "cbp_adaupgd": [Algorithm(AdaUPGD(0.001), (cbp("adaptable_contribution"),))],
    "resets_upgd_all": [Algorithm(UPGD(), (snr(reset_optimizer="all"),))],
    "resets_adaupgd": [Algorithm(AdaUPGD(0.001), (snr(),))],
    "cbp_dropout": [Algorithm(L2, (cbp("zero_contribution"),), dropout=0.2)],
}


class Mixed(MLP):
    """A pack of MLPs, each run of which has an activation of its own: equal shares of the pack, in this order."""

    def __init__(self, inputs: int, outputs: int, names: Sequence[str], **options: Any) -> None:
        super().__init__(inputs, outputs, **options)
        self._shares = [choose(name, channels=False).layer(0) for name in names]
        self._functions = [self._activate] * len(self.hidden)

    def _activate(self, z: Tensor) -> Tensor:
        parts = z.chunk(len(self._shares))
        return torch.cat([function(part) for function, part in zip(self._shares, parts, strict=True)])


REPLACING = ("cbp", "folded", "noise_then_cbp")
CORE = ("backprop", "adam", "shrink_and_perturb", "cbp_contribution", "cbp_adaptable_contribution")


# A row of each method, which is compared over the whole length under both losses; variants of it are under one.
WHOLE = {*CORE, "momentum", "adamw", "dropout", "l2_init", "weight_clipping", "resets", "partial_resets"}
WHOLE |= {"upgd", "adaupgd"}


def cases() -> list[Any]:
    """The core with every activation under one loss, and a shorter stretch with some under the other; of the others a
    shorter stretch with some under one; over the whole length if slow, each with every activation.
    """
    chosen = []
    every = list(ELEMENTWISE)
    for i, row in enumerate(TABLE):
        for j, loss in enumerate(LOSSES):
            name = f"{row}-{loss}"
            core, first = row in CORE, (i + j) % 2 == 0
            if core and first:
                chosen.append(pytest.param(row, loss, STEPS // 5, every, id=f"{name}-every-activation"))
            elif core or first:
                some = [every[(i + k) % len(every)] for k in (0, 3)]
                chosen.append(pytest.param(row, loss, STEPS // 6, some, id=f"{name}-shorter"))
            if row in WHOLE or not first:
                chosen.append(pytest.param(row, loss, STEPS, every, id=name, marks=pytest.mark.slow))
    return chosen


@pytest.mark.parametrize(("row", "loss", "steps", "names"), cases())
def test_equals_the_torch_engine(row: str, loss: str, steps: int, names: list[str]) -> None:
    """A row of the table with these activations, in one pack; the law of initial weights is one without gains."""
    algorithms = TABLE[row]
    runs = [(name, algorithm) for name in names for algorithm in algorithms]
    options: dict[str, Any] = {"hidden": (17, 20), "init": "lecun", "dropout": algorithms[0].dropout}
    pack = TorchLearner(
        lambda: Mixed(*SIZES[loss], names, **options),
        [algorithm.optimizer for _, algorithm in runs],
        list(zip(*[algorithm.interventions for _, algorithm in runs], strict=True)),
        range(len(runs)),
        loss,
        torch.float64,
    )
    tasks = [task_for(loss, i % 3, steps) for i in range(len(runs))]
    together, state = pack.run(tasks, 1, 0, 0, steps, INTERVAL), pack.state()
    totals = []
    for i, (name, algorithm) in enumerate(runs):
        learner = fused(loss, algorithm.optimizer, algorithm.interventions, i, activation=name, **options)
        for one, all_of in zip(learner.run([tasks[i]], 1, 0, 0, steps, INTERVAL), together, strict=True):
            torch.testing.assert_close(one, all_of[:, i : i + 1], rtol=EXACT, atol=EXACT)
        final = learner.state()
        assert_same_state(final, {key: value[i : i + 1] for key, value in state.items()}, EXACT)
        counts = replaced(final)
        totals.append(sum(counts))
        assert not row.endswith("_layer") or 0 in counts, "a layer of rate 0 is left alone"
    if row.startswith("resets") or row == "noise_after_resets":
        assert any(totals), "of some activations units fall silent, and are reset"
    else:
        assert all((total > 20) == row.startswith(REPLACING) for total in totals)


def assert_equal(
    algorithm: Algorithm,
    loss: str,
    steps: int,
    batch: int = 1,
    dtype: torch.dtype = torch.float64,
    tolerance: float = EXACT,
    **network: Any,
) -> None:
    """One run on both engines: the middle of a task; then, each from the other's checkpoint, the start of the next."""
    network = {"dropout": algorithm.dropout, **network}
    parts = (loss, algorithm.optimizer, algorithm.interventions)
    states: list[dict[str, Tensor]] = []
    for first, start in ((0, 7), (steps, 0)):
        learners: list[Learner] = [make(*parts, dtype=dtype, **network) for make in (fused, unfused)]
        for learner, state in zip(learners, reversed(states), strict=False):
            learner.load(0, {name: value[0] for name, value in state.items()})
        task = task_for(loss, first, (start + steps) * batch)
        results = [learner.run([task], batch, first, start, steps, steps // 3) for learner in learners]
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
        states = [learner.state() for learner in learners]
        assert_same_state(states[0], states[1], tolerance)


HIDDEN: list[tuple[int, ...]] = [
    (), (1,), (16,), (17,), (8, 33), (16, 32, 7), (9, 48, 15, 16), (12, 5, 17, 8, 6),
]  # fmt: skip


@pytest.mark.parametrize("batch", [1, pytest.param(5, marks=pytest.mark.slow), 32])
@pytest.mark.parametrize("hidden", HIDDEN, ids=str)
def test_shapes_and_batches(hidden: tuple[int, ...], batch: int) -> None:
    often = cbp("adaptable_contribution", replacement_rate=0.01, maturity_threshold=10)
    for algorithm, loss in [
        (Algorithm(PLAIN), "cross_entropy"),
        (Algorithm(L2, (often,)), "cross_entropy"),
        (Algorithm(L2, (perturb(), often)), "squared_error"),
        (Algorithm(Adam(0.001), (often,), dropout=0.2), "cross_entropy"),
        (Algorithm(MOMENTUM, (often,)), "squared_error"),
        (Algorithm(SGD(0.1, weight_decay=4.0), (cbp(replacement_rate=0.01, maturity_threshold=10),)), "cross_entropy"),
    ]:
        possible = tuple(one for one in algorithm.interventions if hidden or not isinstance(one, ContinualBackprop))
        assert_equal(replace(algorithm, interventions=possible), loss, 50, batch, hidden=hidden)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "tanh", "selu"])
@pytest.mark.parametrize("law", LAWS)
def test_new_units_follow_the_law_of_the_network(law: str, activation: str) -> None:
    often = Algorithm(PLAIN, (cbp(replacement_rate=0.01, maturity_threshold=10),))
    assert_equal(often, "cross_entropy", 60, init=law, activation=activation)


@pytest.mark.parametrize("row", TABLE)
def test_single_precision_stays_close(row: str) -> None:
    """The engines round differently; and a choice between units that are nearly alike may differ, so few steps.

    UPGD's young averages make gates of nearly 0 or 1 out of little differences, so fewer.
    """
    steps, tolerance = (30, 1e-3) if "upgd" in row else (90, 1e-4)
    for algorithm in TABLE[row]:
        assert_equal(algorithm, "cross_entropy", steps, dtype=torch.float32, tolerance=tolerance, activation="tanh")


LAZY = {"lazy": Algorithm(PLAIN, (perturb(1e-3, "lazy"),)), "lazy_l2": Algorithm(L2, (perturb(1e-3, "lazy"),))}
LAZY["lazy_folded"] = Algorithm(SGD(0.1, weight_decay=0.5), (perturb(1e-3, "lazy"),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("row", "algorithm"), [*((row, TABLE[row][-1]) for row in TABLE), *LAZY.items()])
def test_how_a_run_is_cut_changes_no_byte(row: str, algorithm: Algorithm, dtype: torch.dtype) -> None:
    """One call for everything, or calls of one and more intervals with a checkpoint and another process between."""

    def make() -> FusedLearner:
        return fused(loss, algorithm.optimizer, algorithm.interventions, dtype=dtype, dropout=algorithm.dropout)

    for loss in LOSSES:
        task, interval = task_for(loss, 0, STEPS), 300
        whole = make()
        results = whole.run([task], 1, 0, 0, STEPS, interval)
        piecewise, parts, start = make(), [], 0
        for steps in (300, 900, 600, 300, 900):
            parts.append(piecewise.run([task], 1, start, start, steps, interval))
            start += steps
            state = piecewise.state()
            piecewise = make()
            piecewise.load(0, {name: value[0] for name, value in state.items()})
            assert_same_state(piecewise.state(), state)
        for one, pieces in zip(results, zip(*parts, strict=True), strict=True):
            assert one.numpy().tobytes() == torch.cat(pieces).numpy().tobytes()
        assert_same_state(whole.state(), piecewise.state())


def test_a_second_run_is_the_same_bytes_and_another_seed_is_not() -> None:
    def state(seed: int) -> dict[str, Tensor]:
        learner = fused("cross_entropy", L2, (perturb(1e-3, "lazy"),), seed)
        learner.run([image_task(0)], 1, 0, 0, 500, 100)
        return learner.state()

    assert_same_state(state(5), state(5))
    assert not torch.equal(state(5)["parameters"], state(6)["parameters"])
