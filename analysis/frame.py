"""The two tidy frames: one row per run, one row per run and task."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from .label import COMPONENTS, benchmark, choice, configuration, flatten, labels
from .rundir import Run

# What a metric may not be called, because the frame of tasks has such a column from the frame of runs.
JOINED = ("run", "sweep", "benchmark", "variant", "label", "seed", "state")
# Metrics with one value per weight matrix; all other lists have one value per hidden layer.
WEIGHT_METRICS = ("weight_magnitude", "weight_magnitude_task")
POLICY = "policy_"  # before a metric: its mean over the policy's hidden layers, in control
RANK, RANK_FRACTION = "effective_rank", "effective_rank_fraction"

FloatArray = npt.NDArray[np.float64]


def runs_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per run: identity, state, label and the hyper-parameters (lists as JSON text)."""
    texts = labels([run.config for run in runs])
    rows = []
    for run, label in zip(runs, texts, strict=True):
        config = run.config
        row: dict[str, Any] = {
            "run": run.id,
            "sweep": str(config.get("sweep") or run.folder.parent.name),
            "benchmark": benchmark(config),
            "variant": config.get("variant"),
            "label": label,
            "seed": int(config["seed"]),
            "state": run.state,
            "tasks": run.tasks,
            "num_tasks": run.num_tasks,
            "configuration": configuration(config),
            **{group: choice(config, group) for group in ("algorithm", "network", "optimizer")},
            **{name: config.get(name) for name in ("scale", "precision")},
            "folder": str(run.folder),
        }
        row |= {k: json.dumps(v) if isinstance(v, list) else v for k, v in flatten(config).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def tasks_frame(runs: Sequence[Run], frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run and finished task: what identifies the run, task, examples, metrics, hyper-parameters.

    A list per layer becomes `name/1`, `name/2`, … and `name`, the mean over that run's layers (NaN without
    layers). `weight_magnitude` averages over weights where the layer sizes are known (the authors'
    definition), else over matrices. `effective_rank_fraction` is the effective rank divided by the layer's
    width, where that is known. In control, where lists hold the policy's layers and then those of the value network,
    `policy_name` is the mean over the policy's hidden layers.
    """
    lengths = np.array([run.tasks for run in runs])
    ends = np.cumsum(lengths)
    metrics: dict[str, FloatArray] = {}
    measured: dict[str, npt.NDArray[Any]] = {
        name: np.concatenate([run.columns[name] for run in runs]) for name in ("task", "examples")
    }
    for run, end in zip(runs, ends, strict=True):
        for name, values in _scalars(run).items():
            if name not in metrics:
                metrics[name] = np.full(ends[-1], np.nan)
            metrics[name][end - run.tasks : end] = values
    parameters = [name for name in frame.columns if "." in name]
    repeated = {name: _repeat(frame[name], lengths) for name in (*JOINED, *parameters)}
    columns: dict[str, Any] = {name: repeated[name] for name in JOINED} | measured
    columns |= {name: metrics[name] for name in sorted(metrics, key=_natural)}
    columns |= {name: repeated[name] for name in parameters}
    return pd.DataFrame(columns, copy=False)


def metric_names(tasks: pd.DataFrame) -> list[str]:
    """The metrics a frame of tasks has values of, without the per-layer columns."""
    skip = {*JOINED, "task", "examples"}
    names = [str(n) for n in tasks.columns if n not in skip and "/" not in n and not _is_parameter(str(n))]
    return [name for name in names if tasks[name].notna().any()]


def is_control(tasks: pd.DataFrame) -> bool:
    """Whether the rows are stretches of steps in an environment."""
    return "benchmark.protocol" in tasks.columns and bool((tasks["benchmark.protocol"] == "control").all())


def layers(tasks: pd.DataFrame, metric: str) -> list[str]:
    """Its per-layer columns `metric/1`, … that have values, in order."""
    names = [n for n in tasks.columns if n.startswith(f"{metric}/") and n[len(metric) + 1 :].isdigit()]
    return sorted((n for n in names if tasks[n].notna().any()), key=lambda n: int(n.rpartition("/")[2]))


def layer_sizes(config: Mapping[str, Any]) -> tuple[list[int], list[int]]:
    """(units per hidden layer, weights per matrix); an empty list for what the configuration does not say."""
    layers = config.get("layers")
    if isinstance(layers, dict):
        return list(layers["units"]), list(layers["weights"])
    network, task = config.get("network") or {}, config["benchmark"]
    hidden = network.get("hidden")
    if not isinstance(hidden, list) or not all(isinstance(width, int) for width in hidden):
        return [], []
    ends = [network.get(name) or task.get(name) for name in ("inputs", "outputs")]
    if not all(isinstance(size, int) for size in ends):
        return hidden, []
    widths = [ends[0], *hidden, ends[1]]
    return hidden, [a * b for a, b in pairwise(widths)]


def _scalars(run: Run) -> dict[str, FloatArray]:
    """Metric → (tasks,), lists taken apart and averaged over layers."""
    hidden, weights = layer_sizes(run.config)
    columns = {n: c for n, c in run.columns.items() if n not in ("task", "examples")}
    rank = columns.get(RANK)
    if rank is not None and rank.ndim == 2 and hidden and rank.shape[1] == len(hidden):
        columns[RANK_FRACTION] = rank / np.array(hidden, dtype=np.float64)
    out: dict[str, FloatArray] = {}
    for name, values in columns.items():
        if name in JOINED:
            continue
        if values.ndim == 1:
            out[name] = values
            continue
        known = name in WEIGHT_METRICS and len(weights) == values.shape[1]
        if _of_policy(run.config, values) and name not in WEIGHT_METRICS:
            out[f"{POLICY}{name}"] = values[:, : values.shape[1] // 2].mean(axis=1)
        if values.shape[1]:
            out[name] = np.average(values, axis=1, weights=weights if known else None)
            out |= {f"{name}/{layer}": values[:, layer - 1] for layer in range(1, values.shape[1] + 1)}
    return out


def _of_policy(config: Mapping[str, Any], values: FloatArray) -> bool:
    """Whether a list begins with the policy's layers and goes on with as many of the value network."""
    hidden = (config.get("network") or {}).get("hidden")
    return bool(config["benchmark"].get("protocol") == "control" and values.shape[1] == 2 * len(hidden or ()))


def _repeat(values: pd.Series, lengths: npt.NDArray[np.int64]) -> Any:
    """Text as categories: 800,000 strings would take more memory than all metrics."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return np.repeat(values.to_numpy(), lengths)
    column = pd.Categorical(values)
    return pd.Categorical.from_codes(np.repeat(column.codes, lengths), dtype=column.dtype)


def _is_parameter(name: str) -> bool:
    return name.startswith(tuple(f"{component}." for component in COMPONENTS))


def _natural(name: str) -> tuple[str, int]:
    base, _, layer = name.partition("/")
    return base, int(layer or 0)
