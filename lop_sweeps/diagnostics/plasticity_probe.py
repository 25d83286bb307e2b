"""The plasticity probe: how well a copy of the network learns something that the stream never shows.

Direct, where other measures are signs of it (Lyle et al. 2023, arXiv 2303.01486: target-fitting loss; in 2606.24752 the
only measure that told when plasticity was lost).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from lop_sweeps import checks
from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, PackView, Value

LAST = 50  # updates at the end


@dataclass(frozen=True)
class PlasticityProbe(Diagnostic):
    """A copy and a freshly drawn network train for `updates` updates, or as many as a task has, and are discarded.

    With a new optimiser of the run's kind, in its mini-batch size, without interventions, on task -1 of the benchmark;
    in control on random targets for the states of the rollout. Losses are those before each update.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"copy"})
    values = (
        Value("probe_loss_ratio", "network", "Probe loss over a fresh network's", "probe_loss / probe_loss_fresh"),
        Value("probe_loss", "network", "Probe loss", "mean loss of a copy of the network over its updates on task -1"),
        Value("probe_loss_fresh", "network", "Probe loss, fresh network", "the same of a freshly drawn network"),
        Value(
            "probe_final_loss", "network", "Probe loss, last updates", f"mean loss of the copy's last {LAST} updates"
        ),
        Value(
            "probe_final_loss_fresh",
            "network",
            "Probe loss, fresh network, last updates",
            f"mean loss of the fresh network's last {LAST} updates",
        ),
    )

    every: int = field(default=10, kw_only=True)
    updates: int = 500

    def __post_init__(self) -> None:
        checks.integer("updates", self.updates, 1)

    def measure_pack(self, pack: PackView) -> Sequence[Measured]:
        both = [losses.double() for losses in pack.trial(int(self.updates))]
        means = [losses.mean(0).tolist() for losses in both]
        ends = [losses[-LAST:].mean(0).tolist() for losses in both]
        return [
            {
                "probe_loss_ratio": loss / fresh if fresh else float("nan"),
                "probe_loss": loss,
                "probe_loss_fresh": fresh,
                "probe_final_loss": end,
                "probe_final_loss_fresh": fresh_end,
            }
            for loss, fresh, end, fresh_end in zip(*means, *ends, strict=True)
        ]
