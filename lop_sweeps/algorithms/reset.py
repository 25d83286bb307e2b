"""Resets of the network, of its last layers, or of the optimiser, at task boundaries or every so many steps.

With everything reset at each task this is the oracle to which others are compared ("from scratch", RESET in FIRE and in
arXiv 2506.00592); resets of the last layers or of all are Juliani & Ash's (arXiv 2405.19153), that of step counts alone
is AdamRel (Ellis et al. 2024, arXiv 2412.17113).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention, every
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network, output_parameters

OF = ("all", "last_k", "head", "optimizer", "step_count")
# The draws of the resets that have a choice of their own, so that those are settings of this one.
DRAWS = {"all": "retrained network", "last_k": "head reset", "head": "head reset"}


@dataclass(frozen=True)
class Reset(Intervention):
    """Before each task but the first, or every so many updates, make a part of the learner new (arXiv 2405.19153).

    of: all parameters; the last_k, of each output layer and the layers before it (k in all, with their biases and
        normalisations); the head, which is last_k with k=1; or of the optimizer's state or its step_count alone.
    to: initial = what the run began with; or fresh = drawn anew from the network's initial law.
    at: task, or {every: N} = after updates number N, 2 N, ...
    buffers: also running statistics: all of them, or those of the normalisations that are reset.
    reset_optimizer: also the optimiser's state: all of it; with last_k and head, that of their parameters.

    of=head to=fresh at=task reset_optimizer=false is `head_resetting`, and of=all to=fresh at=task is
    `retrained_network` with `reset_statistics` as buffers here and `reset_optimizer` the same, bit for bit. By default
    this is training from scratch.
    """

    PER_RUN: ClassVar[frozenset[str]] = frozenset({"to", "buffers"})

    of: str = "all"
    k: int = 1
    to: str = "fresh"
    at: str | Mapping[str, int] = "task"
    buffers: bool = True
    reset_optimizer: bool = True

    def __post_init__(self) -> None:
        checks.choice("of", self.of, OF)
        checks.integer("k", self.k, 0)
        checks.choice("to", self.to, ("initial", "fresh"))
        checks.flag("buffers", self.buffers)
        checks.flag("reset_optimizer", self.reset_optimizer)
        if isinstance(self.at, Mapping):
            if set(self.at) != {"every"}:
                raise ConfigError("at", dict(self.at), "must be task, or {every: N}")
            checks.integer("at.every", self.at["every"], 1)
        elif self.at != "task":
            raise ConfigError("at", self.at, "must be task, or {every: N}")

    @property
    def period(self) -> int | None:
        """Updates from one reset to the next; None: at tasks."""
        return int(self.at["every"]) if isinstance(self.at, Mapping) else None

    @property
    def resets_units(self) -> bool:
        """A part of the parameters can only have new step counts if each has its own."""
        return self.reset_optimizer and self.of in ("last_k", "head")

    def check(self, network: Network) -> None:
        if self.of == "last_k" and self.k > (most := min(map(len, chains(network)))):
            raise ConfigError("k", self.k, f"must be at most {most}, the number of the network's layers")

    def next_step(self, step: int) -> int | None:
        return None if self.period is None else every(self.period, step)

    def pack(self, peers: Sequence[Reset], learner: Learner) -> PackedReset:
        return PackedReset(peers, learner)


class PackedReset(PackedIntervention[Reset]):
    """Resets on a pack. names, buffers: what is reset, None for all; empty where it is the optimiser."""

    def __init__(self, runs: Sequence[Reset], learner: Learner) -> None:
        super().__init__(runs, learner)
        self.one = one = runs[0]
        network = learner.network
        owned: Iterable[str] = [*learner.parameter_names, *learner.buffers]
        if one.of == "head":
            owned = output_parameters(network)
        elif one.of == "last_k":
            owned = last_layers(network, int(one.k))
        elif one.of != "all":
            owned = ()
        self.names = [name for name in owned if name not in learner.buffers]
        self.buffers = [name for name in owned if name in learner.buffers]
        # From the device's own memory: a network drawn again would have to be brought there.
        self.initial = learner.parameters.clone() if any(run.to == "initial" for run in runs) else None
        self.initial_buffers = {name: learner.buffers[name].clone() for name in self.buffers}

    def before_task(self, run: int, task: int) -> None:
        if self.one.period is None and task > 0:
            self.reset(run, task)

    def after_update(self, step: int) -> None:
        for run in range(len(self.options)):
            self.reset(run, step, 0)  # one number more than a task has: other draws

    def reset(self, run: int, *position: int) -> None:
        """Make new what belongs to a run; position: of fresh draws."""
        of, options = self.one.of, self.options[run]
        if self.names or self.buffers:
            self._reset_network(run, options, position)
        if of in ("optimizer", "step_count"):
            self.learner.optimizer.restart(run, counts_only=of == "step_count")
        elif options.reset_optimizer:
            self._reset_optimizer(run)

    def _reset_network(self, run: int, options: Reset, position: Sequence[int]) -> None:
        learner = self.learner
        device = learner.parameters.device
        parameters: Mapping[str, Tensor] = {}
        buffers: Mapping[str, Tensor] = {name: self.initial_buffers[name][run] for name in self.buffers}
        if options.to == "fresh":
            parameters, buffers = learner.redraw(run, DRAWS[options.of], *position)
        for name in self.names:
            if options.to == "fresh":
                new = parameters[name].to(device, non_blocking=True)
            else:
                assert self.initial is not None
                new = learner.view(self.initial, name)[run]
            learner.view(learner.parameters, name)[run].copy_(new)
        for name in self.buffers if options.buffers else ():
            learner.buffers[name][run].copy_(buffers[name].to(device, non_blocking=True))

    def _reset_optimizer(self, run: int) -> None:
        """All of a run's state, or only that of the parameters in `names`."""
        optimizer, view = self.learner.optimizer, self.learner.view
        whole = self.learner.parameters.shape
        kept: dict[str, Tensor] = {}
        if self.one.of != "all":
            kept = {key: value[run].clone() for key, value in optimizer.state().items()}
        optimizer.restart(run)
        state = optimizer.state()
        for key, before in kept.items():
            value = state[key]
            if value.shape != whole:
                value[run].copy_(before)
                continue
            fresh = value[run].clone()
            value[run].copy_(before)
            everywhere = fresh.unsqueeze(0).expand(whole)
            for name in self.names:
                view(value, name)[run].copy_(view(everywhere, name)[run])


def chains(network: Network) -> list[list[str]]:
    """The weight matrices that lead to each output layer, from input to output."""
    found: list[list[str]] = [[]]
    for name in network.weights():
        found[-1].append(name)
        if name in network.heads():
            found.append([])
    return [chain for chain in found if chain]


def last_layers(network: Network, k: int) -> list[str]:
    """Names of what belongs to the last k layers before each output: weights, biases, normalisations, buffers."""
    there = [*dict(network.named_parameters()), *dict(network.named_buffers())]
    norms = {rows.weight: [name for name, _ in layer.norm] for layer in network.unit_graph() for rows in layer.incoming}
    found = []
    for chain in chains(network):
        for weight in chain[len(chain) - k :]:
            module = weight.removesuffix(".weight")
            found += [weight, f"{module}.bias", *norms.get(weight, [])]
            found += [name for name in there if name.startswith(f"{module}_norm.")]  # of a shortcut
    return [name for name in dict.fromkeys(found) if name in there]
