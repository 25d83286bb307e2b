"""What a sweep holds and what it lacks: per configuration its seeds and states, and why runs failed."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lop_sweeps.regular_file import read_bytes

from ..names.label import COMPONENTS, LENGTHS, ordered, short

CHOICES = ("algorithm", "start", "network", "optimizer", "precision", "scale")
FINAL = ("done", "diverged", "failed")


@dataclass(frozen=True)
class Configuration:
    """states: state → runs. tasks: that its runs have come to. settings: the hyper-parameters in which the benchmark's
    configurations differ. lacks: seeds that another configuration of the benchmark has. folder: of its first run.
    """

    benchmark: str
    label: str
    seeds: list[int]
    states: Counter[str]
    tasks: list[int]
    num_tasks: list[int]
    settings: dict[str, str]
    lacks: list[int]
    folder: Path


@dataclass(frozen=True)
class Failure:
    """Runs of one configuration that failed alike. error: in one line. traceback: of the first of them."""

    benchmark: str
    label: str
    seeds: list[int]
    error: str
    traceback: str


@dataclass(frozen=True)
class Unfinished:
    """Runs of one configuration in one state. tasks: that they have come to."""

    benchmark: str
    label: str
    state: str
    seeds: list[int]
    tasks: list[int]


def configurations(runs: pd.DataFrame) -> list[Configuration]:
    """By benchmark, then in the order of `label.ordered`."""
    found = []
    for benchmark in sorted(runs["benchmark"].unique()):
        part = runs[runs["benchmark"] == benchmark].sort_values("seed")
        seeds = set(part["seed"])
        settings = _settings(part)
        groups = dict(list(part.groupby("label")))
        for label in ordered(groups):
            group = groups[label]
            found.append(
                Configuration(
                    str(benchmark),
                    label,
                    list(map(int, group["seed"])),
                    Counter(map(str, group["state"])),
                    list(map(int, group["first_task"] + group["tasks"])),
                    [int(number) for number in group["num_tasks"].dropna()],
                    settings[label],
                    sorted(map(int, seeds - set(group["seed"]))),
                    Path(group["folder"].iloc[0]),
                )
            )
    return found


def failures(runs: pd.DataFrame) -> list[Failure]:
    """Reads `status.json` of the runs that failed."""
    failed = runs[runs["state"] == "failed"].sort_values(["benchmark", "label", "seed"])
    alike: dict[tuple[str, str, str], list[tuple[int, str]]] = defaultdict(list)
    for benchmark, label, seed, folder in zip(
        *(failed[c] for c in ("benchmark", "label", "seed", "folder")), strict=True
    ):
        error, traceback = _error(Path(folder) / "status.json")
        alike[str(benchmark), str(label), error].append((int(seed), traceback))
    return [
        Failure(benchmark, label, [seed for seed, _ in found], error, found[0][1])
        for (benchmark, label, error), found in alike.items()
    ]


def unfinished(runs: pd.DataFrame) -> list[Unfinished]:
    """Runs that are neither done nor diverged nor failed."""
    left = runs[~runs["state"].isin(FINAL)].sort_values("seed")
    return [
        Unfinished(
            str(benchmark),
            str(label),
            str(state),
            list(map(int, group["seed"])),
            list(map(int, group["first_task"] + group["tasks"])),
        )
        for (benchmark, label, state), group in left.groupby(["benchmark", "label", "state"])
    ]


def _settings(part: pd.DataFrame) -> dict[str, dict[str, str]]:
    """Label → what differs among the labels: choices under their name, options under the shortest that is clear."""
    first = part.drop_duplicates("label")
    hidden = {f"benchmark.{name}" for name in LENGTHS}
    options = [c for c in first.columns if c.partition(".")[0] in COMPONENTS and "." in c and c not in hidden]
    differing = [c for c in options if first[c].nunique(dropna=False) > 1]
    told = first["label"].str.split(",").str[0].eq(first["algorithm"]).all()  # the label begins with the algorithm
    choices = [c for c in CHOICES if first[c].nunique(dropna=False) > 1 and not (c == "algorithm" and told)]
    names = {**{choice: choice for choice in choices}, **{option: short(option, differing) for option in differing}}
    rows = first.set_index("label")[list(names)].to_dict("index")
    return {
        str(label): {names[str(key)]: _text(value) for key, value in row.items() if not pd.isna(value)}
        for label, row in rows.items()
    }


def _text(value: object) -> str:
    """As on the command line; 100 also of a column that is float because other configurations lack the option."""
    if isinstance(value, bool | np.bool_):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(value)


def _error(status: Path) -> tuple[str, str]:
    """The first line of the error, and its traceback."""
    try:
        content = json.loads(read_bytes(status))
    except (OSError, ValueError, RecursionError):
        content = None
    error = content.get("error") if isinstance(content, Mapping) else None
    if not isinstance(error, Mapping):
        return "no error was recorded", ""
    lines = str(error.get("message") or "").strip().splitlines()
    return f"{error.get('type') or 'Error'}{f': {lines[0]}' if lines else ''}", str(error.get("traceback") or "")
