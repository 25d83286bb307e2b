"""How figures look: sizes, fonts, and one colour per label wherever the label is drawn."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..label import ordered

StyleName = Literal["paper", "notebook"]

# Okabe & Ito (2008): told apart with every kind of colour blindness. Without their yellow, invisible on white.
# The first is the baseline's: red as in the paper's figures.
PALETTE = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
# Curves with few points get markers: a curve of one point has no line.
MARKED_POINTS = 20


@dataclass(frozen=True)
class Look:
    colour: str
    dashes: Any


@dataclass(frozen=True)
class Size:
    """Inches and points. width: of a figure with two panels; single: of one with one panel."""

    width: float
    single: float
    height: float
    font: float
    line: float

    @property
    def small(self) -> float:
        return self.font - 1

    @property
    def row(self) -> float:
        """Height in inches of one line of small text."""
        return self.small * 1.6 / 72


# Paper: 183 mm is a double column.
SIZES: Mapping[StyleName, Size] = {
    "paper": Size(width=7.2, single=4.6, height=2.7, font=8, line=1.2),
    "notebook": Size(width=11.0, single=7.0, height=4.2, font=12, line=1.8),
}


def context(style: StyleName) -> AbstractContextManager[None]:
    size = SIZES[style]
    return mpl.rc_context(
        {
            "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
            "font.size": size.font,
            "axes.titlesize": size.font,
            "axes.labelsize": size.font,
            "figure.titlesize": size.font + 2,
            "xtick.labelsize": size.small,
            "ytick.labelsize": size.small,
            "legend.fontsize": size.small,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.grid.axis": "y",
            "axes.axisbelow": True,
            "axes.linewidth": 0.7,
            "axes.formatter.useoffset": False,
            "grid.color": "#E3E3E3",
            "grid.linewidth": 0.6,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "lines.linewidth": size.line,
            "lines.markersize": 2.2 * size.line,
            "legend.frameon": False,
            "legend.handlelength": 2.2,
            "legend.columnspacing": 1.6,
            "figure.facecolor": "white",
            "savefig.facecolor": "white",
        }
    )


def looks(labels: Iterable[str]) -> dict[str, Look]:
    """Label → look, baselines first. Make it once from all labels of a sweep, and pass it to every figure."""
    return {
        label: Look(PALETTE[i % len(PALETTE)], DASHES[i // len(PALETTE) % len(DASHES)])
        for i, label in enumerate(ordered(labels))
    }


def looks_of(runs: pd.DataFrame, given: Mapping[str, Look] | None) -> dict[str, Look]:
    """The looks of all labels of a frame of runs; `given` ones come first."""
    return looks(runs["label"].unique()) | dict(given or {})


def readable(name: str) -> str:
    """'permuted_mnist' → 'Permuted MNIST': a configuration name as a title."""
    proper = {"mnist": "MNIST", "cifar": "CIFAR", "imagenet": "ImageNet", "cifar100": "CIFAR-100"}
    words = [proper.get(word.lower(), word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def count_axis(ax: Axes, largest: float) -> None:
    """Whole numbers, written short: 800, 20k, 1.5M."""
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    power, suffix = (6, "M") if largest >= 1e6 else (3, "k") if largest >= 2e4 else (0, "")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 10**power:g}{suffix if value else ''}")
