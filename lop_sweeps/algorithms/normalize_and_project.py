"""Normalize-and-project, NaP (Lyle et al. 2024, arXiv 2407.01800)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms import matrices
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network


@dataclass(frozen=True)
class NormalizeAndProject(Intervention):
    """In a network with normalisation, put each weight matrix back to the length that it began with, update by update.

    W <- W ||W_0|| / ||W||, Frobenius norms; a matrix of zeros stays. With a normalisation behind it, a matrix's length
    does not change what the network computes, but its growth is a decay of the step size that nobody asked for. So
    every hidden layer must have a normalisation with a scale: a network without is refused, since there a projection
    takes away what the network can compute, and is no NaP. `algorithm=normalize_and_project` sets
    `network.norm=layer`.
    period: updates between projections (1 or 1,000 made no difference in the paper).
    output: also the output layers (the paper leaves them free).
    drop_biases: biases directly before a normalisation are set to 0, whose own shift makes them redundant; not where
        the activation lies between them (`network.norm_after`).
    scale_offset: project: scale and shift of each normalisation together are put back to their initial length.
        regularise: the gradient gets strength * (their distance from 1 and 0) instead, at each step. free: neither.

    There is no strength at which NaP does nothing; `until_task` ends it. Convolutions of shortcuts are projected, too.
    The optimiser's state stays as it is. No code of the authors was found. (Plasticine's puts one normalisation behind
    the last layer, and the pair of scale and shift to length sqrt(2) whatever their number.)
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"strength"})

    period: int = 1
    output: bool = False
    drop_biases: bool = True
    scale_offset: str = "project"
    strength: float = 1e-3

    def __post_init__(self) -> None:
        checks.integer("period", self.period, 1)
        checks.flag("output", self.output)
        checks.flag("drop_biases", self.drop_biases)
        checks.choice("scale_offset", self.scale_offset, ("project", "regularise", "free"))
        checks.number("strength", self.strength, 0.0)

    def check(self, network: Network) -> None:
        graph, scales = network.unit_graph(), {scale.weight for scale in matrices.scales(network)}
        if not graph:
            raise ConfigError("", None, "needs a network with hidden layers, such as network=mlp")
        if not all(scales & {name for name, _ in layer.norm} for layer in graph):
            allowed = "projects networks in which each hidden layer is normalised: set network.norm=layer, say"
            raise ConfigError("", None, allowed)

    def next_step(self, step: int) -> int:
        return step if self.scale_offset == "regularise" else every(int(self.period), step)

    def pack(self, peers: Sequence[NormalizeAndProject], learner: Learner) -> PackedNormalizeAndProject:
        return PackedNormalizeAndProject(peers, learner)


class PackedNormalizeAndProject(PackedIntervention[NormalizeAndProject]):
    """NaP on a pack."""

    def __init__(self, runs: Sequence[NormalizeAndProject], learner: Learner) -> None:
        super().__init__(runs, learner)
        first = runs[0]
        self.period, self.strength = int(first.period), self.per_run("strength")
        groups = [(name,) for name in matrices.weights(learner, output=first.output)]
        affine = [tuple(name for name in scale if name is not None) for scale in matrices.scales(learner.network)]
        self.groups: list[tuple[str, ...]] = [*groups, *(affine if first.scale_offset == "project" else ())]
        self.initial = [self._length(group) for group in self.groups]
        self.pulled = [(name, float(i == 0)) for names in affine for i, name in enumerate(names)]
        self.dropped = [
            rows.bias
            for layer in learner.graph
            for rows in layer.incoming
            if first.drop_biases and rows.bias is not None and rows.rows is None and not layer.norm_after
        ]
        self.without = frozenset() if first.scale_offset == "regularise" else frozenset({"before_update"})

    def _length(self, names: Sequence[str]) -> Tensor:
        return matrices.lengths(*(self.learner.view(self.learner.parameters, name) for name in names))

    def before_update(self, gradient: Tensor, step: int) -> None:
        view = self.learner.view
        for name, initial in self.pulled:
            view(gradient, name).addcmul_(view(self.learner.parameters, name) - initial, self.strength)

    def after_update(self, step: int) -> None:
        if every(self.period, step) != step:
            return
        parameters, view = self.learner.parameters, self.learner.view
        for names, initial in zip(self.groups, self.initial, strict=True):
            factor = matrices.ratio(initial, self._length(names))
            for name in names:
                place = view(parameters, name)
                place.mul_(matrices.along(factor, place))
        for name in self.dropped:
            view(parameters, name).zero_()
