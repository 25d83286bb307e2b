"""Compile the training loop, or load what was compiled before, at a moment of our choosing."""

from __future__ import annotations

import logging
import threading
from functools import lru_cache
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from lop_sweeps.compiling import one_at_a_time
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.fused.train import compiled
from lop_sweeps.networks.linear import Linear
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.sgd import SGD

log = logging.getLogger("lop")


class _Nothing:
    """A task of zeros."""

    def examples(self, start: int, stop: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        return np.zeros((stop - start, 1)), np.zeros(stop - start, np.int64)


@lru_cache(maxsize=1)
def _say() -> None:
    log.warning("loading the fused engine (the first time after it was installed it is compiled: half a minute)")


def warm_up(precision: str) -> None:
    """Make the loop of this precision (float32 or float64) ready; says so once if that takes more than two seconds."""
    notice = threading.Timer(2.0, _say)
    notice.start()
    try:
        learner = FusedLearner(
            lambda: Linear(1, 2), cast(Optimizer, SGD()), [], 0, "cross_entropy", getattr(torch, precision)
        )
        with one_at_a_time(compiled.train):
            learner.run([_Nothing()], 1, 0, 0, 1, 1)
            learner.probe([_Nothing()], 1)
    finally:
        notice.cancel()
        notice.join()  # workers are forked next, which no thread should see
