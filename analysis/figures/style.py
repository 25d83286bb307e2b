"""How figures look: sizes, fonts, and one colour per method wherever the method is drawn."""

import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import is_color_like, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter, MaxNLocator

from ..errors import AnalysisError
from ..names.label import ordered
from ..names.naming import FORMULA, Naming
from ..names.resolve import resolve
from .canvas import defaults

StyleName = Literal["paper", "notebook", "talk"]

# How a method is named in labels, most specific first (a combination with L2 is not L2), and its colour. Seven are
# those of Okabe & Ito (2008), made to be told apart with every kind of colour blindness, without their yellow,
# invisible on white; the others lie at least as far from them and from each other (test_style.py). Red is the
# baseline's, as in the figures of Nature 632.
METHODS: Mapping[str, tuple[str, str]] = {
    "continual backprop": (r"continual backprop|cbp", "#0072B2"),
    "redo": (r"redo", "#550055"),
    "shrink and perturb": (r"shrink and perturb", "#56B4E9"),
    "retrained network": (r"retrained( network)?|from scratch", "#000000"),
    "head resetting": (r"head resetting", "#CC79A7"),
    "batch norm": (r"batch norm", "#E69F00"),
    "layer norm": (r"layer norm", "#332288"),
    "online norm": (r"online norm", "#6B4400"),
    "dropout": (r"dropout", "#882255"),
    "l2": (r"l2", "#009E73"),
    "linear": (r"linear", "#99BB66"),
    "adam": (r"adamw?", "#7B68EE"),
    "backprop": (r"backprop|bp|baseline|standard|none", "#D55E00"),
}
# For labels that name no method: those of Okabe & Ito first, the baseline's last.
_FIRST = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
PALETTE = (*_FIRST, *(colour for _, colour in METHODS.values() if colour not in _FIRST))
# What may stand before a method's name and leave it that method. 'L2 Init' and 'soft L2' are methods of their own.
QUALIFIERS = "proper|plain|vanilla|standard|tuned|untuned|best|default|our|own|my|tanh|relu|leaky relu|small|large"
# Settings of one method that can still be told apart by shade and dashes.
SETTINGS = 6
# Curves with few points get markers: a curve of one point has no line.
MARKED_POINTS = 20


@dataclass(frozen=True)
class Look:
    """text: what the user calls the label; empty: its own name."""

    colour: str
    dashes: Any
    text: str = ""


class Looks(dict[str, Look]):
    """Label → look, in the order in which labels are drawn. naming: what the user wants, also of further labels."""

    def __init__(self, looks: Mapping[str, Look], naming: Naming) -> None:
        super().__init__(looks)
        self.naming = naming

    def ordered(self, labels: Iterable[str]) -> list[str]:
        known = set(labels)
        return [label for label in self if label in known]

    def text(self, label: str) -> str:
        look = self.get(label)
        return look.text if look is not None and look.text else label.replace("_", " ")

    def typeset(self, fig: Figure) -> Figure:
        """Formulas in what the user calls labels become formulas; those in all other names stay letters.

        Also on the caller's axes, whose titles may have been told otherwise.
        """
        names = {label: self.text(label) for label in self if "$" in self.text(label)}
        formulas = {formula for label in names for formula in FORMULA.findall(self[label].text)}
        either = re.compile("|".join([*map(re.escape, sorted(formulas, key=len, reverse=True)), r"(?<!\\)\$"]))
        for text in fig.findobj(Text) if names else ():
            assert isinstance(text, Text)
            shown = text.get_text().replace("\n", " ")
            if any(formula in shown for formula in formulas):
                text.set_text(either.sub(lambda found: found[0] if len(found[0]) > 1 else r"\$", text.get_text()))
                text.set_parse_math(True)
            elif any(name in shown for name in names.values()):
                text.set_parse_math(False)
        return fig


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


# Paper: 183 mm is a double column. Talk: a slide of 13.3 x 7.5 inches, read from the last row.
SIZES: Mapping[StyleName, Size] = {
    "paper": Size(width=7.2, single=4.6, height=2.7, font=8, line=1.2),
    "notebook": Size(width=11.0, single=7.0, height=4.2, font=12, line=1.8),
    "talk": Size(width=13.0, single=8.6, height=5.0, font=18, line=3.0),
}


def context(style: StyleName) -> AbstractContextManager[None]:
    return mpl.rc_context(settings(style))


def settings(style: StyleName) -> Any:
    """All of matplotlib's settings that a figure depends on: nothing is left to what the user has set."""
    size = SIZES[style]
    return {
        **defaults(),
        "font.family": "DejaVu Sans",  # comes with matplotlib: the same figure on every machine
        "font.size": size.font,
        "text.parse_math": False,  # names of variants are free: $\foo$ is no formula
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
        "axes.linewidth": 0.6 * size.line,
        "axes.formatter.useoffset": False,
        "grid.color": "#E3E3E3",
        "grid.linewidth": 0.5 * size.line,
        "xtick.major.width": 0.6 * size.line,
        "ytick.major.width": 0.6 * size.line,
        "lines.linewidth": size.line,
        "lines.markersize": 2.2 * size.line,
        "lines.markeredgewidth": 0.85 * size.line,
        "legend.frameon": False,
        "legend.handlelength": 2.2,
        "legend.columnspacing": 1.6,
        "figure.facecolor": "white",
        "savefig.facecolor": "white",
    }


def method(label: str) -> str | None:
    """The key of METHODS that a label names: 'backprop, optimizer=adam' is Adam, 'ReDo + L2' ReDo; None if it is none.

    Values of hyper-parameters are not searched: 'dropout=0' is not dropout. Each part of a combination has to be a
    method's whole name: 'L2 Init' is a method of its own, which is not here.
    """
    base, *settings = re.sub(r"[-_\s]+", " ", label.lower().replace("shrink & perturb", "shrink and perturb")).split(
        ", "
    )
    combined = [part.strip() for part in re.split(r"[+&]|\band\b(?! perturb)|\bwith\b", base)]
    chosen = [part.partition("=")[2] or part for part in settings if re.match("network=|optimizer=|[^=]+$", part)]
    known = {part: _method(part) for part in (*combined, *chosen)}
    found = next((name for name in METHODS if name in known.values()), None)
    return None if found == "backprop" and any(known[part] is None for part in combined) else found


def _method(name: str) -> str | None:
    """Of one part of a combination; numbers and what is in brackets may follow."""
    pattern = r"(?:(?:{}) )*(?:{})(?: [\d.e+ -]+%?| \(.*\))*"
    return next(
        (of for of, (words, _) in METHODS.items() if re.fullmatch(pattern.format(QUALIFIERS, words), name)), None
    )


def family(label: str) -> str:
    """What has one colour: the method that a label names, else its name without the settings."""
    return method(label) or label.split(", ")[0].replace("_", " ").casefold()


def looks(labels: Iterable[str], naming: Naming | None = None) -> Looks:
    """Label → look, baselines first. Make it once from all labels of a sweep, and pass it to every figure.

    A method has its own colour in every sweep. Up to six settings of one are shades of it, dark to light, with dashes;
    more get colours that no method of the sweep has. So do methods that are not this project's, as long as there are
    colours. naming: order, texts and colours that the user wants instead; AnalysisError for a colour that is none, and
    for a formula that matplotlib cannot read.
    """
    naming = naming or Naming()
    names = naming.ordered(labels)
    given = {name: _colour(colour) for name, colour in naming.colours.items()}
    families: dict[str, list[str]] = {}
    for label in ordered(names):
        families.setdefault(family(label), []).append(label)
    small = {name: members for name, members in families.items() if len(members) <= SETTINGS}
    colours = {name: METHODS[name][1] for name in small if name in METHODS}
    free = [colour for colour in PALETTE if colour not in {*colours.values(), *given.values()}]
    strangers = [name for name in small if name not in METHODS]
    if len(strangers) <= len(free):
        colours |= dict(zip(strangers, free, strict=False))
        free = free[len(strangers) :]
    own = {label: look for name, colour in colours.items() for label, look in _family(families[name], colour).items()}
    rest = [label for label in ordered(names) if label not in own]
    # A sweep of all methods leaves no colour: then dashes that no family comes to.
    first, free = (0, free) if free else (SETTINGS, list(PALETTE))
    own |= {label: Look(free[i % len(free)], dashes(first + i // len(free))) for i, label in enumerate(rest)}
    for name, colour in given.items():
        own |= _family(resolve(name, names), colour)
    texts = naming.given(names)
    for text in texts.values():
        _check_formulas(text)
    return Looks({label: replace(own[label], text=texts.get(label, "")) for label in names}, naming)


def _family(labels: Sequence[str], colour: str) -> dict[str, Look]:
    shades = _shades(colour, len(labels))
    return {label: Look(shade, dashes(i)) for i, (label, shade) in enumerate(zip(labels, shades, strict=True))}


def _colour(text: str) -> str:
    if not is_color_like(text):
        raise AnalysisError(f"{text!r} is no colour; possible: a name (tab:blue, black) or #RRGGBB")
    return str(to_hex(text)).upper()


def _check_formulas(text: str) -> None:
    for formula in FORMULA.findall(text):
        try:
            MathTextParser("path").parse(formula)
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise AnalysisError(f"{formula} is no formula that can be drawn: {reason}") from error


def dashes(index: int) -> Any:
    """0: a solid line, 1: dashes, 2: dots, then a dash with one dot, two dots, …: each differs from all others."""
    simple = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
    return simple[index] if index < len(simple) else (0, (5, 1.5) + (1, 1.5) * (index - len(simple) + 1))


def _shades(colour: str, count: int) -> list[str]:
    """Half way from black to half way to white; one alone is the colour itself, as is the middle one."""
    mixed = []
    for place in np.linspace(-1, 1, count) if count > 1 else (0.0,):
        channels = [channel * (1 - 0.5 * abs(place)) + 0.5 * max(place, 0.0) for channel in to_rgb(colour)]
        mixed.append(to_hex((channels[0], channels[1], channels[2])).upper())
    return mixed


def looks_of(runs: pd.DataFrame, given: Mapping[str, Look] | None) -> Looks:
    """The looks of all labels of a frame of runs; `given` ones come first, in their order."""
    naming = given.naming if isinstance(given, Looks) else Naming()
    labels = list(map(str, runs["label"].unique()))
    made = looks(labels, naming)
    if not given:
        return made
    order = list(given) if set(labels) <= set(given) else naming.ordered({*labels, *given})
    return Looks({label: given[label] if label in given else made[label] for label in order}, naming)


def readable(name: str) -> str:
    """'permuted_mnist' → 'Permuted MNIST': a configuration name as a title."""
    proper = {"mnist": "MNIST", "cifar": "CIFAR", "imagenet": "ImageNet", "cifar100": "CIFAR-100"}
    words = [proper.get(word.lower(), word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


class Powers(LogFormatter):
    """Labels of a logarithmic axis where matplotlib puts them, as letters instead of formulas: 0.001, 10¹²."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        if not super().__call__(x, pos):
            return ""
        if 1e-3 <= x < 1e4:
            return f"{x:g}"
        digits, _, power = f"{x:e}".partition("e")
        raised = "10" + str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return raised if float(digits) == 1 else f"{float(digits):g}·{raised}"


def logarithmic(ax: Axes) -> None:
    """Make the vertical axis logarithmic."""
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter(Powers())
    ax.yaxis.set_minor_formatter(Powers())


def count_axis(ax: Axes, largest: float) -> None:
    """Whole numbers, written short: 800, 20k, 1.5M."""
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    power, suffix = (6, "M") if largest >= 1e6 else (3, "k") if largest >= 2e4 else (0, "")
    ax.xaxis.set_major_formatter(lambda value, _: f"{value / 10**power:g}{suffix if value else ''}")
