"""The tables of results.md that stand beside published values.

python docs/tables.py mnist sweeps/permuted_mnist_small
python docs/tables.py regression sweeps/slowly_changing_regression
python docs/tables.py layerwise sweeps/layerwise
python docs/tables.py imagenet sweeps/continual_imagenet
python docs/tables.py cifar sweeps/incremental_cifar100
python docs/tables.py control sweeps/ant
python docs/tables.py changes sweeps/slippery_ant
python docs/tables.py field docs/field/slowly_changing_regression.csv

Means over runs with 95 % bootstrap intervals. Published values are read off the figures of Dohare et al.'s repository.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import yaml

from lop_sweeps.analysis.reading.load import load
from lop_sweeps.analysis.statistics.bootstrap import bootstrap_mean
from lop_sweeps.analysis.statistics.study import read_study

Floats = npt.NDArray[np.float64]

WIDTH_100 = {0: 92.1, 1: 93.3, 5: 92.9, 10: 92.25, 20: 91.3, 40: 90.1, 50: 89.7, 75: 88.8, 100: 88.15}  # ± 0.03
# Squared error at examples seen, by activation and step size, ± 0.015.
EXAMPLES = (0, 40_000, 100_000, 200_000, 300_000, 500_000, 700_000, 980_000)
REGRESSION = {
    ("relu", 0.01): (0.62, 0.70, 0.83, 1.00, 1.08, 1.27, 1.29, 1.19),
    ("relu", 0.003): (0.71, 0.66, 0.72, 0.83, 0.91, 0.97, 1.12, 1.07),
    ("relu", 0.001): (0.83, 0.72, 0.74, 0.77, 0.84, 0.85, 0.93, 0.86),
    ("tanh", 0.01): (0.43, 0.46, 0.61, 0.71, 0.79, 0.87, 0.93, 0.89),
    ("tanh", 0.003): (0.60, 0.55, 0.65, 0.72, 0.78, 0.90, 0.94, 0.92),
    ("tanh", 0.001): (0.80, 0.69, 0.74, 0.76, 0.79, 0.81, 0.89, 0.84),
}
# Test accuracy in %, mean of 50 tasks from there on, ± 0.1.
IMAGENET = {
    "backprop 0.01": {0: 84.3, 50: 84.2, 100: 85.2, 150: 84.9, 200: 84.5, 300: 84.0, 500: 82.9, 1000: 81.5, 1950: 74.0},
    "L2": {0: 85.2, 50: 85.6, 100: 86.2, 200: 86.6, 300: 87.0, 500: 87.1, 1000: 87.7, 4950: 89.2},
    "shrink and perturb": {0: 84.3, 50: 84.1, 100: 84.7, 200: 85.5, 300: 86.4, 500: 86.7, 1000: 87.6, 4950: 89.2},
    "continual backprop": {0: 84.5, 50: 85.0, 100: 85.7, 200: 86.3, 300: 87.1, 500: 87.6, 1000: 88.4, 4950: 90.45},
}
# Best test accuracy in % by number of classes, ± 0.15.
CIFAR = {
    "retrained network": {5: 89.5, 10: 85.8, 15: 85.3, 20: 85.2, 25: 84.4, 30: 83.4, 50: 81.1, 100: 76.05},
    "backprop": {5: 89.3, 10: 87.6, 15: 87.7, 20: 86.6, 25: 85.3, 30: 84.1, 50: 80.9, 100: 71.1},
    "head resetting": {5: 89.8, 10: 87.6, 15: 87.7, 20: 86.5, 25: 85.0, 30: 84.2, 50: 80.8, 100: 73.7},
    "shrink and perturb": {5: 89.3, 10: 87.7, 15: 87.5, 20: 86.3, 25: 84.9, 30: 84.3, 50: 80.9, 100: 74.5},
    "continual backprop": {5: 89.0, 10: 87.4, 15: 87.6, 20: 86.7, 25: 85.1, 30: 84.4, 50: 81.5, 100: 76.1},
}
# Of PPO on Ant, at millions of environment steps: return (± 3 %), and the policy's stable rank in %, dormant units in %
# and mean absolute weight of the second matrix (± 1 % of the axis).
ANT = {
    "standard": {
        "return": {2.0: 2560},
        "stable rank, %": {0.0: 94, 2.0: 85.7},
        "dormant units, %": {0.0: 0, 1.0: 1.5, 2.0: 5.4},
        "mean abs w": {0.0: 0.054, 1.0: 0.060, 2.0: 0.064},
    },
    "proper Adam": {
        "return": {1.0: 1800, 2.0: 3200},
        "stable rank, %": {0.0: 92, 1.0: 65, 2.0: 43.7},
        "dormant units, %": {0.0: 0, 1.0: 15, 2.0: 27.8},
        "mean abs w": {0.0: 0.054, 1.0: 0.064, 2.0: 0.069},
    },
    "L2": {
        "return": {2.0: 2650},
        "stable rank, %": {0.0: 92, 1.0: 85, 2.0: 73},
        "dormant units, %": {0.0: 0, 1.0: 1.5, 2.0: 4.9},
        "mean abs w": {0.0: 0.054, 1.0: 0.016, 2.0: 0.012},
    },
    "continual backprop + L2": {
        "return": {2.0: 2750},
        "stable rank, %": {0.0: 92, 1.0: 91, 2.0: 87.5},
        "dormant units, %": {0.0: 0, 1.0: 1.5, 2.0: 2.4},
        "mean abs w": {0.0: 0.054, 1.0: 0.032, 2.0: 0.031},
    },
}


def interval(values: Floats, digits: int) -> str:
    """Mean of values (runs,) with its interval, which one run does not have."""
    mean, low, high = (float(v) for v in bootstrap_mean(values))
    if np.isnan(low):
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def per_run(frame: pd.DataFrame, metric: str, first: int, last: int) -> Floats:
    """(runs,): each run's mean of a metric over tasks first ... last."""
    chosen = frame[(frame["task"] >= first) & (frame["task"] <= last)]
    result: Floats = chosen.groupby("run")[metric].mean().to_numpy(dtype=np.float64)
    return result


def show(head: list[str], rows: list[list[str]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(row)} |")
    print()


def by_method(sweep: str) -> dict[str, pd.DataFrame]:
    """The tasks of finished runs by variant (by label where a run has none), in the order of their names."""
    frame = load(sweep).tasks
    frame = frame[frame["state"].isin(["done", "diverged"])]
    variants, labels = frame["variant"].astype(object), frame["label"].astype(object)
    names = variants.where(variants.notna(), labels)
    return {str(name): group for name, group in frame.groupby(names, sort=True)}


def mnist(sweep: str) -> None:
    methods = by_method(sweep)
    tasks = [*WIDTH_100, 200, 400, 600, 799]
    rows = []
    for name, frame in methods.items():
        accuracy = [interval(100 * per_run(frame, "accuracy", t, t), 2) for t in tasks]
        rows.append([f"{name} (N = {frame['run'].nunique()})", *accuracy])
        if name in ("backprop 0.003", "backprop, step_size=0.003"):
            published = [f"{WIDTH_100[t]:.2f}" if t in WIDTH_100 else "" for t in tasks]
            rows.append(["*published, backprop 0.003*", *published])
    show(["accuracy in %, task", *map(str, tasks)], rows)
    diagnostics(methods, first=(1, 10), last=(790, 799))


def regression(sweep: str) -> None:
    rows = []
    for name, frame in by_method(sweep).items():
        for label, group in frame.groupby("label", sort=True):
            first = group.iloc[0]
            key = (str(first.get("network.activation")), float(first.get("optimizer.step_size", np.nan)))
            # A published point is the mean of 20,000 examples, two tasks of 10,000.
            values = [per_run(group, "squared_error", e // 10_000, e // 10_000 + 1) for e in EXAMPLES]
            rows.append([f"{label} (N = {group['run'].nunique()})", *(interval(v, 2) for v in values)])
            if key in REGRESSION and name == "MLP":
                rows.append(["*published*", *(f"{v:.2f}" for v in REGRESSION[key])])
    show(["squared error at", *(f"{e // 1000}k" for e in EXAMPLES)], rows)


def layerwise(sweep: str) -> None:
    rows = []
    for name, frame in by_method(sweep).items():
        last = int(frame["task"].max())
        late = last + 1 - round(0.15 * (last + 1))
        cells = [f"{name} (N = {frame['run'].nunique()})", interval(100 * per_run(frame, "accuracy", 1, 20), 2)]
        cells.append(interval(100 * per_run(frame, "accuracy", late, last), 2))
        cells.append(interval(100 * per_run(frame, "dead_fraction", late, last), 1))
        cells += [f"{per_run(frame, 'weight_magnitude', *span).mean():.3f}" for span in ((100, 299), (late, last))]
        cells += [f"{per_run(frame, f'weight_magnitude/{i}', late, last).mean():.3f}" for i in range(1, 7)]
        rows.append(cells)
    heads = ["accuracy %, tasks 1-20", "last 15 % of tasks", "dead units %, last 15 %"]
    heads += ["mean abs w, tasks 100-299", "last 15 %", *(f"layer {i}" for i in range(1, 7))]
    show(["condition", *heads], rows)


def imagenet(sweep: str) -> None:
    methods, bins = by_method(sweep), 50
    starts = range(0, max(int(frame["task"].max()) + 1 for frame in methods.values()), bins)
    rows = []
    for name, frame in methods.items():
        cells = [interval(100 * per_run(frame, "test_accuracy", t, t + bins - 1), 1) for t in starts]
        rows.append([f"{name} (N = {frame['run'].nunique()})", *cells])
        if name in IMAGENET:
            published = [f"{IMAGENET[name][t]:.1f}" if t in IMAGENET[name] else "" for t in starts]
            rows.append([f"*published, {name}*", *published])
    show(["test accuracy in %, tasks", *(f"{t}-{t + bins - 1}" for t in starts)], rows)
    diagnostics(methods, first=(1, 10), last=(starts[-1], starts[-1] + bins - 1))


def cifar(sweep: str) -> None:
    methods = by_method(sweep)
    tasks = range(max(int(frame["task"].max()) + 1 for frame in methods.values()))
    rows = []
    for name, frame in methods.items():
        classes = {t: int(frame[frame["task"] == t]["classes"].iloc[0]) for t in tasks}
        cells = [interval(100 * per_run(frame, "best_test_accuracy", t, t), 1) for t in tasks]
        rows.append([f"{name} (N = {frame['run'].nunique()})", *cells])
        published = CIFAR.get(name, {})
        rows.append(
            [f"*published, {name}*", *(f"{published[c]:.1f}" if c in published else "" for c in classes.values())]
        )
    show(["best test accuracy in %, classes", *map(str, classes.values())], rows)
    diagnostics(methods, first=(0, 0), last=(tasks[-1], tasks[-1]))


def control(sweep: str) -> None:
    """Each at the end of so many steps: the return is a mean over the 100,000 steps before."""
    methods = by_method(sweep)
    measures = {
        "return": ("return", 1.0, 0),
        "stable rank, %": ("srank99/2", 100 / 256, 1),
        "dormant units, %": ("policy_rarely_active_fraction", 100.0, 1),
        "mean abs w": ("weight_magnitude/2", 1.0, 3),
    }
    some = next(iter(methods.values()))
    every, rows_of_run = int(some["examples"].min()), int(some["task"].max()) + 1
    millions = [0.0, 0.5, 1.0, 1.5, 2.0]
    published = ANT if some["benchmark"].iloc[0] == "ant" else {}
    for measure, (metric, scale, digits) in measures.items():
        table = []
        for name, frame in methods.items():
            cells = []
            for million in millions:
                row = round(1e6 * million / every)
                window = (row - 5, row - 1) if measure == "return" else (row, row)
                last = min(window[1], rows_of_run - 1)
                missing = row > rows_of_run or window[1] < 0
                cells.append(
                    "" if missing else interval(scale * per_run(frame, metric, min(window[0], last), last), digits)
                )
            table.append([f"{name} (N = {frame['run'].nunique()})", *cells])
            if name in published:
                given = published[name][measure]
                table.append([f"*published, {name}*", *(f"{given[m]:g}" if m in given else "" for m in millions)])
        show([f"{measure}, at million steps", *(f"{million:g}" for million in millions)], table)


def changes(sweep: str, span: int = 20_000) -> None:
    """What each change of friction does: returns of the episodes that ended in so many steps before and after it."""
    table = []
    for folder in map(Path, load(sweep).runs.sort_values(["label", "seed"])["folder"]):
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        config = yaml.safe_load((folder / "config.yaml").read_text())
        ends, returns = (
            np.concatenate([row["episodes"][key] for row in rows if "episodes" in row]) for key in ("ends", "returns")
        )
        friction = rows[0]["friction"]
        for row in rows:
            for step, new in zip(*(row.get("changes", {}).get(key, ()) for key in ("steps", "frictions")), strict=True):
                before, after = (ends > step - span) & (ends <= step), (ends > step) & (ends <= step + span)
                cells = [f"{values.mean():,.0f}" if len(values) else "" for values in (returns[before], returns[after])]
                table.append([str(config["seed"]), f"{step:,.0f}", f"{friction:.2f} to {new:.2f}", *cells])
                friction = new
    show(["seed", "change at step", "friction", f"return in {span:,} steps before", "after"], table)


def diagnostics(methods: dict[str, pd.DataFrame], first: tuple[int, int], last: tuple[int, int]) -> None:
    """Units, weights and rank before the tasks first ... and last ..., inclusive."""
    measures = {"dead units %": ("dead_fraction", 100), "mean abs w": ("weight_magnitude", 1)}
    measures |= {"effective rank %": ("effective_rank_fraction", 100)}
    spans = {f"{a}-{b}" if a != b else f"{a}": (a, b) for a, b in (first, last)}
    heads = [f"{what}, tasks {span}" for what in measures for span in spans]
    rows = []
    for name, frame in methods.items():
        cells = []
        for metric, scale in measures.values():
            for start, stop in spans.values():
                cells.append(interval(scale * per_run(frame, metric, start, stop), 3 if scale == 1 else 1))
        rows.append([name, *cells])
    show(["method", *heads], rows)


def field(study: str) -> None:
    """Of each method its line, what was chosen, and what it all took of a core, where that is known."""
    path = Path(study)
    frame = read_study(path)
    print("| method | chosen of | setting | minutes | line |\n|---|---:|---|---:|---|")
    for method, of in frame.groupby("method", sort=False):
        tried = of[of["phase"] == "tuning"]["setting"].nunique()
        reported = of[of["phase"] == "report"]["setting"]
        if reported.empty:  # its selection has not come to an end
            continue
        chosen = reported.iloc[0]
        quoted = f'"{method}"' if "," in str(method) else method
        line = f"`lop -m experiment=field/{path.stem} 'variant=[{quoted}]'`"
        minutes = "–" if of["seconds"].isna().any() else f"{of['seconds'].sum() / 60:.1f}"
        print(f"| {method} | {tried} | {chosen} | {minutes} | {line} |")


def main() -> None:
    tables: dict[str, Callable[[str], None]] = {
        "mnist": mnist,
        "regression": regression,
        "layerwise": layerwise,
        "imagenet": imagenet,
        "cifar": cifar,
        "control": control,
        "changes": changes,
        "field": field,
    }
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=tables)
    parser.add_argument("sweep", help="folder of the runs; of field, the study's file")
    arguments = parser.parse_args()
    tables[arguments.table](arguments.sweep)


if __name__ == "__main__":
    main()
