"""The empirical neural tangent kernel on the probe (Lyle et al. 2024, arXiv 2402.18762)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View
from lop_sweeps.diagnostics.example_gradients import example_gradients
from lop_sweeps.diagnostics.rank import effective_rank, srank99

AT_ONCE = 2**26  # numbers of gradients that are kept together
COLUMNS = 2**16  # of them that are multiplied together, in float64


def kernel(run: View, examples: int, outputs: int | None = None) -> Tensor:
    """K = J J^T (examples, examples), float64; row i of J is the gradient of the sum of outputs on example i.

    Where J is too large, in blocks of rows, some of which are then computed several times.
    """
    network = run.network()
    examples = min(examples, len(run.inputs))
    rows = max(1, AT_ONCE // sum(p.numel() for p in network.parameters()))

    def block(start: int) -> Tensor:
        stop = min(start + rows, examples)
        found = example_gradients(run, network, stop, start, outputs)
        return torch.stack([torch.cat([g.flatten() for g in gradients]) for gradients in found])

    k = torch.empty(examples, examples, dtype=torch.float64)
    for first in range(0, examples, rows):
        j = block(first)
        for second in range(first, examples, rows):
            part = _product(j, j if first == second else block(second)).cpu()
            k[first : first + rows, second : second + rows] = part
            k[second : second + rows, first : first + rows] = part.T
    return k


def _product(a: Tensor, b: Tensor) -> Tensor:
    """a b^T of matrices with many columns, in float64."""
    product = torch.zeros(len(a), len(b), dtype=torch.float64, device=a.device)
    for one, other in zip(a.split(COLUMNS, 1), b.split(COLUMNS, 1), strict=True):
        product += one.double() @ other.double().T
    return product


def eigenvalues(k: Tensor) -> Tensor:
    """Of a kernel, descending; rounding makes none of them negative."""
    found: Tensor = torch.linalg.eigvalsh(k)
    return found.flip(0).clamp(min=0.0)


def condition(values: Tensor) -> float:
    """The largest of descending eigenvalues over the smallest that is above 1e-12 (as in gracebml/LoP-NeurIPS)."""
    above = values[values > 1e-12]
    return float(above[0] / above[-1]) if len(above) else float("nan")


@dataclass(frozen=True)
class NeuralTangentKernel(Diagnostic):
    """Effective rank, srank and condition number of K = J J^T on the first `examples` of the probe.

    outputs: the sum of how many of the outputs is looked at, from the first on; None = all.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"copy"})
    values = (
        Value(
            "ntk_effective_rank",
            "network",
            "Effective rank of the NTK",
            "exp(entropy of the normalised roots of the kernel's eigenvalues)",
        ),
        Value("ntk_srank99", "network", "srank of the NTK", "roots of the eigenvalues that hold 99 % of their sum"),
        Value(
            "ntk_condition",
            "network",
            "Condition number of the NTK",
            "largest eigenvalue over the smallest above 1e-12",
        ),
        Value(
            "ntk_coherence",
            "network",
            "Coherence of the NTK",
            "mean magnitude off the kernel's diagonal over the diagonal's mean",
        ),
    )

    every: int = field(default=10, kw_only=True)
    examples: int = 64
    outputs: int | None = None

    def __post_init__(self) -> None:
        checks.integer("examples", self.examples, 2)
        if self.outputs is not None:
            checks.integer("outputs", self.outputs, 1)

    def measure(self, run: View) -> Measured:
        k = kernel(run, int(self.examples), self.outputs)
        if not bool(torch.isfinite(k).all()):
            return {}
        values, diagonal, size = eigenvalues(k), k.diagonal().sum(), len(k)
        off = (k.abs().sum() - diagonal) / (size * (size - 1))
        return {
            "ntk_effective_rank": float(effective_rank(values.sqrt())),
            "ntk_srank99": float(srank99(values.sqrt())),
            "ntk_condition": condition(values),
            "ntk_coherence": float(off / (diagonal / size)) if diagonal > 0 else float("nan"),
        }
