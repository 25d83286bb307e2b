"""Churn: how much one update changes the outputs on inputs that it was not made for (Tang et al. 2025, 2506.00592)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View


def squared_churn(before: Tensor, after: Tensor) -> float:
    """Mean squared change of outputs (n, outputs)."""
    return float((after - before).double().square().mean())


def divergence(before: Tensor, after: Tensor) -> float:
    """Mean over n of KL(before || after) of the classes' probabilities, of outputs (n, classes)."""
    old, new = (F.log_softmax(outputs.double(), 1) for outputs in (before, after))
    return float((old.exp() * (old - new)).sum(1).mean())


@dataclass(frozen=True)
class Churn(Diagnostic):
    """Mean over `updates` updates, each of the same network, on mini-batches of the probe; on `examples` others of it.

    An update is one step of the run's optimiser with its state, without interventions and before gradients are cut.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"copy"})
    values = (
        Value("churn", "network", "Churn", "mean squared change of outputs on other examples by one update"),
        Value(
            "churn_kl",
            "network",
            "Churn, KL",
            "mean KL divergence of the classes' probabilities before from after the update",
        ),
    )

    updates: int = 8
    examples: int = 256

    def __post_init__(self) -> None:
        checks.integer("updates", self.updates, 1)
        checks.integer("examples", self.examples, 1)

    def measure(self, run: View) -> Measured:
        size = min(run.batch_size, len(run.inputs) // 2)
        if size < 1:
            return {}
        others = run.inputs[-min(int(self.examples), len(run.inputs) - size) :]
        updates = max(1, min(int(self.updates), (len(run.inputs) - len(others)) // size))
        with torch.no_grad():
            before = run.answers(run.network(), others)
            after = [run.answers(run.updated(slice(i * size, (i + 1) * size)), others) for i in range(updates)]
        found = {"churn": sum(squared_churn(before, new) for new in after) / updates}
        if run.classifies:
            found["churn_kl"] = sum(divergence(before, new) for new in after) / updates
        return found
