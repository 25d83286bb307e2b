"""Per-sample plasticity: how much of an example's loss one update on it removes (Elsayed & Mahmood 2024, UPGD)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import Diagnostic, StepView, share


def sample_plasticity(before: Tensor, after: Tensor) -> Tensor:
    """Losses of examples (runs, batch), before and after an update -> (runs,): mean share of them that is gone.

    1 - after / before, at least 0 and at most 1; losses below 1e-8 count as that.
    """
    return (1.0 - after.double() / before.double().clamp(min=1e-8)).clamp(0.0, 1.0).mean(1)


@dataclass(frozen=True)
class SamplePlasticity(Diagnostic):
    """Mean over the task of max(1 - L_after / L_before, 0) on the examples of each update. One more forward pass."""

    needs: ClassVar[frozenset[str]] = frozenset({"steps"})
    values = (
        share(
            "sample_plasticity",
            "network",
            "Sample plasticity",
            "share of an example's loss that the update on it removes, mean over the task",
        ),
    )

    def measure_step(self, step: StepView) -> Mapping[str, Tensor]:
        return {"sample_plasticity": sample_plasticity(step.losses_before, step.losses_after())}
