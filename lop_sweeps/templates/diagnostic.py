"""My diagnostic, to begin with constant units: those that do about the same on every example."""

from __future__ import annotations

from dataclasses import dataclass

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, View, share


@dataclass(frozen=True)
class MyDiagnostic(Diagnostic):
    """Share of units whose standard deviation on the probe is at most `tolerance` of their mean |h|."""

    needs = frozenset({"activations"})  # of `lop_sweeps.diagnostics.diagnostic.NEEDS`
    # What it measures, as logs (by the first), figures and tables call it; or Value(...) for what is no share.
    values = (share("my_diagnostic", "layer", "Constant units", "share of units that hardly change on the probe"),)

    tolerance: float = 0.01  # an option; on the command line: diagnostics.my_diagnostic.tolerance=0.1

    def __post_init__(self) -> None:
        checks.number("tolerance", self.tolerance, 0.0)

    def measure(self, run: View) -> Measured:
        """Of one run before a task; for each hidden layer one number, as `values` says."""
        constant = [h.std(0) <= self.tolerance * h.abs().mean(0) for h in run.activations]  # h: (samples, units)
        return {"my_diagnostic": [float(units.double().mean()) for units in constant]}
