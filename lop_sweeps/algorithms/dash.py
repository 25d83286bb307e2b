"""DASH: before a task, weights shrink that do not point where its gradient does (2024, arXiv 2410.23495)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention


@dataclass(frozen=True)
class DASH(Intervention):
    """Before each task but the first, shrink weights by how far they point against the gradient of the task to come.

    The network, unchanged, goes once through the task's data: v <- (1 - alpha) v - alpha g, with g the gradient of each
    mini-batch's loss. Then w <- w clip(cos(v, w), minimum, 1), separately for each row of a matrix, for each pair of
    channels in a convolution, and for each layer's bias as a whole; the output layer is included, normalisation stays.
    Norms in the cosine are bounded below by 1e-8. As in FIRE's port of it (isaac7778/FIRE, commit c37a0ac).

    alpha: of the average. minimum: the least that is left of a weight, lambda in the paper; 1: nothing shrinks.
    samples: the pass ends after so many examples of the task; None: in training by epochs the whole training set,
        without augmentation, online its first 2,000 examples.
    batch_size: of the pass. It is made as the protocol's diagnostics look at the network: with running statistics of
        normalisation, but for class-incremental CIFAR-100.

    It is meant for data that arrive in chunks, not for tasks that contradict each other.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"alpha", "minimum", "samples", "batch_size"})
    needs: ClassVar[frozenset[str]] = frozenset({"task_data"})

    alpha: float = 0.3
    minimum: float = 0.3
    samples: int | None = None
    batch_size: int = 128

    def __post_init__(self) -> None:
        checks.number("alpha", self.alpha, 0.0, 1.0, above=True)
        checks.number("minimum", self.minimum, 0.0, 1.0)
        if self.samples is not None:
            checks.integer("samples", self.samples, 1)
        checks.integer("batch_size", self.batch_size, 1)

    def next_step(self, step: int) -> None:
        return None

    def pack(self, peers: Sequence[DASH], learner: Learner) -> PackedDASH:
        return PackedDASH(peers, learner)


class PackedDASH(PackedIntervention[DASH]):
    """DASH on a pack, one run after another: what they are to learn next differs."""

    def before_task(self, run: int, task: int) -> None:
        if task == 0:
            return
        learner, options = self.learner, self.options[run]
        average = torch.zeros_like(learner.parameters[:1])
        for x, y in self._batches(run):
            average.mul_(1 - options.alpha).sub_(learner.gradient_of(x, y, run), alpha=options.alpha)
        for weight in learner.weight_names:
            for name in (weight, weight.removesuffix("weight") + "bias"):
                if name in learner.parameter_names:
                    value = learner.view(learner.parameters, name)[run]
                    value.copy_(shrunk(value, learner.view(average, name)[0], options.minimum))

    def _batches(self, run: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Inputs (1, batch, inputs) and targets (1, batch, ...) of the task to come."""
        batch_size = int(self.options[run].batch_size)
        for x, y in self.learner.task_data(run, self.options[run].samples):
            for start, stop in pairwise([*range(0, len(x), batch_size), len(x)]):
                yield x[None, start:stop], y[None, start:stop]


def shrunk(weight: Tensor, direction: Tensor, minimum: float) -> Tensor:
    """weight times clip(cos(direction, weight), minimum, 1), each row or kernel by itself; a vector is one."""
    of = (len(weight), -1) if weight.dim() == 2 else (*weight.shape[:2], -1) if weight.dim() > 2 else (1, -1)
    rows = weight.reshape(of)
    factors = F.cosine_similarity(direction.reshape(of), rows, dim=-1, eps=1e-8).clamp(minimum, 1)
    return (rows * factors.unsqueeze(-1)).reshape(weight.shape)
