"""A pack before a task, as diagnostics see it: copies of what it holds, made when they are asked for.

On both engines alike: a copy of a run is an ordinary network of its own memory, so nothing that is done to it is done
to the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.diagnostics.measure import LayerSample
from lop_sweeps.diagnostics.rank import singular_values
from lop_sweeps.diagnostics.units import UnitStatistics
from lop_sweeps.networks.network import Network, draw_network
from lop_sweeps.training.components import Components, make_learner
from lop_sweeps.training.earlier_tasks import accuracy_on
from lop_sweeps.training.engine import Learner
from lop_sweeps.training.session import Stage

CHUNK = 250  # examples that a copy looks at together, unless the protocol says otherwise


class Moment:
    """What diagnostics are given: see `PackView`. components: of each run. name: of the engine."""

    def __init__(
        self,
        learner: Learner,
        components: Sequence[Components],
        name: str,
        stage: Stage,
        task: int,
        layers: Sequence[LayerSample],
        magnitudes: Tensor,
        active: Sequence[bool],
    ) -> None:
        self.learner, self.components, self.name, self.stage, self.task = learner, components, name, stage, task
        self.layers, self.magnitudes = layers, magnitudes
        self.runs: Sequence[RunView] = [RunView(self, run, alive) for run, alive in enumerate(active)]

    @cached_property
    def state(self) -> dict[str, Tensor]:
        """Of all runs, each parameter where PyTorch has it."""
        return self.learner.state()

    def trial(self, updates: int) -> tuple[Tensor, Tensor]:
        """What the trained copies draw is drawn by seeds of their own, their initial weights too."""
        return self._losses(updates, copies=True), self._losses(updates, copies=False)

    def _losses(self, updates: int, *, copies: bool) -> Tensor:
        seeds = [int(streams.counter_key(seed, "plasticity probe", self.task)) for seed in self.learner.seeds]
        plain = [replace(one, interventions=(), spans=()) for one in self.components]
        trained = make_learner(plain, seeds, self.name, self.learner.parameters.device)
        if copies:
            with torch.no_grad():
                trained.parameters.copy_(self.learner.parameters)
                for name, value in trained.buffers.items():
                    value.copy_(self.learner.buffers[name])
            for run in range(len(seeds)):
                trained.optimizer.restart(run)  # whatever it made of the parameters that were there before
        return self.stage.trial(trained, updates).cpu()


@dataclass
class _Copy:
    """One run's parameters in a row, as optimisers are told of them."""

    network: Network
    seeds: Sequence[int]

    def view(self, flat: Tensor, name: str) -> Tensor:
        at = 0
        for one, parameter in self.network.named_parameters():
            if one == name:
                return flat[:, at : at + parameter.numel()].view(len(flat), *parameter.shape)
            at += parameter.numel()
        raise KeyError(name)


class RunView:
    """One run: see `View`."""

    memory: dict[str, Tensor]

    def __init__(self, moment: Moment, run: int, active: bool) -> None:
        learner = moment.learner
        self._moment, self._run, self.active = moment, run, active
        self._components, self._device = moment.components[run], learner.parameters.device
        self.seed, self.task, self.batch_size = learner.seeds[run], moment.task, moment.stage.batch_size
        self.classifies = self._components.benchmark.loss == "cross_entropy"
        self.graph, self.weight_names = learner.graph, learner.weight_names

    @cached_property
    def activations(self) -> list[Tensor]:
        return [layer.pooled[self._run] for layer in self._moment.layers]

    @cached_property
    def statistics(self) -> list[UnitStatistics]:
        return [UnitStatistics(*(each[self._run] for each in layer.statistics)) for layer in self._moment.layers]

    @cached_property
    def inputs(self) -> Tensor:
        return self._moment.stage.probe_inputs(self._run)

    @property
    def parameters(self) -> dict[str, Tensor]:
        learner = self._moment.learner
        with torch.no_grad():
            return {n: learner.view(learner.parameters, n)[self._run].clone() for n in learner.parameter_names}

    @property
    def weights(self) -> list[Tensor]:
        learner = self._moment.learner
        with torch.no_grad():
            return [learner.view(learner.parameters, name)[self._run].clone() for name in self.weight_names]

    @cached_property
    def initial_weights(self) -> list[Tensor]:
        network = draw_network(self._components.make_network, self._moment.learner.dtype, self.seed, "initial weights")
        return [network.get_parameter(name).detach().to(self._device) for name in self.weight_names]

    @cached_property
    def singular_values(self) -> list[Tensor]:
        return [singular_values(weight.flatten(1)) for weight in self.weights]

    @cached_property
    def gradients(self) -> dict[str, Tensor]:
        return self._gradients(self.network(), slice(0, len(self.inputs)))

    def _gradients(self, network: Network, rows: slice) -> dict[str, Tensor]:
        """Of the mean loss on these examples of the probe, in the mode in which the protocol looks at it."""
        stage, inputs = self._moment.stage, self.inputs
        chunk = CHUNK if stage.statistics_of is None else stage.statistics_of
        network.train(stage.statistics_of is not None)
        count = rows.stop - rows.start
        parts = -(-count // chunk)
        edges = [rows.start + count * i // parts for i in range(parts + 1)]  # even, as the protocol's are
        named = dict(network.named_parameters())
        total = {name: torch.zeros_like(p) for name, p in named.items()}
        for start, stop in pairwise(edges):
            with torch.enable_grad():
                loss = stage.probe_loss(self._run, network(inputs[start:stop])[0], slice(start, stop))
                found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            for name, gradient in zip(named, found, strict=True):
                if gradient is not None:
                    total[name].add_(gradient, alpha=(stop - start) / count)
        network.eval()
        return total

    def network(self) -> Network:
        learner = self._moment.learner
        network = self._components.make_network().to(self._device, learner.dtype)
        values = self.parameters | {name: value[self._run] for name, value in learner.buffers.items()}
        with torch.no_grad():
            for name, place in (*network.named_parameters(), *network.named_buffers()):
                place.copy_(values[name])
        return network.eval()

    def updated(self, rows: slice) -> Network:
        network, options = self.network(), self._components.optimizer
        gradients = self._gradients(network, rows)
        resets_units = any(one.resets_units for one in self._components.interventions)
        with torch.no_grad():
            flat = torch.cat([p.reshape(-1) for p in network.parameters()])[None]
            gradient = torch.cat([gradients[name].reshape(-1) for name, _ in network.named_parameters()])[None]
            optimizer = options.pack([options], flat, resets_units=resets_units)
            optimizer.attach(_Copy(network, [int(streams.counter_key(self.seed, "diagnostic: update"))]))
            for name, value in optimizer.state().items():
                value.copy_(self._moment.state[f"optimizer/{name}"][self._run][None])
            optimizer.step = self.task
            optimizer.update(flat, gradient)
            at = 0
            for parameter in network.parameters():
                parameter.copy_(flat[0, at : at + parameter.numel()].view(parameter.shape))
                at += parameter.numel()
        return network

    def answers(self, network: Network, inputs: Tensor) -> Tensor:
        return self._moment.stage.answers(self._run, network(inputs)[0])

    def accuracy_on(self, network: Network, task: int, examples: int) -> float:
        return accuracy_on(self._moment.stage.benchmark, self.seed, task, network, examples)

    def generator(self, purpose: str) -> np.random.Generator:
        return streams.generator(self.seed, f"diagnostic: {purpose}", self.task)
