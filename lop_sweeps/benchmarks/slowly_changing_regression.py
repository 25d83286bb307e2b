"""Slowly-Changing Regression: a fixed random target network of threshold units on slowly changing input bits.

Nature 632, Extended Data Fig. 2 and Table 4; the data follow the authors' code (slowly_changing_regression.py,
fix_ltu_net.py), including its threshold, in which half of a unit's bias counts as half a negative weight. The paper
describes one bit flipped at each change (`change=flip_one`); their default data redraw all slow bits
(`change=redraw`), and the figure in their repository shows that problem. Inputs have no constant bit: biases do that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lop_sweeps import checks, counter_random, streams
from lop_sweeps.benchmarks.benchmark import HELD_OUT, check_lengths

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TargetNetwork:
    """inputs -> linear threshold units -> 1; all weights and biases are +1 or -1; never trained.

    Unit i fires if w_i . x + b_i > beta (inputs + 1) - S_i, with S_i = (inputs - sum_j w_ij + b_i) / 2.
    """

    weight: Floats  # (units, inputs)
    bias: Floats  # (units,)
    out_weight: Floats  # (units,)
    out_bias: float
    beta: float

    def __call__(self, x: Floats) -> Floats:
        """x (n, inputs) of zeros and ones -> (n, 1)."""
        inputs = x.shape[1]
        threshold = self.beta * (inputs + 1) - (inputs - self.weight.sum(1) + self.bias) / 2
        fires = x @ self.weight.T + self.bias > threshold
        result: Floats = fires @ self.out_weight[:, None] + self.out_bias
        return result


@lru_cache(maxsize=64)
def target_network(seed: int, inputs: int, units: int, beta: float) -> TargetNetwork:
    signs = streams.generator(seed, "target network").choice([-1.0, 1.0], units * (inputs + 2) + 1)
    weight, bias, out_weight = np.split(signs[:-1], [units * inputs, units * (inputs + 1)])
    return TargetNetwork(weight.reshape(units, inputs), bias, out_weight, float(signs[-1]), beta)


@dataclass(frozen=True)
class RegressionTask:
    """Examples between two changes: constant slow bits, fresh random bits."""

    target: TargetNetwork
    slow: Floats  # (slow bits,)
    fast: Floats  # (examples, random bits)

    def examples(self, start: int, stop: int) -> tuple[Floats, Floats]:
        fast = self.fast[start:stop]
        x = np.concatenate([np.broadcast_to(self.slow, (len(fast), len(self.slow))), fast], axis=1)
        bits = fast.shape[1]
        if bits > 10 or 2**bits > len(fast):
            return x, self.target(x)
        return x, self._targets[(fast @ 2.0 ** np.arange(bits)).astype(np.int64)]

    @cached_property
    def _targets(self) -> Floats:
        """The target of every pattern of random bits, by the number whose binary digits they are, lowest first."""
        bits = self.fast.shape[1]
        patterns = (np.arange(2**bits)[:, None] >> np.arange(bits) & 1).astype(np.float64)
        slow = np.broadcast_to(self.slow, (len(patterns), len(self.slow)))
        return self.target(np.concatenate([slow, patterns], axis=1))


class SlowlyChangingRegression:
    """A task is the stretch of `examples_per_task` examples between two changes of the slow bits (T = 10,000).

    change: redraw = all slow bits anew; flip_one = one of them, chosen at random.
    """

    version: ClassVar[int] = 1
    protocol: ClassVar[Literal["online"]] = "online"
    BIN_TASKS: ClassVar[int] = 2
    loss = "squared_error"
    outputs = 1

    def __init__(
        self,
        num_tasks: int,
        examples_per_task: int = 10_000,
        batch_size: int = 1,
        change: str = "redraw",
        input_bits: int = 20,
        slow_bits: int = 15,
        target_units: int = 100,
        beta: float = 0.7,
    ) -> None:
        check_lengths(num_tasks, examples_per_task, batch_size)
        self.num_tasks, self.examples_per_task, self.batch_size = (
            int(num_tasks),
            int(examples_per_task),
            int(batch_size),
        )
        self.change = checks.choice("change", change, ("redraw", "flip_one"))
        self.inputs = checks.integer("input_bits", input_bits, 1)
        self.slow_bits = checks.integer("slow_bits", slow_bits, 1, self.inputs)
        self.target_units = checks.integer("target_units", target_units, 1)
        self.beta = checks.number("beta", beta, 0.0, 1.0)

    def check_data(self, root: Path) -> None:
        """The data are generated."""

    def load(self, root: Path) -> None:
        """The data are generated, task by task."""

    def slow(self, seed: int, index: int) -> Floats:
        """The slow bits of task `index`."""
        if self.change == "redraw" or index == HELD_OUT:
            return streams.generator(seed, "slow bits", index).integers(0, 2, self.slow_bits).astype(np.float64)
        first = streams.generator(seed, "slow bits", 0).integers(0, 2, self.slow_bits)
        draws = np.empty(index)  # one draw for each change so far
        counter_random.uniforms(streams.counter_key(seed, "flipped bits"), 0, 0, draws)
        flips = np.bincount((draws * self.slow_bits).astype(np.int64), minlength=self.slow_bits)
        return ((first + flips) % 2).astype(np.float64)

    def task(self, seed: int, index: int) -> RegressionTask:
        shape = (self.examples_per_task, self.inputs - self.slow_bits)
        fast = streams.generator(seed, "random bits", index).integers(0, 2, shape, dtype=np.int8)
        target = target_network(seed, self.inputs, self.target_units, self.beta)
        return RegressionTask(target, self.slow(seed, index), fast.astype(np.float64))
