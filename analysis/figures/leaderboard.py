"""Methods x benchmarks as a figure: a panel for each benchmark, and the score over all of them."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..errors import AnalysisError
from ..names.label import ordered
from ..statistics.curve_summary import SUMMARIES
from ..statistics.leaderboard import Leaderboard
from .comparison import ROW, WRAP
from .legend import Legend, fill, sentences
from .limits import span
from .style import SIZES, Look, Looks, StyleName, context, looks, readable

AXIS, HEAD = 5.0, 2.0  # lines of text below and above the rows


def leaderboard(
    board: Leaderboard,
    colours: Looks | None = None,
    *,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """A row per method, the best score on top: mean and interval on each benchmark, and the normalised score.

    Filled: the best and what is not distinguishable from it. notes: more sentences of the caption.
    """
    size, methods = SIZES[style], [str(name) for name in board.methods["method"]]
    chosen: Mapping[str, Look] = colours if colours is not None else looks(ordered(methods))
    names = list(dict.fromkeys(map(str, board.cells["benchmark"])))
    scored = bool(board.methods["score"].notna().any())
    panels = len(names) + scored
    with context(style):
        caption = [
            f"{board.band.words('bar')} of the {SUMMARIES[board.summary]}",
            "Filled: the best, and what is not distinguishable from it (paired t-test, Holm's correction)",
            *(["Score: 0 is the baseline, 1 the oracle; bar: resampled seeds"] if scored else []),
            *board.notes,
            *notes,
        ]
        legend = Legend("", [], [], sentences(caption))
        fig = legend.figure(size.width, (ROW * len(methods) + AXIS + HEAD) * size.row, style)
        axes = np.atleast_1d(fig.subplots(1, panels, sharey=True))
        for ax, name in zip(axes, names, strict=False):
            of = board.cells[board.cells["benchmark"] == name].set_index("method")
            drawn = []
            for row, method in enumerate(methods):
                if method not in of.index:
                    continue
                cell = of.loc[[method]].iloc[0]
                numbers = [float(cell[key]) for key in ("mean", "low", "high")]
                if not np.isnan(numbers[0]):
                    full = bool(cell["best"] or cell["level"])
                    _point(ax, row, numbers, chosen[method].colour, size.line, full=full)
                    drawn.append(numbers)
            ax.set_xlim(*span(*np.array(drawn).T))
            ax.set_title(fill(readable(name), 22), fontsize=size.small)
            ax.set_xlabel(fill(str(of["metric"].iloc[0]), 22))
        if scored:
            drawn = [[0.0, 0.0, 1.0]]
            for row, line in enumerate(board.methods.itertuples()):
                numbers = [float(getattr(line, key)) for key in ("score", "score_low", "score_high")]
                if not np.isnan(numbers[0]):
                    _point(axes[-1], row, numbers, chosen[methods[row]].colour, size.line, full=True)
                    drawn.append(numbers)
            for at in (0, 1):
                axes[-1].axvline(at, color="0.6", linewidth=0.6 * size.line, zorder=0)
            axes[-1].set_xlim(*span(*np.array(drawn).T))
            axes[-1].set_title("over all", fontsize=size.small)
            axes[-1].set_xlabel("normalised score")
        texts = [fill(colours.text(method) if colours is not None else method, WRAP) for method in methods]
        axes[0].set_yticks(range(len(methods)), texts)
        for ax in axes:
            ax.set_ylim(len(methods) - 0.5, -0.5)
            ax.tick_params(axis="y", length=0)
            ax.grid(visible=False, axis="y")
            ax.grid(visible=True, axis="x")
        return colours.typeset(fig) if colours is not None else fig


def _point(ax: Axes, row: int, numbers: Sequence[float], colour: str, line: float, *, full: bool) -> None:
    """numbers: estimate, low, high."""
    ax.hlines(row, numbers[1], numbers[2], color=colour, linewidth=1.5 * line)
    face = colour if full else "white"
    ax.plot(numbers[0], row, "o", color=colour, markerfacecolor=face, markersize=3.6 * line, zorder=3)


def cost(
    board: Leaderboard,
    colours: Looks | None = None,
    *,
    notes: Sequence[str] = (),
    style: StyleName = "paper",
) -> Figure:
    """A panel per benchmark: mean and interval of each method against what one of its runs takes of a core.

    notes: more sentences of the caption. Raises AnalysisError if of no method that is known.
    """
    size = SIZES[style]
    known = board.cells[board.cells["seconds"].notna() & board.cells["mean"].notna()]
    if known.empty:
        raise AnalysisError("no run says how long it took")
    methods = [str(name) for name in board.methods["method"] if str(name) in set(map(str, known["method"]))]
    numbers = {method: str(number) for number, method in enumerate(methods, 1)}  # there are more methods than colours
    chosen: Looks = colours if colours is not None else looks(ordered(methods))
    names = list(dict.fromkeys(map(str, known["benchmark"])))
    with context(style):
        handles: list[Artist] = [
            Line2D([], [], color=chosen[method].colour, marker="o", linestyle="") for method in methods
        ]
        caption = [
            f"{board.band.words('bar')} of the {SUMMARIES[board.summary]}",
            "Seconds: about what a run took of one core, shared with its pack",
            *notes,
        ]
        texts = [f"{numbers[method]} {chosen.text(method)}" for method in methods]
        legend = Legend("", handles, texts, sentences(caption))
        fig = legend.figure(size.width if len(names) > 1 else size.single, size.height, style)
        for ax, name in zip(np.atleast_1d(fig.subplots(1, len(names))), names, strict=True):
            of = known[known["benchmark"] == name]
            for row in of.to_dict("records"):
                look = chosen[str(row["method"])]
                ax.vlines(row["seconds"], row["low"], row["high"], color=look.colour, linewidth=1.2 * size.line)
                ax.plot(row["seconds"], row["mean"], "o", color=look.colour, markersize=3.6 * size.line)
                where, shift = (row["seconds"], row["mean"]), (2.5 * size.line, 0)
                ax.annotate(
                    numbers[str(row["method"])],
                    where,
                    shift,
                    textcoords="offset points",
                    va="center",
                    fontsize=size.small,
                )
            if of["seconds"].max() > 5 * of["seconds"].min():
                ax.set_xscale("log")
                ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                ax.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: f"{seconds:g}"))
                ax.xaxis.set_minor_formatter(NullFormatter())
            centre, low, high = (of[key].to_numpy(dtype=np.float64) for key in ("mean", "low", "high"))
            ax.set_ylim(*span(centre, low, high))
            ax.set_title(fill(readable(name), 30), fontsize=size.small)
            ax.set_xlabel("seconds of a core")
            ax.set_ylabel(str(of["metric"].iloc[0]))
        return chosen.typeset(fig)
