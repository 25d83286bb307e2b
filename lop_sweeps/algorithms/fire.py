"""FIRE: before a task, each weight matrix goes to the nearest one that keeps lengths (2026, arXiv 2602.08040)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention


@dataclass(frozen=True)
class FIRE(Intervention):
    """Before each task but the first, make the rows or columns of every weight matrix orthogonal and of one length.

    X = W / ||W||_F, then `iterations` times X <- 1.5 X - 0.5 X X^T X, which brings singular values to 1 and leaves
    singular vectors as they are; W <- X sqrt(outputs / inputs), divided by the number of kernel positions in a
    convolution, each of whose positions is a matrix of its own. The output layer is included; biases and normalisation
    stay. Directions whose singular value is below about 1e-2 of the norm do not reach 1 in 10 iterations, and those
    with none stay without, as in the authors' code (isaac7778/FIRE, commit c37a0ac). A matrix of zeros, which there
    gives no numbers, stays as it is.

    iterations: 0 leaves everything as it is. The authors begin every task with a new optimiser as well, which is a
    method of its own here, to be combined with.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"iterations"})

    iterations: int = 10

    def __post_init__(self) -> None:
        checks.integer("iterations", self.iterations, 0)

    def next_step(self, step: int) -> None:
        return None

    def pack(self, peers: Sequence[FIRE], learner: Learner) -> PackedFIRE:
        return PackedFIRE(peers, learner)


class PackedFIRE(PackedIntervention[FIRE]):
    """FIRE on a pack."""

    def before_task(self, run: int, task: int) -> None:
        iterations = int(self.options[run].iterations)
        if task == 0 or iterations == 0:
            return
        learner = self.learner
        for name in learner.weight_names:
            weight = learner.view(learner.parameters, name)[run]
            weight.copy_(isometric(weight, iterations))


def isometric(weight: Tensor, iterations: int) -> Tensor:
    """What FIRE makes of a weight (outputs, inputs, *kernel): at each kernel position, nearly a scaled isometry."""
    outputs, inputs = weight.shape[:2]
    positions = math.prod(weight.shape[2:])
    matrices = weight.reshape(outputs, inputs, positions).permute(2, 0, 1)
    found = orthogonal(matrices, iterations) * (math.sqrt(outputs / inputs) / positions)
    return found.permute(1, 2, 0).reshape(weight.shape)


def orthogonal(matrices: Tensor, iterations: int) -> Tensor:
    """Matrices (..., rows, columns) with singular values near 1, by so many iterations of Newton and Schulz."""
    wide = matrices.shape[-1] > matrices.shape[-2]
    x = matrices.mT if wide else matrices
    norm = x.square().sum((-2, -1), keepdim=True).sqrt()
    x = x / norm.masked_fill(norm == 0, 1.0)
    for _ in range(iterations):
        x = 1.5 * x - 0.5 * x @ (x.mT @ x)
    return x.mT if wide else x
