"""How often an interval over runs holds the truth: the table of docs/statistics.md.

python perf/intervals.py [--quick] [--json FILE]

Each cell is the share of made-up experiments, of n runs each, whose interval holds what it is an interval of: the mean
of a normal and of a lognormal distribution (σ = 1), their median, their interquartile mean. 95 % is what is written on
the figure (68 % would be a standard error's, of many runs). Half of 40,000 experiments would be off by 0.2 points.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lop_sweeps.analysis.statistics.estimators import ESTIMATORS, Estimator
from lop_sweeps.analysis.statistics.improvement import probability_of_improvement
from lop_sweeps.analysis.statistics.interval import Interval, interval_of

Floats = npt.NDArray[np.float64]

RUNS = (3, 5, 10, 30)
KINDS: tuple[tuple[Estimator, Interval], ...] = (
    ("mean", "t"),
    ("mean", "bootstrap"),
    ("mean", "bca"),
    ("mean", "standard_error"),
    ("median", "bootstrap"),
    ("iqm", "bootstrap"),
    ("iqm", "bca"),
)
DRAW: Mapping[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "lognormal": lambda rng, shape: rng.lognormal(size=shape),
}
EXACT = {
    ("normal", "mean"): 0.0,
    ("normal", "median"): 0.0,
    ("lognormal", "mean"): np.exp(0.5),
    ("lognormal", "median"): 1,
}
AT_ONCE = 2_000


def truth(distribution: str, estimator: Estimator, runs: int, rng: np.random.Generator) -> float:
    """What the estimate of so many runs is on average: for the interquartile mean that depends on their number."""
    if (exact := EXACT.get((distribution, estimator))) is not None:
        return float(exact)
    means = [ESTIMATORS[estimator](DRAW[distribution](rng, (runs, 100_000))).mean() for _ in range(10)]
    return float(np.mean(means))


def coverage(distribution: str, estimator: Estimator, interval: Interval, runs: int, experiments: int) -> float:
    rng = np.random.default_rng(runs)
    true, held = truth(distribution, estimator, runs, rng), 0
    for _ in range(experiments // AT_ONCE):
        _, low, high = interval_of(DRAW[distribution](rng, (runs, AT_ONCE)), estimator, interval)
        held += int(np.sum((low <= true) & (true <= high)))
    return held / (experiments // AT_ONCE * AT_ONCE)


def improvement(runs: int, experiments: int, shift: float = 1.0) -> float:
    """Of the probability of improvement between two normal distributions one standard deviation apart."""
    from scipy.special import ndtr

    rng, true = np.random.default_rng(runs), float(ndtr(shift / np.sqrt(2)))
    found = (
        probability_of_improvement(rng.normal(size=runs) + shift, rng.normal(size=runs)) for _ in range(experiments)
    )
    return float(np.mean([low <= true <= high for _, low, high in found]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the experiments")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    experiments = 4_000 if options.quick else 40_000
    print(f"| held, %, at n = | {' | '.join(map(str, RUNS))} |")
    print(f"|---|{'---:|' * len(RUNS)}")
    figures: dict[str, list[float]] = {}
    for distribution in DRAW:
        for estimator, interval in KINDS:
            few = experiments if interval in ("t", "standard_error") else experiments // 4
            name = f"{distribution}: {estimator}, {interval}"
            figures[name] = [coverage(distribution, estimator, interval, runs, few) for runs in RUNS]
            print(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in figures[name])} |", flush=True)
    name = "normal: probability of improvement, score"
    figures[name] = [improvement(runs, experiments // 10) for runs in RUNS]
    print(f"| {name} | {' | '.join(f'{100 * share:.1f}' for share in figures[name])} |")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
