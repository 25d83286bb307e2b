"""Interventions written for one run: no packs, no leading dimension, one class.

In a pack they are called run by run, which costs a Python call for each run and step at which they act.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.algorithms import new_units
from lop_sweeps.algorithms.intervention import Intervention, Learner, PackedIntervention
from lop_sweeps.algorithms.named import Named
from lop_sweeps.errors import ConfigError
from lop_sweeps.networks.network import Network
from lop_sweeps.networks.unit_graph import UnitLayer


class Run:
    """One run of a pack, as an intervention for one run sees it. All tensors share memory with the pack.

    step: the current one, counted over the whole run from 0; -1 in `before_task`.
    """

    def __init__(self, learner: Learner, number: int) -> None:
        self._learner, self._number = learner, number
        self._keys: dict[tuple[Any, ...], counter_random.Keys] = {}
        self._between: tuple[int, ...] = ()  # in `before_task`, that task
        self.seed = learner.seeds[number]
        self.step = -1
        self._state = self._gradient = self._before = Named({})
        self._parameters = self.named(learner.parameters)

    def named(self, flat: Tensor) -> Named:
        """This run's share of a tensor (runs, parameters), by the parameters' names, in their own shapes."""
        return Named({name: self._learner.view(flat, name)[self._number] for name in self._learner.parameter_names})

    @property
    def parameters(self) -> Named:
        """By name, in their own shapes."""
        return self._parameters

    @property
    def gradient(self) -> Named:
        """In `before_update`, by the parameters' names."""
        return self._gradient

    @property
    def before(self) -> Named:
        """In `after_optimizer`, the parameters that the optimiser was given."""
        return self._before

    @property
    def state(self) -> Named:
        """What the method keeps, by the names of `OneRun.start`."""
        return self._state

    @cached_property
    def network(self) -> Network:
        """A module of this run alone, on the same memory."""
        return self._learner.network_of(self._number)

    @cached_property
    def initial(self) -> dict[str, Tensor]:
        """The parameters that the run began with, by name."""
        drawn, _ = self._learner.redraw(self._number, "initial weights")
        device = self._learner.parameters.device
        return {name: drawn[name].to(device) for name in self._learner.parameter_names}

    def redraw(self, purpose: str, *position: int) -> dict[str, Tensor]:
        """Fresh parameters by name, from the network's initial law; draws of this purpose and position."""
        return self._learner.redraw(self._number, purpose, *position)[0]

    def generator(self, purpose: str, *position: int) -> np.random.Generator:
        """A generator of the run's own for this purpose and position, such as the step; no other draw moves."""
        return streams.generator(self.seed, purpose, *position)

    @property
    def buffers(self) -> Named:
        """Running statistics and the like, by name."""
        return Named({name: stacked[self._number] for name, stacked in self._learner.buffers.items()})

    @cached_property
    def initial_buffers(self) -> dict[str, Tensor]:
        """Those that the run began with."""
        device = self._learner.parameters.device
        _, drawn = self._learner.redraw(self._number, "initial weights")
        return {name: value.to(device) for name, value in drawn.items()}

    @property
    def graph(self) -> tuple[UnitLayer, ...]:
        return self._learner.graph

    @property
    def weight_names(self) -> tuple[str, ...]:
        """Of the weight matrices, from input to output."""
        return self._learner.weight_names

    @property
    def inputs(self) -> Tensor:
        """(batch, inputs) of this step."""
        return self._learner.inputs[self._number]

    @property
    def targets(self) -> Any:
        """Class labels (batch,) or numbers (batch, outputs) of this step; in control what PPO has of its states."""
        return _share(self._learner.targets, self._number)

    @property
    def activations(self) -> list[Tensor]:
        """Of this step, (batch, features, *positions) for each hidden layer."""
        return [h[self._number] for h in self._learner.activations]

    @property
    def activation_gradients(self) -> list[Tensor]:
        """Of the mean loss, of the same shapes; for classes whose `needs` names them."""
        return [g[self._number] for g in self._learner.activation_gradients]

    @property
    def step_size(self) -> Tensor:
        """Of the optimiser, at this step."""
        return self._learner.optimizer.step_size[self._number, 0]

    @property
    def optimizer_state(self) -> dict[str, Named]:
        """The optimiser's tensors that have the parameters' layout, by their name and the parameters' names."""
        whole = self._learner.parameters.shape
        return {
            name: self.named(value) for name, value in self._learner.optimizer.state().items() if value.shape == whole
        }

    def restart_optimizer(self, *, counts_only: bool = False) -> None:
        """Put the optimiser's state back to what it was before its first step; or only its step counts."""
        self._learner.optimizer.restart(self._number, counts_only=counts_only)

    def reset_units(self, layer: int, units: Sequence[int] | Tensor, purpose: str = "reset units") -> None:
        """Make units of a hidden layer new: by their numbers, or by a mask (units,) that is true for them.

        Weights that feed them come from the network's initial law (draws of this purpose and step), their biases are
        0, as are the weights that read them, a normalisation is fresh. So is the optimiser's state of all these, if
        the class says `resets_units = True`.
        """
        device = self._learner.parameters.device
        index = torch.as_tensor(units, device=device)
        index = torch.nonzero(index).flatten() if index.dtype == torch.bool else index.long()
        address = (purpose, layer, *self._between)
        if address not in self._keys:
            key = streams.counter_key(self.seed, purpose, layer, *self._between)
            self._keys[address] = counter_random.Keys([key], device)
        drawn = new_units.draw_incoming(self._keys[address], max(self.step, 0), self.graph[layer], index)[0]
        self._units[layer].set_incoming(self._number, index, drawn)
        for part in self._units[layer].owned(optimizer=True):
            part.reset(self._number, index)

    def mean_by_unit(self, layer: int, values: Tensor) -> Tensor:
        """(units,): means of numbers that are to a hidden layer's activations one for one, over all but the units."""
        return self._units[layer].of_units(values.transpose(0, 1).flatten(1).mean(1)[None])[0]

    @cached_property
    def _units(self) -> list[new_units.HiddenUnits]:
        return [new_units.HiddenUnits(self._learner, layer) for layer in self.graph]

    def outputs_of(self, x: Tensor) -> Tensor:
        """Outputs (batch, outputs) of x (batch, inputs), without dropout; it leaves no trace."""
        return self._learner.outputs_of(self._for_all(x))[self._number]

    def gradient_of(self, x: Tensor, y: Any) -> Named:
        """By name, the gradient of the mean loss on inputs x and targets y, without dropout; it leaves no trace."""
        found = self._learner.gradient_of(_alone(x), _alone(y), self._number)
        return Named({name: self._learner.view(found, name)[0] for name in self._learner.parameter_names})

    def differentiate(self, of: Callable[[Tensor, list[Tensor]], Tensor], x: Tensor | None = None) -> Named:
        """By name, the gradient of a number that `of` makes of outputs and activations on inputs x; it leaves no trace.

        x: (batch, inputs); None: those of this step. Without dropout.
        """
        leaves = {name: value.detach().requires_grad_() for name, value in self.parameters.items()}
        buffers = {name: value.clone() for name, value in self.buffers.items()}
        with torch.enable_grad():
            seen = torch.func.functional_call(self.network, {**leaves, **buffers}, (self.inputs if x is None else x,))
            found = torch.autograd.grad(of(*seen), list(leaves.values()), allow_unused=True)
        pairs = zip(leaves.items(), found, strict=True)
        return Named({name: torch.zeros_like(leaf) if slope is None else slope for (name, leaf), slope in pairs})

    def other_batch(self) -> tuple[Tensor, Any]:
        """Inputs and targets of an independent mini-batch of the same data; in epochs and control."""
        x, y = self._learner.other_batch(self.step)
        return x[self._number], _share(y, self._number)

    def task_data(self, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """In `before_task`: mini-batches of the task that is to come; samples: of its first examples, how many."""
        return self._learner.task_data(self._number, samples)

    def _for_all(self, one: Tensor) -> Tensor:
        return one.unsqueeze(0).expand(len(self._learner.seeds), *one.shape)


def _alone(one: Any) -> Any:
    """With a leading run dimension."""
    return type(one)(*(_alone(each) for each in one)) if isinstance(one, tuple) else one.unsqueeze(0)


def _share(of_pack: Any, number: int) -> Any:
    if isinstance(of_pack, Tensor):
        return of_pack[number]
    return type(of_pack)(*(each[number] for each in of_pack)) if isinstance(of_pack, tuple) else of_pack


class OneRun(Intervention):
    """Base of methods written for one run: options and method in one frozen dataclass.

    It has the methods of `PackedIntervention` that it needs, each given the run; see intervention.py for when they
    are called. All are called without gradients. What is kept from step to step is in `run.state`.
    """

    def check(self, network: Network) -> None:
        """Raise `ConfigError` if it cannot act on this network; here, if it does nothing at all."""
        if all(getattr(type(self), name) is getattr(OneRun, name) for name in METHODS):
            raise ConfigError("", None, f"{type(self).__name__} does nothing: it has none of {', '.join(METHODS)}")

    def start(self, run: Run) -> dict[str, Tensor]:
        """What is to be kept in checkpoints, by name, with its values at the start; then `run.state`.

        The start of the run; with `from_task`, once more before that task, with the parameters of then.
        """
        return {}

    def before_update(self, run: Run) -> None:
        """May change `run.gradient`, tensor by tensor, or only look at it; parameters stay as they are."""

    def after_optimizer(self, run: Run) -> None:
        """Directly after the optimiser; `run.before` has the parameters that it was given."""

    def after_update(self, run: Run) -> None:
        """After the optimiser's step `run.step`."""

    def before_task(self, run: Run, task: int) -> None:
        """Before the first step of each task, after the diagnostics."""

    def evaluated_parameters(self, run: Run) -> Mapping[str, Tensor] | None:
        """By name, what is tested instead of what is trained; None: the same. In epochs."""
        return None

    def report(self, run: Run) -> dict[str, list[float]]:
        """Measurements since the last row of the log, for the next one."""
        return {}

    def clear_report(self, run: Run) -> None:
        """Begin to count anew."""

    def next_step(self, step: int) -> int | None:
        """As in `Intervention`: every step; None for a method that acts between tasks only."""
        within = (OneRun.before_update, OneRun.after_optimizer, OneRun.after_update)
        mine = (type(self).before_update, type(self).after_optimizer, type(self).after_update)
        return None if mine == within else step

    def pack(self, peers: Sequence[Any], learner: Learner) -> RunByRun:
        return RunByRun(peers, learner)


class RunByRun(PackedIntervention[OneRun]):
    """A method for one run in a pack: called for each run in turn."""

    def __init__(self, runs: Sequence[OneRun], learner: Learner) -> None:
        super().__init__(runs, learner)
        kind = type(runs[0])
        self.without = frozenset(
            name for name in METHODS if getattr(kind, name) is getattr(OneRun, name)
        )  # methods that do nothing
        self.runs = [Run(learner, number) for number in range(len(runs))]
        kept = [options.start(run) for options, run in zip(runs, self.runs, strict=True)]
        self._state = {name: torch.stack([each[name] for each in kept]) for name in kept[0]}
        for number, run in enumerate(self.runs):
            run._state = Named({name: value[number] for name, value in self._state.items()})

    def _pairs(self, step: int | None = None) -> Iterator[tuple[OneRun, Run]]:
        for options, run in zip(self.options, self.runs, strict=True):
            run.step = run.step if step is None else step
            yield options, run

    def begin(self, run: int) -> None:
        for name, value in self.options[run].start(self.runs[run]).items():
            self.runs[run].state[name] = value

    def before_update(self, gradient: Tensor, step: int) -> None:
        for options, run in self._pairs(step):
            run._gradient = run.named(gradient)
            options.before_update(run)

    def after_optimizer(self, before: Tensor, step: int) -> None:
        for options, run in self._pairs(step):
            run._before = run.named(before)
            options.after_optimizer(run)

    def after_update(self, step: int) -> None:
        for options, run in self._pairs(step):
            options.after_update(run)

    def before_task(self, run: int, task: int) -> None:
        one = self.runs[run]
        one.step, one._between = -1, (task,)
        self.options[run].before_task(one, task)
        one._between = ()

    def evaluated_parameters(self, run: int) -> Tensor | None:
        named = self.options[run].evaluated_parameters(self.runs[run])
        if named is None:
            return None
        return torch.cat([named[name].reshape(-1) for name in self.learner.parameter_names])

    def state(self) -> dict[str, Tensor]:
        return self._state

    def report(self, run: int) -> dict[str, list[float]]:
        return self.options[run].report(self.runs[run])

    def clear_report(self) -> None:
        for options, run in self._pairs():
            options.clear_report(run)


METHODS = ("before_update", "after_optimizer", "after_update", "before_task", "evaluated_parameters")
