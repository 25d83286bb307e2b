"""What it costs on the fused engine that somebody who is not compiled acts now and then.

python perf/stops.py [--quick]

784-100x3-10, mini-batches of one, float32, one thread, images with a fifth of their pixels not 0. Medians of
interleaved repeats, as ratios to the run in which nobody acts; "a stop" is the difference for each of them.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read at import

import numpy as np
import torch
from torch import Tensor

from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every
from lop_sweeps.algorithms.one_run import OneRun, Run
from lop_sweeps.algorithms.redo import ReDo
from lop_sweeps.benchmarks.permuted_images import PermutedTask
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD

STEPS, INTERVAL = 5_000, 1_000


@dataclass(frozen=True)
class After(Intervention):
    """Does nothing after an update, every `period` steps."""

    period: int

    def next_step(self, step: int) -> int:
        return every(self.period, step)

    def pack(self, peers: Sequence[Any], learner: Learner) -> PackedIntervention[Any]:
        return PackedAfter(peers, learner)


class PackedAfter(PackedIntervention[Any]):
    def after_update(self, step: int) -> None:
        """Nothing."""


class Before(After):
    """Looks at the gradient."""

    def pack(self, peers: Sequence[Any], learner: Learner) -> PackedIntervention[Any]:
        return PackedBefore(peers, learner)


class PackedBefore(PackedIntervention[Any]):
    def before_update(self, gradient: Tensor, step: int) -> None:
        """Nothing."""


@dataclass(frozen=True)
class ResetUnit(OneRun):
    """One unit of the first hidden layer starts anew, every `period` steps."""

    period: int

    def next_step(self, step: int) -> int:
        return every(self.period, step)

    def after_update(self, run: Run) -> None:
        run.reset_units(0, [run.step % 100])


CASES: dict[str, tuple[Any, int]] = {
    "acts after an update, every 10": (After(10), 10),
    "looks at the gradient, every 10": (Before(10), 10),
    "resets a unit, every 500": (ResetUnit(500), 500),
    "resets a unit, every 5,000": (ResetUnit(5_000), 5_000),
    "ReDo, every 1,000": (ReDo(0.1, 1_000), 1_000),
}
OPTIMIZERS = {"SGD": SGD(0.01), "SGD, L2": SGD(0.01, weight_decay=0.01), "Adam": Adam(0.001)}


def make_task() -> PermutedTask:
    generator = np.random.default_rng(0)
    grey = generator.integers(0, 256, (3_000, 784)) * (generator.random((3_000, 784)) < 0.2)
    labels = generator.integers(0, 10, len(grey))
    return PermutedTask(grey.astype(np.uint8), labels, 255.0, generator.permutation(784), generator.permutation(3_000))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three repeats")
    repeats = 3 if parser.parse_args().quick else 11
    torch.set_num_threads(1)
    task = make_task()
    print("| optimiser | who acts | time / nobody | a stop, µs |\n|---|---|---|---|")
    for name, optimizer in OPTIMIZERS.items():
        steps = STEPS // 5 if name == "Adam" else STEPS
        cases: dict[str, tuple[Any, int]] = {"nobody": (None, 0), **CASES}
        learners = {
            case: FusedLearner(
                lambda: MLP(784, 10, (100, 100, 100)),
                optimizer,
                [one] if one else [],
                0,
                "cross_entropy",
                torch.float32,
            )
            for case, (one, _) in cases.items()
        }
        taken: dict[str, list[float]] = {case: [] for case in cases}
        for repeat in range(repeats + 1):
            for case, learner in learners.items():
                start = time.perf_counter()
                learner.run([task], 1, repeat * steps, 0, steps, INTERVAL)
                taken[case].append(time.perf_counter() - start)
        alone = median(taken["nobody"][1:])
        for case, (_, period) in cases.items():
            if period and steps >= period:
                time_of = median(taken[case][1:])
                print(
                    f"| {name} | {case} | {time_of / alone:.3f} | {(time_of - alone) / (steps // period) * 1e6:.0f} |"
                )


if __name__ == "__main__":
    main()
