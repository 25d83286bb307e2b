"""Slowly-Changing Regression: the bits, the changes, and the target network against the spec's explicit formula."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from lop_sweeps.benchmarks.slowly_changing_regression import SlowlyChangingRegression, target_network
from lop_sweeps.errors import ConfigError

Floats = NDArray[np.float64]


def benchmark(change: str = "redraw", **options: Any) -> SlowlyChangingRegression:
    return SlowlyChangingRegression(**{"num_tasks": 100, "examples_per_task": 500, "change": change, **options})


def inputs(made: SlowlyChangingRegression, seed: int, index: int) -> Floats:
    return made.task(seed, index).examples(0, made.examples_per_task)[0]


def explicit_target(seed: int, x: Floats) -> Floats:
    """Bits that match a unit's weights (1 where +1, 0 where -1) are counted: 14 fire it if its bias is +1, 17 if -1."""
    network = target_network(seed, 20, 100, 0.7)
    y = np.full(len(x), network.out_bias)
    for weight, bias, out in zip(network.weight, network.bias, network.out_weight, strict=True):
        matching = (x == (weight > 0)).sum(1)
        y += out * (matching >= (14 if bias > 0 else 17))
    return y[:, None]


@pytest.mark.parametrize("change", ["redraw", "flip_one"])
def test_slow_bits_stay_and_the_others_are_fair_coins(change: str) -> None:
    made = benchmark(change, examples_per_task=2_000)
    for index in range(4):
        x = inputs(made, 1, index)
        assert x.shape == (2_000, 20)
        assert set(np.unique(x)) == {0.0, 1.0}
        assert (x[:, :15] == x[0, :15]).all()
        np.testing.assert_array_equal(x[0, :15], made.slow(1, index))
        fast = x[:, 15:]
        assert np.all(np.abs(fast.mean(0) - 0.5) < 4 * 0.5 / math.sqrt(2_000))
        r = np.corrcoef(np.concatenate([fast[1:], fast[:-1]], axis=1).T) - np.eye(10)
        assert np.abs(r).max() < 4.5 / math.sqrt(2_000), "independent between bits and from example to example"


def test_all_combinations_of_random_bits_are_equally_frequent() -> None:
    x = inputs(benchmark(examples_per_task=16_000), 0, 0)[:, 15:]
    counts = np.bincount((x @ 2 ** np.arange(5)).astype(int), minlength=32)
    assert ((counts - 500) ** 2 / 500).sum() < 75  # chi-square with 31 degrees of freedom


def test_redraw_draws_all_slow_bits_anew() -> None:
    made = benchmark("redraw")
    slow = np.array([made.slow(2, index) for index in range(1_000)])
    flipped = slow[1:] != slow[:-1]
    assert flipped.mean() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(flipped.size))
    assert np.all(np.abs(slow.mean(0) - 0.5) < 4.5 * 0.5 / math.sqrt(len(slow)))
    assert np.abs(np.corrcoef(slow.T) - np.eye(15)).max() < 4.5 / math.sqrt(len(slow))


def test_flip_one_flips_exactly_one_bit_each_equally_often() -> None:
    made = benchmark("flip_one")
    slow = np.array([made.slow(2, index) for index in range(1_501)])
    flipped = slow[1:] != slow[:-1]
    assert (flipped.sum(1) == 1).all()
    assert ((flipped.sum(0) - 100) ** 2 / 100).sum() < 45  # chi-square with 14 degrees of freedom
    which = flipped.argmax(1)
    assert np.mean(which[1:] == which[:-1]) == pytest.approx(1 / 15, abs=4 * math.sqrt(1 / 15 / 1_500))


@pytest.mark.parametrize("change", ["redraw", "flip_one"])
def test_task_is_rebuilt_from_its_index(change: str) -> None:
    """Whatever was asked before, and however many tasks there are; seeds and tasks differ."""
    first, second = benchmark(change), benchmark(change, num_tasks=7)
    forward = {index: first.task(4, index).examples(0, 500) for index in range(6)}
    for index in (5, 0, 3):
        for ours, theirs in zip(second.task(4, index).examples(0, 500), forward[index], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    assert not np.array_equal(forward[0][0][:, 15:], forward[1][0][:, 15:])
    assert not np.array_equal(inputs(first, 4, 0), inputs(first, 5, 0))


def test_part_of_a_task_is_that_part() -> None:
    task = benchmark().task(0, 2)
    x, y = task.examples(0, 500)
    for start, stop in ((0, 1), (17, 320), (499, 500)):
        part, target = task.examples(start, stop)
        np.testing.assert_array_equal(part, x[start:stop])
        np.testing.assert_array_equal(target, y[start:stop])


def test_seeds_are_paired_between_the_two_problems() -> None:
    """The same first bits, random bits and target network: what differs is how the bits change."""
    a, b = benchmark("redraw"), benchmark("flip_one")
    np.testing.assert_array_equal(a.slow(3, 0), b.slow(3, 0))
    np.testing.assert_array_equal(inputs(a, 3, 5)[:, 15:], inputs(b, 3, 5)[:, 15:])


@pytest.mark.parametrize("seed", range(5))
def test_target_is_the_explicit_formula(seed: int) -> None:
    """Thresholds 14 and 17 of 20 matching bits (spec/benchmarks.md 4.1), on task inputs and on random ones."""
    made = benchmark(examples_per_task=3_000)
    x, y = made.task(seed, 1).examples(0, 3_000)
    np.testing.assert_array_equal(y, explicit_target(seed, x))
    x = np.random.default_rng(seed).integers(0, 2, (20_000, 20)).astype(np.float64)
    np.testing.assert_array_equal(target_network(seed, 20, 100, 0.7)(x), explicit_target(seed, x))
    assert y.shape == (3_000, 1)
    assert np.array_equal(y, np.rint(y))  # a sum of +1 and -1
    assert np.abs(y).max() <= 101


def test_units_fire_as_often_as_the_specification_says() -> None:
    """0.0577 with bias +1 and 0.00129 with bias -1 on uniform inputs: exactly, over all 2^20 inputs."""
    network = target_network(0, 20, 100, 0.7)
    every = ((np.arange(2**20)[:, None] >> np.arange(20)) & 1).astype(np.float64)
    for bias, probability, least in ((1.0, 0.0577, 14), (-1.0, 0.00129, 17)):
        unit = int(np.flatnonzero(network.bias == bias)[0])
        one = type(network)(network.weight[[unit]], network.bias[[unit]], np.ones(1), 0.0, 0.7)
        share = float(one(every).mean())
        assert share == sum(math.comb(20, k) for k in range(least, 21)) / 2**20
        assert share == pytest.approx(probability, rel=5e-3)


def test_target_network_is_of_fair_signs_and_the_seeds_own() -> None:
    networks = [target_network(seed, 20, 100, 0.7) for seed in range(30)]
    parts: list[Floats] = [
        np.array([network.weight for network in networks]),
        np.array([network.bias for network in networks]),
        np.array([network.out_weight for network in networks]),
        np.array([network.out_bias for network in networks]),
    ]
    assert [part.shape for part in parts] == [(30, 100, 20), (30, 100), (30, 100), (30,)]
    for part in parts:
        assert set(np.unique(part)) == {-1.0, 1.0}
        assert abs(part.mean()) < 4 / math.sqrt(part.size)
    for a, b in itertools.combinations(networks[:5], 2):
        assert not np.array_equal(a.weight, b.weight)
    again = target_network.__wrapped__(7, 20, 100, 0.7)
    np.testing.assert_array_equal(again.weight, networks[7].weight)


def test_target_does_not_change_between_tasks() -> None:
    made = benchmark()
    assert made.task(6, 0).target is made.task(6, 99).target


def test_published_lengths_and_bins() -> None:
    """A change every 10,000 examples; the authors' figure averages over two changes."""
    made = SlowlyChangingRegression(num_tasks=100)
    assert (made.examples_per_task, made.BIN_TASKS, made.inputs, made.outputs) == (10_000, 2, 20, 1)
    assert (made.loss, made.slow_bits, made.target_units, made.beta) == ("squared_error", 15, 100, 0.7)


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"change": "flip"}, "change"),
        ({"slow_bits": 21}, "slow_bits"),
        ({"slow_bits": 0}, "slow_bits"),
        ({"input_bits": 0}, "input_bits"),
        ({"target_units": 0}, "target_units"),
        ({"beta": 1.5}, "beta"),
        ({"batch_size": 3}, "batch_size"),
    ],
)
def test_wrong_options_name_their_key(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        benchmark(**options)
    assert caught.value.key == key
