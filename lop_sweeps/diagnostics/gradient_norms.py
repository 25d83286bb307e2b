"""Norms of the gradient of the mean loss on the probe; L1 and L2, as 2411.04832 recommends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View


@dataclass(frozen=True)
class GradientNorms(Diagnostic):
    """L2 and L1 norm of the gradient with respect to each weight matrix."""

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})
    values = (
        Value("gradient_norm", "matrix", "Gradient norm", "L2 norm of the gradient of the mean loss on the probe"),
        Value("gradient_norm_l1", "matrix", "Gradient norm, L1", "L1 norm of the same gradient"),
    )

    def measure(self, run: View) -> Measured:
        gradients = [run.gradients[name].double() for name in run.weight_names]
        return {
            "gradient_norm": [float(gradient.norm()) for gradient in gradients],
            "gradient_norm_l1": [float(gradient.abs().sum()) for gradient in gradients],
        }
