"""Experiment sweeps for research on loss of plasticity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lop_sweeps import compiled_code

compiled_code.prepare()  # before anything imports numba, in every process: commands, workers, jobs, notebooks

__version__ = "0.1.0"
__all__ = ["__version__", "load_run"]

if TYPE_CHECKING:
    from lop_sweeps.sweeps.load_run import load_run


def __getattr__(name: str) -> Any:
    if name == "load_run":  # late, since it imports torch
        from lop_sweeps.sweeps.load_run import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
