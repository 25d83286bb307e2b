"""What each diagnostic costs, each time that it is taken, in seconds of one core; and what being shown updates costs.

python perf/diagnostics.py [--quick] [--json FILE]

Data are made up, in the shapes of the benchmarks: what they show changes no time. The time of a diagnostic is that of
everything that it asks for: copies, passes, decompositions. With several diagnostics some of that is done once.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read at import

import numpy as np
import torch
import yaml
from epochs import Noise

from lop_sweeps.benchmarks.benchmark import EpochsTask
from lop_sweeps.benchmarks.permuted_images import PermutedImages
from lop_sweeps.build import build
from lop_sweeps.diagnostics.diagnostic import Diagnostic
from lop_sweeps.diagnostics.plasticity_probe import PlasticityProbe
from lop_sweeps.optimizers.sgd import SGD
from lop_sweeps.training.components import Components, make_learner
from lop_sweeps.training.epochs import EpochsStage
from lop_sweeps.training.measuring import Measuring
from lop_sweeps.training.online import OnlineStage
from lop_sweeps.training.session import Position

CHOICES = Path(__file__).parents[1] / "conf" / "diagnostics"
EXAMPLES, DENSITY = 60_000, 0.19  # of MNIST, and how many of its pixels are not 0
PROBED = 1_200  # images of a task of Continual ImageNet
UPDATES = 200  # that are timed with and without being shown
TRIED = (2, 22)  # updates of the plasticity probe, from which the time of all is computed for images


class Images(PermutedImages):
    """Made-up images in the shape of MNIST."""

    shape, inputs = (1, 28, 28), 784

    def __init__(self) -> None:
        super().__init__(1, EXAMPLES)
        rng = np.random.default_rng(0)
        lit = rng.random((EXAMPLES, self.inputs)) < DENSITY
        self.images = (lit * rng.integers(1, 256, lit.shape)).astype(np.uint8)
        self.labels = rng.integers(0, self.outputs, EXAMPLES)

    def check_data(self, root: Path) -> None:
        """They are here."""

    def load(self, root: Path) -> None:
        """They are here."""


class Pictures(Noise):
    """Made-up images in epochs, of which diagnostics look at as many as of the benchmark's."""

    def task(self, seed: int, index: int) -> EpochsTask:
        task = super().task(seed, index)
        return replace(task, probe=np.arange(min(len(task.images), PROBED)))


def mlp(units: int, engine: str) -> Components:
    node = {"_target_": "lop_sweeps.networks.mlp.MLP", "hidden": [units] * 3}
    return Components(Images(), node, SGD(0.003), (), torch.float32, (), engine=engine)


def images() -> Components:
    node = {"_target_": "lop_sweeps.networks.conv_net.ConvNet"}
    return Components(Pictures(100, 12), node, SGD(0.01), (), torch.float32, ())


CASES: dict[str, Callable[[], Components]] = {
    "784 - 3 x 100": lambda: mlp(100, "fused"),
    "784 - 3 x 2,000": lambda: mlp(2_000, "fused"),
    "convolutional": images,
}


def choices() -> dict[str, Diagnostic]:
    """By name, with the options of their files; the standard set comes first."""
    nodes: dict[str, Any] = {}
    for path in sorted(CHOICES.glob("*.yaml"), key=lambda path: (path.stem != "standard", path.stem)):
        nodes |= yaml.safe_load(path.read_text())
    return {name: build(node, f"diagnostics.{name}") for name, node in nodes.items()}


def stage_of(made: Components, learner: Any) -> Any:
    kind: Any = OnlineStage if made.benchmark.protocol == "online" else EpochsStage
    return kind(learner, made.benchmark, [0], 0)


def seconds(made: Components, diagnostic: Diagnostic, name: str, repeats: int) -> float:
    """Of taking one diagnostic, without the forward pass that there always is."""
    if isinstance(diagnostic, PlasticityProbe) and made.engine != "fused":  # its updates take minutes: some of them
        some, more = (replace(diagnostic, updates=updates) for updates in TRIED)
        _seconds(made, some, name, 1)  # what is done once
        first = _seconds(made, some, name, 1)
        each = (_seconds(made, more, name, 1) - first) / (more.updates - some.updates)
        return first + each * (diagnostic.updates - some.updates)
    return _seconds(made, diagnostic, name, repeats)


def _seconds(made: Components, diagnostic: Diagnostic, name: str, repeats: int) -> float:
    one = replace(made, diagnostics=((name, diagnostic),))
    learner = make_learner([one], [0], one.engine)
    stage, times = stage_of(one, learner), []
    with torch.no_grad():
        layers = stage.probe()
        for _ in range(repeats):
            measuring = Measuring(learner, [one], one.engine)
            start = time.process_time()
            measuring.before(stage, Position(), layers, [True])
            times.append(time.process_time() - start)
    return median(times)


def shown(made: Components, diagnostic: Diagnostic, repeats: int) -> float:
    """How much longer an update takes on the torch engine if a diagnostic is shown it."""
    one = replace(made, engine="torch", diagnostics=(("it", diagnostic),))
    learner = make_learner([one], [0], "torch")
    stage, position, times = stage_of(one, learner), Position(), ([], [])
    with torch.no_grad():
        measuring = Measuring(learner, [one], "torch")
        measuring.before(stage, position, stage.probe(), [True])
        position.sums = stage.begin()
    for i in range(2 * repeats):
        if i % 2:
            measuring.watch(position)
        else:
            learner.show = None  # type: ignore[union-attr]
        before, start = position.step, time.process_time()
        stage.learn(position, UPDATES)
        times[i % 2].append((time.process_time() - start) / (position.step - before))
    return median(times[1]) / median(times[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once each, and not of the largest network")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ["784 - 3 x 100", "convolutional"] if options.quick else list(CASES)
    cases, found = {name: CASES[name]() for name in names}, choices()
    repeats = {name: 1 if options.quick or name == "784 - 3 x 2,000" else 3 for name in names}
    figures: dict[str, dict[str, float]] = {}
    print("seconds\n\n| diagnostic | taken every | " + " | ".join(names) + " |\n|---|---|" + "---|" * len(names))
    for key, diagnostic in found.items():
        if "steps" in diagnostic.needs:
            continue
        figures[key] = {name: seconds(made, diagnostic, key, repeats[name]) for name, made in cases.items()}
        cells = " | ".join(f"{value:.3g}" for value in figures[key].values())
        every = "task" if diagnostic.every == 1 else f"{diagnostic.every} tasks"
        print(f"| `{key}` | {every} | {cells} |", flush=True)
    print("\ntimes as long an update takes\n")
    for key, diagnostic in found.items():
        if "steps" in diagnostic.needs:
            figures[key] = {name: shown(made, diagnostic, 2 * repeats[name] + 1) for name, made in cases.items()}
            cells = ", ".join(f"{name}: {value:.2f}" for name, value in figures[key].items())
            print(f"`{key}`: {cells}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
