"""Deaths and revivals of units: the flow beside the stock of dead units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View
from lop_sweeps.diagnostics.units import is_dead


@dataclass(frozen=True)
class Deaths(Diagnostic):
    """How many units died and came back since it was last taken: dead now = dead before + died - revived.

    Nothing where it is taken for the first time. It remembers which units were dead, a mask for each hidden layer.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"activations"})
    values = (
        Value("died_units", "layer", "Units that died", "units that are dead now and were not before", "units"),
        Value("revived_units", "layer", "Units no longer dead", "units that were dead before and are not now", "units"),
    )

    def measure(self, run: View) -> Measured:
        now = {str(layer): is_dead(units).cpu() for layer, units in enumerate(run.statistics)}
        before = dict(run.memory)
        run.memory.update(now)
        if not before:
            return {}
        return {
            "died_units": [int((now[layer] & ~before[layer]).sum()) for layer in now],
            "revived_units": [int((before[layer] & ~now[layer]).sum()) for layer in now],
        }
