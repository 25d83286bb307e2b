"""The two tidy frames: one row per run, one row per run and task."""

import json
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ..names.described import described
from ..names.label import COMPONENTS, benchmark, choice, configuration, flatten, labels, start
from ..names.metric import DURING, POLICY, POLICY_LAST, RANK, RANK_FRACTION, SHARES, WEIGHT_METRICS, layer_of
from .run_folder import Run

# What a metric may not be called, because the frame of tasks has such a column from the frame of runs.
JOINED = ("run", "sweep", "benchmark", "variant", "label", "seed", "state")

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
            "first_task": run.first_task,
            "start": start(config) or None,
            "configuration": configuration(config),
            **{group: choice(config, group) for group in ("algorithm", "network", "optimizer")},
            **{name: config.get(name) for name in ("scale", "precision")},
            "folder": str(run.folder),
        }
        row |= {k: json.dumps(_whole(v)) if isinstance(v, list) else v for k, v in flatten(config).items()}
        rows.append(row)
    return pd.DataFrame(rows)


def _whole(value: Any) -> Any:
    """Numbers without a fraction as whole ones, as they come back from elsewhere."""
    if isinstance(value, list):
        return [_whole(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def tasks_frame(runs: Sequence[Run], frame: pd.DataFrame) -> pd.DataFrame:
    """One row per run and finished task: what identifies the run, task, examples, metrics, hyper-parameters.

    A list per layer becomes `name/1`, `name/2`, … and `name`, the mean over that run's layers (NaN without
    layers). Where the layer sizes are known, `weight_magnitude` averages over weights and shares of units (`SHARES`)
    over units, as the authors do, and others as the run says of them (`described`); else, and for ranks always, all
    layers count alike. `effective_rank_fraction` is the effective rank divided by the layer's features,
    where they are known. In control lists hold the policy's layers and then as many of the value network: `policy_name`
    is the same mean over the policy's hidden layers, and `policy_last_name` the value of the last of them, or of the
    weight matrix into it.
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
    columns |= {name: metrics[name] for name in sorted(metrics, key=layer_of)}
    columns |= {name: repeated[name] for name in parameters}
    return pd.DataFrame(columns, copy=False)


def metric_names(tasks: pd.DataFrame) -> list[str]:
    """The metrics a frame of tasks has values of, without the per-layer columns."""
    skip = {*JOINED, "task", "examples"}
    names = [str(n) for n in tasks.columns if n not in skip and not _is_parameter(str(n))]
    known = set(names)
    names = [name for name in names if not (layer_of(name)[1] and layer_of(name)[0] in known)]
    return [name for name in names if tasks[name].notna().any()]


def is_control(tasks: pd.DataFrame) -> bool:
    """Whether the rows are stretches of steps in an environment."""
    return "benchmark.protocol" in tasks.columns and bool((tasks["benchmark.protocol"] == "control").all())


def measured_before(tasks: pd.DataFrame, metric: str) -> bool:
    """Whether a value describes the network before its task (in control: row), and not what happened in it."""
    base = layer_of(metric)[0].removeprefix(POLICY_LAST).removeprefix(POLICY)
    return base not in DURING and (described(base) is not None or bool(layers(tasks, base)))


def layers(tasks: pd.DataFrame, metric: str) -> list[str]:
    """Its per-layer columns `metric/1`, … that have values, in order."""
    found = {name: layer_of(name) for name in tasks.columns if name.startswith(f"{metric}/")}
    names = [name for name, (base, layer) in found.items() if base == metric and layer and tasks[name].notna().any()]
    return sorted(names, key=lambda name: found[name][1])


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


def _features(config: Mapping[str, Any], hidden: list[int]) -> list[int]:
    """Features per hidden layer, more than units where a unit has several; runs from before that have one each."""
    layers = config.get("layers")
    return list(layers.get("features", hidden)) if isinstance(layers, dict) else hidden


def _scalars(run: Run) -> dict[str, FloatArray]:
    """Metric → (tasks,), lists taken apart and averaged over layers."""
    hidden, weights = layer_sizes(run.config)
    policy = _policy_layers(run.config, hidden)
    columns = {n: c for n, c in run.columns.items() if n not in ("task", "examples")}
    rank = columns.get(RANK)
    if rank is not None and rank.ndim == 2 and hidden and rank.shape[1] == len(hidden):
        columns[RANK_FRACTION] = rank / np.array(_features(run.config, hidden), dtype=np.float64)
    out: dict[str, FloatArray] = {}
    for name, values in columns.items():
        if name in JOINED:
            continue
        if values.ndim == 1:
            out[name] = values
            continue
        count = values.shape[1]
        sizes = _sizes(name, run, hidden, weights)
        known = sizes if len(sizes) == count else [1] * count
        if policy and count == 2 * policy:
            out[f"{POLICY}{name}"] = np.average(values[:, :policy], axis=1, weights=known[:policy])
        if policy and count in (2 * policy, 2 * (policy + 1)):  # of hidden layers; of weight matrices
            out[f"{POLICY_LAST}{name}"] = values[:, policy - 1]
        if count:
            out[name] = np.average(values, axis=1, weights=known)
            out |= {f"{name}/{layer}": values[:, layer - 1] for layer in range(1, count + 1)}
    return out


def _sizes(name: str, run: Run, hidden: list[int], weights: list[int]) -> list[int]:
    """What a mean over layers or matrices is weighted by; nothing if they all count alike."""
    said = run.described.get(name)
    if said is not None and said.weighted:
        return weights if said.per == "matrix" else hidden
    return weights if name in WEIGHT_METRICS else hidden if SHARES.fullmatch(name) else []


def _policy_layers(config: Mapping[str, Any], hidden: Sequence[int]) -> int:
    """The policy's hidden layers, in control: the value network has as many. 0 where that is not known."""
    if config["benchmark"].get("protocol") != "control":
        return 0
    return len(hidden) // 2 if isinstance(config.get("layers"), dict) else len(hidden)


def _repeat(values: pd.Series, lengths: npt.NDArray[np.int64]) -> Any:
    """Text as categories: 800,000 strings would take more memory than all metrics."""
    if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
        return np.repeat(values.to_numpy(), lengths)
    column = pd.Categorical(values)
    return pd.Categorical.from_codes(np.repeat(column.codes, lengths), dtype=column.dtype)


def _is_parameter(name: str) -> bool:
    return name.startswith(tuple(f"{component}." for component in COMPONENTS))
