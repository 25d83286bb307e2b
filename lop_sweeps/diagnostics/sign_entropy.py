"""Unit sign entropy: how undecided a unit is about its sign (Lewandowski et al. 2024, arXiv 2410.20634, Def. 1).

Printed there with an expectation of the sign; the entropy of a binary variable is the form that works.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from lop_sweeps.diagnostics.diagnostic import Diagnostic, Measured, Value, View

CHUNK = 250  # examples that a copy looks at together


def binary_entropy(p: Tensor) -> Tensor:
    """-p ln p - (1 - p) ln(1 - p), in nats; 0 at 0 and 1."""
    return -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)


@dataclass(frozen=True)
class SignEntropy(Diagnostic):
    """Mean over a layer's units of the entropy of the sign of what goes into their activation, on the probe.

    By the activations: above what the activation makes of 0, the sign is positive. In a convolutional layer, at every
    position. Fourier and rational activations do not tell that sign; there it is the entropy of their own.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"copy"})
    values = (
        Value(
            "sign_entropy",
            "layer",
            "Unit sign entropy",
            "mean over units of -p ln p - (1 - p) ln(1 - p), p the share of the probe on which a unit is positive",
            "nats",
            weighted=True,
        ),
    )

    def measure(self, run: View) -> Measured:
        network = run.network()
        at_zero = network.at_zero
        counts: list[Tensor] = []
        total: list[int] = []
        with torch.no_grad():
            for inputs in run.inputs.split(CHUNK):
                layers = [h.flatten(2) if h.dim() > 2 else h.unsqueeze(2) for h in network(inputs)[1]]
                zeros = at_zero if isinstance(at_zero, Sequence) else [at_zero] * len(layers)
                positive = [(h > zero).sum((0, 2)).double() for h, zero in zip(layers, zeros, strict=True)]
                sizes = [h.shape[0] * h.shape[2] for h in layers]
                counts = [a + b for a, b in zip(counts, positive, strict=True)] if counts else positive
                total = [a + b for a, b in zip(total, sizes, strict=True)] if total else sizes
        return {
            "sign_entropy": [float(binary_entropy(c / n).mean()) for c, n in zip(counts, total, strict=True)],
        }
