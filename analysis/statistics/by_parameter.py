"""Runs by one hyper-parameter: which are settings of one method, and what they are called."""

from numbers import Real
from typing import Any

import numpy as np
import pandas as pd

from ..errors import AnalysisError
from ..names.label import COMPONENTS, LENGTHS
from .curve_summary import per_run

# Fewer values make no curve.
VALUES = 3
# More methods that are no curve would hide those that are.
REFERENCES = 6
CHOICES = ("algorithm", "network", "optimizer", "precision", "scale")


def parameters(runs: pd.DataFrame) -> list[str]:
    """Hyper-parameters with at least three numbers within some method, whose runs agree in everything else."""
    found = []
    for name in hyper_parameters(runs):
        numbers = runs[name].map(_number)
        if numbers.nunique() >= VALUES and numbers.groupby(_methods(runs, name)).nunique().max() >= VALUES:
            found.append(name)
    return found


def points(
    tasks: pd.DataFrame, runs: pd.DataFrame, parameter: str, metric: str, summary: str, larger_is_better: bool
) -> tuple[pd.DataFrame, list[str]]:
    """One row per run: method, value (missing: it has no such hyper-parameter), y (missing: diverged); sentences.

    Of methods that are no curve over the hyper-parameter only the best setting is there. Raises AnalysisError for an
    unknown hyper-parameter or one with a single value, for several benchmarks, and where two runs of one method, value
    and seed differ in something that is no hyper-parameter.
    """
    if parameter not in hyper_parameters(runs):
        raise AnalysisError(f"no hyper-parameter {parameter!r}; can be drawn: {', '.join(parameters(runs)) or 'none'}")
    if runs["benchmark"].nunique() > 1:
        raise AnalysisError("several benchmarks in one figure; take one: sweep.of(name)")
    found = per_run(tasks, metric).set_index("run")[summary]
    diverged, absent = runs["state"] == "diverged", runs[parameter].isna()
    value: pd.Series[Any] = runs[parameter].map(_number)
    if value.nunique() < min(VALUES, runs[parameter].nunique()):
        value = runs[parameter].map(str).where(~absent)
    started = diverged | runs["run"].map(found).notna()
    shown = started & (value.notna() | absent)
    frame = pd.DataFrame({"method": _methods(runs, parameter), "value": value, "y": runs["run"].map(found)})
    frame["y"] = frame["y"].where(~diverged)
    frame["diverged"] = diverged
    frame["seed"], frame["label"] = runs["seed"], runs["label"]
    frame = frame[shown].copy()
    if frame["value"].nunique() < 2:
        raise AnalysisError(f"{parameter} has a single value in runs with a finished task")
    if frame.duplicated(["method", "value", "seed"]).any():
        raise AnalysisError(f"runs of one seed differ in more than {parameter}, and no hyper-parameter says in what")
    frame["method"] = frame["method"].map(_names(frame, runs.loc[frame.index], parameter))
    notes = []
    if left := int((started & ~shown).sum()):
        notes.append(f"Not shown: runs whose {parameter.rpartition('.')[2].replace('_', ' ')} is no number ({left})")
    frame = _best(frame, larger_is_better, notes)
    values = frame.groupby("method")["value"].nunique()
    for count, which in ((0, "without this hyper-parameter"), (1, "with a single value")):
        if (several := int((values == count).sum())) > REFERENCES:
            frame = frame[~frame["method"].isin(values.index[values == count])]
            notes.append(f"Not shown: methods {which} ({several})")
    return frame.copy(), notes


def _best(frame: pd.DataFrame, larger_is_better: bool, notes: list[str]) -> pd.DataFrame:
    """Of methods that are no curve, with several settings of something else, only the best setting of each."""
    values = frame["method"].map(frame.groupby("method")["value"].nunique())
    lonely = frame[values < 2].assign(values=values, of=frame["label"].str.split(", ").str[0])
    left: list[str] = []
    for _, settings in lonely.groupby(["of", "values"]):  # the method, or the variant, of which they are settings
        means = settings.groupby("method", sort=False)["y"].mean().sort_values(ascending=not larger_is_better)
        left += list(map(str, means.index[1:]))  # what diverged comes last
    if left:
        notes.append(f"Of each method that is no curve here only its best setting ({len(left)} are not shown)")
    return frame[~frame["method"].isin(left)]


def hyper_parameters(runs: pd.DataFrame) -> list[str]:
    names = [str(name) for name in runs.columns if str(name).startswith(tuple(f"{part}." for part in COMPONENTS))]
    return [name for name in names if name.removeprefix("benchmark.") not in LENGTHS]


def _methods(runs: pd.DataFrame, parameter: str) -> "pd.Series[int]":
    """(runs,): a number for all runs that agree in all choices and hyper-parameters but this."""
    columns = [*(name for name in CHOICES if name in runs.columns), *hyper_parameters(runs)]
    others = [name for name in columns if name != parameter and runs[name].map(_text).nunique() > 1]
    keys = runs[others].map(_text).agg("|".join, axis=1) if others else pd.Series("", index=runs.index)
    return pd.Series(pd.factorize(keys)[0], index=runs.index)


def _names(frame: pd.DataFrame, runs: pd.DataFrame, parameter: str) -> dict[int, str]:
    """Method → name: what its labels share, else its algorithm; where two are called the same, with what differs."""
    names: dict[int, str] = {}
    for method in map(int, frame["method"].unique()):
        group = frame[frame["method"] == method]
        labels = {_without(label, parameter) for label in group["label"]}
        names[method] = labels.pop() if len(labels) == 1 else str(runs.loc[group.index[0], "algorithm"])
    others = [name for name in (*CHOICES, *hyper_parameters(runs)) if name in runs.columns and name != parameter]
    for name in {name for name in names.values() if list(names.values()).count(name) > 1}:
        same = [method for method in names if names[method] == name]
        first = runs.loc[[frame.index[frame["method"] == method][0] for method in same]]
        for column in others:
            texts = first[column].map(_text)
            if texts.nunique() > 1:
                for method, text in zip(same, texts, strict=True):
                    names[method] += f", {column.rpartition('.')[2]}={text}"
    return names


def _without(label: str, parameter: str) -> str:
    def sets_it(part: str) -> bool:
        return "=" in part and f".{parameter}".endswith(f".{part.partition('=')[0]}")

    return ", ".join(part for part in label.split(", ") if not sets_it(part))


def _number(value: object) -> float:
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else np.nan


def _text(value: object) -> str:
    """1 and 1.0 are one value, as in a run's identity; so are all ways to have none."""
    number = _number(value)
    return repr(number).removesuffix(".0") if not np.isnan(number) else "none" if pd.isna(value) else str(value)  # type: ignore[call-overload]
