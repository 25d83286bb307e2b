"""What a finished figure shows, as a reader sees it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import Bbox


def legend(fig: Figure) -> list[str]:
    return [text.get_text() for text in fig.legends[0].get_texts()]


def caption(fig: Figure) -> str:
    return max((text.get_text() for text in fig.texts), key=len).replace("\n", " ")


def ticks(axis_labels: Sequence[object]) -> list[str]:
    """Of `ax.get_yticklabels()`: the texts, on one line each."""
    return [label.get_text().replace("\n", " ") for label in axis_labels]  # type: ignore[attr-defined]


def points(line: Line2D) -> list[list[float]]:
    """(points, 2) as lists."""
    found: list[list[float]] = np.asarray(line.get_xydata(), dtype=np.float64).tolist()
    return found


def band(ax: Axes, index: int = 0) -> npt.NDArray[np.float64]:
    """(vertices, 2) of the axes' filled areas."""
    areas = [area for area in ax.collections if isinstance(area, PolyCollection)]
    return np.asarray(areas[index].get_paths()[0].vertices, dtype=np.float64)


def assert_readable(fig: Figure) -> None:
    """Title, panels, legend and caption lie inside the figure, in this order; neighbouring panels do not touch."""
    fig.draw_without_rendering()
    title = fig._suptitle.get_window_extent()  # type: ignore[attr-defined]
    text = max(fig.texts, key=lambda each: len(each.get_text())).get_window_extent()
    panels = [box for ax in fig.axes if (box := ax.get_tightbbox()) is not None]
    handles = [each.get_window_extent() for each in fig.legends if each.get_texts()]
    top, bottom = max(box.y1 for box in panels), min(box.y0 for box in panels)
    assert title.y0 >= top - 1, "the title lies on a panel"
    for box in handles:
        assert bottom >= box.y1 - 1, "a panel lies on the legend"
        assert box.y0 >= text.y1 - 1, "the legend lies on the caption"
    assert bottom >= text.y1 - 1, "a panel lies on the caption"
    for box in [title, text, *panels, *handles]:
        inside = box.x0 >= -1 and box.y0 >= -1 and box.x1 <= fig.bbox.x1 + 1 and box.y1 <= fig.bbox.y1 + 1
        assert inside, f"clipped: {box} in {fig.bbox}"
    for index, first in enumerate(panels):
        for second in panels[index + 1 :]:
            both = Bbox.intersection(first, second)
            assert both is None or min(both.width, both.height) <= 1, "panels overlap"
