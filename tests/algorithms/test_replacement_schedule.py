"""The replacement schedule: planned from ages alone, it equals a simulation that follows every unit step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lop_sweeps import streams
from lop_sweeps.algorithms.replacement_schedule import plan_replacements
from lop_sweeps.counter_random import uniforms
from tests.test_counter_random import key_for

Ints = NDArray[np.int64]
KEY = streams.counter_key(0, "replacement rounding", 0)


def plan(
    ages: Ints,
    threshold: int,
    rate: float,
    steps: int,
    accumulated: float = 0.0,
    step: int = 0,
    bernoulli: bool = False,
) -> tuple[Ints, float]:
    counts = np.full(steps, -1, np.int64)
    left = plan_replacements(ages, threshold, rate, bernoulli, accumulated, KEY, step, counts)
    return counts, left


def simulate(
    ages: Ints, threshold: int, rate: float, steps: int, accumulated: float, step: int, bernoulli: bool, seed: int
) -> tuple[Ints, float]:
    """One unit at a time, as in spec/algorithms.md 3.4, steps 1, 3, 4; `ages` is brought up to date.

    Which of the eligible units is replaced is drawn at random here: it must not matter.
    """
    generator, counts = np.random.default_rng(seed), []
    for t in range(step, step + steps):
        for unit in range(len(ages)):
            ages[unit] += 1
        eligible = [unit for unit in range(len(ages)) if ages[unit] > threshold]
        number = 0
        if eligible:
            x = rate * len(eligible)
            if bernoulli:
                draw = np.empty(1)
                uniforms(KEY, t, 0, draw)
                number = math.floor(x) if x >= 1 else int(draw[0] < x)
            else:
                accumulated += x
                number = math.floor(accumulated)
                accumulated -= number
            number = min(number, len(eligible))
        for unit in generator.permutation(eligible)[:number]:
            ages[unit] = 0
        counts.append(number)
    return np.array(counts, np.int64), accumulated


@pytest.mark.parametrize("bernoulli", [False, True])
def test_equals_a_simulation_unit_by_unit(bernoulli: bool) -> None:
    """150 random settings, in chunks of random lengths; planned at once it is the same."""
    generator = np.random.default_rng(int(bernoulli))
    replaced = []
    for trial in range(150):
        units, threshold = int(generator.integers(1, 40)), int(generator.choice([0, 1, 2, 5, 20, 60]))
        rate = float(generator.choice([0.0, 1e-3, 0.01, 0.1, 0.3, 0.9, 1.0]))
        ages = generator.integers(0, 2 * threshold + 3, units) * int(generator.integers(0, 2))
        accumulated = float(generator.choice([0.0, 0.5, 0.999]))
        start, real, left = int(generator.integers(0, 10_000)), ages.copy(), accumulated
        step, parts = start, []
        for chunk in generator.integers(1, 60, 5).tolist():
            planned, next_left = plan(real.copy(), threshold, rate, chunk, left, step, bernoulli)
            expected, left = simulate(real, threshold, rate, chunk, left, step, bernoulli, trial)
            np.testing.assert_array_equal(planned, expected)
            assert next_left == left  # to the last bit
            step, parts = step + chunk, [*parts, planned]
        at_once, last = plan(ages, threshold, rate, step - start, accumulated, start, bernoulli)
        np.testing.assert_array_equal(at_once, np.concatenate(parts))
        assert last == left
        replaced.append(int(at_once.sum()))
    assert np.mean(np.array(replaced) > 0) > 0.5


def test_ages_are_left_alone() -> None:
    ages = np.arange(10)
    plan(ages, 3, 0.5, 20)
    np.testing.assert_array_equal(ages, np.arange(10))


@pytest.mark.parametrize("bernoulli", [False, True])
def test_unit_is_eligible_at_the_first_step_whose_age_exceeds_the_threshold(bernoulli: bool) -> None:
    """Replaced at t, it has age 1 at t + 1 and is eligible again at t + threshold + 1."""
    for threshold in (0, 1, 7):
        counts, _ = plan(np.zeros(1, np.int64), threshold, 1.0, 50, bernoulli=bernoulli)
        assert np.flatnonzero(counts).tolist() == list(range(threshold, 50, threshold + 1))
        counts, _ = plan(np.array([threshold]), threshold, 1.0, 1, bernoulli=bernoulli)
        assert counts.tolist() == [1]  # its age is threshold + 1 when it is looked at
        if threshold:
            counts, _ = plan(np.array([threshold - 1]), threshold, 1.0, 1, bernoulli=bernoulli)
            assert counts.tolist() == [0]


def test_nothing_accrues_before_a_unit_is_mature() -> None:
    counts, left = plan(np.zeros(2000, np.int64), 100, 1e-3, 100)
    assert not counts.any()
    assert left == 0.0
    counts, left = plan(np.zeros(2000, np.int64), 100, 1e-4, 101)
    assert left == 2000 * 1e-4  # the share of one step


@pytest.mark.parametrize(("rate", "every"), [(1e-4, 5), (1e-5, 50), (1e-6, 500)])
def test_period_of_the_papers_large_network(rate: float, every: int) -> None:
    """2000 mature units (spec/algorithms.md 3.7): every 5th, 50th and 500th step, a little later ever after."""
    counts, _ = plan(np.full(2000, 1000), 100, rate, 10 * every + 10)
    at = np.flatnonzero(counts)
    assert at[0] == every - 1
    assert counts.max() == 1
    assert set(np.diff(at)) <= {every, every + 1}


def test_accumulated_replacements_are_the_rate_times_all_mature_units() -> None:
    """Over a long time, and none is lost at the ends of plans."""
    ages, accumulated, total, steps = np.full(100, 500), 0.0, 0, 1_000
    for step in range(0, 20_000, steps):
        counts, accumulated = plan(ages, 0, 7e-4, steps, accumulated, step)
        total += int(counts.sum())  # with threshold 0 every unit stays eligible
    assert total + accumulated == pytest.approx(100 * 7e-4 * 20_000, abs=1e-6)


def test_bernoulli_replaces_with_the_probability_of_the_fraction() -> None:
    """PPO's setting: 256 mature units, 1e-4: probability 0.0256 a step. Above one unit the fraction is dropped."""
    n = 100_000
    counts, left = plan(np.full(256, 20_000), 0, 1e-4, n, bernoulli=True)
    assert set(counts.tolist()) == {0, 1}
    assert abs(counts.mean() - 0.0256) < 4 * math.sqrt(0.0256 * 0.9744 / n)
    assert left == 0.0
    counts, _ = plan(np.full(25, 20_000), 0, 0.1, 1_000, bernoulli=True)  # 2.5 units
    assert set(counts.tolist()) == {2}


def test_bernoulli_draws_belong_to_the_step() -> None:
    counts, _ = plan(np.full(50, 100), 0, 0.01, 1_000, bernoulli=True)
    later, _ = plan(np.full(50, 100), 0, 0.01, 500, step=500, bernoulli=True)
    np.testing.assert_array_equal(counts[500:], later)
    assert not np.array_equal(counts[:500], later)


@pytest.mark.parametrize("bernoulli", [False, True])
def test_rate_zero_never_replaces(bernoulli: bool) -> None:
    """Not even when the draw is exactly 0, which one in 2^53 is."""
    counts, left = plan(np.full(100, 1000), 10, 0.0, 10_000, bernoulli=bernoulli)
    assert not counts.any()
    assert left == 0.0
    zero = np.empty(1, np.int64)
    plan_replacements(np.full(100, 1000), 10, 0.0, bernoulli, 0.0, key_for(0, 3), 3, zero)
    assert zero.tolist() == [0]


@pytest.mark.parametrize("bernoulli", [False, True])
def test_never_more_than_are_eligible(bernoulli: bool) -> None:
    """Rounding can push 0.9999999999999999 + 2 to 3; larger rates, which options forbid, are cut as well."""
    counts, left = plan(np.full(2, 100), 10, 1.0, 1, accumulated=1 - 2.0**-53)
    assert counts.tolist() == [2]
    assert 0.0 <= left < 1.0
    counts, _ = plan(np.array([100, 100, 3]), 10, 2.5, 5, bernoulli=bernoulli)
    assert counts.tolist() == [2, 0, 0, 0, 0]
