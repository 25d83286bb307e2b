"""Experiment sweeps for research on loss of plasticity.

From Python: `compose`, `run`, `sweep` do what `lop` does, `load` reads what they left, `load_run` gives a network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lop_sweeps import compiled_code
from lop_sweeps.errors import ConfigError, LopError

compiled_code.prepare()  # before anything imports numba, in every process: commands, workers, jobs, notebooks

__version__ = "0.1.0"
__all__ = ["ConfigError", "LopError", "__version__", "compose", "load", "load_run", "run", "sweep"]

if TYPE_CHECKING:
    from lop_sweeps.analysis.reading.load import load
    from lop_sweeps.sweeps.from_python import compose, run, sweep
    from lop_sweeps.sweeps.load_run import load_run

# Late, since they import torch, Hydra or pandas.
_PLACES = {
    **dict.fromkeys(("compose", "run", "sweep"), "lop_sweeps.sweeps.from_python"),
    "load": "lop_sweeps.analysis.reading.load",
    "load_run": "lop_sweeps.sweeps.load_run",
}


def __getattr__(name: str) -> Any:
    if name in _PLACES:
        return getattr(import_module(_PLACES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
