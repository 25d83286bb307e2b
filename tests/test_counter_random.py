"""Draws inside a step: that they are SplitMix64's, uniform and independent over keys, steps and indices."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from lop_sweeps import streams
from lop_sweeps.counter_random import (
    Keys,
    normals,
    single_normals,
    step_key,
    uniform,
    uniforms,
    uniforms_at,
)

GOLDEN, MIX1, MIX2, MASK = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 2**64 - 1
KEYS = [0, 1, 1234567, 2**63, MASK, int(streams.counter_key(3, "dropout"))]
LEVEL = 1e-4  # of each statistical test; the draws are fixed, so a test that passes once passes always


def mix(z: int) -> int:
    """SplitMix64's output function in Python's integers."""
    z = (z ^ (z >> 30)) * MIX1 & MASK
    z = (z ^ (z >> 27)) * MIX2 & MASK
    return z ^ (z >> 31)


def unmix(z: int) -> int:
    """The inverse of `mix`: which counter gives a wanted draw."""
    z = z ^ (z >> 31) ^ (z >> 62)
    z = z * pow(MIX2, -1, 2**64) & MASK
    z = z ^ (z >> 27) ^ (z >> 54)
    z = z * pow(MIX1, -1, 2**64) & MASK
    return z ^ (z >> 30) ^ (z >> 60)


def exact_uniform(key: int, step: int, index: int) -> float:
    stepkey = mix(key + (step + 1) * GOLDEN & MASK)
    return (mix(stepkey + (index + 1) * GOLDEN & MASK) >> 11) / 2**53


def key_for(first: int, step: int) -> np.uint64:
    """The key whose step `step` has the 64 random bits `first` at index 0."""
    stepkey = unmix(first) - GOLDEN & MASK
    return np.uint64(unmix(stepkey) - (step + 1) * GOLDEN & MASK)


def draw(key: int, step: int, n: int, first: int = 0) -> NDArray[np.float64]:
    out = np.empty(n)
    uniforms(np.uint64(key), step, first, out)
    return out


def gauss(key: int, step: int, n: int) -> NDArray[np.float64]:
    out = np.full(n, np.nan)
    normals(np.uint64(key), step, out)
    return out


def box_muller(key: int, step: int, n: int) -> NDArray[np.float64]:
    """Exact Box-Muller on the same uniforms, with numpy's functions."""
    half = (n + 1) // 2
    u = draw(key, step, 2 * half).reshape(half, 2)
    radius, angle = np.sqrt(-2 * np.log1p(-u[:, 0])), 2 * np.pi * u[:, 1]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:n]


def test_published_splitmix64_sequence() -> None:
    """Seed 1234567 (the widely copied test vector of SplitMix64)."""
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431]
    ours = [uniform(np.uint64(1234567), i) for i in range(4)]
    assert ours == [(z >> 11) / 2**53 for z in published]


@pytest.mark.parametrize("key", KEYS)
def test_equals_the_definition_bit_by_bit(key: int) -> None:
    for step in (0, 1, 999, 48_000_000, 2**40):
        assert int(step_key(np.uint64(key), step)) == mix(key + (step + 1) * GOLDEN & MASK)
        for first in (0, 7, 2**33):
            assert draw(key, step, 5, first).tolist() == [exact_uniform(key, step, first + i) for i in range(5)]


@pytest.mark.parametrize("n", [1, 2, 7, 100_001])
def test_single_precision_gives_the_same_normals_rounded(n: int) -> None:
    ours, exact = np.full(n, np.nan, np.float32), gauss(9, 4, n)
    single_normals(np.uint64(9), 4, ours)
    assert np.abs(ours - exact).max() < 1e-4
    assert np.sqrt(np.mean((ours - exact) ** 2)) < 3e-7


@pytest.mark.parametrize("first", [0, 1, 2**11, 2**40, MASK])
def test_single_precision_at_the_ends_of_the_uniform_draws(first: int) -> None:
    key = key_for(first, 4)
    ours = np.empty(2, np.float32)
    single_normals(key, 4, ours)
    np.testing.assert_allclose(ours, gauss(int(key), 4, 2), atol=1e-3)


def test_known_values() -> None:
    """Pinned: a change here changes every result that uses dropout, noise or replaced units."""
    assert int(streams.counter_key(0, "perturbation")) == 15939438322355843086
    assert int(streams.counter_key(0, "new units", 2)) == 687336552354117994
    assert draw(1, 2, 3).tolist() == [0.651475462601699, 0.42700329599888454, 0.6659929923207122]
    expected = [-1.3018710361738832, 1.3831468216246905, 0.6428258632669523]
    np.testing.assert_allclose(gauss(1, 2, 3), expected, rtol=0, atol=1e-14)


def test_draw_is_addressed_by_its_index_alone() -> None:
    whole = draw(5, 3, 100)
    np.testing.assert_array_equal(draw(5, 3, 40, first=30), whole[30:70])
    np.testing.assert_array_equal(draw(5, 3, 10), whole[:10])


def test_lies_in_the_half_open_unit_interval() -> None:
    """Also at the ends: keys made so that the first 64 bits are all zeros or all ones."""
    assert draw(int(key_for(0, 4)), 4, 1)[0] == 0.0
    assert draw(int(key_for(MASK, 4)), 4, 1)[0] == 1.0 - 2.0**-53
    many = draw(8, 0, 1_000_000)
    assert many.min() >= 0.0
    assert many.max() < 1.0


def along(axis: str, n: int) -> NDArray[np.float64]:
    """n draws along one axis of the address, the others fixed."""
    if axis == "index":
        return draw(11, 5, n)
    if axis == "step":
        return np.array([draw(11, step, 1)[0] for step in range(n)])
    if axis == "key":
        return np.array([draw(key, 5, 1)[0] for key in range(n)])
    return np.array([draw(int(streams.counter_key(seed, "dropout")), 5, 1)[0] for seed in range(n)])


@pytest.mark.parametrize(("axis", "n"), [("index", 100_000), ("step", 20_000), ("key", 20_000), ("seed", 5_000)])
def test_uniform_and_uncorrelated_along(axis: str, n: int) -> None:
    x = along(axis, n)
    assert stats.kstest(x, "uniform").pvalue > LEVEL
    assert stats.chisquare(np.bincount((x * 64).astype(int), minlength=64)).pvalue > LEVEL
    centred = x - 0.5
    for lag in (1, 2, 3, 16):
        r = 12 * float(np.mean(centred[lag:] * centred[:-lag]))
        assert abs(r) < 4 / math.sqrt(n - lag), f"lag {lag}"
    cells = (x[0::2][: n // 2] * 8).astype(int) * 8 + (x[1::2][: n // 2] * 8).astype(int)
    assert stats.chisquare(np.bincount(cells, minlength=64)).pvalue > LEVEL, "pairs of neighbours"


def test_every_bit_is_fair_and_changes_with_every_bit_of_the_address() -> None:
    """Neighbouring keys, steps and indices share nothing: each changed bit flips half of the bits of the draw."""

    def bits(key: int, step: int, index: int) -> NDArray[np.uint8]:
        word = np.array([int(exact * 2**53) for exact in draw(key, step, 256, index)], dtype=np.uint64)
        return (word[:, None] >> np.arange(53, dtype=np.uint64)[None, :] & np.uint64(1)).astype(np.uint8)

    key, step, index = int(streams.counter_key(7, "dropout")), 12345, 678
    reference = bits(key, step, index)
    n = reference.size
    assert abs(reference.mean() - 0.5) < 4 * 0.5 / math.sqrt(n)
    changed = [bits(key ^ 1 << b, step, index) for b in range(64)] + [
        bits(key, step ^ 1 << b, index) for b in range(30)
    ]
    changed += [bits(key, step, index ^ 1 << b) for b in range(9, 30)]  # by at least the number of draws
    flips = np.array([np.mean(reference != other, axis=0) for other in changed])
    assert np.all(np.abs(flips.mean(1) - 0.5) < 5 * 0.5 / math.sqrt(n))
    assert np.all(np.abs(flips.mean(0) - 0.5) < 5 * 0.5 / math.sqrt(256 * len(changed)))


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7, 8, 100, 1001])
def test_normals_of_any_size_are_exact_box_muller(n: int) -> None:
    for key, step in ((0, 0), (3, 17), (MASK, 2**31)):
        np.testing.assert_allclose(gauss(key, step, n), box_muller(key, step, n), rtol=0, atol=1e-13)


def test_normals_are_exact_over_their_whole_range() -> None:
    x = gauss(19, 23, 100_001)
    np.testing.assert_allclose(x, box_muller(19, 23, 100_001), rtol=0, atol=1e-13)
    assert np.abs(x).max() > 4.0  # the tails were among them


def test_extreme_uniforms_give_finite_normals() -> None:
    """The smallest and the largest radius: 0 and sqrt(-2 log 2^-53)."""
    assert math.hypot(*gauss(int(key_for(MASK, 9)), 9, 2)) == pytest.approx(math.sqrt(106 * math.log(2)), rel=1e-14)
    assert math.hypot(*gauss(int(key_for(0, 9)), 9, 2)) == pytest.approx(0.0, abs=1e-7)


def test_moments_and_distribution_of_normals() -> None:
    n = 400_000
    x = gauss(29, 31, n)
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10_170)):
        assert abs(np.mean(x**power) - moment) < 4 * math.sqrt(variance / n), f"moment {power}"
    assert stats.kstest(x[:100_000], "norm").pvalue > LEVEL
    halves = np.corrcoef(x[: n // 2], x[n // 2 :])[0, 1], np.corrcoef(x[: n // 2] ** 2, x[n // 2 :] ** 2)[0, 1]
    assert all(abs(r) < 4 / math.sqrt(n // 2) for r in halves), "a pair shares its two uniforms and must not show it"
    assert abs(np.mean(x[1:] * x[:-1])) < 4 / math.sqrt(n)


def test_normals_of_different_steps_and_keys_are_uncorrelated() -> None:
    n = 50_000
    rows = [gauss(key, step, n) for key, step in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 1))]
    r = np.corrcoef(rows) - np.eye(len(rows))
    assert np.abs(r).max() < 4.5 / math.sqrt(n)


def test_same_address_same_draws() -> None:
    np.testing.assert_array_equal(gauss(1, 2, 999), gauss(1, 2, 999))
    np.testing.assert_array_equal(draw(1, 2, 999), draw(1, 2, 999))


def test_streams_differ_by_seed_purpose_and_position() -> None:
    """No address may be confused with another: positions are not concatenated, purposes not added."""
    addresses = [
        (seed, purpose, *position)
        for seed in (0, 1, 2, 12, 2**32, 2**40 + 1)
        for purpose in ("initial weights", "example order", "pixel permutation", "dropout")
        for position in ((), (0,), (1,), (2,), (12,), (1, 2), (2, 1), (0, 0), (1, 0))
    ]
    keys = {int(streams.counter_key(*address)) for address in addresses}
    firsts = {float(streams.generator(*address).random()) for address in addresses}
    assert len(keys) == len(firsts) == len(addresses)


def test_generator_has_no_state() -> None:
    first = streams.generator(4, "example order", 2)
    first.random(100)
    again = streams.generator(4, "example order", 2).permutation(50)
    np.testing.assert_array_equal(again, streams.generator(4, "example order", 2).permutation(50))
    assert float(streams.generator(0, "initial weights", 0).random()) == 0.33002983988288626  # pinned


@pytest.mark.parametrize("key", KEYS)
def test_tensors_make_the_same_draws_bit_for_bit(key: int) -> None:
    """A device that nobody waits for computes them itself, at indices that only it knows."""
    expected = np.empty(1_000)
    for step in (0, 1, 48_000_000):
        uniforms(np.uint64(key), step, 5, expected)
        index = torch.arange(1_000).flip(0) + 5
        assert np.array_equal(uniforms_at(np.uint64(key), step, index).flip(0).numpy(), expected)


@pytest.mark.parametrize("count", [1, 2, 7, 1_000])
def test_tensors_make_the_same_normals_up_to_rounding(count: int) -> None:
    expected = np.empty(count)
    for key in KEYS:
        normals(np.uint64(key), 3, expected)
        (found,) = Keys([np.uint64(key)]).normals(3, count)
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_rows_of_draws_belong_to_their_keys() -> None:
    keys = [np.uint64(key) for key in KEYS]
    rows = Keys(keys).uniforms(2, 9)
    for key, row in zip(keys, rows, strict=True):
        assert torch.equal(uniforms_at(key, 2, torch.arange(9)), row)
