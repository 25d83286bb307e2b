"""Where a figure is drawn: on one of its own, or on the caller's axes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import AnalysisError

# One, several, or what `plt.subplots` returns.
Places = Axes | Sequence[Axes] | npt.NDArray[Any]


def places(axes: Places | None) -> list[Axes] | None:
    """The caller's axes as a list, row by row; None without any. Raises AnalysisError for an empty list."""
    if axes is None:
        return None
    found: list[Axes] = np.array(axes, dtype=object).ravel().tolist()
    if not found:
        raise AnalysisError("axes: an empty list holds none to draw on")
    if wrong := next((each for each in found if not isinstance(each, Axes)), None):
        raise AnalysisError(f"axes: {type(wrong).__name__} is no matplotlib Axes")
    return found


def fit(axes: Sequence[Axes], panels: int) -> None:
    """Raises AnalysisError for more axes than the figure has panels; on fewer come the first panels."""
    if len(axes) > panels:
        raise AnalysisError(f"{len(axes)} axes for {panels} panel{'s' * (panels > 1)}: give at most as many")


def figure_of(ax: Axes) -> Figure:
    """The figure of the caller's axes."""
    fig = ax.get_figure(root=True)
    assert fig is not None  # axes that were removed from their figure cannot be drawn on
    return fig
