"""What composing a point of a sweep costs: ours against Hydra's own composition, interleaved in one run.

python perf/composition.py [--quick] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from hydra_plugins.lop_sweeps import register
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.expansion import expand

GROUPS = ["benchmark=permuted_digits", "algorithm=backprop,l2,continual_backprop,[l2,continual_backprop]"]
SWEEPS = {
    "1,000 points, 40 configurations x 25 seeds": [
        *GROUPS,
        "optimizer.step_size=0.01,0.003,0.001,0.0003,0.0001",
        "network.hidden=[100,100,100],[50,50]",
        "seed=range(25)",
    ],
    "1,000 points, 1,000 configurations": [
        *GROUPS,
        "optimizer.step_size=0.01,0.009,0.008,0.007,0.006,0.005,0.004,0.003,0.002,0.001",
        "optimizer.momentum=0,0.1,0.2,0.3,0.4",
        "network.hidden=[100,100,100],[50,50],[20],[30],[40]",
    ],
}


def measure(loader: Any, master: Any, line: list[str], compare: int) -> tuple[float, float]:
    """Seconds a point, ours and Hydra's."""
    points = [overrides for _, overrides in expand(loader, {None: []}, {}, line)]
    assert len(points) == 1_000
    theirs: list[float] = []
    every = len(points) // compare
    began = time.perf_counter()
    composer = Composer(loader, master)
    for i, overrides in enumerate(points):
        composer.point(None, overrides)
        if i % every == every // 2:
            start = time.perf_counter()
            loader.load_sweep_config(master, overrides)
            theirs.append(time.perf_counter() - start)
    return (time.perf_counter() - began - sum(theirs)) / len(points), statistics.median(theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Hydra composes 10 of the points instead of 100")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    register()
    with initialize_config_module("lop_sweeps.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("config", [], RunMode.MULTIRUN)
        rows, figures = [], {}
        for name, line in SWEEPS.items():
            ours, theirs = measure(loader, master, line, compare=10 if options.quick else 100)
            rows.append(f"| {name} | {ours * 1e3:.2f} | {theirs * 1e3:.1f} | {theirs / ours:.0f} |")
            figures[name] = {"ours_ms": ours * 1e3, "hydra_ms": theirs * 1e3, "ratio": theirs / ours}
    print("ours: compose, resolve, build on the meta device, check, give an identity; mean over all points")
    print("Hydra: its composition alone; median of a sample\n")
    print("| sweep | ours, ms a point | Hydra, ms a point | ratio |\n|---|---|---|---|")
    print("\n".join(rows))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
