"""A pack whose layers are given, for diagnostics that look at activations only."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from lop_sweeps.diagnostics.measure import LayerSample
from lop_sweeps.diagnostics.rank import Rank
from lop_sweeps.diagnostics.units import Units


def measured(layers: Sequence[LayerSample], runs: int) -> list[dict[str, list[float]]]:
    """What the diagnostics of units and ranks say of each run."""
    pack: Any = SimpleNamespace(layers=layers, runs=[None] * runs)
    return [
        {**units, **ranks}  # type: ignore[dict-item]
        for units, ranks in zip(Units().measure_pack(pack), Rank().measure_pack(pack), strict=True)
    ]
