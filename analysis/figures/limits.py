"""How far axes go: they follow the means, and what the user asks for goes before."""

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import AnalysisError

# Low, high; None: as it is.
Limits = Mapping[str, tuple[float | None, float | None]]
# The name of horizontal axes over tasks, whatever they count.
COURSE = "task"
# Of axes that show how much a method differs from the baseline.
DIFFERENCE = "difference"
# Share of the axis that stays empty at each end.
MARGIN = 0.05
OVER = " over "

FloatArray = npt.NDArray[np.float64]


def mark(ax: Axes, y: str, x: str = "") -> None:
    """Note in the axes' label, which nobody sees, which quantities they show: `limit` finds them by it."""
    ax.set_label(f"{y}{OVER}{x}")


def limit(fig: Figure, limits: Limits) -> set[str]:
    """Set the limits of all axes of `fig` that show a quantity of `limits`; the names that were found."""
    found = set()
    for ax in fig.axes:
        y, _, x = str(ax.get_label()).partition(OVER)
        for name, (low, high) in limits.items():
            if name == y:
                ax.set_ylim(low, high)
                found.add(name)
            if name == x:
                ax.set_xlim(low, high)
                found.add(name)
    return found


def parse(texts: Iterable[str]) -> Limits:
    """'accuracy=60:95', 'task=:100' → limits by name; AnalysisError for anything else."""
    found: dict[str, tuple[float | None, float | None]] = {}
    for text in texts:
        name, _, span = text.rpartition("=")
        ends = span.split(":")
        try:
            low, high = (float(end) if end.strip() else None for end in ends)
            if not name or (low is None and high is None) or not np.isfinite([low or 0, high or 0]).all():
                raise ValueError
        except ValueError:
            raise AnalysisError(
                f"--limits {text!r}: must be METRIC=LOW:HIGH in the unit that is drawn, or {COURSE}=LOW:HIGH; one end "
                "may be left out"
            ) from None
        if low is not None and high is not None and low >= high:
            raise AnalysisError(f"--limits {text!r}: the lower end must be below the higher one")
        found[re.sub(r"^(examples|steps)$", COURSE, name.strip())] = (low, high)
    return found


def span(
    centres: Sequence[float] | FloatArray, low: FloatArray, high: FloatArray, log: bool = False
) -> tuple[float, float]:
    """Where an axis begins and ends: with all means, and with intervals as far as they do not squash the means.

    centres: of all curves, any shape; low, high: of intervals, one shape. An interval is shown up to a distance from
    the means that is their own span or, if that is more, a usual interval's width. log: the axis is logarithmic.
    """
    turn = np.log10 if log else np.asarray

    def known(values: npt.ArrayLike) -> FloatArray:
        array = np.asarray(values, dtype=np.float64).ravel()
        return np.asarray(turn(array[np.isfinite(array) & ((array > 0) | (not log))]), dtype=np.float64)

    means, lows, highs = known(centres), known(low), known(high)
    if not means.size:
        return (0.1, 1.0) if log else (0.0, 1.0)
    width = np.asarray(high, dtype=np.float64) - np.asarray(low, dtype=np.float64)
    usual = float(np.nanmedian(width)) if not log and np.isfinite(width).any() else 0.0
    room = max(float(np.ptp(means)), usual, 1e-12)
    bottom = max(min([*means, *lows]), means.min() - room)
    top = min(max([*means, *highs]), means.max() + room)
    margin = MARGIN * (top - bottom) or MARGIN * (abs(top) or 1.0)
    bottom, top = bottom - margin, top + margin
    return (float(10**bottom), float(10**top)) if log else (float(bottom), float(top))
