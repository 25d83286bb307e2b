"""Legend, title and caption: what a reader must know to judge the curves."""

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from ..names.naming import FORMULA
from ..names.seeds import seeds_of
from ..reading.frame import is_control
from ..reading.metric import begins
from ..statistics.aggregate import Curve
from ..statistics.band import DEFAULT, Band
from .curve import ends
from .place import figure_of
from .style import SIZES, Looks, StyleName, readable

# Widths in units of the font's size: a character on average; line sample and gaps of an entry.
CHARACTER, ENTRY = 0.56, 5.5


@dataclass(frozen=True)
class Legend:
    """texts: one per handle, with the number of runs. caption: how line and band were made."""

    title: str
    handles: list[Artist]
    texts: list[str]
    caption: str

    @classmethod
    def of(
        cls,
        curves: Mapping[str, Curve],
        runs: pd.DataFrame,
        looks: Looks,
        *more: str,
        others: Sequence[Mapping[str, Curve]] = (),
        band: Band = DEFAULT,
    ) -> "Legend":
        """Diverged runs are counted, also where a label has no curve left.

        more: sentences. others: the curves of further panels, of which the caption speaks, too.
        """
        diverged = runs.loc[runs["state"] == "diverged", "label"].value_counts()
        labels = looks.ordered([*curves, *map(str, diverged.index)])
        shown = [looks[name] for name in labels]
        handles: list[Artist] = [Line2D([], [], color=look.colour, linestyle=look.dashes) for look in shown]
        texts = [f"{looks.text(n)} ({count(curves.get(n), int(diverged.get(n, 0)))})" for n in labels]
        title = " / ".join(readable(str(name)) for name in sorted(runs["benchmark"].unique()))
        return cls(title, handles, texts, sentences([*_statistics([curves, *others], band), seeds_of(runs), *more]))

    def figure(self, width: float, height: float, style: StyleName) -> Figure:
        """A figure whose panels have width × height inches; title above, legend and caption below."""
        size = SIZES[style]
        em = size.small / 72
        room = int((width / em - ENTRY) / CHARACTER)
        texts = [fill(text, room, "    ") for text in self.texts]
        longest = max(map(len, self.texts), default=0) * CHARACTER * em + ENTRY * em
        rows = math.ceil(len(texts) / max(1, int(width / longest)))
        columns = math.ceil(len(texts) / max(1, rows))
        rows += sum(text.count("\n") for text in texts)  # texts are broken only where one column is all there is
        caption = fill(self.caption, int(width / (CHARACTER * em)))
        foot = (rows + caption.count("\n") + 1.7) * size.row
        whole = height + 2 * size.row + foot
        # The engine leaves room for a legend outside the axes, but would then put the caption on top of it.
        layout = ConstrainedLayoutEngine(rect=(0, foot / whole, 1, 1 - foot / whole))
        fig = Figure((width, whole), layout=layout)
        fig.suptitle(self.title, fontweight="bold")
        fig.text(
            0.5,
            0.3 * size.row / whole,
            caption,
            ha="center",
            va="bottom",
            color="#555555",
            fontsize=size.small - 0.5,
        )
        anchor = (0.5, foot / whole)
        fig.legend(self.handles, texts, loc="upper center", bbox_to_anchor=anchor, ncols=max(1, columns))
        return fig

    def grid(self, panels: int, style: StyleName, columns: int, sharey: bool = True) -> tuple[Figure, list[Axes]]:
        """A figure with so many panels, row by row, at most `columns` side by side."""
        size, columns = SIZES[style], min(panels, columns)
        rows = -(-panels // columns)
        width, share = (size.single, 1.0) if columns == 1 else (size.width, 0.85 if columns == 2 else 0.8)
        fig = self.figure(width, share * size.height * rows, style)
        axes = fig.subplots(rows, columns, sharey=sharey, squeeze=False).ravel().tolist()
        for unused in axes[panels:]:
            unused.remove()
        return fig, axes[:panels]

    def inside(self, ax: Axes) -> Figure:
        """For axes of the caller, whose figure has a layout of its own."""
        ax.legend(self.handles, self.texts)
        return figure_of(ax)


def sentences(parts: Iterable[str]) -> str:
    """Joined, each once; empty ones are none."""
    return ". ".join(dict.fromkeys(part.rstrip(".") for part in parts if part)) + "."


def fill(text: str, width: int, indent: str = "") -> str:
    """Lines of at most `width` characters; none is broken inside a formula."""
    formulas = FORMULA.findall(text)
    if not formulas:
        return textwrap.fill(text, width, subsequent_indent=indent)
    # A formula is about half as long as what was typed.
    solid = FORMULA.sub(lambda match: "\ue000" * max(1, len(match[0]) // 2), text)
    lines = textwrap.fill(solid, width, subsequent_indent=indent, break_long_words=False)
    return re.sub("\ue000+", lambda _: formulas.pop(0), lines)


def count(curve: Curve | None, diverged: int) -> str:
    """'n=30', 'n=5→3, 2 diverged': runs where most are, and at the end of the curve."""
    present = [int(n) for n in (curve.count() if curve is not None else []) if n]
    text = f"n={most(curve)}"
    if present and present[-1] < max(present):
        text += f"→{present[-1]}"
    if curve is not None and curve.started and not present:
        text += ", too few tasks for a point"
    return text + (f", {diverged} diverged" if diverged else "")


def since(tasks: pd.DataFrame, metric: str, looks: Looks) -> list[str]:
    """A sentence on a diagnostic that was not taken from the first task on."""
    found = begins(tasks, metric)
    row = "row" if is_control(tasks) else "task"
    if len(set(found.values())) == 1 and len(found) == tasks.loc[tasks[metric].notna(), "label"].nunique():
        return [f"Measured from {row} {next(iter(found.values()))} on"]
    each = [f"{looks.text(label)} from {row} {task} on" for label, task in found.items()]
    return [f"Measured: {', '.join(each)}"] if each else []


def most(curve: Curve | None) -> int:
    """Runs at the point that has most of them; without any point, those that have a value."""
    return (max(curve.count().tolist(), default=0) or curve.started) if curve is not None else 0


def _statistics(panels: Sequence[Mapping[str, Curve]], band: Band) -> list[str]:
    curves = [curve for panel in panels for curve in panel.values()]
    runs = sorted({int(n) for curve in curves for n in curve.count()})
    found = [band.words()]
    if 1 in runs:
        found[0] += " (none where n=1)"
    found += band.cautions(runs)
    if any(len(ends(curve)) for curve in curves):
        found.append("×: fewer runs from here on")
    if infinite := sum(curve.infinite for curve in curves):
        found.append(f"Infinite values are left out ({infinite})")
    return found
