"""Optimisers on packs: equal to torch.optim run by run, and step counts that can be reset weight by weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lop_sweeps.errors import ConfigError
from lop_sweeps.optimizers.adam import Adam, AdamW
from lop_sweeps.optimizers.adaupgd import AdaUPGD
from lop_sweeps.optimizers.muon import Muon
from lop_sweeps.optimizers.optimizer import Optimizer, PackedOptimizer
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.trac import TRAC
from lop_sweeps.optimizers.upgd import UPGD

STEPS, SIZE = 200, 11
EXACT: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-12}

PACKS: dict[str, list[Any]] = {
    "sgd": [SGD(0.01), SGD(0.1), SGD(0.003)],
    "sgd_l2": [SGD(0.01, weight_decay=0.1), SGD(0.1), SGD(0.003, weight_decay=1.0)],
    "momentum": [SGD(0.01, 0.9), SGD(0.02, 0.5), SGD(0.1), SGD(0.003, 0.99, 0.01)],
    "adam": [Adam(0.001), Adam(0.01, 0.99, 0.99), Adam(0.1, 0.0, 0.5), Adam(0.003, 0.9, 0.9999, eps=1e-3)],
    "adam_l2": [Adam(0.001, weight_decay=0.1), Adam(0.01), Adam(0.01, 0.99, 0.99, weight_decay=1e-3)],
    "adamw": [AdamW(0.001), AdamW(0.01, weight_decay=0.5), AdamW(0.1, 0.99, 0.99, weight_decay=0.0)],
}


def reference(options: Any, parameter: Tensor) -> torch.optim.Optimizer:
    if isinstance(options, SGD):
        return torch.optim.SGD([parameter], options.step_size, options.momentum, weight_decay=options.weight_decay)
    kind = torch.optim.AdamW if isinstance(options, AdamW) else torch.optim.Adam
    betas = (options.beta1, options.beta2)
    return kind([parameter], options.step_size, betas, options.eps, options.weight_decay)


def start(runs: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(runs, SIZE)))


def gradients(step: int, runs: int) -> Tensor:
    """Of very different size from weight to weight, some of them zero at times."""
    generator = np.random.default_rng([7, step])
    size = 10.0 ** np.linspace(-6, 3, SIZE)
    return torch.from_numpy(generator.normal(size=(runs, SIZE)) * size * (generator.random((runs, SIZE)) > 0.2))


def packed(options: Sequence[Any], parameters: Tensor, resets_units: bool) -> PackedOptimizer:
    first: Optimizer = options[0]
    return first.pack(options, parameters, resets_units=resets_units)


@pytest.mark.parametrize("resets_units", [False, True])
@pytest.mark.parametrize("name", PACKS)
def test_each_run_of_a_pack_is_pytorchs(name: str, resets_units: bool) -> None:
    runs = PACKS[name]
    ours = start(len(runs))
    theirs = [torch.nn.Parameter(row.clone()) for row in ours]
    optimizer = packed(runs, ours, resets_units)
    references = [reference(options, parameter) for options, parameter in zip(runs, theirs, strict=True)]
    for step in range(STEPS):
        gradient = gradients(step, len(runs))
        for parameter, row, other in zip(theirs, gradient, references, strict=True):
            parameter.grad = row.clone()
            other.step()
        if step % 50 == 0:
            optimizer.tidy()
        optimizer.update(ours, gradient.clone())
        for row, parameter in zip(ours, theirs, strict=True):
            torch.testing.assert_close(row, parameter.detach(), **EXACT)


def reset(optimizer: PackedOptimizer, run: int, which: Sequence[int]) -> None:
    for name, value in optimizer.fresh().items():
        optimizer.state()[name][run, list(which)] = value


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_reset_weight_starts_as_if_new_and_the_others_go_on(kind: type[Adam]) -> None:
    """Moments and step count: a weight reset at step 60 moves as with a fresh optimiser; the rest do not notice."""
    runs = [kind(0.01, weight_decay=0.1), kind(0.02, 0.99, 0.99)]
    ours = start(2)
    untouched = [torch.nn.Parameter(row.clone()) for row in ours]
    references = [reference(options, parameter) for options, parameter in zip(runs, untouched, strict=True)]
    optimizer = packed(runs, ours, True)
    assert set(optimizer.fresh()) == set(optimizer.state())
    renewed, chosen = None, [2, 3, 8]
    for step in range(120):
        if step == 60:
            reset(optimizer, 0, chosen)
            ours[0, chosen] = 0.0  # as new outgoing weights are
            renewed = torch.nn.Parameter(ours[0, chosen].clone())
            fresh = reference(runs[0], renewed)
        gradient = gradients(step, 2)
        for parameter, row, other in zip(untouched, gradient, references, strict=True):
            parameter.grad = row.clone()
            other.step()
        if renewed is not None:
            renewed.grad = gradient[0, chosen].clone()
            fresh.step()
        optimizer.update(ours, gradient.clone())
    assert renewed is not None
    torch.testing.assert_close(ours[0, chosen], renewed.detach(), **EXACT)
    others = [i for i in range(SIZE) if i not in chosen]
    torch.testing.assert_close(ours[0, others], untouched[0].detach()[others], **EXACT)
    torch.testing.assert_close(ours[1], untouched[1].detach(), **EXACT)
    assert not torch.isclose(ours[0, chosen], untouched[0].detach()[chosen], rtol=1e-3).any()


def test_nothing_to_reset_without_an_intervention_that_resets() -> None:
    """One step count for each run is then enough, and cheaper."""
    plain = packed([Adam(), Adam()], start(2), False)
    assert plain.fresh() == {}
    assert plain.state()["power1"].shape == (2, 1)
    assert packed([SGD()], start(1), True).fresh() == {}
    assert packed([SGD(momentum=0.9)], start(1), True).fresh() == {}, "the authors keep a new unit's momentum"
    assert packed([SGD(momentum=0.9, reset_momentum=True)], start(1), True).fresh() == {"momentum": 0.0}
    assert packed([SGD(reset_momentum=True)], start(1), True).fresh() == {}


def test_reset_momentum_forgets() -> None:
    options = SGD(0.1, 0.9, reset_momentum=True)
    ours = start(1)
    optimizer = packed([options], ours, True)
    for step in range(5):
        optimizer.update(ours, gradients(step, 1))
    reset(optimizer, 0, [4])
    before = ours.clone()
    optimizer.update(ours, torch.zeros_like(ours))
    moved = ours != before
    assert not moved[0, 4]
    assert moved[0, 5]


def test_authors_correction_is_as_their_code() -> None:
    """AdamGnT as coded: step_size (1 - beta2^t) m / (sqrt(v) + eps); its first step is 316 times too small."""
    options = Adam(0.01, 0.9, 0.999, weight_decay=0.1, correction="authors")
    ours = start(1)
    optimizer = packed([options], ours, True)
    theta, m, v = ours[0].numpy().copy(), np.zeros(SIZE), np.zeros(SIZE)
    for step in range(100):
        gradient = gradients(step, 1)
        g = gradient[0].numpy() + 0.1 * theta
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - 0.01 * (1 - 0.999 ** (step + 1)) * m / (np.sqrt(v) + 1e-8)
        optimizer.update(ours, gradient)
        np.testing.assert_allclose(ours[0], theta, rtol=1e-12, atol=1e-12)
    one, other = torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    packed([Adam(0.01, correction="authors")], one, True).update(one, torch.ones(1, 1, dtype=torch.float64))
    packed([Adam(0.01)], other, True).update(other, torch.ones(1, 1, dtype=torch.float64))
    assert float(other / one) == pytest.approx(1 / (0.1 * 0.001**0.5), rel=1e-5)


def test_housekeeping_changes_no_step() -> None:
    """Powers of beta that underflow are set to 0: with 0.5 they do so within 70 steps."""
    ours, theirs = start(1), start(1)
    tidied, left = (packed([Adam(0.01, 0.5, 0.5)], x, True) for x in (ours, theirs))
    for step in range(1_100):
        tidied.tidy()
        tidied.update(ours, gradients(step, 1))
        left.update(theirs, gradients(step, 1))
    assert torch.equal(ours, theirs)
    assert not tidied.state()["power1"].any()


def test_state_has_a_leading_run_dimension_and_is_what_the_update_uses() -> None:
    """Copying a run's share into a new optimiser continues its trajectory exactly (checkpoints do just this)."""
    for name, runs in PACKS.items():
        ours = start(len(runs))
        optimizer = packed(runs, ours, True)
        for step in range(20):
            optimizer.update(ours, gradients(step, len(runs)))
        copy, copied = ours.clone(), packed(runs, ours, True)
        for key, value in copied.state().items():
            assert len(value) == len(runs), name
            value.copy_(optimizer.state()[key])
        for step in range(20, 40):
            optimizer.update(ours, gradients(step, len(runs)))
            copied.update(copy, gradients(step, len(runs)))
        assert torch.equal(ours, copy), name


@pytest.mark.parametrize("name", PACKS)
def test_float32_stays_float32(name: str) -> None:
    ours = start(len(PACKS[name])).float()
    optimizer = packed(PACKS[name], ours, True)
    optimizer.update(ours, gradients(0, len(ours)).float())
    assert ours.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in optimizer.state().values())


@pytest.mark.parametrize(
    ("kind", "options", "key"),
    [
        (SGD, {"step_size": 0.0}, "step_size"),
        (SGD, {"step_size": float("nan")}, "step_size"),
        (SGD, {"step_size": "0.1"}, "step_size"),
        (SGD, {"momentum": 1.0}, "momentum"),
        (SGD, {"weight_decay": -1e-4}, "weight_decay"),
        (SGD, {"reset_momentum": 1}, "reset_momentum"),
        (Adam, {"step_size": -1}, "step_size"),
        (Adam, {"beta1": 1.0}, "beta1"),
        (Adam, {"beta2": -0.1}, "beta2"),
        (Adam, {"eps": 0}, "eps"),
        (Adam, {"correction": "none"}, "correction"),
        (AdamW, {"weight_decay": -1}, "weight_decay"),
    ],
)
def test_wrong_options_name_their_key(kind: type, options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**options)
    assert caught.value.key == key


@pytest.mark.parametrize("options", [SGD(0.1, 0.9), Adam(), AdamW(), UPGD(), AdaUPGD(), Muon(), TRAC(Adam())])
def test_step_counts_are_what_restarting_the_counts_puts_back(options: Any) -> None:
    """Resets of units leave by this name what their authors let go on."""
    optimizer = options.pack([options] * 2, start(2), resets_units=True)
    fresh = optimizer.fresh()
    for name, value in optimizer.state().items():
        value.fill_(0.25 if fresh.get(name) != 0.25 else 0.5)
    before = {name: value.clone() for name, value in optimizer.state().items()}
    for run in range(2):
        optimizer.restart(run, counts_only=True)
    changed = {name for name, value in optimizer.state().items() if not torch.equal(value, before[name])}
    assert optimizer.counts == changed & fresh.keys()
