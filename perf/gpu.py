"""What the torch engine does on a GPU: its tests there, then runs x steps per second of packs, with the limits beside.

perf/gpu.sh                        # `make gpu`: finds a Python that can, then runs this; under eight minutes
python perf/gpu.py [--quick] [--json FILE] [--only PART ...]

Parts: tests, card, mlp, wide, conv_net, resnet18, ppo. Each has a time limit of its own and prints as it goes, so that
half a run is half a result. Packs of 1, 4, 16 and 64 runs are compared with a plain PyTorch loop of one run, written as
one would write it (torch.nn, autograd, torch.optim, data on the GPU, no value read), by turns in the same minutes.
TF32 is off unless a row says otherwise.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from epochs import Ours as OursOnImages
from epochs import PlainConvNet, PlainResNet, Row
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.benchmarks.permuted_images import PermutedImages
from lop_sweeps.networks.mlp import MLP
from lop_sweeps.optimizers.adam import Adam
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training import devices
from lop_sweeps.training.learner import TorchLearner

PARTS = {"tests": 150, "card": 10, "mlp": 60, "wide": 45, "conv_net": 60, "resnet18": 60, "ppo": 40}  # seconds
PACKS = (1, 4, 16, 64)
REPEATS = 5


@dataclass
class Measured:
    """One line of the table. rate: runs x steps per second. launches: kernels a step. memory: MiB a run. share: of the
    bandwidth of a copy in the same minute (wide), or of the arithmetic of a large product (images).
    """

    part: str
    method: str
    runs: int | str
    rate: float
    ratio: float | None = None
    launches: float | None = None
    memory: float | None = None
    share: float | None = None

    def line(self) -> str:
        cells = [self.part, self.method, str(self.runs), f"{self.rate:,.0f}"]
        cells += ["" if self.ratio is None else f"{self.ratio:.2f}"]
        cells += ["" if self.launches is None else f"{self.launches:.0f}"]
        cells += ["" if self.memory is None else f"{self.memory:,.0f}"]
        cells += ["" if self.share is None else f"{100 * self.share:.0f} %"]
        return "| " + " | ".join(cells) + " |"


HEAD = (
    "| part | method | runs in the pack | runs x steps / s | to plain | kernels a step | MiB a run | of the limit |\n"
    "|---|---|---|---|---|---|---|---|"
)


class Card:
    """Its ceilings, measured: copy, bytes read and written a second; product, operations a second."""

    def __init__(self) -> None:
        x = torch.randn(1 << 27, device="cuda")
        y = torch.empty_like(x)
        self.copy = 2 * x.nbytes / seconds(lambda: y.copy_(x))
        a = torch.randn(8_192, 8_192, device="cuda")
        self.product = 2 * 8_192**3 / seconds(lambda: a @ a)
        devices.use_tf32(True)
        self.tf32 = 2 * 8_192**3 / seconds(lambda: a @ a)
        devices.use_tf32(False)

    def __str__(self) -> str:
        name = torch.cuda.get_device_name()
        return (
            f"{name}, PyTorch {torch.__version__}: copy {self.copy / 1e9:,.0f} GB/s, float32 product "
            f"{self.product / 1e12:.1f} TFLOP/s, TF32 {self.tf32 / 1e12:.0f}"
        )


def seconds(act: Callable[[], Any], repeats: int = 10) -> float:
    """Median time of `act` on the card, after three goes to warm up."""
    times = []
    for go in range(3 + repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        act()
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
        if go < 3:
            times.clear()
    return median(times)


def kernels(learn: Callable[[int], None], steps: int) -> float:
    """Kernels and copies that a step launches."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        learn(steps)
        torch.cuda.synchronize()
    return sum(event.device_type == torch.autograd.DeviceType.CUDA for event in profiled.events()) / steps


class Images(PermutedImages):
    """Made-up images of MNIST's size: what they show does not change the time of a step."""

    version = 1
    shape, inputs = (1, 28, 28), 784

    def __init__(self, batch: int) -> None:
        super().__init__(1, 60_000 // batch * batch, batch)
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, (60_000, 784), dtype=np.uint8)
        self.labels = rng.integers(0, 10, 60_000)

    def check_data(self, root: Path) -> None: ...

    def load(self, root: Path) -> None: ...


class OursOnline:
    """A pack on the torch engine in the online protocol."""

    def __init__(self, runs: int, hidden: tuple[int, ...], images: Images, method: str) -> None:
        seeds = list(range(runs))
        optimizer: SGD | Adam = Adam() if method == "adam" else SGD(0.003)
        cbp = [[ContinualBackprop(1e-4, 100)] * runs] if method == "continual backprop" else []
        self.tasks = [images.task(seed, 0) for seed in seeds]
        self.learner = TorchLearner(
            lambda: MLP(784, 10, hidden), [optimizer] * runs, cbp, seeds, "cross_entropy", torch.float32, "cuda"
        )
        self.batch, self.at = images.batch_size, 0

    def learn(self, steps: int) -> None:
        self.learner.run(self.tasks, self.batch, self.at, self.at, steps, steps)
        self.at += steps


class PlainOnline:
    """One run as one would write it: permuted images as floats on the GPU, torch.nn and torch.optim."""

    def __init__(self, hidden: tuple[int, ...], images: Images, method: str) -> None:
        sizes = (784, *hidden, 10)
        layers = itertools.chain(*((nn.Linear(a, b), nn.ReLU()) for a, b in itertools.pairwise(sizes)))
        self.network = nn.Sequential(*list(layers)[:-1]).cuda()
        task = images.task(0, 0)
        self.x = torch.from_numpy(task.images[np.ix_(task.order, task.pixels)]).cuda().float() / 255
        self.y = torch.from_numpy(task.labels[task.order]).cuda()
        parameters = self.network.parameters()
        self.optimizer = torch.optim.Adam(parameters) if method == "adam" else torch.optim.SGD(parameters, 0.003)
        self.batch, self.at = images.batch_size, 0
        self.correct = torch.zeros((), device="cuda")

    def learn(self, steps: int) -> None:
        for _ in range(steps):
            span = slice(self.at * self.batch, (self.at + 1) * self.batch)
            output = self.network(self.x[span])
            self.correct += (output.argmax(1) == self.y[span]).sum()
            self.optimizer.zero_grad()
            F.cross_entropy(output, self.y[span]).backward()
            self.optimizer.step()
            self.at = (self.at + 1) % (len(self.x) // self.batch)


class PlainImages:
    """One run of a network of maps: float images on the GPU, shuffled once an epoch."""

    def __init__(self, name: str, batch: int) -> None:
        self.network: Any = (PlainConvNet() if name == "conv_net" else PlainResNet()).cuda()
        self.optimizer = torch.optim.SGD(self.network.parameters(), 0.01, momentum=0.9, weight_decay=5e-4)
        self.images = torch.rand(12 * batch, 3, 32, 32, device="cuda") * 2 - 1
        self.labels = torch.randint(0, 10, (12 * batch,), device="cuda")
        self.batch, self.loss = batch, torch.zeros((), device="cuda")

    def learn(self, steps: int) -> None:
        for step in range(steps):
            if step % 12 == 0:
                order = torch.randperm(len(self.images), device="cuda")
            rows = order[step % 12 * self.batch : (step % 12 + 1) * self.batch]
            y = self.labels[rows]
            output, _ = self.network(self.images[rows])
            loss = F.cross_entropy(output, y)
            self.loss += loss.detach()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()


def rate(learn: Callable[[int], None], steps: int) -> float:
    """Steps per second of one go, launches and waiting included."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    learn(steps)
    torch.cuda.synchronize()
    return steps / (time.perf_counter() - start)


def compare(
    part: str,
    method: str,
    make_plain: Callable[[], Any],
    make_ours: Callable[[int], Any],
    steps: int,
    limit: Callable[[float], float] | None,
    until: float,
    sizes: tuple[int, ...] = PACKS,
) -> list[Measured]:
    """Packs of each size, by turns with one plain run. limit: the share of the card's for a rate of runs x steps."""
    if time.monotonic() > until:
        print(f"({part}, {method}: no time)", flush=True)
        return []
    plain = make_plain()
    plain.learn(steps)
    results = [Measured(part, method, "plain", 0.0, 1.0, kernels(plain.learn, 12))]
    all_plain: list[float] = []
    for runs in sizes:
        if time.monotonic() > until:
            print(f"({part}, {method}: no time for packs of {runs})", flush=True)
            break
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        try:
            ours = make_ours(runs)
            of_data = torch.cuda.memory_allocated()
            ours.learn(steps)
            memory = (torch.cuda.max_memory_allocated() - before) / runs / 2**20
            del of_data
            launched = kernels(ours.learn, 12)
            pairs = []
            for _ in range(REPEATS):
                pairs.append((rate(ours.learn, steps), rate(plain.learn, steps)))
                if time.monotonic() > until:
                    break
        except torch.OutOfMemoryError:
            print(f"({part}, {method}: {runs} runs do not fit)", flush=True)
            break
        all_plain += [theirs for _, theirs in pairs]
        mine = runs * median(a for a, _ in pairs)
        ratio = runs * median(a / b for a, b in pairs)
        share = limit(mine) if limit else None
        results.append(Measured(part, method, runs, mine, ratio, launched, memory, share))
        print(results[-1].line(), flush=True)
        del ours
    if all_plain:
        results[0].rate = median(all_plain)
    print(results[0].line(), flush=True)
    return results


def mlp(card: Card, until: float) -> list[Measured]:
    images, hidden = Images(16), (100, 100, 100)
    found = []
    for method in ("backprop", "continual backprop", "adam"):
        found += compare(
            "784-100x3, batch 16",
            method,
            lambda m=method: PlainOnline(hidden, images, m),  # type: ignore[misc]
            lambda runs, m=method: OursOnline(runs, hidden, images, m),  # type: ignore[misc]
            200,
            None,
            until,
        )
    return found


def wide(card: Card, until: float) -> list[Measured]:
    """The limit counts three times the weights a step: read twice, written once."""
    images, hidden = Images(1), (2_000, 2_000, 2_000)
    weights = 784 * 2_000 + 2 * 2_000**2 + 2_000 * 10
    found = []
    for method in ("backprop", "continual backprop"):
        found += compare(
            "784-2000x3, online",
            method,
            lambda m=method: PlainOnline(hidden, images, m),  # type: ignore[misc]
            lambda runs, m=method: OursOnline(runs, hidden, images, m),  # type: ignore[misc]
            60,
            lambda per_second: per_second * 3 * 4 * weights / card.copy,
            until,
        )
    return found


def on_images(name: str, card: Card, until: float) -> list[Measured]:
    """The limit counts the multiplications and additions of forward and backward passes, three times the forward."""
    batch = 100 if name == "conv_net" else 90
    forward = operations(name) * batch
    steps = 24 if name == "conv_net" else 12
    found = []
    lines = [("backprop", False, PACKS), ("continual backprop", False, (1, 16, 64)), ("backprop, TF32", True, (1, 64))]
    if name == "resnet18":
        lines = [
            ("backprop", False, (1, 4, 16)),
            ("continual backprop", False, (1, 4)),
            ("backprop, TF32", True, (1, 4)),
        ]
    for method, tf32, sizes in lines:
        devices.use_tf32(tf32)
        row = Row(name, method.split(",")[0], batch, 0.0)
        ceiling = card.tf32 if tf32 else card.product
        found += compare(
            f"{name}, batch {batch}",
            method,
            lambda: PlainImages(name, batch),
            lambda runs, r=row: OursOnImages(r, runs, "cuda"),  # type: ignore[misc]
            steps,
            lambda per_second, c=ceiling: per_second * 3 * forward / c,  # type: ignore[misc]
            until,
            sizes,
        )
        devices.use_tf32(False)
    return found


def operations(name: str) -> float:
    """Multiplications and additions of one image's forward pass."""
    total = 0.0

    def count(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        nonlocal total
        weight = module.weight
        assert isinstance(weight, Tensor)
        total += 2 * weight.numel() * (made[0, 0].numel() if made.dim() == 4 else 1)

    network = PlainConvNet() if name == "conv_net" else PlainResNet()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    network(torch.zeros(2, 3, 32, 32))
    return total


def ppo(card: Card, until: float) -> list[Measured]:
    """Environment steps; the environments are on the host, one after the other, so a GPU has little to give."""
    from lop_sweeps.agents.ppo import PPO
    from lop_sweeps.benchmarks.ant import Ant
    from lop_sweeps.networks.actor_critic import ActorCritic
    from lop_sweeps.training.control import Control, ControlStage
    from lop_sweeps.training.session import Member, Position

    found = []
    benchmark = Ant(num_steps=10_000_000, log_every=2_048 * 100)
    for device, runs in (("cpu", 1), ("cuda", 1), ("cuda", 4)):
        if time.monotonic() > until:
            break
        seeds = list(range(runs))
        with tempfile.TemporaryDirectory() as folder:
            control = Control(benchmark, [PPO()] * runs, [Member(Path(folder), seed) for seed in seeds])
        learner = TorchLearner(
            lambda: ActorCritic(benchmark.inputs, benchmark.outputs),
            [Adam(1e-4)] * runs,
            [],
            seeds,
            "squared_error",
            torch.float32,
            device,
        )
        stage = ControlStage(learner, control, 0)
        position = Position(sums=stage.begin())
        stage.learn(position, 10**9)
        start = time.perf_counter()
        stage.learn(position, 10**9)
        torch.cuda.synchronize()
        per_second = runs * 2_048 / (time.perf_counter() - start)
        found.append(Measured("PPO on Ant", f"Adam, networks on {device}", runs, per_second))
        print(found[-1].line(), flush=True)
    return found


def run_tests(limit: float) -> bool:
    """The tests marked gpu, in several processes that share the card; whether they passed."""
    processes = min(8, len(os.sched_getaffinity(0)))
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "--durations=3"]
    command += ["-n", str(processes), "tests/contracts/test_gpu.py", "tests/benchmarks/test_augmentation.py"]
    try:
        return subprocess.run(command, cwd=Path(__file__).parents[1], timeout=limit).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"(tests: not finished after {limit:.0f} s)", flush=True)
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a third of the time for each part")
    parser.add_argument("--json", type=Path, help="keep the figures in this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("perf/gpu.py: PyTorch sees no GPU here")
    devices.use_tf32(False)
    share = 1 / 3 if options.quick else 1.0
    began = time.monotonic()
    kept: dict[str, Any] = {"lines": []}

    def keep() -> None:
        if options.json:
            options.json.write_text(json.dumps(kept, indent=1) + "\n")

    card = Card()
    kept |= {"card": torch.cuda.get_device_name(), "torch": torch.__version__, **vars(card)}
    print(card, flush=True)
    passed = True
    measured: list[Measured] = []
    for part in [part for part in PARTS if part in options.only]:
        limit = share * PARTS[part]
        print(f"\n== {part} (at most {limit:.0f} s; {time.monotonic() - began:.0f} s so far)", flush=True)
        until = time.monotonic() + limit
        if part == "tests":
            passed = kept["tests_passed"] = run_tests(limit)
        elif part != "card":
            print(HEAD, flush=True)
            act: Any = {"mlp": mlp, "wide": wide, "ppo": ppo}.get(part) or (lambda c, u, p=part: on_images(p, c, u))
            try:
                measured += act(card, until)
            except Exception as error:  # the other parts are worth having
                print(f"({part} failed: {type(error).__name__}: {error})", flush=True)
                passed = False
        kept["lines"] = [asdict(one) for one in measured]
        keep()
    print(f"\n{card}\n{HEAD}")
    print("\n".join(one.line() for one in measured))
    print(f"tests {'passed' if passed else 'FAILED'}; {time.monotonic() - began:.0f} s")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
