"""What reading a large sweep costs: logs to frames, and then the curves and the table of one metric.

python perf/analysis.py [--quick] [--json FILE]

The logs are made up, but as long as real ones and really written; 20 of the online sweep's and 5 of the other's differ.
Every go is a process of its own that loads the sweep once. Memory is that process's peak, imports included. *Plain* is
the same by Python's JSON reader alone, which reads what is unusual; one go. CPU is of all threads while it loads.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode

from hydra_plugins.lop_sweeps import register
from lop_sweeps.sweeps import run_files
from lop_sweeps.sweeps.composer import Composer
from lop_sweeps.sweeps.expansion import expand
from lop_sweeps.sweeps.planning import Point

Row = dict[str, Any]

ONLINE = [
    "benchmark=permuted_digits",
    "benchmark.num_tasks=800",
    "network.hidden=[100,100,100]",
    "algorithm=backprop,l2,continual_backprop,shrink_and_perturb,redo",
    "optimizer.step_size=0.01,0.003,0.001,0.0003,0.0001",
]
CONTROL = ["benchmark=slippery_ant", "algorithm=backprop,l2"]
SCALARS = ("accuracy", "cross_entropy", "train_accuracy", "train_cross_entropy", "test_accuracy")
FRACTIONS = ("dead_fraction", "dormant_fraction_tau0.025", "rarely_active_fraction", "saturated_fraction")
RANKS = ("effective_rank", "stable_rank_fro", "inactive_fraction", "approximate_rank", "srank99", "numerical_rank")
UNITS = ("died_units", "revived_units", "replaced_units")
WEIGHTS = ("weight_magnitude", "weight_magnitude_task")

GO = """
import json, sys, time
from pathlib import Path
from lop_sweeps.analysis.reading import columns
from lop_sweeps.analysis.statistics.aggregate import curves
from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.tables.early_late import summary
folder, metric, plain = sys.argv[1], sys.argv[2], sys.argv[3] == "plain"
if plain:
    columns.read_fast = lambda path: None
took = {}
def timed(name, do):
    start = time.perf_counter()
    result = do()
    took[name] = time.perf_counter() - start
    return result
before = time.process_time()
sweep = timed("load", lambda: load(folder))
took["cpu"] = time.process_time() - before
status = Path("/proc/self/status").read_text()
took["memory"] = int(status.split("VmHWM:")[1].split()[0]) / 1024
timed("curves", lambda: curves(sweep.tasks, metric))
timed("table", lambda: summary(sweep))
took["rows"], took["columns"] = sweep.tasks.shape
print(json.dumps(took))
"""


def online_rows(rng: np.random.Generator) -> Iterator[Row]:
    """800 tasks, 20 metrics."""
    for task in range(800):
        row: Row = {"task": task, "examples": (task + 1) * 60_000}
        row |= {name: float(rng.random()) for name in SCALARS}
        row |= {name: rng.random(3).tolist() for name in (*FRACTIONS, *RANKS[:3])}
        row |= {name: np.rint(100 * rng.random(3)).tolist() for name in RANKS[3:]}
        row |= {name: rng.random(4).tolist() for name in WEIGHTS}
        row |= {name: rng.integers(0, 9, 3).tolist() for name in UNITS[0 if task else 2 :]}
        yield row


def control_rows(rng: np.random.Generator) -> Iterator[Row]:
    """20 million environment steps; 20 to 200 episodes in each row."""
    for task in range(1_000):
        ends = np.sort(rng.integers(20_480 * task, 20_480 * (task + 1), int(rng.integers(20, 200))))
        returns = (1_000 * rng.random(len(ends))).tolist()
        row: Row = {"task": task, "examples": 20_480 * (task + 1), "return": float(np.mean(returns))}
        row |= {
            "episodes": {"ends": ends.tolist(), "returns": returns},
            "friction": 1.0,
            "value_loss": float(rng.random()),
        }
        row |= {name: rng.random(4).tolist() for name in (*FRACTIONS, *RANKS)}
        row |= {name: rng.random(6).tolist() for name in WEIGHTS}
        yield row


def points_of(line: list[str], seeds: int, folder: Path) -> list[Point]:
    with initialize_config_module("lop_sweeps.conf", version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = Composer(loader, loader.load_configuration("config", [], RunMode.MULTIRUN))
        overrides = [*line, f"seed=range({seeds})", f"paths.sweeps={folder}"]
        return [composer.point(name, parts) for name, parts in expand(loader, {None: []}, {}, overrides)]


def write(points: list[Point], rows: Callable[[np.random.Generator], Iterator[Row]], different: int) -> Path:
    """The sweep's folder."""
    rng = np.random.default_rng(0)
    logs = ["".join(json.dumps(row) + "\n" for row in rows(rng)) for _ in range(different)]
    for index, point in enumerate(points):
        point.create()
        (point.directory.path / "metrics.jsonl").write_text(logs[index % different])
        tasks = logs[index % different].count("\n")
        record = {"rows": tasks, **run_files.stamp(point.directory.path / run_files.LOG)}
        point.directory.write_status(state="done", task=tasks, num_tasks=tasks, log=record, durable=record["bytes"])
    return points[0].directory.path.parent


def measure(folder: Path, metric: str, goes: int) -> dict[str, float]:
    """Medians, in seconds and MiB."""

    def go(reader: str) -> dict[str, float]:
        command = [sys.executable, "-c", GO, str(folder), metric, reader]
        found: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return found

    results = [go("fast") for _ in range(goes)]
    return {name: statistics.median(r[name] for r in results) for name in results[0]} | {"plain": go("plain")["load"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs, three goes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    options = parser.parse_args()
    register()
    seeds, goes = (4, 3) if options.quick else (40, 5)
    sweeps = {"online": (ONLINE, online_rows, 20, "accuracy"), "control": (CONTROL, control_rows, 5, "return")}
    print("| sweep | runs | MB | rows | columns | load, s | CPU, s | plain, s | memory, MB | curves, s | table, s |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    figures = {}
    for name, (line, rows, different, metric) in sweeps.items():
        with tempfile.TemporaryDirectory() as temporary:
            points = points_of(line, seeds, Path(temporary))
            folder = write(points, rows, different)
            size = sum(path.stat().st_size for path in folder.glob("*/metrics.jsonl")) / 1e6
            took = measure(folder, metric, goes) | {"runs": len(points), "MB": size}
        figures[name] = took
        cells = [f"{took[key]:,.0f}" for key in ("runs", "MB", "rows", "columns")]
        cells += [f"{took[key]:.1f}" for key in ("load", "cpu", "plain")] + [f"{took['memory']:.0f}"]
        cells += [f"{took[key]:.2f}" for key in ("curves", "table")]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
