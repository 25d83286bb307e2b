"""Methods that are compiled apart from the loop: how it calls them, and with what they are refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import numba as nb
import numpy as np
import pytest
import torch

from lop_sweeps.algorithms.calibrated_partial_resets import CalibratedPartialResets
from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.l2_init import L2Init
from lop_sweeps.algorithms.redo import ReDo
from lop_sweeps.algorithms.self_normalized_resets import SelfNormalizedResets
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.algorithms.weight_clipping import WeightClipping
from lop_sweeps.fused import limits, methods
from lop_sweeps.fused.parts import l2_init, self_normalized_resets, weight_clipping
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from tests.fused.engines import fused, image_task

NETWORK = MLP(6, 3, [8, 7])
SNR = SelfNormalizedResets()


class Memory(NamedTuple):
    whole: Any
    numbers: Any
    number: float
    bits: int


class Odd(NamedTuple):
    flat: Any


@nb.njit(error_model="numpy")
def after_update(memory: Memory, net: Any, seen: Any, scale: float, step: int, t: int) -> None:
    memory.whole[0] += step
    memory.whole[1] = t
    memory.whole[2] = memory.bits
    memory.numbers[0] = net.w[0] * memory.number
    memory.numbers[1] = scale
    memory.whole[3] = len(memory.whole)
    memory.whole[4] = seen.active[0, 0]


def part(memory: Memory) -> ModuleType:
    module = ModuleType("part")
    module.__file__ = __file__
    module.make = lambda packed, net, rule: memory  # type: ignore[attr-defined]
    module.after_update = after_update  # type: ignore[attr-defined]
    return module


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_a_part_is_given_its_memory_and_the_step(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    memory = Memory(np.zeros(5, np.int64), np.zeros(2, np.float32), 0.1, -3)
    monkeypatch.setattr(methods, "part_of", lambda one: part(memory) if isinstance(one, WeightClipping) else None)
    learner = fused("cross_entropy", SGD(0.01, weight_decay=0.1), (WeightClipping(1e30),), dtype=dtype)
    learner.run([image_task(0)], 1, 10, 0, 5, 5)
    assert memory.whole[:4].tolist() == [10 + 11 + 12 + 13 + 14, 4, -3, 5]
    assert memory.whole[4] > 0
    assert memory.numbers[1] == pytest.approx((1 - 0.001) ** 5)
    first = learner.parameters.numpy()[0, 0] / memory.numbers[1]  # the loop multiplies the scale in after the interval
    assert memory.numbers[0] == pytest.approx(first * 0.1, rel=1e-5)


def test_what_is_no_part_of_a_class_of_its_own() -> None:
    class Inherits(L2Init):
        """It may do something else."""

    @dataclass(frozen=True)
    class Elsewhere(L2Init):
        compiled_part = "os"  # neither of this package nor of the module of the class

    @dataclass(frozen=True)
    class Here(L2Init):
        compiled_part = __name__

    assert methods.part_of(L2Init()) is l2_init
    assert methods.part_of(WeightClipping()) is weight_clipping
    assert methods.part_of(Inherits()) is None
    assert methods.part_of(Elsewhere()) is None
    assert getattr(methods.part_of(Here()), "__name__", "") == __name__
    assert methods.part_of(ReDo()) is None


def test_what_a_part_calls_belongs_to_what_it_is_compiled_from() -> None:
    reached = {one.__name__ for one in methods._reached(self_normalized_resets)}
    assert {self_normalized_resets.__name__, "lop_sweeps.counter_random"} <= reached


def test_memories_are_of_numbers_and_flat_arrays() -> None:
    assert methods.words_of(Memory(np.zeros(2, np.int64), np.zeros(3), 1.0, 7))[1::2] == [2, 3, 0, 0]
    with pytest.raises(TypeError, match="one dimension"):
        methods.words_of(Odd(np.zeros((2, 2))))
    with pytest.raises(TypeError, match="contiguous"):
        methods.words_of(Odd(np.zeros(4)[::2]))


@pytest.mark.parametrize(
    ("interventions", "optimizer", "why"),
    [
        ((L2Init(), WeightClipping()), SGD(0.01), "L2Init puts off what WeightClipping would have to see"),
        ((L2Init(), ContinualBackprop()), SGD(0.01), "L2Init without ContinualBackprop only"),
        ((WeightClipping(), ShrinkAndPerturb(1e-3)), SGD(0.01), "WeightClipping without ShrinkAndPerturb only"),
        ((WeightClipping(), ReDo()), SGD(0.01), "WeightClipping without ReDo only"),
        ((ContinualBackprop(), SNR), SGD(0.01), "so it must come before ContinualBackprop"),
        ((ReDo(), SNR), SGD(0.01), "so it must come before ReDo"),
        ((SNR, ShrinkAndPerturb(1e-3, noise="lazy")), SGD(0.01), "must see all weights, and lazy noise comes later"),
        ((SNR, ContinualBackprop(), ReDo()), SGD(0.01), None),
        ((L2Init(penalty="huber"),), SGD(0.01), "penalty=l2 only"),
        ((L2Init(anchor="resampled"),), SGD(0.01), "anchor=initial"),
        ((L2Init(coupling="decoupled"),), Adam(0.01), "decoupled L2 Init with plain SGD only"),
        ((L2Init(),), SGD(0.01, weight_decay=0.1), "towards 0 and towards their initial values"),
        ((SelfNormalizedResets(refresh_in="steps"),), SGD(0.01), "refresh_in=tasks only"),
        ((L2Init(60.0),), SGD(0.01), "less than half of the distance"),
        ((L2Init(),), SGD(0.01), None),
        ((L2Init(), WeightClipping()), Adam(0.01), None),
        ((L2Init(), CalibratedPartialResets()), Adam(0.01), "have to see what L2Init adds to the gradient"),
        ((CalibratedPartialResets(), L2Init()), Adam(0.01), None),
        ((CalibratedPartialResets(), SNR, ContinualBackprop()), SGD(0.01), None),
        ((L2Init(), WeightClipping()), SGD(0.01, 0.9, weight_decay=0.1), None),
    ],
)
def test_what_it_does_not_go_with(interventions: tuple[Any, ...], optimizer: Any, why: str | None) -> None:
    found = limits.obstacle(NETWORK, optimizer, interventions)
    assert (found is None) if why is None else why in str(found)


def test_silent_units_are_reset_and_counted() -> None:
    learner = fused("cross_entropy", SGD(0.01), (SelfNormalizedResets(tau_max=60, initial_threshold=8),))
    learner.run([image_task(0)], 1, 0, 0, 400, 100)
    (packed,) = learner.interventions
    assert sum(packed.report(0)["replaced_units"]) > 5
    assert int(packed.histograms.sum()) > 400
    learner.run([image_task(0)], 1, 400, 400, 400, 100)
    first, again = (packed.report(0)["replaced_units"] for _ in range(2))
    assert first == again


def test_a_row_that_nobody_reads_is_pulled_when_it_is_read_and_at_the_end_of_an_interval() -> None:
    rate = 0.01
    learner = fused("cross_entropy", SGD(rate), (L2Init(),), dtype=torch.float64)
    net, rule = learner._net(), learner._rule()
    size = net.w.size
    anchor = np.random.default_rng(0).normal(size=size)
    packed = SimpleNamespace(options=[L2Init(1.0)], initial=torch.from_numpy(anchor[None].copy()))
    beside = l2_init.rule_with(packed, rule)
    assert beside.step_size == pytest.approx(rate / (1 - rate))
    assert beside.unit_step_size == rate, "what it leaves alone moves as before"
    memory = l2_init.make(packed, net, rule)
    begun = net.w.copy()
    l2_init.begin_interval(memory, net, 100)
    base, stride = net.layers[0, 0], net.layers[0, 1]
    row = slice(base + 2 * stride, base + 3 * stride)
    l2_init.before_rows(memory, net, 0, np.array([2], np.int32), 1, 107)
    left = (1 - rate) ** 7
    np.testing.assert_allclose(net.w[row], anchor[row] + left * (begun[row] - anchor[row]), rtol=1e-12)
    np.testing.assert_array_equal(net.w[base : base + 2 * stride], begun[base : base + 2 * stride])
    l2_init.end_interval(memory, net, 100 + 1_000)
    layers = [slice(b, b + (i + 1) * s) for b, s, i, _ in net.layers]
    for layer in layers:
        expected = anchor[layer] + (1 - rate) ** 1_000 * (begun[layer] - anchor[layer])
        np.testing.assert_allclose(net.w[layer], expected, rtol=1e-10)
    assert math.exp(memory.left) == pytest.approx(1 - rate)
