"""Weights that get no gradient (skumar9876/L2_Init logs their share by layer)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, View, share


@dataclass(frozen=True)
class ZeroGradients(Diagnostic):
    """Share of each weight matrix whose gradient on the probe is exactly 0.

    An input that is 0 in every example counts, too: in the first matrix it is mostly of those.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    values = (
        share(
            "zero_gradient_fraction",
            "matrix",
            "Weights without gradient",
            "share of weights whose gradient of the mean loss is exactly 0",
        ),
    )

    def measure(self, run: View) -> Measured:
        gradients = [run.gradients[name] for name in run.weight_names]
        return {"zero_gradient_fraction": [float((gradient == 0).double().mean()) for gradient in gradients]}
