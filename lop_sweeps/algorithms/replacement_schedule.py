"""How many units continual backprop replaces at each step, computed in advance.

The number of mature units depends on when units were replaced, never on which, so a host can plan many steps ahead
from the ages alone, and a device never waits (Nature 632, Algorithm 1).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lop_sweeps.compiling import njit
from lop_sweeps.counter_random import step_key, uniform


@njit()
def plan_replacements(
    ages: NDArray[np.int64],
    maturity_threshold: int,
    replacement_rate: float,
    bernoulli: bool,
    accumulated: float,
    key: np.uint64,
    step: int,
    counts: NDArray[np.int64],
    of_all: bool = False,
) -> float:
    """Fill `counts` (steps,) with the units to replace at steps `step`, `step + 1`, ...; return the new accumulator.

    ages: (units,) before the first of these steps. A unit may be replaced once its age exceeds the threshold; ages
    grow by one before each choice. The rate is a share of the units that may be replaced, or (`of_all`) of all units,
    as soon as one may be. Fractions of a unit accumulate, or (`bernoulli`) a unit is replaced with the
    probability of the fraction; the draw belongs to the step.
    """
    steps = counts.size
    arriving = np.zeros(steps, np.int64)  # units that become eligible at each step
    for age in ages:
        due = max(maturity_threshold - age, 0)
        if due < steps:
            arriving[due] += 1
    eligible = 0
    for t in range(steps):
        eligible += arriving[t]
        expected = replacement_rate * (ages.size if of_all else eligible)
        number = 0
        if eligible > 0:
            if bernoulli:
                number = math.floor(expected)
                if expected < 1.0 and uniform(step_key(key, step + t), 0) < expected:
                    number = 1
            else:
                accumulated += expected
                number = math.floor(accumulated)
                accumulated -= number
        number = min(number, eligible)
        counts[t] = number
        eligible -= number
        if number > 0 and t + maturity_threshold + 1 < steps:
            arriving[t + maturity_threshold + 1] += number
    return accumulated
