"""Online learning: the fused engine against a plain per-step PyTorch loop, and against what this machine could do.

python perf/online.py [--quick] [--json FILE] [--data DIR]    # the table, two threads, all cores
python perf/online.py --batch                                  # fused against torch engine, by mini-batch size
python perf/online.py --diagnostics                            # what the measurements before each task cost

--quick takes under a minute once Numba has compiled the engine; otherwise allow twenty. Real MNIST is read from
--data, else LOP_DATA, else `data`. With LOP_REFERENCE = a checkout of the authors' repository (github.com/shibhansh/
loss-of-plasticity) the learners on the other side are theirs, imported from there (by `perf/reference.py`, which also
holds the plain loop).

The table has one row for each network and method; one thread; microseconds for one example; medians of interleaved
repeats (ours, then PyTorch, row after row).

ours: `FusedLearner.run` in calls as training makes them (as many intervals of 1,000 steps as `intervals_at_once`),
    each from the start of a new task. Included: making the task (its permutations, or for regression the random bits
    and all targets), reading the examples, losses and accuracies of all steps, weight magnitudes at the end of each
    interval. Not included: compilation, and the measurements before a task (--diagnostics).
PyTorch: the same examples, from the same initial weights, in float32, but as ready-made tensors; fewer of them. Losses
    and accuracies of all steps are kept, nothing else. The losses of the first 100 steps are compared with ours, except
    where the method draws noise.
ratio: of the medians. range: the lowest and highest ratio within one repeat. at least, aim: what this project promised
    and hoped for.
limit: the longest of three times, each a lower bound for one step at the measured number of inputs that are not zero
    and of units that are active; binds: which one it is; reached: limit / ours.
    - Memory. Forward, the rows of weights that leave an active input are read; backward, they are read and written (4
      bytes each time). Lazy noise also writes them forward. Adam reads and writes, besides the forward pass, every
      weight and both moments. These bytes are divided by the copying speed of the cache (L1, L2, L3 or memory) that is
      large enough for all that one step touches: bytes read plus written, from one array to another or in place,
      whichever is faster.
    - Multiply-adds. For each weight of those rows one forward, one for the update and, after the first layer, one for
      the gradient of the activations. Continual backprop also keeps sums of |w| up to date: two for the incoming sums
      of hidden layers (old value out, new one in), one for the outgoing sums of hidden units. Adam: nine for each
      weight of the network. Lazy noise: one for each weight read, and about 30 for its normal variable (a 64-bit hash,
      and Box and Muller's logarithm, sine and cosine, shared by two).
    - Roots: vector square roots, each with a division. One for each weight in Adam, half a one for a normal variable.
    Work for each unit instead of each weight, the latency of one step's chain of layers, and regression's data are not
    in the limit: small networks cannot come near it.

Two threads: runs of the small network on one and on two threads of this process, interleaved; kernels release the GIL.
All cores: one `lop -m` sweep against as many processes of perf/reference.py at a time as there are cores, backprop,
784-100x3-10. Start-up counts on both sides; lengths are chosen so that it is a small part (not so with --quick).
"""

# mypy: disable-error-code="call-arg, no-untyped-call, untyped-decorator, var-annotated"
# (numba's decorators hide the types of compiled code)

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read at import

import numba as nb
import numpy as np
import torch
from reference import DECAY_RATE, MATURITY_THRESHOLD, Method, learn_all, make_learner

from lop_sweeps import cores
from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.l2_init import L2Init
from lop_sweeps.algorithms.regrama import ReGraMa
from lop_sweeps.algorithms.selective_weight_reinitialization import SelectiveWeightReinitialization
from lop_sweeps.algorithms.self_normalized_resets import SelfNormalizedResets
from lop_sweeps.algorithms.shrink_and_perturb import ShrinkAndPerturb
from lop_sweeps.algorithms.weight_clipping import WeightClipping
from lop_sweeps.benchmarks.benchmark import Benchmark
from lop_sweeps.benchmarks.permuted_mnist import PermutedMNIST
from lop_sweeps.benchmarks.slowly_changing_regression import SlowlyChangingRegression
from lop_sweeps.data import check_mnist, data_root
from lop_sweeps.diagnostics.measure import PROBE_SAMPLES, sample
from lop_sweeps.diagnostics.rank import Rank
from lop_sweeps.diagnostics.units import Units
from lop_sweeps.errors import DataError
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.fused.rows import OPTIONS
from lop_sweeps.fused.vector import fma, lanes, load, root, splat, store, total
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.adaupgd import AdaUPGD
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.optimizers.upgd import UPGD
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.online import INTERVAL

SEED, CHECKED_STEPS, TOLERANCE = 0, 100, 1e-3
MANY = 1_000_000  # tasks: more than are ever asked for


# What is measured


@dataclass(frozen=True)
class Row:
    """One line of the table; at_least and aim are ratios."""

    network: str
    title: str
    method: Method
    at_least: float
    aim: float

    @property
    def hidden(self) -> tuple[int, ...]:
        return NETWORKS[self.network]

    @property
    def noisy(self) -> bool:
        return self.method.noise_std > 0


SMALL, LARGE, REGRESSION = "784-100x3-10", "784-2000x3-10", "20-5-1"
NETWORKS = {SMALL: (100,) * 3, LARGE: (2000,) * 3, REGRESSION: (5,)}
ROWS = (
    Row(SMALL, "backprop", Method(0.003), 40, 70),
    Row(SMALL, "continual backprop", Method(0.003, replacement_rate=1e-4), 40, 70),
    Row(SMALL, "L2", Method(0.003, weight_decay=1e-4), 35, 60),
    Row(SMALL, "shrink and perturb, lazy", Method(0.003, weight_decay=1e-4, noise_std=1e-5), 15, 30),
    Row(SMALL, "L2 Init", Method(0.003, l2_init=1e-3), 40, 70),
    Row(SMALL, "weight clipping", Method(0.003, kappa=2.0), 40, 70),
    Row(SMALL, "self-normalised resets", Method(0.003, resets="self_normalized_resets"), 40, 70),
    Row(SMALL, "selective weight reinitialisation", Method(0.003, resets="selective_weight_reinitialization"), 40, 70),
    Row(SMALL, "ReGraMa", Method(0.003, resets="regrama"), 40, 70),
    Row(SMALL, "Adam", Method(1e-4, optimizer="adam"), 12, 20),
    Row(SMALL, "UPGD", Method(0.01, optimizer="upgd", weight_decay=1e-3, noise_std=1e-3), 3, 6),
    Row(SMALL, "AdaUPGD", Method(1e-4, optimizer="adaupgd", weight_decay=1e-3, noise_std=1e-3), 3, 6),
    Row(SMALL, "layer normalisation", Method(0.003, layer_norm=True), 30, 50),
    Row(SMALL, "CReLU", Method(0.003, activation="crelu"), 30, 50),
    Row(LARGE, "backprop", Method(0.003), 9, 15),
    Row(LARGE, "continual backprop", Method(0.003, replacement_rate=1e-6), 15, 25),
    Row(REGRESSION, "backprop", Method(0.01), 150, 400),
    Row(REGRESSION, "continual backprop", Method(0.01, replacement_rate=1e-4), 150, 400),
)


def make_benchmark(network: str, data: Path, batch: int = 1) -> Benchmark:
    if network == REGRESSION:
        return SlowlyChangingRegression(MANY, 10_000 // batch * batch, batch)
    benchmark = PermutedMNIST(MANY, 60_000 // batch * batch, batch)
    benchmark.load(data)
    return benchmark


GATED: dict[str, Callable[..., Any]] = {"upgd": UPGD, "adaupgd": AdaUPGD}
RESETS: dict[str, Callable[[], Any]] = {
    "self_normalized_resets": SelfNormalizedResets,
    "selective_weight_reinitialization": SelectiveWeightReinitialization,
    "regrama": ReGraMa,
}


def make_network(network: str, method: Method | None = None) -> MLP:
    if network == REGRESSION:
        return MLP(20, 1, NETWORKS[network], init="kaiming_ffnn")
    if method is None:
        return MLP(784, 10, NETWORKS[network])
    norm = "layer" if method.layer_norm else "none"
    return MLP(784, 10, NETWORKS[network], activation=method.activation, norm=norm)


def make_fused(network: str, method: Method, loss: str, seed: int = SEED) -> FusedLearner:
    optimizer: Any = SGD(method.step_size, weight_decay=method.weight_decay)
    if method.optimizer == "adam":
        optimizer = Adam(method.step_size, weight_decay=method.weight_decay)
    elif method.optimizer in GATED:
        optimizer = GATED[method.optimizer](method.step_size, method.noise_std, weight_decay=method.weight_decay)
    interventions: list[Any] = []
    if method.noise_std and method.optimizer == "sgd":
        interventions.append(ShrinkAndPerturb(method.noise_std, noise="lazy"))
    if method.l2_init:
        interventions.append(L2Init(method.l2_init))
    if method.kappa:
        interventions.append(WeightClipping(method.kappa))
    if method.replacement_rate:
        utility = "adaptable_contribution"
        interventions.append(
            ContinualBackprop(method.replacement_rate, MATURITY_THRESHOLD, DECAY_RATE, utility=utility)
        )
    if method.resets:
        interventions.append(RESETS[method.resets]())
    return FusedLearner(lambda: make_network(network, method), optimizer, interventions, seed, loss, torch.float32)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Ours:
    """A run on the fused engine; every call learns from the start of a new task."""

    def __init__(self, row: Row, benchmark: Benchmark, seed: int = SEED) -> None:
        self.benchmark, self.seed = benchmark, seed
        self.learner = make_fused(row.network, row.method, benchmark.loss, seed)
        self.steps, self.calls = INTERVAL, 1  # of a call; of a timing
        self.task = self.done = 0

    def learn(self, steps: int) -> list[float]:
        """The losses of `steps` steps, from the start of the next task."""
        task = self.benchmark.task(self.seed, self.task)
        losses, _, _ = self.learner.run([task], 1, self.done, 0, steps, INTERVAL)
        self.task, self.done = self.task + 1, self.done + steps
        assert len(losses) == steps, "the network is no longer finite"
        return list(losses[:, 0].tolist())

    def plan(self, target: float) -> None:
        """Let a timing take about `target` seconds, in calls as long as in training if there is time for one."""
        self.learn(10)  # now it is compiled
        steps = round(target / self.time())
        longest = min(self.learner.intervals_at_once * INTERVAL, self.benchmark.examples_per_task)
        self.steps = min(max(steps // INTERVAL, 1) * INTERVAL, longest)
        self.calls = max(1, round(steps / self.steps))

    def time(self) -> float:
        """Seconds for one step."""
        return seconds(lambda: [self.learn(self.steps) for _ in range(self.calls)]) / (self.calls * self.steps)

    def active(self) -> list[float]:
        """The mean number of inputs of each layer that are not 0, on examples of the last task."""
        task = self.benchmark.task(self.seed, self.task - 1)
        x = task.examples(0, 500)[0]
        hidden = self.learner.probe([task], 500)
        return [float((x != 0).sum(1).mean()), *(float((h[0] != 0).sum(1).double().mean()) for h in hidden)]


class Theirs:
    """A run in the plain PyTorch loop, from the same initial weights; timings start where those of `Ours` do."""

    def __init__(self, row: Row, benchmark: Benchmark, ours: FusedLearner) -> None:
        self.benchmark, self.loss = benchmark, benchmark.loss
        names = [name.removesuffix("weight") for name in ours.weight_names]
        weights = [
            (ours.view(ours.parameters, name + "weight")[0], ours.view(ours.parameters, name + "bias")[0])
            for name in names
        ]
        self.learner = make_learner(weights, row.method, benchmark.loss)
        self.task = 0

    def learn(self, steps: int) -> tuple[list[float], float]:
        """Losses of `steps` steps from the start of the next task, and seconds for one of them."""
        x, y = self.benchmark.task(SEED, self.task).examples(0, steps)
        xs, ys = torch.from_numpy(x).float(), torch.from_numpy(y)
        if self.loss == "squared_error":
            ys = ys.float()
        self.task += 1
        start = time.perf_counter()
        losses, _ = learn_all(self.learner, xs, ys)
        return losses, (time.perf_counter() - start) / steps


class Pair:
    """Both sides of a row, compiled, warm and in agreement; then their timings."""

    def __init__(self, row: Row, benchmark: Benchmark, target: float) -> None:
        """target: about how many seconds a timing should take."""
        self.row = row
        self.ours = Ours(row, benchmark)
        self.theirs = Theirs(row, benchmark, self.ours.learner)  # before ours has learned anything
        losses, (others, other_seconds) = self.ours.learn(CHECKED_STEPS), self.theirs.learn(CHECKED_STEPS)
        difference = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(losses, others, strict=True))
        assert row.noisy or difference <= TOLERANCE, f"{row.network}, {row.title}: losses differ by {difference:.2g}"
        self.ours.plan(target)
        self.their_steps = min(max(20, round(target / other_seconds)), self.ours.steps)
        self.our_seconds: list[float] = []
        self.their_seconds: list[float] = []
        self.active: list[list[float]] = []

    def repeat(self) -> None:
        self.theirs.task = self.ours.task
        self.our_seconds.append(self.ours.time())
        self.active.append(self.ours.active())
        self.their_seconds.append(self.theirs.learn(self.their_steps)[1])


# What the machine could do


@nb.njit(**OPTIONS)
def copy(source: Any, target: Any, times: int) -> None:
    n = lanes(source)
    for _ in range(times):
        for i in range(0, source.size, 4 * n):
            v0, v1, v2, v3 = load(source, i), load(source, i + n), load(source, i + 2 * n), load(source, i + 3 * n)
            store(target, i, v0)
            store(target, i + n, v1)
            store(target, i + 2 * n, v2)
            store(target, i + 3 * n, v3)


@nb.njit(**OPTIONS)
def rewrite(array: Any, times: int) -> None:
    n = lanes(array)
    for _ in range(times):
        for i in range(0, array.size, 4 * n):
            v0, v1, v2, v3 = load(array, i), load(array, i + n), load(array, i + 2 * n), load(array, i + 3 * n)
            store(array, i, v0 + v0)  # of zeros
            store(array, i + n, v1 + v1)
            store(array, i + 2 * n, v2 + v2)
            store(array, i + 3 * n, v3 + v3)


@nb.njit(**OPTIONS)
def multiply_add(out: Any, times: int) -> None:
    x, y = splat(out, out[0]), splat(out, out[1])
    a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11 = x, x, x, x, x, x, x, x, x, x, x, x
    for _ in range(times):  # twelve at a time, which do not wait for each other
        a0, a1, a2, a3, a4, a5 = (
            fma(a0, x, y),
            fma(a1, x, y),
            fma(a2, x, y),
            fma(a3, x, y),
            fma(a4, x, y),
            fma(a5, x, y),
        )
        a6, a7, a8, a9 = fma(a6, x, y), fma(a7, x, y), fma(a8, x, y), fma(a9, x, y)
        a10, a11 = fma(a10, x, y), fma(a11, x, y)
    out[0] = total(((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)) + ((a8 + a9) + (a10 + a11)))


@nb.njit(**OPTIONS)
def roots(out: Any, times: int) -> None:
    x, y = splat(out, out[0]), splat(out, out[1])
    a0, a1, a2, a3, a4, a5, a6, a7 = y, y, y, y, y, y, y, y
    for _ in range(times):
        a0, a1, a2, a3 = x / root(a0), x / root(a1), x / root(a2), x / root(a3)
        a4, a5, a6, a7 = x / root(a4), x / root(a5), x / root(a6), x / root(a7)
    out[0] = total(((a0 + a1) + (a2 + a3)) + ((a4 + a5) + (a6 + a7)))


def fastest(work: Callable[[int], object], times: int, tries: int) -> float:
    """Seconds for one of `times`, in the best of `tries`."""
    work(1)
    return min(seconds(lambda: work(times)) for _ in range(tries)) / times


def zeros(size: int) -> Any:
    """A float32 array that begins with a cache line, as PyTorch allocates them."""
    return torch.zeros(size).numpy()


def caches() -> list[tuple[str, int]]:
    """Name and bytes of each data cache of the first core, the smallest first; none where Linux does not say."""
    units = {"K": 2**10, "M": 2**20}
    found = []
    for folder in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((folder / name).read_text().strip() for name in ("level", "type", "size"))
        if kind != "Instruction":
            found.append((f"L{level}", int(size[:-1]) * units[size[-1]]))
    return found


@dataclass(frozen=True)
class Machine:
    """Rates of one thread, a second. bandwidth: bytes, by name of the level; roots: each with a division."""

    caches: list[tuple[str, int]]
    bandwidth: dict[str, float]
    multiply_adds: float
    roots: float

    @staticmethod
    def measure(tries: int) -> Machine:
        known = caches()
        sizes = {name: size // 2 for name, size in known}
        sizes["memory"] = 4 * max([2**25, *(size for _, size in known)])
        bandwidth = {}
        for name, size in sizes.items():
            one, two, whole = zeros(size // 8), zeros(size // 8), zeros(size // 4)
            times = max(1, 200_000_000 // size)
            copying = fastest(partial(copy, one, two), times, tries)
            bandwidth[name] = max(size / copying, 2 * size / fastest(partial(rewrite, whole), times, tries))
        numbers, times = np.array([0.5, 0.5] + [0.0] * 14, np.float32), 1_000_000
        rate = 12 * 16 / fastest(partial(multiply_add, numbers), times, tries)
        numbers[:2] = 0.5
        return Machine(known, bandwidth, rate, 8 * 16 / fastest(partial(roots, numbers), times // 10, tries))

    def level(self, working_set: float) -> str:
        """The smallest cache that holds so many bytes."""
        return next((name for name, size in self.caches if size >= working_set), "memory")


def limit(machine: Machine, row: Row, sizes: Sequence[int], active: Sequence[float]) -> tuple[float, str]:
    """Seconds that a step takes at least, and what binds; `active`: inputs of each layer that are not 0."""
    adam, replaces = row.method.optimizer != "sgd", row.method.replacement_rate > 0
    bytes_moved = multiply_adds = root_count = working_set = 0.0
    last = len(active) - 1
    for i, ((inputs, outputs), taking_part) in enumerate(zip(pairwise(sizes), active, strict=True)):
        everything, concerned = (inputs + 1) * outputs, (taking_part + 1) * outputs  # with the bias
        bytes_moved += 4 * concerned
        multiply_adds += (2 if i == 0 else 3) * concerned
        if adam:
            bytes_moved += 24 * everything
            multiply_adds += 9 * everything
            root_count += everything
            working_set += 12 * everything
        else:
            bytes_moved += 8 * concerned
            working_set += 4 * concerned
        if replaces:
            multiply_adds += ((2 if i < last else 0) + (1 if i > 0 else 0)) * concerned
        if row.noisy:
            bytes_moved += 4 * concerned
            multiply_adds += 31 * concerned
            root_count += concerned / 2
    level = machine.level(working_set)
    times = {
        level: bytes_moved / machine.bandwidth[level],
        "multiply-adds": multiply_adds / machine.multiply_adds,
        "roots": root_count / machine.roots,
    }
    binds = max(times, key=lambda name: times[name])
    return times[binds], binds


# The table


def other_side() -> str:
    return "authors' learners" if os.environ.get("LOP_REFERENCE") else "PyTorch"


def table(data: Path, quick: bool) -> dict[str, Any]:
    repeats = 3 if quick else 11
    machine = Machine.measure(5 if quick else 20)
    speeds = ", ".join(f"{name} {rate / 1e9:.0f}" for name, rate in machine.bandwidth.items())
    print(
        f"this machine, one thread: copies {speeds} GB/s; {machine.multiply_adds / 1e9:.0f} G multiply-adds/s; ", end=""
    )
    print(f"{machine.roots / 1e9:.1f} G roots/s (float32)\n")
    benchmarks = {network: make_benchmark(network, data) for network in NETWORKS}
    pairs = [Pair(row, benchmarks[row.network], 0.15 if quick else 1.0) for row in ROWS]
    for _ in range(repeats):
        for pair in pairs:
            pair.repeat()
    print(f"| network | method | ours, µs | {other_side()}, µs | ratio | range | at least | aim ", end="")
    print("| limit, µs | binds | reached |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    figures: dict[str, Any] = {"machine": vars(machine), "against": other_side(), "rows": []}
    for pair in pairs:
        row, benchmark = pair.row, benchmarks[pair.row.network]
        ours, theirs = median(pair.our_seconds) * 1e6, median(pair.their_seconds) * 1e6
        ratios = [b / a for a, b in zip(pair.our_seconds, pair.their_seconds, strict=True)]
        active = [float(n) for n in np.mean(pair.active, axis=0)]
        least, binds = limit(machine, row, (benchmark.inputs, *row.hidden, benchmark.outputs), active)
        print(
            f"| {row.network} | {row.title} | {ours:.3g} | {theirs:.4g} | {theirs / ours:.1f} "
            f"| {min(ratios):.1f} to {max(ratios):.1f} | {row.at_least} | {row.aim} "
            f"| {least * 1e6:.2g} | {binds} | {least * 1e6 / ours:.1%} |"
        )
        figures["rows"].append(
            {
                "network": row.network, "method": row.title, "ours_us": ours, "theirs_us": theirs,
                "ratio": theirs / ours, "ratios": ratios, "at_least": row.at_least, "aim": row.aim,
                "limit_us": least * 1e6, "binds": binds, "reached": least * 1e6 / ours, "active_inputs": active,
            }
        )  # fmt: skip
    return figures


# More than one core


def in_threads(runs: Sequence[Ours]) -> float:
    """Steps a second of all runs together, each on its own thread."""
    threads = [threading.Thread(target=run.time) for run in runs]

    def work() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return sum(run.calls * run.steps for run in runs) / seconds(work)


def two_threads(data: Path, quick: bool) -> dict[str, float]:
    benchmark, gains = make_benchmark(SMALL, data), {}
    print("\n| 784-100x3-10 | one thread, steps/s | two threads, steps/s | ratio | at least |\n|---|---|---|---|---|")
    for row in ROWS[:2]:
        runs = [Ours(row, benchmark, seed) for seed in (1, 2)]
        runs[0].plan(0.3 if quick else 2.0)
        runs[1].steps, runs[1].calls = runs[0].steps, runs[0].calls
        both = [(in_threads(runs[:1]), in_threads(runs)) for _ in range(3 if quick else 11)]
        one, two = median(a for a, _ in both), median(b for _, b in both)
        gains[row.title] = two / one
        print(f"| {row.title} | {one:,.0f} | {two:,.0f} | {two / one:.2f} | 1.85 |")
    return gains


def all_cores(data: Path, quick: bool) -> dict[str, float]:
    count = cores.allotted()
    runs, tasks, their_steps, repeats = (count, 2, 2_000, 1) if quick else (8, 40, 60_000, 3)

    def sweep() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run_quietly(
                "-m", "lop_sweeps", "-m", "benchmark=permuted_mnist", f"benchmark.num_tasks={tasks}",
                "benchmark.examples_per_task=60000", "network=mlp", "algorithm=backprop", f"seed=range({runs})",
                f"paths.sweeps={folder}", f"paths.data={data.resolve()}",
            )  # fmt: skip

    def processes() -> None:
        script, place = str(Path(__file__).with_name("reference.py")), str(data.resolve())
        with ThreadPoolExecutor(count) as pool:
            lines = [(script, "--data", place, "--steps", str(their_steps), "--seed", str(i)) for i in range(runs)]
            list(pool.map(lambda line: run_quietly(*line), lines))

    both = [(seconds(sweep), seconds(processes)) for _ in range(repeats)]
    ours = runs * tasks * 60_000 / median(a for a, _ in both)
    theirs = runs * their_steps / median(b for _, b in both)
    print(f"\nall {count} cores, {runs} runs, start-up included{' (which is most of it, because of --quick)' * quick}:")
    print(f"a sweep, {tasks * 60_000:,} steps a run, with its measurements and logs: {ours:,.0f} steps/s")
    print(f"{runs} processes, {other_side()}, {their_steps:,} steps a run: {theirs:,.0f} steps/s")
    print(f"ratio: {ours / theirs:.1f}")
    return {"cores": count, "runs": runs, "ours_steps_s": ours, "theirs_steps_s": theirs, "ratio": ours / theirs}


def run_quietly(*line: str) -> None:
    """Run Python with these arguments; what it printed is shown if it fails."""
    result = subprocess.run([sys.executable, *line], capture_output=True, text=True)
    if result.returncode:
        raise SystemExit(f"{' '.join(line)}\n{result.stdout}{result.stderr}")


# The other modes


def by_batch(data: Path, quick: bool) -> dict[str, Any]:
    """Microseconds of a mini-batch on both engines: where `limits.LARGEST_BATCH` should be."""
    target, repeats = (0.05, 3) if quick else (0.5, 7)
    figures: dict[str, Any] = {}
    print("| network | mini-batch | fused engine, µs | torch engine, µs | torch / fused |\n|---|---|---|---|---|")
    for network in NETWORKS:
        for batch in (1, 4, 16, 32, 64, 128):
            optimizer: Any = SGD(0.003)
            benchmark = make_benchmark(network, data, batch)
            make, loss = partial(make_network, network), benchmark.loss
            learners: tuple[Learner, Learner] = (
                FusedLearner(make, optimizer, [], SEED, loss, torch.float32),
                TorchLearner(make, [optimizer], [], [SEED], loss, torch.float32),
            )
            most = benchmark.examples_per_task // batch
            steps = [3, 3]
            times: tuple[list[float], list[float]] = ([], [])
            for repeat in range(repeats + 2):  # the first two: to compile, and to find how many steps to take
                task = benchmark.task(SEED, repeat)
                for i, learner in enumerate(learners):
                    took = seconds(partial(learner.run, [task], batch, 0, 0, steps[i], INTERVAL)) / steps[i]
                    if repeat == 1:
                        steps[i] = min(max(3, round(target / took)), most)
                    elif repeat > 1:
                        times[i].append(took)
            fused, plain = (median(each) * 1e6 for each in times)
            print(f"| {network} | {batch} | {fused:.4g} | {plain:.4g} | {plain / fused:.2f} |", flush=True)
            figures[f"{network} {batch}"] = {"fused_us": fused, "torch_us": plain, "ratio": plain / fused}
    return figures


def diagnostics(data: Path, quick: bool) -> dict[str, Any]:
    """Seconds of what is measured before a task, and its share of a run."""
    figures: dict[str, Any] = {}
    print(f"on {PROBE_SAMPLES:,} examples, and the training of a task (backprop); shares of the whole run\n")
    print("| network | measurements, s | of which probe | of which magnitudes | 60,000 examples, s | share ", end="")
    print("| 10,000 examples, s | share |\n|---|---|---|---|---|---|---|---|")
    for row in (row for row in ROWS if row.title == "backprop" and row.network != REGRESSION):
        ours = Ours(row, make_benchmark(row.network, data))
        ours.plan(0.3 if quick else 2.0)
        parts: list[tuple[float, float, float, float]] = []
        for _ in range(3 if quick else 7):
            step, task = ours.time(), ours.benchmark.task(SEED, ours.task)
            start = time.perf_counter()
            hidden = ours.learner.probe([task], PROBE_SAMPLES)
            probed = time.perf_counter()
            pack: Any = SimpleNamespace(layers=[sample(h) for h in hidden], runs=[None])
            Units().measure_pack(pack)
            Rank().measure_pack(pack)
            measured = time.perf_counter()
            ours.learner.magnitudes()
            parts.append((step, probed - start, measured - probed, time.perf_counter() - measured))
        step, probe, units, magnitudes = (median(part) for part in zip(*parts, strict=True))
        whole = probe + units + magnitudes
        line = f"| {row.network} | {whole:.3f} | {probe:.3f} | {magnitudes:.4f} "
        shares = {}
        for examples in (60_000, 10_000):
            shares[examples] = whole / (whole + examples * step)
            line += f"| {examples * step:.3f} | {shares[examples]:.1%} "
        print(line + "|", flush=True)
        figures[row.network] = {"step_us": step * 1e6, "measurements_s": whole, "probe_s": probe, "shares": shares}
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repeats: under a minute")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--data", help="folder with MNIST/raw (default: LOP_DATA, else data)")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--batch", action="store_true", help="instead: both engines at several mini-batch sizes")
    mode.add_argument("--diagnostics", action="store_true", help="instead: the cost of the measurements before a task")
    options = parser.parse_args()
    torch.set_num_threads(1)
    data = data_root(options.data)
    try:
        check_mnist(data)
    except DataError as error:
        parser.error(str(error))
    if options.batch:
        figures = by_batch(data, options.quick)
    elif options.diagnostics:
        figures = diagnostics(data, options.quick)
    else:
        figures = table(data, options.quick)
        figures["two_threads"] = two_threads(data, options.quick)
        figures["all_cores"] = all_cores(data, options.quick)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
