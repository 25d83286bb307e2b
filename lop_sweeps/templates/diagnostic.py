"""My diagnostic, to begin with the mean activation of each hidden layer."""

from __future__ import annotations

from dataclasses import dataclass

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View


@dataclass(frozen=True)
class MyDiagnostic(Diagnostic):
    """Fields are options; `every` (tasks between two measurements) is one of every diagnostic."""

    values = (Value("my_diagnostic", "layer", "Mean activation", "mean of h over units and examples"),)

    def measure(self, run: View) -> Measured:
        return {"my_diagnostic": [float(h.mean()) for h in run.activations]}

    # What a run shows is in docs/extending.md: activations, inputs, weights, initial_weights, gradients,
    # network() (a copy, to do anything with), memory, generator(purpose).
