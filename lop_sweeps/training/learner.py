"""The torch engine: runs of one shape trained side by side, on tensors with a leading run dimension."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from lop_sweeps import counter_random, streams
from lop_sweeps.algorithms.intervention import Intervention, PackedIntervention
from lop_sweeps.algorithms.span import Span
from lop_sweeps.benchmarks.benchmark import Task, examples_of
from lop_sweeps.diagnostics.measure import measure_weights
from lop_sweeps.errors import LopError
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.network import Network
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.optimizers.schedule import PLAIN, Schedule, cut
from lop_sweeps.training import explicit
from lop_sweeps.training.acting import WROTE_TOO_EARLY, Actor, active, actors
from lop_sweeps.training.examples import Examples
from lop_sweeps.training.explicit import ExplicitActorCritic
from lop_sweeps.training.losses import score, slope
from lop_sweeps.training.packed_network import PackedNetwork
from lop_sweeps.training.source import Source
from lop_sweeps.training.tested import Tested


class TorchLearner(PackedNetwork, Tested):
    """The learning state of a pack, and one training step of it.

    make_network: builds the network of one run. optimizers: one per run. interventions: for each intervention, its
    options in every run, in the order in which they act. loss: cross_entropy (mean over the mini-batch, on logits) or
    squared_error (mean over mini-batch and outputs). device: where everything lies; a GPU makes the draws of a step
    itself, the same ones up to rounding. spans: the tasks in which each intervention acts; all, if none are given.
    """

    intervals_at_once = 1  # that `run` should be asked for

    def __init__(
        self,
        make_network: Callable[[], Network],
        optimizers: Sequence[Optimizer],
        interventions: Sequence[Sequence[Intervention]],
        seeds: Sequence[int],
        loss: str,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
        spans: Sequence[Span] = (),
        schedule: Schedule = PLAIN,
    ) -> None:
        super().__init__(make_network, seeds, dtype, device)
        self.loss, self.schedule = loss, schedule
        self.source: Source | None = None  # while a task is learned
        needs = frozenset().union(*[getattr(options[0], "needs", ()) for options in interventions])
        self._explicit: ExplicitActorCritic | None = None
        if explicit.applies(self.network, self.device) and "activation_gradients" not in needs:
            self._explicit = ExplicitActorCritic(cast(ActorCritic, self.network), self.parameters, self.view)
        resets_units = any(options[0].resets_units for options in interventions)
        self.optimizer = optimizers[0].pack(optimizers, self.parameters, resets_units=resets_units)
        self.optimizer.attach(self)
        self.inputs, self.targets = torch.zeros(0), cast(Any, None)
        self._output, self._looked = torch.zeros(0), 0  # of this step; writes that were taken back
        self.activations: list[Tensor] = []
        self.activation_gradients: list[Tensor] = []
        self.interventions: list[PackedIntervention[Any]] = [
            options[0].pack(options, self) for options in interventions
        ]
        self.spans = spans
        self._actors = actors([options[0] for options in interventions], self.interventions, spans)
        self.show: Callable[[Tensor, Tensor, Tensor, Tensor | None, int], None] | None = None  # each update, once made
        self._examples = Examples(self.device, dtype, targets=loss == "squared_error")
        self._draw_keys = counter_random.Keys([streams.counter_key(seed, "dropout") for seed in seeds], device)

    def run(
        self, tasks: Sequence[Task], batch: int, first: int, start: int, steps: int, interval: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`steps` updates, the first of them number `first` of the run and number `start` of its task.

        Returns losses and accuracies before each update, (steps, runs), and the weight magnitude (intervals, runs,
        weight matrices) after each interval of `interval` steps.
        """
        losses: list[Tensor] = []
        accuracies: list[Tensor] = []
        magnitudes = []
        for at in range(0, steps, interval):
            count = min(interval, steps - at)
            self.plan(first + at, count)
            self._learn_all(tasks, batch, first + at, start + at, count, losses, accuracies)
            magnitudes.append(self.magnitudes())
        loss = torch.stack(losses).double().cpu()
        accuracy = torch.stack(accuracies).cpu() if accuracies else torch.zeros_like(loss)
        return loss, accuracy, torch.stack(magnitudes).cpu()

    def _learn_all(
        self,
        tasks: Sequence[Task],
        batch: int,
        first: int,
        start: int,
        steps: int,
        losses: list[Tensor],
        accuracies: list[Tensor],
    ) -> None:
        """`steps` updates; what each measures, (runs,), is appended."""
        block = min(steps, self._examples.steps_at_once(tasks, batch))
        for begin in range(0, steps, block):
            count = min(block, steps - begin)
            xs, ys = self._examples.block(tasks, batch, (start + begin) * batch, count)
            for t, (x, y) in enumerate(zip(xs.unbind(), ys.unbind(), strict=True)):
                loss, accuracy = self.learn(x, y, first + begin + t)
                losses.append(loss)
                if accuracy is not None:
                    accuracies.append(accuracy)

    def magnitudes(self) -> Tensor:
        """Weight magnitude (runs, weight matrices)."""
        return measure_weights([self.view(self.parameters, name) for name in self.weight_names]).T

    def plan(self, step: int, steps: int) -> None:
        """Prepare for steps `step` ... `step + steps - 1`; called on a fixed grid, never because of a checkpoint."""
        self.network.train()
        self.optimizer.tidy()
        for intervention in self.active:
            intervention.plan(step, steps)

    def learn(self, x: Tensor, y: Tensor, step: int, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One update: forward, loss, backward, optimiser, interventions.

        x (runs, batch, inputs); y (runs, batch) class labels or (runs, batch, outputs) targets; outputs: as in
        `score`. Returns loss (runs,) and, for classification, accuracy (runs,), both of the outputs before the update.
        """
        acting, self.inputs, self.targets = self._acting(step), x, y
        output, self.activations = self._forward(x, self._draw(step, x.shape[1]))
        self._output = output.detach()
        losses, accuracy = self.score(output, y, outputs)
        self._update(self._slope(losses, torch.ones_like(losses), acting), step, acting)
        if self.show is not None:
            self.show(x, y, output, outputs, step)
        return losses.detach(), accuracy

    def predict(self, x: Tensor, step: int) -> Tensor:
        """Outputs (runs, batch, outputs) of x (runs, batch, inputs), for the update number `step` to learn from."""
        self.inputs = x
        if self._explicit is not None:
            output, self.activations = self._explicit.forward(x)
        else:
            output, self.activations = self._forward(x, self._draw(step, x.shape[1]))
        self._output = output.detach()
        return output

    def learn_from(
        self, output: Tensor, gradient: Tensor, step: int, max_norm: Tensor | None = None, targets: Any = None
    ) -> None:
        """One update from the loss's gradient with respect to what `predict` gave, of the same shape.

        max_norm (runs, 1): to which length the gradient of its parameters is cut if it is longer. targets: for
        interventions to see.
        """
        acting, self.targets = self._acting(step), targets
        if self._explicit is not None:
            self._update(self._explicit.backward(gradient), step, acting, max_norm)
        else:
            self._update(self._slope(output, gradient, acting), step, acting, max_norm)

    @property
    def active(self) -> list[PackedIntervention[Any]]:
        """Those of the interventions that act in the task at hand."""
        return active(self.interventions, self.spans, self.source)

    def _acting(self, step: int) -> list[Actor]:
        task = self.source.task if self.source else None
        return [actor for actor in self._actors if task in actor.span and actor.acts_at(step)]

    def _slope(self, of: Tensor, along: Tensor, acting: Sequence[Actor]) -> Tensor:
        """(runs, parameters): gradient of the sum of `of`, weighted by `along`; and what else is needed of it."""
        if not any("activation_gradients" in actor.needs for actor in acting):
            return self._gradient(of, along)
        more: list[Tensor] = []
        gradient = self._gradient(of, along, self.activations, more)
        self.activation_gradients = more
        return gradient

    @torch.no_grad()
    def _update(self, gradient: Tensor, step: int, acting: Sequence[Actor], max_norm: Tensor | None = None) -> None:
        self.activations = [h.detach() for h in self.activations] if self.interventions else []
        version = self.parameters._version - self._looked  # which PyTorch counts up when somebody writes
        for actor in acting:
            if actor.before_update:
                actor.before_update(gradient, step)
        if self.parameters._version - self._looked != version:
            raise LopError(WROTE_TOO_EARLY)
        cut(gradient, self.schedule.max_gradient_norm if max_norm is None else max_norm)
        watching = [actor.after_optimizer for actor in acting if actor.after_optimizer]
        before = self.parameters.clone() if watching else self.parameters
        self.optimizer.step = step
        self.optimizer.update(self.parameters, gradient)
        for watch in watching:
            watch(before, step)
        for actor in acting:
            if actor.after_update:
                actor.after_update(step)

    def outputs_of(self, x: Tensor, parameters: Tensor | None = None) -> Tensor:
        """Outputs (runs, batch, outputs) of x (runs, batch, inputs), without dropout; it leaves no trace.

        parameters: (runs, parameters) that are used instead of those in training.
        """
        with torch.no_grad(), self.looking(batch_statistics=self.network.training):
            if parameters is None:
                return self._forward(x, None)[0]
            kept, version = self.parameters.clone(), self.parameters._version
            self.parameters.copy_(parameters)
            output = self._forward(x, None)[0]
            self.parameters.copy_(kept)
            self._looked += self.parameters._version - version
            return output

    def gradient_of(self, x: Tensor, y: Any, run: int | None = None) -> Tensor:
        """(runs, parameters): gradient of the mean loss on inputs x and targets y, without dropout; no trace.

        run: of this one alone, for which x and y are; the leading dimension of all three is then 1.
        """

        def slope_of(output: Tensor) -> Tensor:
            return self.source.slope(output, y, run) if self.source else slope(self.loss, output, y)

        alone = run is not None and len(self.seeds) > 1
        return self._gradient_of_one(run or 0, x, slope_of) if alone else self._gradient_along(slope_of, x)

    def step_losses(self) -> Tensor:
        """(runs,): the mean loss of the current step before its update; in control the policy's."""
        return self._source.losses(self._output, self.targets)

    def asked(self, output: Tensor) -> Tensor:
        """Of outputs (runs, batch, outputs), those that the task asks for."""
        return self._source.asked(output)

    def ends_round(self, step: int) -> bool:
        """Whether it is the last update of an epoch, or in control the last on a rollout."""
        return self._source.ends_round(step)

    def other_batch(self, step: int) -> tuple[Tensor, Any]:
        """Inputs and targets of a mini-batch drawn from the same data, independently of the one learned from."""
        return self._source.other_batch(step)

    def epochs_over(self, step: int) -> int | None:
        """How many passes over its data the run has made after update `step`; None: it is in the middle of one."""
        return self._source.epochs_over(step)

    def task_data(self, run: int, samples: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """In `before_task`: mini-batches of inputs (batch, inputs) and targets of the task that is to come."""
        return self._source.task_data(run, samples)

    @property
    def _source(self) -> Source:
        if self.source is None:
            raise LopError("an intervention asked for data of the task while none is learned")
        return self.source

    def score(self, output: Tensor, y: Tensor, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Mean loss (runs,) and accuracy (runs,) of outputs (runs, batch, outputs).

        outputs: which of them count, (runs, classes); label k is the k-th of these.
        """
        return score(self.loss, output, y, outputs, in_one_kernel=bool(self._places))

    @torch.no_grad()
    def probe(self, tasks: Sequence[Task], samples: int) -> list[Tensor]:
        """Hidden activations [(runs, samples, units), ...] on each task's first examples, in evaluation mode."""
        self.network.eval()
        x = np.stack([examples_of(task, 0, samples)[0] for task in tasks])
        return self._forward(torch.from_numpy(x).to(self.device, self.dtype), None)[1]

    def act(self, x: Tensor) -> Tensor:
        """Mean actions (runs, batch, actions) of an actor-critic network, on the host; x (runs, batch, inputs)."""
        if self._explicit is not None:
            return self._explicit.act(x)
        network, x = cast(ActorCritic, self.network), x.to(self.device)
        return (network.mean(x[0]).unsqueeze(0) if len(self.seeds) == 1 else network.mean(x)).cpu()

    @torch.no_grad()
    def outputs_in_training(self, x: Tensor, step: int) -> Tensor:
        """What `predict` would give for a step's inputs, without its traces."""
        kept = {name: value.clone() for name, value in self.buffers.items()}
        output = self._forward(x, self._draw(step, x.shape[1]))[0]
        for name, value in kept.items():
            self.buffers[name].copy_(value)
        return output

    def _draw(self, step: int, batch: int) -> list[Tensor] | None:
        shapes = self.network.draws(batch)
        if not shapes:
            return None
        sizes = [prod(shape) for shape in shapes]
        draws = self._draw_keys.uniforms(step, sum(sizes))
        parts = draws.to(self.dtype).split(sizes, dim=1)
        return [part.view(-1, *shape) for part, shape in zip(parts, shapes, strict=True)]

    def state(self) -> dict[str, Tensor]:
        """Everything that learning has changed, each tensor with a leading run dimension."""
        state = {"parameters": self.parameters}
        state |= {f"buffers/{name}": value for name, value in self.buffers.items()}
        state |= {f"optimizer/{name}": value for name, value in self.optimizer.state().items()}
        for i, intervention in enumerate(self.interventions):
            state |= {f"interventions/{i}/{name}": value for name, value in intervention.state().items()}
        return state

    @torch.no_grad()
    def load(self, run: int, state: dict[str, Tensor]) -> None:
        """Put back one run's share of what `state` gave."""
        for name, value in self.state().items():
            value[run] = state[name]

    @torch.no_grad()
    def mask(self, run: int) -> None:
        """Take a run out of the pack: its slot stays, from now on zeros, and whatever it computes disturbs no other."""
        for value in self.state().values():
            value[run] = 0
