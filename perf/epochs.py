"""Ours against a plain PyTorch training loop on images: one training step in mini-batches, on one thread.

python perf/epochs.py [--quick] [--json FILE]             # the table
python perf/epochs.py --packs [--quick] [--json FILE]     # packs of 1, 4, 16, 64 runs of the conv network, on a GPU
                                                          # if there is one

The plain loop is written as one would normally write it: torch.nn layers, a float tensor of images, autograd,
torch.optim; continual backprop as a few lines after each step. Both do the same work from the same initial weights,
which is checked on the losses of the first steps. Every figure is the median of interleaved repeats.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, cast

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read at import

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lop_sweeps.algorithms.continual_backprop import ContinualBackprop
from lop_sweeps.algorithms.l2_init import L2Init
from lop_sweeps.benchmarks.benchmark import EpochsTask, Split
from lop_sweeps.benchmarks.continual_imagenet import ContinualImageNet
from lop_sweeps.fused.learner import FusedLearner
from lop_sweeps.networks.conv_net import ConvNet
from lop_sweeps.networks.mlp import MLP as MLPNetwork
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.resnet18 import ResNet18
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.epochs import EpochsStage
from lop_sweeps.training.learner import TorchLearner
from lop_sweeps.training.session import Position

CLASSES = 10
SHAPES = {"784-100x2-10": (1, 28, 28), "conv_net": (3, 32, 32), "resnet18": (3, 32, 32)}
EPOCH = {"784-100x2-10": 500, "conv_net": 12, "resnet18": 4}  # steps, which is how many ours takes at a time
REPEATS = {"784-100x2-10": (5, 21), "conv_net": (5, 21), "resnet18": (3, 9)}  # quick, and otherwise
MLP = "784-100x2-10"
LIT = 0.19  # share of the pixels that are not 0 in MNIST; the other images have no dark ones
STEP_SIZE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 5e-4
MATURITY_THRESHOLD, DECAY_RATE = 100, 0.99
STRENGTH = 0.01  # of L2 Init
PACKS = (1, 4, 16, 64)


@dataclass(frozen=True)
class Row:
    """One line of the table. at_least: the ratio that is asked for."""

    network: str
    method: str
    batch: int
    at_least: float


ROWS = (
    Row(MLP, "backprop", 16, 6.0),
    Row(MLP, "L2 Init", 16, 6.0),
    Row("conv_net", "backprop", 100, 1.3),
    Row("conv_net", "continual backprop", 100, 1.3),
    Row("resnet18", "backprop", 90, 1.0),
    Row("resnet18", "continual backprop", 90, 1.0),
)


def make_network(name: str) -> Network:
    shape = SHAPES[name]
    if name == MLP:
        return cast(Network, MLPNetwork(784, CLASSES, [100, 100]))
    return ConvNet(shape, CLASSES) if name == "conv_net" else ResNet18(shape, CLASSES)


class Noise(ContinualImageNet):
    """Made-up images in the benchmark's shape: what they show does not change the time of a step."""

    def __init__(self, name: str, batch: int, steps: int) -> None:
        images = batch * steps
        super().__init__(1, 1_000_000, batch, CLASSES, CLASSES, images // CLASSES, 1, new_heads=False)
        rng, shape = np.random.default_rng(0), (images, *SHAPES[name])
        values = rng.integers(0, 256, shape, dtype=np.uint8)
        self.dark = name == MLP
        self.images = torch.from_numpy(values * (rng.random(shape) < LIT) if self.dark else values)
        self.labels = rng.integers(0, CLASSES, images)

    def prepare(self, images: Tensor, uniforms: Tensor | None, dtype: torch.dtype) -> Tensor:
        if not self.dark:
            return super().prepare(images, uniforms, dtype)
        return images.to(dtype).div_(255).flatten(1)

    def task(self, seed: int, index: int) -> EpochsTask:
        rows = np.arange(len(self.images))
        split = Split(rows, self.labels)
        return EpochsTask(self.images, split, split, rows[:1])


def methods(row: Row) -> tuple[SGD, list[Any]]:
    if row.network == MLP:
        return SGD(STEP_SIZE), [L2Init(STRENGTH)] if row.method == "L2 Init" else []
    decay = WEIGHT_DECAY if row.network == "resnet18" else 0.0
    sgd = SGD(STEP_SIZE, MOMENTUM, decay)
    if row.method == "backprop":
        return sgd, []
    cbp = ContinualBackprop(3e-4, MATURITY_THRESHOLD, DECAY_RATE, "adaptable_contribution", rate_of="all")
    residual = replace(cbp, replacement_rate=1e-5, utility="contribution", averaging="sum")
    return sgd, [residual if row.network == "resnet18" else cbp]


class Ours:
    """A pack of runs on the torch engine, or one MLP on the fused engine, in the protocol of its benchmarks."""

    def __init__(self, row: Row, runs: int = 1, device: str = "cpu") -> None:
        sgd, interventions = methods(row)
        packed = [[one] * runs for one in interventions]
        seeds = list(range(runs))
        make, loss = partial(make_network, row.network), "cross_entropy"
        self.learner: Any = (
            FusedLearner(make, sgd, interventions, 0, loss, torch.float32)
            if row.network == MLP
            else TorchLearner(make, [sgd] * runs, packed, seeds, loss, torch.float32, device)
        )
        self.stage = EpochsStage(self.learner, Noise(row.network, row.batch, EPOCH[row.network]), seeds, 0)
        self.position = Position(sums=self.stage.begin())

    def learn(self, steps: int) -> None:
        """At least `steps` steps, to the end of an interval."""
        until = self.position.step + steps
        while self.position.step < until:
            self.stage.learn(self.position, 10**9)

    def time(self, steps: int) -> float:
        """Seconds for one step."""
        before, start = self.position.step, time.perf_counter()
        self.learn(steps)
        if self.learner.device.type == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - start) / (self.position.step - before)


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1), nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.shortcut(x)), h


class PlainMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(784, 100), nn.ReLU(), nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, CLASSES)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        return self.layers(x.flatten(1)), []

    def hidden_layers(self) -> list[Any]:
        return []


class PlainConvNet(nn.Module):
    """The network as a tutorial would write it; `forward` also returns the hidden activations."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList([nn.Conv2d(3, 32, 5), nn.Conv2d(32, 64, 3), nn.Conv2d(64, 128, 3)])
        self.layers = nn.ModuleList([nn.Linear(512, 128), nn.Linear(128, 128), nn.Linear(128, CLASSES)])

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        hidden = []
        for convolution in self.convolutions:
            x = F.max_pool2d(F.relu(convolution(x)), 2)
            hidden.append(x)
        x = x.flatten(1)
        for layer in self.layers[:-1]:
            x = F.relu(layer(x))
            hidden.append(x)
        return self.layers[-1](x), hidden

    def hidden_layers(self) -> list[tuple[nn.Module, nn.Module, nn.Module | None]]:
        """Of each hidden layer: itself, the layer that reads it, its normalisation."""
        return [(a, b, None) for a, b in itertools.pairwise([*self.convolutions, *self.layers])]


class PlainResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.bn = nn.Conv2d(3, 64, 3, 1, 1), nn.BatchNorm2d(64)
        widths = [64, 64, 64, 128, 128, 256, 256, 512, 512]
        self.blocks = nn.ModuleList(Residual(a, b, 1 if a == b else 2) for a, b in itertools.pairwise(widths))
        self.fc = nn.Linear(512, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x = F.relu(self.bn(self.stem(x)))
        hidden = [x]
        for block in self.blocks:
            x, inside = block(x)
            hidden += [inside, x]
        x = F.adaptive_avg_pool2d(x, 1).flatten(1)
        hidden[-1] = x
        return self.fc(x), hidden

    def hidden_layers(self) -> list[tuple[Any, Any, Any]]:
        pairs = [(block.conv1, block.bn1, block.conv2, block.bn2) for block in self.blocks]  # type: ignore[union-attr]
        own = [(self.stem, self.bn), *(pair for a, n, b, m in pairs for pair in ((a, n), (b, m)))]
        readers = [layer for layer, _ in own[1:]] + [self.fc]
        return [(layer, reader, norm) for (layer, norm), reader in zip(own, readers, strict=True)]


class Theirs:
    """A plain loop over a float tensor of the same images, in the same order."""

    def __init__(self, row: Row, ours: Ours) -> None:
        self.row = row
        self.network: Any = {MLP: PlainMLP, "conv_net": PlainConvNet, "resnet18": PlainResNet}[row.network]()
        names = ours.learner.weight_names
        modules = [m for m in self.network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
        with torch.no_grad():
            for module, name in zip(modules, names, strict=True):
                for mine, theirs in ((module.weight, name), (module.bias, name.removesuffix("weight") + "bias")):
                    mine.copy_(ours.learner.view(ours.learner.parameters, theirs)[0])
        sgd, cbp = methods(row)
        self.cbp = cbp[0] if cbp and row.network != MLP else None
        self.initial = [p.detach().clone() for p in self.network.parameters()] if row.method == "L2 Init" else []
        self.optimizer = torch.optim.SGD(
            self.network.parameters(), sgd.step_size, momentum=sgd.momentum, weight_decay=sgd.weight_decay
        )
        task = ours.stage.tasks[0]
        scaled = task.images.float() / 255
        self.images, self.labels = scaled if row.network == MLP else scaled * 2 - 1, torch.from_numpy(task.train.labels)
        self.ours, self.step = ours, 0
        self.layers = self.network.hidden_layers()
        self.utility = [torch.zeros(len(layer.weight)) for layer, _, _ in self.layers]
        self.average, self.age = (
            [torch.zeros_like(u) for u in self.utility],
            [torch.zeros_like(u) for u in self.utility],
        )
        self.due = [0.0] * len(self.layers)

    def learn(self, steps: int) -> list[float]:
        losses = []
        for _ in range(steps):
            epoch, at = divmod(self.step, len(self.images) // self.row.batch)
            if at == 0:
                order = self.ours.stage.images.of_epoch(epoch)[0][0]
                self.x, self.y = self.images[order], self.labels[order]
            span = slice(at * self.row.batch, (at + 1) * self.row.batch)
            output, hidden = self.network(self.x[span])
            loss = error = F.cross_entropy(output, self.y[span])
            for one, begun in zip(self.network.parameters(), self.initial, strict=False):
                loss = loss + STRENGTH / 2 * (one - begun).square().sum()
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.cbp:
                self.replace(hidden)
            losses.append(error.item())
            self.step += 1
        return losses

    @torch.no_grad()
    def replace(self, hidden: list[Tensor]) -> None:
        """Continual backprop after a step: update the utilities, then replace the least useful mature units."""
        assert self.cbp is not None
        for i, ((layer, reader, norm), h) in enumerate(zip(self.layers, hidden, strict=True)):
            if isinstance(reader, nn.Linear) and h.dim() == 4:
                h = h.flatten(2)
            dims = (0, 2, 3) if h.dim() == 4 else (0,)
            self.age[i] += 1
            outgoing = reader.weight.abs().mean((0, 2, 3) if reader.weight.dim() == 4 else 0)
            if self.cbp.averaging == "sum":
                self.average[i] += (1 - DECAY_RATE) * h.abs().mean(dims)
                utility = outgoing * self.average[i]
            else:
                correction = 1 - DECAY_RATE ** self.age[i]
                mean = h.mean(dims)
                mean = mean.mean(1) if mean.dim() == 2 else mean
                self.average[i].mul_(DECAY_RATE).add_((1 - DECAY_RATE) * mean)
                average = (self.average[i] / correction).view(-1, *[1] * (h.dim() - 2))
                contribution = (h - average).abs().mean(dims)
                contribution = contribution * outgoing.view_as(contribution)
                contribution = contribution.mean(1) if contribution.dim() == 2 else contribution
                incoming = layer.weight.abs().flatten(1).mean(1)
                self.utility[i].mul_(DECAY_RATE).add_((1 - DECAY_RATE) * contribution / incoming)
                utility = self.utility[i] / correction
            mature = self.age[i] > MATURITY_THRESHOLD
            if not bool(mature.any()):
                continue
            self.due[i] += float(self.cbp.replacement_rate) * len(mature)  # type: ignore[arg-type]
            number = int(self.due[i])
            self.due[i] -= number
            if number == 0:
                continue
            units = torch.where(mature, utility, torch.inf).topk(number, largest=False).indices
            bound = layer.weight[0].numel() ** -0.5
            layer.weight[units] = (torch.rand_like(layer.weight[units]) * 2 - 1) * bound
            layer.bias[units] = 0
            spread = reader.weight.shape[1] // len(layer.weight)
            reader.weight[:, (units[:, None] * spread + torch.arange(spread)).flatten()] = 0
            if norm is not None:
                norm.weight[units], norm.bias[units] = 1, 0
                norm.running_mean[units], norm.running_var[units] = 0, 1
            self.utility[i][units], self.age[i][units] = 0, 0

    def time(self, steps: int) -> float:
        start = time.perf_counter()
        self.learn(steps)
        return (time.perf_counter() - start) / steps


def check(row: Row) -> None:
    """Both sides compute the same: losses of the first steps, from the same weights on the same images."""
    ours = Ours(row)
    theirs = Theirs(row, ours)
    expected = theirs.learn(3)
    found = [float(loss) for loss in ours.stage._learn(0, 0, 0, 3).losses]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def table(quick: bool) -> list[dict[str, Any]]:
    results = []
    for row in ROWS:
        check(row)
        ours = Ours(row)
        theirs = Theirs(row, ours)
        steps, repeats = EPOCH[row.network], REPEATS[row.network][not quick]
        ours.learn(1)
        theirs.learn(1)
        pairs = []
        for _ in range(repeats):
            pairs.append((ours.time(steps), theirs.time(steps)))
        mine, plain = (median(times) for times in zip(*pairs, strict=True))
        ratio = median(b / a for a, b in pairs)
        results.append({**vars(row), "ours_ms": 1e3 * mine, "plain_ms": 1e3 * plain, "ratio": ratio})
        print(
            f"| {row.network} | {row.method} | {row.batch} | {1e3 * plain:.1f} | {1e3 * mine:.1f} "
            f"| {ratio:.2f} | {row.at_least} |",
            flush=True,
        )
    return results


def packs(quick: bool) -> list[dict[str, Any]]:
    """Runs x steps per second of packs of the conv network, against one run."""
    row, results = ROWS[2], []
    sizes = PACKS[:2] if quick else PACKS
    for runs in sizes:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        ours = Ours(row, runs, device)
        ours.learn(1)
        rate = median(runs / ours.time(12) for _ in range(3))
        memory = torch.cuda.max_memory_allocated() / runs / 2**20 if device == "cuda" else None
        results.append({"runs": runs, "rate": rate, "memory_mib": memory})
        mebibytes = "" if memory is None else f"{memory:.1f}"
        print(f"| {runs} | {rate:,.0f} | {rate / results[0]['rate']:.2f} | {mebibytes} |", flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="under a minute, with less certainty")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--packs", action="store_true", help="runs x steps per second by size of the pack")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.packs:
        print("| runs in the pack | runs x steps / s | against one run | MiB per run |\n|---|---|---|---|")
        results = packs(options.quick)
    else:
        print("| network | method | mini-batch | plain loop, ms | ours, ms | ratio | at least |")
        print("|---|---|---|---|---|---|---|")
        results = table(options.quick)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
