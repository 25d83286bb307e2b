"""Gradients of single examples: parameters that none of them moves, and directions in which they do not differ.

The stricter pair of the GraMa authors' analysis (rippl-svg/grad-based-plasticity-metrics, a copy of their code).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, View, share
from lop_sweeps.diagnostics.example_gradients import example_gradients


def coverage(gradients: Tensor) -> tuple[float, float]:
    """Gradients (examples, parameters) -> the share of parameters that get none, and of the null space.

    Rows are scaled to length 1; a parameter gets none if the magnitudes in its column sum to less than 1e-8; singular
    values below 1e-5 of the largest count as null, over the number of examples.
    """
    rows = gradients.double()
    rows = rows / (rows.norm(dim=1, keepdim=True) + 1e-8)
    sigma = torch.linalg.svdvals(rows)
    zero = (rows.abs().sum(0) < 1e-8).double().mean()
    return float(zero), float((sigma < 1e-5 * sigma[0]).sum()) / len(rows)


@dataclass(frozen=True)
class GradientCoverage(Diagnostic):
    """Of the gradient of the sum of outputs, on `examples` of the probe, for `parameters` of each tensor.

    Parameters are drawn with replacement; a tensor with fewer is drawn from as often as it has.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"copy"})
    values = (
        share(
            "uncovered_fraction",
            "network",
            "Parameters without gradient on any example",
            "share of sampled parameters that get no gradient on any of the examples",
        ),
        share(
            "gradient_nullspace_fraction",
            "network",
            "Null space of examples' gradients",
            "share of singular values below 1e-5 of the largest",
        ),
    )

    examples: int = 64
    parameters: int = 100

    def __post_init__(self) -> None:
        checks.integer("examples", self.examples, 2)
        checks.integer("parameters", self.parameters, 1)

    def measure(self, run: View) -> Measured:
        network, draws = run.network(), run.generator("sampled parameters")
        chosen = [_draw(draws, p.numel(), self.parameters) for p in network.parameters()]
        rows = []
        for gradients in example_gradients(run, network, int(self.examples)):
            rows.append(torch.cat([g.flatten()[at.to(g.device)] for g, at in zip(gradients, chosen, strict=True)]))
        zero, null = coverage(torch.stack(rows))
        return {"uncovered_fraction": zero, "gradient_nullspace_fraction": null}


def _draw(draws: np.random.Generator, of: int, count: int) -> Tensor:
    chosen: NDArray[np.int64] = draws.integers(0, of, min(of, count))
    return torch.from_numpy(chosen)
