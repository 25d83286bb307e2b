"""Performance against one hyper-parameter: how much of a method's result is its tuning?"""

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from ..band import DEFAULT, Band
from ..bootstrap import FEW_RUNS, TOO_NARROW
from ..curve_summary import SUMMARIES, per_run
from ..errors import AnalysisError
from ..label import COMPONENTS, LENGTHS, ordered
from ..quantity import performance_metric, quantity
from .curve import LOG_RATIO
from .legend import Legend
from .style import SIZES, Look, StyleName, context, logarithmic, readable
from .style import looks as make_looks

# Fewer values make no curve.
VALUES = 3
# More methods that are no curve would hide those that are.
REFERENCES = 6
# Height of a row of crosses, of the axes.
CROSS = 0.075
CHOICES = ("algorithm", "network", "optimizer", "precision", "scale")

FloatArray = npt.NDArray[np.float64]


def sensitivity(
    tasks: pd.DataFrame,
    runs: pd.DataFrame,
    parameter: str,
    *,
    metric: str | None = None,
    summary: str = "area",
    band: Band = DEFAULT,
    looks: Mapping[str, Look] | None = None,
    ax: Axes | None = None,
    style: StyleName = "paper",
) -> Figure:
    """A line per method over the values of `parameter` ('optimizer.step_size'); frames of one benchmark.

    Runs that agree in everything else are one method, named by their label without the hyper-parameter. One that does
    not have it is a horizontal line, one with a single value of it a point; more than six of either are left out. The
    axis is logarithmic where the values are positive and span more than a decade; otherwise they are categories.
    Diverged runs are no part of a mean: a cross counts them. Runs whose value is infinite are left out.

    metric: default the benchmark's performance. summary: see `curve_summary.SUMMARIES`. looks: taken if they have all
    methods. ax: axes of the caller's (then without title and caption). Raises AnalysisError for an unknown parameter,
    metric or summary, a parameter with a single value, and where two runs of one method, value and seed differ in
    something that is no hyper-parameter.
    """
    metric = metric or performance_metric(tasks)
    if summary not in SUMMARIES:
        raise AnalysisError(f"no summary {summary!r}; possible: {', '.join(SUMMARIES)}")
    if parameter not in _hyper_parameters(runs):
        raise AnalysisError(f"no hyper-parameter {parameter!r}; can be drawn: {', '.join(parameters(runs)) or 'none'}")
    unit = quantity(metric)
    frame, notes = _points(tasks, runs, parameter, metric, summary)
    given = frame["value"].dropna().unique().tolist()
    numbers = [] if any(isinstance(value, str) for value in given) else sorted(map(float, given))
    log = bool(numbers) and numbers[0] > 0 and numbers[-1] > 10 * numbers[0]
    values: Sequence[float | str] = numbers or ordered(given)
    frame["x"] = frame["value"].map({value: numbers[at] if log else float(at) for at, value in enumerate(values)})
    frame["y"] *= unit.scale
    methods = {name: frame[frame["method"] == name] for name in ordered(frame["method"])}
    with context(style):
        colours = looks if looks and set(methods) <= set(looks) else make_looks(methods)
        legend = _legend(methods, runs, colours, band, notes)
        if ax is None:
            fig = legend.figure(SIZES[style].single, SIZES[style].height, style)
            ax = fig.subplots()
        else:
            fig = legend.inside(ax)
        centres = np.concatenate([_draw(ax, group, colours[name], band) for name, group in methods.items()])
        centres = centres[np.isfinite(centres)]
        if centres.size and centres.min() > 0 and centres.max() > LOG_RATIO * np.median(centres):
            logarithmic(ax)
        _horizontal(ax, values, log)
        _mark_diverged(ax, methods, colours, at_top=not unit.larger_is_better)
        ax.set_xlabel(_name(parameter))
        ax.set_ylabel(f"{unit.axis},\n{SUMMARIES[summary]}")
    return fig


def parameters(runs: pd.DataFrame) -> list[str]:
    """Hyper-parameters with at least three numbers within some method, whose runs agree in everything else."""
    found = []
    for name in _hyper_parameters(runs):
        numbers = runs[name].map(_number)
        if numbers.nunique() >= VALUES and numbers.groupby(_methods(runs, name)).nunique().max() >= VALUES:
            found.append(name)
    return found


def _points(
    tasks: pd.DataFrame, runs: pd.DataFrame, parameter: str, metric: str, summary: str
) -> tuple[pd.DataFrame, list[str]]:
    """One row per run: method, value (missing: it has no such hyper-parameter), y (missing: diverged); sentences."""
    if runs["benchmark"].nunique() > 1:
        raise AnalysisError("several benchmarks in one figure; take one: sweep.of(name)")
    with np.errstate(invalid="ignore"):  # of infinite values
        found = per_run(tasks, metric).set_index("run")[summary]
    diverged, absent = runs["state"] == "diverged", runs[parameter].isna()
    value: pd.Series[Any] = runs[parameter].map(_number)
    if value.nunique() < min(VALUES, runs[parameter].nunique()):
        value = runs[parameter].map(str).where(~absent)
    started = diverged | runs["run"].map(found).notna()
    infinite = runs["run"].map(found).isin([np.inf, -np.inf]) & ~diverged
    shown = started & ~infinite & (value.notna() | absent)
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
    if infinite.any():
        notes.append(f"Not shown: runs whose {quantity(metric).title.lower()} is infinite ({int(infinite.sum())})")
    if left := int((started & ~infinite & ~shown).sum()):
        notes.append(f"Not shown: runs whose {_name(parameter).lower()} is no number ({left})")
    if partial := int((shown & ~runs["state"].isin(["done", "diverged"])).sum()):
        notes.append(f"Runs that are not finished ({partial}) count with the tasks they have")
    values = frame.groupby("method")["value"].nunique()
    for count, which in ((0, "without this hyper-parameter"), (1, "with a single value")):
        if (several := int((values == count).sum())) > REFERENCES:
            frame = frame[~frame["method"].isin(values.index[values == count])]
            notes.append(f"Not shown: methods {which} ({several})")
    return frame.copy(), notes


def _hyper_parameters(runs: pd.DataFrame) -> list[str]:
    names = [str(name) for name in runs.columns if str(name).startswith(tuple(f"{part}." for part in COMPONENTS))]
    return [name for name in names if name.removeprefix("benchmark.") not in LENGTHS]


def _methods(runs: pd.DataFrame, parameter: str) -> "pd.Series[int]":
    """(runs,): a number for all runs that agree in all choices and hyper-parameters but this."""
    columns = [*(name for name in CHOICES if name in runs.columns), *_hyper_parameters(runs)]
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
    others = [name for name in (*CHOICES, *_hyper_parameters(runs)) if name in runs.columns and name != parameter]
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


def _name(parameter: str) -> str:
    return readable(parameter.rpartition(".")[2])


def _draw(ax: Axes, group: pd.DataFrame, look: Look, band: Band) -> FloatArray:
    """One method. Returns the centres of its points."""
    if group["x"].isna().all():
        centre, low, high = (float(value) for value in band.of(group["y"].to_numpy()))
        ax.axhline(centre, color=look.colour, linestyle=look.dashes)
        ax.axhspan(low, high, color=look.colour, alpha=0.12, linewidth=0)
        return np.array([centre])
    places = np.sort(group["x"].dropna().unique())
    points: FloatArray = np.array([band.of(group.loc[group["x"] == x, "y"].to_numpy()) for x in places])
    centre, low, high = points.T
    ax.plot(places, centre, color=look.colour, linestyle=look.dashes, marker="o")
    if len(places) > 1:
        ax.fill_between(places, low, high, color=look.colour, alpha=0.2, linewidth=0)
    else:
        ax.vlines(places, low, high, color=look.colour)
    return points[:, 0]


def _horizontal(ax: Axes, values: Sequence[float | str], log: bool) -> None:
    texts = [value if isinstance(value, str) else f"{value:g}" for value in values]
    if log:
        numbers = [float(value) for value in values]
        margin = (numbers[-1] / numbers[0]) ** 0.06
        ax.set_xscale("log")
        ax.set_xticks(numbers, texts)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlim(numbers[0] / margin, numbers[-1] * margin)
    else:
        ax.set_xticks(range(len(values)), texts)
        ax.set_xlim(-0.4, len(values) - 0.6)


def _mark_diverged(ax: Axes, methods: Mapping[str, pd.DataFrame], colours: Mapping[str, Look], at_top: bool) -> None:
    """Crosses at the bad end of the vertical axis, those of several methods at one value on top of each other."""
    marks: dict[float, list[tuple[str, str]]] = {}
    for name, group in methods.items():
        for x, runs in ((x, group[group["x"] == x]) for x in np.sort(group["x"].dropna().unique())):
            if count := int(runs["diverged"].sum()):
                marks.setdefault(float(x), []).append((colours[name].colour, f"{count}/{len(runs)}"))
    if not marks:
        return
    room = CROSS * max(map(len, marks.values()))
    scale = ax.yaxis.get_transform()
    low, high = scale.transform(ax.get_ylim())
    more = (high - low) * room / (1 - room)
    bottom, top = scale.inverted().transform([low, high + more] if at_top else [low - more, high])
    ax.set_ylim(bottom, top)
    transform, size = ax.get_xaxis_transform(), 2 * mpl.rcParams["lines.markersize"]
    for x, found in marks.items():
        for row, (colour, text) in enumerate(found):
            y = (1 - CROSS * (0.6 + row)) if at_top else CROSS * (0.6 + row)
            ax.plot([x], [y], "x", color=colour, transform=transform, markersize=size)
            ax.annotate(
                text,
                (x, y),
                xycoords=transform,
                xytext=(0.6, 0),
                textcoords="offset fontsize",
                va="center",
                fontsize="small",
                color=colour,
            )


def _legend(
    methods: Mapping[str, pd.DataFrame], runs: pd.DataFrame, colours: Mapping[str, Look], band: Band, notes: list[str]
) -> Legend:
    handles: list[Artist] = [
        Line2D([], [], color=colours[name].colour, linestyle="", marker="o")
        if group["x"].nunique() == 1
        else Line2D([], [], color=colours[name].colour, linestyle=colours[name].dashes)
        for name, group in methods.items()
    ]
    counts = {name: group[group["y"].notna()].groupby("x", dropna=False).size() for name, group in methods.items()}
    texts = []
    for name, group in methods.items():
        few, many = (int(n) for n in (counts[name].min(), counts[name].max())) if len(counts[name]) else (0, 0)
        diverged = int(group["diverged"].sum())
        n = f"n={few}" + (f"–{many}" if many > few else "") + (f", {diverged} diverged" if diverged else "")
        texts.append(f"{name.replace('_', ' ')} ({n})")
    sentences = [band.words(), "n: runs per point"]
    if any(group["x"].isna().any() for group in methods.values()):
        sentences.append("Horizontal: methods without this hyper-parameter")
    if any(group["diverged"].any() for group in methods.values()):
        sentences.append("× k/n: k of n runs diverged, and are no part of the mean")
    if any(1 < count < FEW_RUNS for each in counts.values() for count in each):
        sentences.append(TOO_NARROW)
    title = readable(str(runs["benchmark"].iloc[0]))
    return Legend(title, handles, texts, ". ".join([*sentences, *notes]) + ".")
