"""Successive halving: who goes on, how often the best setting is found, and that the result is honest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lop_sweeps.selection.halving import going_on, ranked, rungs, stability

SHARES, KEEP = (0.111, 0.333, 1.0), 0.333


def test_shares_are_rounded_up_to_whole_tasks() -> None:
    found, same = rungs(SHARES, 100)
    assert [rung.tasks for rung in found] == [12, 34, 100]
    assert same == []
    assert [rung.tasks for rung in rungs(SHARES, 800, of=0.01)[0]] == [1, 3, 8]
    assert [rung.tasks for rung in rungs([0.1], 10)[0]] == [1]  # and not 2, for 0.1 x 10 is a little more than 1


def test_where_two_shares_come_to_the_same_there_is_one_rung_less() -> None:
    found, same = rungs(SHARES, 3)
    assert [rung.tasks for rung in found] == [1, 3]
    assert same == [0.111]


def test_who_goes_on() -> None:
    assert [going_on(8, KEEP, last=False), going_on(3, KEEP, last=False), going_on(2, KEEP, last=True)] == [3, 2, 1]
    assert going_on(1, KEEP, last=False) == 1


@pytest.mark.parametrize("larger", [True, False])
def test_a_diverged_run_is_the_worst(larger: bool) -> None:
    best = [0.9, 0.9] if larger else [0.1, 0.1]
    values = np.array([[np.nan, np.nan], [0.5, 0.5], [best[0], np.nan], best, [0.5, 0.5]])
    assert ranked(values, larger_is_better=larger) == [3, 1, 4, 2, 0]  # of equals the earlier one


def test_the_choice_is_stable_where_the_best_is_the_best_on_every_seed() -> None:
    values = np.array([[0.5, 0.6, 0.7], [0.6, 0.7, 0.8], [0.1, 0.2, 0.3]])
    assert stability([values], [[0, 1, 2]], 1, larger_is_better=True) == 1
    assert stability([values], [[0, 1, 2]], 0, larger_is_better=True) == 0


def test_of_two_settings_that_take_turns_each_is_chosen_by_some_resamples() -> None:
    """Three seeds with differences 1, 1, -1: the sum of three draws is above 0 with at least two of the first kind."""
    values = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    found = stability([values], [[0, 1]], 0, larger_is_better=True)
    assert found == pytest.approx(stats.binom.sf(1, 3, 2 / 3), abs=0.03)


def test_a_setting_has_to_survive_every_rung() -> None:
    """In the first rung it is among the two best with certainty, in the second it is level half of the time."""
    first = np.array([[0.9, 0.9], [0.8, 0.8], [0.1, 0.1]])
    second = np.array([[0.9, 0.8], [0.8, 0.9], [np.nan, np.nan]])
    found = stability([first, second], [[0, 1, 2], [0, 1]], 0, larger_is_better=True)
    assert found == pytest.approx(0.75, abs=0.04)  # ahead in a quarter, level in a half, and it is the earlier one


def simulated(generator: np.random.Generator, settings: int, seeds: int, tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """True means, and values (settings, seeds, tasks): a run's own level, and noise of each task."""
    truth = np.sort(generator.normal(0, 1, settings))
    runs = truth[:, None] + generator.normal(0, 0.5, (settings, seeds))
    return truth, runs[:, :, None] + generator.normal(0, 1, (settings, seeds, tasks))


def halved(values: np.ndarray) -> int:
    lengths, left = rungs(SHARES, values.shape[2])[0], list(range(len(values)))
    for number, rung in enumerate(lengths):
        means = values[left][:, :, : rung.tasks].mean(axis=2)
        order = [left[i] for i in ranked(means, larger_is_better=True)]
        left = order[: going_on(len(left), KEEP, last=number + 1 == len(lengths))]
    return left[0]


def test_it_finds_the_best_setting_more_often_than_a_grid_of_the_same_cost() -> None:
    """A flat grid pays the same number of tasks for all settings, so that it sees a shorter stream.

    Eight settings, three seeds, 90 tasks: 10 of all, 20 more of three, 60 more of two are 260 tasks a seed, or 32 of
    each setting. What differs from run to run is seen at any length; halving wins where tasks are noisy.
    """
    generator = np.random.default_rng(0)
    wins = np.zeros(2)
    regret = np.zeros(2)
    for _ in range(600):
        truth, values = simulated(generator, 8, 3, 90)
        by_halving = halved(values)
        flat = ranked(values[:, :, :32].mean(axis=2), larger_is_better=True)[0]
        for i, chosen in enumerate((by_halving, flat)):
            wins[i] += chosen == len(truth) - 1
            regret[i] += truth[-1] - truth[chosen]
    assert wins[0] / 600 > 0.6
    assert wins[0] >= 0.98 * wins[1]
    assert regret[0] <= 1.02 * regret[1]


def test_intervals_of_what_is_reported_cover_since_the_choice_was_made_on_other_seeds() -> None:
    """The chosen setting's mean over five report seeds; that over its tuning seeds is too high."""
    generator = np.random.default_rng(1)
    covered = biased = 0
    for _ in range(600):
        truth = np.zeros(8)  # all alike: then what is best on the tuning seeds is best by luck
        tuning, report = (truth[:, None] + generator.normal(0, 1, (8, seeds)) for seeds in (3, 5))
        chosen = ranked(tuning, larger_is_better=True)[0]
        low, high = stats.t.interval(0.95, 4, report[chosen].mean(), stats.sem(report[chosen]))
        covered += low <= truth[chosen] <= high
        biased += tuning[chosen].mean() > truth[chosen]
    assert 0.92 < covered / 600 < 0.98
    assert biased / 600 > 0.9
