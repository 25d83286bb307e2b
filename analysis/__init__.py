"""From the files a sweep leaves behind to figures and tables with honest error bars.

    from lop_sweeps.analysis import load
    from lop_sweeps.analysis.figures.performance import performance

    sweep = load("sweeps/permuted_mnist_small")
    performance(sweep.tasks, sweep.runs)

names ← reading ← statistics ← figures, tables, page ← report: each room uses those before it. It reads files only and
imports nothing of the training code, so that a sweep copied to a laptop can be analysed without torch. What is handed
on here is imported when it is asked for: pandas with the first frame, matplotlib with the first figure.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import AnalysisError
    from .names.naming import Naming
    from .names.quantity import Quantity, quantity
    from .reading.load import Sweep, load
    from .report import Options, make
    from .statistics.aggregate import Curve, curves
    from .statistics.band import Band
    from .statistics.comparison import compare
    from .statistics.curve_summary import per_run
    from .statistics.selection import Selection, select

__all__ = [
    "AnalysisError",
    "Band",
    "Curve",
    "Naming",
    "Options",
    "Quantity",
    "Selection",
    "Sweep",
    "compare",
    "curves",
    "load",
    "make",
    "per_run",
    "quantity",
    "select",
]

_HOMES = {
    "errors": ("AnalysisError",),
    "names.naming": ("Naming",),
    "names.quantity": ("Quantity", "quantity"),
    "reading.load": ("Sweep", "load"),
    "report": ("Options", "make"),
    "statistics.aggregate": ("Curve", "curves"),
    "statistics.band": ("Band",),
    "statistics.comparison": ("compare",),
    "statistics.curve_summary": ("per_run",),
    "statistics.selection": ("Selection", "select"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
