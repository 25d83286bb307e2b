"""Successive halving: all settings over the first share of a stream, the best over more of it, one in the end.

Karnin, Koren, Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013; Jamieson & Talwalkar, AISTATS
2016. Here a rung extends the runs of the one before, so nothing is trained twice, and every setting is judged by its
mean over the same tuning seeds. Values are (settings, seeds); a run that diverged has NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
RESAMPLES = 2_000


@dataclass(frozen=True)
class Rung:
    """tasks: how many of the stream's first tasks. share: of the stream, that was asked for."""

    tasks: int
    share: float


def rungs(shares: Sequence[float], num_tasks: int, of: float = 1.0) -> tuple[list[Rung], list[float]]:
    """The rungs of these rising shares of `of` of a stream, each rounded up to a whole task.

    Also the shares that are left out, since the next one comes to the same number of tasks.
    """
    lengths = [max(1, math.ceil(share * of * num_tasks - 1e-9)) for share in shares]
    found, same = [], []
    for i, (share, tasks) in enumerate(zip(shares, lengths, strict=True)):
        if i + 1 < len(lengths) and lengths[i + 1] == tasks:
            same.append(share)
        else:
            found.append(Rung(tasks, share * of))
    return found, same


def ranked(values: Floats, *, larger_is_better: bool) -> list[int]:
    """Settings from best to worst; of equals the earlier one first.

    One of which a run diverged is worse than any of which none did; of such, that with fewer.
    """
    diverged = np.isnan(values).sum(axis=1)
    means = [float(np.mean(row[~np.isnan(row)])) if not np.isnan(row).all() else math.nan for row in values]
    sign = -1.0 if larger_is_better else 1.0

    def place(i: int) -> tuple[int, float, int]:
        return int(diverged[i]), math.inf if math.isnan(means[i]) else sign * means[i], i

    return sorted(range(len(values)), key=place)


def going_on(settings: int, keep: float, *, last: bool) -> int:
    """How many of `settings` go on after a rung; after the last, one is chosen.

    keep: the share that does, rounded up; but at least two, so that the next rung has something to choose from.
    """
    return 1 if last else min(settings, max(2, math.ceil(keep * settings - 1e-9)))


def stability(
    values: Sequence[Floats], kept: Sequence[Sequence[int]], chosen: int, *, larger_is_better: bool, seed: int = 0
) -> float:
    """In which share of resamples of the tuning seeds the chosen setting survives every rung.

    values: of each rung, (all settings, seeds); of settings that are not in it NaN throughout. kept: of each rung, the
    settings that were in it. Each rung's seeds are drawn anew, with replacement, and its decision is repeated with the
    values that are there: what was dropped early has no later ones, so a setting that would have come back cannot.
    """
    generator = np.random.default_rng(seed)
    survived = np.ones(RESAMPLES, dtype=bool)
    for i, (table, settings) in enumerate(zip(values, kept, strict=True)):
        places = len(kept[i + 1]) if i + 1 < len(kept) else 1
        part = table[list(settings)]
        draws = generator.integers(0, part.shape[1], (RESAMPLES, part.shape[1]))
        for n, columns in enumerate(draws):
            best = ranked(part[:, columns], larger_is_better=larger_is_better)[:places]
            survived[n] &= chosen in [settings[place] for place in best]
    return float(survived.mean())
