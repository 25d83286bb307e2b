"""The fused engine: one run of a fully connected network, its training steps compiled.

Options, initial weights, state and replacement schedule are those of the objects that the torch engine uses, too: this
learner builds them on memory that the compiled loop understands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import streams
from lop_sweeps.algorithms.continual_backprop import PackedContinualBackprop
from lop_sweeps.algorithms.intervention import Intervention, PackedIntervention
from lop_sweeps.algorithms.shrink_and_perturb import PackedShrinkAndPerturb
from lop_sweeps.algorithms.span import Span
from lop_sweeps.benchmarks.benchmark import Task
from lop_sweeps.fused import arrays
from lop_sweeps.fused.activations import CODES, options_of
from lop_sweeps.fused.compiled_parts import noise_of, numpy_of, replacement_of, rule_of, take_back
from lop_sweeps.fused.methods import acting as methods_of
from lop_sweeps.fused.methods import part_of, rule_beside, with_parts
from lop_sweeps.fused.network import FusedNetwork
from lop_sweeps.fused.stops import Loop, Stops
from lop_sweeps.fused.stream import make_stream
from lop_sweeps.fused.train import FIRST_NOISE, LAST_NOISE, REPLACEMENT, compiled
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.schedule import PLAIN, Schedule
from lop_sweeps.training.acting import active, actors
from lop_sweeps.training.losses import score
from lop_sweeps.training.source import Source
from lop_sweeps.training.tested import Tested

# What one call of the compiled loop may take: about a second, so that a stop is answered soon; and so much memory.
_WORK_PER_CALL = 3_000_000_000  # weights x steps, of a step of plain SGD on a wide network
_INPUTS_PER_CALL = 20_000_000


class FusedLearner(FusedNetwork, Tested):
    """The learning state of one run, and stretches of training of it; the interface is that of `TorchLearner`."""

    def __init__(
        self,
        make_network: Callable[[], Network],
        optimizer: Optimizer,
        interventions: Sequence[Intervention],
        seed: int,
        loss: str,
        dtype: torch.dtype,
        spans: Sequence[Span] = (),
        schedule: Schedule = PLAIN,
    ) -> None:
        super().__init__(make_network, seed, dtype)
        self.loss, self.schedule = loss, schedule
        resets_units = any(intervention.resets_units for intervention in interventions)
        self.optimizer = optimizer.pack([optimizer], self.parameters, resets_units=resets_units)
        self.interventions: list[PackedIntervention[Any]] = [one.pack([one], self) for one in interventions]
        self.source: Source | None = None  # while a task is learned
        self.spans = spans
        self._options = interventions
        self._stops: Stops | None = None  # of the task at hand
        self._all_stops: dict[frozenset[int], Stops | None] = {}  # by the positions of the interventions that act
        self._now: tuple[Task, int, int] | None = None  # task, first example, and batch of the stretch in training
        self.intervals_at_once = self._intervals_at_once()

    @property
    def active(self) -> list[PackedIntervention[Any]]:
        """Those of the interventions that act in the task at hand."""
        return active(self.interventions, self.spans, self.source)

    def _stops_now(self) -> Stops | None:
        """Those of the interventions that act in the task at hand."""
        acting = active(range(len(self.interventions)), self.spans, self.source)
        if (key := frozenset(acting)) not in self._all_stops:
            self._all_stops[key] = self._make_stops(acting)
        return self._all_stops[key]

    def _make_stops(self, acting: Sequence[int]) -> Stops | None:
        """For those interventions that have no compiled part; None if there are none. acting: their positions."""
        parts, others = {}, []
        first = noise_of([self.interventions[i] for i in acting]).first
        apart = {i for i in acting if part_of(self._options[i]) is not None}
        for i in acting:
            packed = self.interventions[i]
            if i in apart:
                continue
            if isinstance(packed, PackedContinualBackprop):
                parts[i] = REPLACEMENT
            elif isinstance(packed, PackedShrinkAndPerturb):
                parts[i] = FIRST_NOISE if first else LAST_NOISE
            else:
                others.append(packed)
        found = [
            actor
            for actor in actors(self._options, self.interventions)
            if actor.position in acting and actor.position not in parts and actor.position not in apart
        ]
        if not found:
            return None

        def plan(step: int, steps: int) -> None:
            for packed in others:
                packed.plan(step, steps)

        units = [
            slice(first, first + layer.num_features)
            for first, layer in zip(self._units[:-1].tolist(), self.graph, strict=True)
        ]
        return Stops(found, parts, self.parameters, units, plan)

    def _intervals_at_once(self) -> int:
        """How many intervals of 1,000 steps a call may take, with batches of one."""
        rule, noise = self._rule(), noise_of(self.interventions)
        drawn = noise.kind == arrays.PER_STEP or rule.kind in (arrays.UPGD, arrays.ADAUPGD)
        cost = 100 if drawn else 10 if rule.kind != arrays.SGD or noise.kind == arrays.LAZY else 1
        size, inputs = len(self.parameters[0]), int(self._layers[0, 2])
        return max(1, min(_WORK_PER_CALL // (1_000 * size * cost), _INPUTS_PER_CALL // (1_000 * inputs), 50))

    @property
    def activations(self) -> list[Tensor]:
        """Of the step at which somebody acts: (1, batch, units) of each hidden layer, before dropout."""
        return self._stops.activations if self._stops else []

    @property
    def activation_gradients(self) -> list[Tensor]:
        """Of the mean loss with respect to them, for those who need it."""
        return self._stops.activation_gradients if self._stops else []

    @property
    def inputs(self) -> Tensor:
        """(1, batch, inputs) of the step at which somebody acts."""
        return self._examples()[0]

    @property
    def targets(self) -> Tensor:
        """Class labels (1, batch), or numbers (1, batch, outputs), of the step at which somebody acts."""
        return self._examples()[1]

    def _examples(self) -> tuple[Tensor, Tensor]:
        assert self._now is not None
        assert self._stops is not None
        task, start, batch = self._now
        x, y = task.examples(start + self._stops.example, start + self._stops.example + batch)
        targets = torch.from_numpy(np.ascontiguousarray(y))[None]
        if self.loss == "squared_error":
            targets = targets.to(self.dtype)
        return torch.from_numpy(np.ascontiguousarray(x)).to(self.dtype)[None], targets

    def gradient_of(self, x: Tensor, y: Any, run: int | None = None) -> Tensor:
        """(1, size): gradient of the mean loss on inputs x and targets y, without dropout, in this engine's layout."""
        return self.differentiate(lambda output: self._losses_of(output, y), x)[1]

    def _losses_of(self, output: Tensor, y: Any) -> Tensor:
        return self.source.losses(output, y) if self.source else score(self.loss, output, y)[0]

    def step_losses(self) -> Tensor:
        return self._losses_of(self.outputs_of(self.inputs), self.targets)

    def score(self, output: Tensor, y: Tensor, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Mean loss (1,) and accuracy (1,) of outputs (1, batch, outputs); outputs: as in `TorchLearner.score`."""
        return score(self.loss, output, y, outputs)

    def asked(self, output: Tensor) -> Tensor:
        return self.source.asked(output) if self.source else output

    def ends_round(self, step: int) -> bool:
        return self.source.ends_round(step) if self.source else True

    def other_batch(self, step: int) -> tuple[Tensor, Any]:
        assert self.source is not None
        return self.source.other_batch(step)

    def epochs_over(self, step: int) -> int | None:
        assert self.source is not None
        return self.source.epochs_over(step)

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """In `before_task`: the first examples of the task that is to come."""
        assert self.source is not None
        return self.source.task_data(run, samples)

    def run(
        self, tasks: Sequence[Task], batch: int, first: int, start: int, steps: int, interval: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`steps` updates, the first of them number `first` of the run and number `start` of its task.

        Returns losses and accuracies before each update, (steps, 1), and the weight magnitude (intervals, 1, weight
        matrices) after each interval; all end early if the network is no longer finite.
        """
        intervals = -(-steps // interval)
        losses, correct = np.empty(steps), np.empty(steps)
        magnitudes = np.empty((intervals, len(self._layers)))
        self._stops, acting = self._stops_now(), self.active
        net, noise = self._net(), noise_of(acting)
        replacement = replacement_of(acting, self.graph, self._units, self._all_units, self._dtype)
        stream = make_stream(tasks[0], start * batch, (start + steps) * batch, net)
        rule = self._rule()
        work = arrays.make_work(
            net, noise, batch, interval, pulled=rule.kind != arrays.SGD and bool(with_parts(acting))
        )
        apart = methods_of(acting, net, rule, arrays.seen_of(work))
        loop = Loop(net, stream, rule_beside(acting, rule), replacement, noise, apart.methods, work)
        self._now = tasks[0], start * batch, batch
        train = self._stops.run if self._stops else compiled.train
        arguments: tuple[Any, ...] = (loop,) if self._stops else loop
        done = train(*arguments, first, batch, steps, interval, losses, correct, magnitudes)
        take_back(replacement, acting, self._units)
        apart.take_back()
        intervals = -(-done // interval)
        return (
            torch.from_numpy(losses[:done, None]),
            torch.from_numpy(correct[:done, None]),
            torch.from_numpy(magnitudes[:intervals, None]),
        )

    def probe(self, tasks: Sequence[Task], samples: int) -> list[Tensor]:
        """Hidden activations [(1, samples, units), ...] on a task's first examples, without dropout."""
        h = np.zeros((samples, self._all_units), self._dtype)
        net = self._net()
        work = arrays.make_work(net, noise_of(self.interventions), batch=1, interval=1)
        compiled.activations(net, make_stream(tasks[0], 0, samples, net), work, h)
        parts = zip(self._units[:-1].tolist(), self.graph, strict=True)
        return [torch.from_numpy(h[None, :, first : first + layer.num_features]) for first, layer in parts]

    def _rule(self) -> arrays.Optimizer:
        return rule_of(self.optimizer, self._dtype, self._export(self.parameters).shape[1], self.seeds[0])

    def _net(self) -> arrays.Net:
        return arrays.Net(
            w=numpy_of(self.parameters),
            layers=self._layers,
            units=self._units,
            activation=CODES[self._mlp.activation],
            options=options_of(self._mlp.kind),
            features=self._mlp.kind.features,
            normed=bool(self._mlp.norms),
            fresh=self._fresh,
            dropout=float(self._mlp.dropout),
            dropout_key=streams.counter_key(self.seeds[0], "dropout"),
            loss=arrays.CROSS_ENTROPY if self.loss == "cross_entropy" else arrays.SQUARED_ERROR,
        )

    def state(self) -> dict[str, Tensor]:
        """Everything that learning has changed, copied to the torch engine's layout: checkpoints are the same."""
        state = {"parameters": self._export(self.parameters)}
        state |= {f"optimizer/{name}": self._export(value) for name, value in self.optimizer.state().items()}
        for i, intervention in enumerate(self.interventions):
            state |= {f"interventions/{i}/{name}": value.clone() for name, value in intervention.state().items()}
        return state

    @torch.no_grad()
    def load(self, run: int, state: dict[str, Tensor]) -> None:
        """Put back one run's share of what `state` gave."""
        self._import(self.parameters, state["parameters"])
        for name, value in self.optimizer.state().items():
            self._import(value, state[f"optimizer/{name}"])
        for i, intervention in enumerate(self.interventions):
            for name, value in intervention.state().items():
                value[run] = state[f"interventions/{i}/{name}"]

    @torch.no_grad()
    def mask(self, run: int) -> None:
        """A run that is no longer finite does nothing more; nobody shares its memory."""
        self.parameters.zero_()
