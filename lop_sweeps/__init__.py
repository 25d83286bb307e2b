"""Experiment sweeps for research on loss of plasticity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load_run"]

if TYPE_CHECKING:
    from lop_sweeps.sweep.execute import load_run


def __getattr__(name: str) -> Any:
    if name == "load_run":  # late, since it imports torch
        from lop_sweeps.sweep.execute import load_run

        return load_run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
