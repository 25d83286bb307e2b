"""Plasticity injection: once, the head is frozen and a fresh one added to it (2023, arXiv 2305.15555)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lop_sweeps import checks
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.injection import Injection
from lop_sweeps.networks.network import Network


@dataclass(frozen=True)
class PlasticityInjection(Intervention):
    """At one moment, freeze the head h and add a fresh one, without changing what the network computes.

    From then on the output is h(x) + h1(x) - h2(x): h is frozen, h1 and h2 begin as the same draw of the network's
    initial law, h1 is trained and h2 is frozen. What comes before the head goes on learning, through all three. How
    many layers are the head is `network.injection`, which the choice `algorithm=plasticity_injection` sets to 2; with
    1, the output layer alone, nothing can change but the optimiser's state, because that layer is linear.

    at: the number of the task before which it happens (in control, of the environment's change); or {step: 5000}, the
        update after which it does. The published moment is half of the training (FIRE's code).

    The trained head stays where the head was, so other methods act on h1 alone; its optimiser's state begins anew.
    """

    at: int | Mapping[str, int] = 1

    def __post_init__(self) -> None:
        if isinstance(self.at, Mapping):
            if set(self.at) not in ({"task"}, {"step"}):
                raise ConfigError("at", dict(self.at), "must be a task's number, {task: NUMBER} or {step: NUMBER}")
            checks.integer("at", next(iter(self.at.values())), 0)
        else:
            checks.integer("at", self.at, 0)

    @property
    def task(self) -> int | None:
        return self.at.get("task") if isinstance(self.at, Mapping) else int(self.at)

    @property
    def step(self) -> int | None:
        return self.at.get("step") if isinstance(self.at, Mapping) else None

    @property
    def resets_units(self) -> bool:
        return True

    def check(self, network: Network) -> None:
        if not any(isinstance(module, Injection) for module in network.modules()):
            allowed = "needs network.injection, the number of layers that are the head: of network=mlp or actor_critic"
            raise ConfigError("", None, allowed)

    def next_step(self, step: int) -> int | None:
        return None if self.step is None or step > self.step else int(self.step)

    def pack(self, peers: Sequence[PlasticityInjection], learner: Learner) -> PackedPlasticityInjection:
        return PackedPlasticityInjection(peers, learner)


class PackedPlasticityInjection(PackedIntervention[PlasticityInjection]):
    """Plasticity injection on a pack."""

    def __init__(self, runs: Sequence[PlasticityInjection], learner: Learner) -> None:
        super().__init__(runs, learner)
        named = learner.network.named_modules()
        self.injections = [(name, module) for name, module in named if isinstance(module, Injection)]

    def before_task(self, run: int, task: int) -> None:
        if task == self.options[0].task:
            self._inject(run)

    def after_update(self, step: int) -> None:
        for run in range(len(self.options)):  # once in all
            self._inject(run)

    def _inject(self, run: int) -> None:
        learner = self.learner
        parameters, buffers = learner.redraw(run, "plasticity injection")
        drawn = parameters | buffers
        state = [
            (value, learner.optimizer.fresh().get(name, 0.0))
            for name, value in learner.optimizer.state().items()
            if value.shape == learner.parameters.shape
        ]
        for place, injection in self.injections:
            for name, kept, begun in injection.copies():
                name = place.removesuffix("injection") + name
                trained = learner.view(learner.parameters, name) if name in parameters else learner.buffers[name]
                learner.buffers[f"{place}.{kept}"][run] = trained[run]
                trained[run] = drawn[name].to(trained.device)
                learner.buffers[f"{place}.{begun}"][run] = trained[run]
                for value, fresh in state if name in parameters else ():
                    learner.view(value, name)[run] = fresh
            learner.buffers[f"{place}.injected"][run].fill_(1.0)
