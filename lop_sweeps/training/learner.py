"""The torch engine: runs of one shape trained side by side, on tensors with a leading run dimension.

Parameters of the whole pack are one tensor (runs, parameters); the network sees each weight as a view of it. One
forward pass serves all runs (a stackable network takes stacked weights; any other is mapped with `torch.vmap`; a pack
of one runs as it is), one backward pass of the summed loss gives every run its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lop_sweeps import counter_random, streams
from lop_sweeps.algorithms.intervention import Intervention, PackedIntervention
from lop_sweeps.benchmarks.benchmark import Task
from lop_sweeps.diagnostics.measure import measure_weights
from lop_sweeps.networks.actor_critic import ActorCritic
from lop_sweeps.networks.affine import Affine, Slot
from lop_sweeps.networks.network import Network, draw_network, named_state, output_parameters
from lop_sweeps.optimizers.optimizer import Optimizer
from lop_sweeps.training import explicit
from lop_sweeps.training.examples import Examples
from lop_sweeps.training.explicit import ExplicitActorCritic

LOSSES = ("cross_entropy", "squared_error")
# Values of a gradient, over all runs, from which copying them costs more than writing them in place does in Python.
WRITTEN_FROM = {"cpu": 250_000, "cuda": 16_000_000}


class TorchLearner:
    """The learning state of a pack, and one training step of it.

    make_network: builds the network of one run. optimizers: one per run. interventions: for each intervention, its
    options in every run, in the order in which they act. loss: cross_entropy (mean over the mini-batch, on logits) or
    squared_error (mean over mini-batch and outputs). device: where everything lies; a GPU makes the draws of a step
    itself, the same ones up to rounding.
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
    ) -> None:
        self.seeds, self.loss, self.dtype, self.device = seeds, loss, dtype, torch.device(device)
        self._make_network = make_network
        networks = [draw_network(make_network, dtype, seed, "initial weights") for seed in seeds]
        self.network = networks[0]
        self.graph, self.weight_names = self.network.unit_graph(), self.network.weights()
        self.parameter_names = tuple(name for name, _ in self.network.named_parameters())
        self._shapes = {name: tuple(p.shape) for name, p in self.network.named_parameters()}
        self._offsets = dict(
            zip(self._shapes, np.cumsum([0, *map(prod, self._shapes.values())]).tolist(), strict=False)
        )
        with torch.no_grad():
            flat = [torch.cat([p.reshape(-1) for p in network.parameters()]) for network in networks]
            self.parameters = torch.stack(flat).to(self.device)
            named = [dict(network.named_buffers()) for network in networks]
            self.buffers = {name: torch.stack([b[name] for b in named]).to(self.device) for name in named[0]}
        self._slots: list[Slot] = []
        self._places: list[Tensor] = []
        self._forward = self._bind()
        self._explicit: ExplicitActorCritic | None = None
        if explicit.applies(self.network, self.device):
            self._explicit = ExplicitActorCritic(cast(ActorCritic, self.network), self.parameters, self.view)
        resets_units = any(options[0].resets_units for options in interventions)
        self.optimizer = optimizers[0].pack(optimizers, self.parameters, resets_units=resets_units)
        self.activations: list[Tensor] = []
        self.interventions: list[PackedIntervention] = [options[0].pack(options, self) for options in interventions]
        self.show: Callable[[Tensor, Tensor, Tensor, Tensor | None, int], None] | None = None  # each update, once made
        self._examples = Examples(self.device, dtype, targets=loss == "squared_error")
        self._draw_keys = counter_random.Keys([streams.counter_key(seed, "dropout") for seed in seeds], device)

    def view(self, flat: Tensor, name: str) -> Tensor:
        """The share of parameter `name` in a tensor (runs, parameters), as (runs, *shape); it shares memory."""
        start, shape = self._offsets[name], self._shapes[name]
        return flat[:, start : start + prod(shape)].view(len(flat), *shape)

    def _bind(self) -> Callable[..., tuple[Tensor, list[Tensor]]]:
        """Make the network read the pack's parameters; return its forward pass over (runs, batch, inputs)."""
        alone, stackable = len(self.seeds) == 1, self.network.stackable
        leaves = {}
        for name in self._shapes:
            stacked = self.view(self.parameters, name)
            leaves[name] = nn.Parameter(stacked[0] if alone else stacked)
        self._leaves = list(leaves.values())
        if alone or stackable:
            for name, leaf in leaves.items():
                _assign(self.network, name, leaf)
            for name, stacked in self.buffers.items():
                _assign(self.network, name, stacked[0] if alone else stacked)
        if alone and self.device.type != "cpu":
            self.gradient = torch.zeros_like(self.parameters)
            self._places = [self.view(self.gradient, name)[0] for name in self._shapes]
        if alone:
            self.network.channels_last = self.device.type == "cpu"

            def forward_one(x: Tensor, uniforms: Sequence[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
                output, activations = self.network(x[0], None if uniforms is None else [u[0] for u in uniforms])
                return output.unsqueeze(0), [h.unsqueeze(0) for h in activations]

            return forward_one
        if stackable:
            if self.parameters.numel() >= WRITTEN_FROM[self.device.type]:
                self._make_slots(leaves)
            return self.network

        def call(
            parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor, uniforms: Sequence[Tensor] | None
        ) -> tuple[Tensor, list[Tensor]]:
            result: tuple[Tensor, list[Tensor]]
            result = torch.func.functional_call(self.network, (parameters, buffers), (x, uniforms))
            return result

        mapped = torch.vmap(call)
        without = torch.vmap(call, in_dims=(0, 0, 0, None))

        def forward_mapped(x: Tensor, uniforms: Sequence[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
            result: tuple[Tensor, list[Tensor]]
            result = (without if uniforms is None else mapped)(dict(leaves), self.buffers, x, uniforms)
            return result

        return forward_mapped

    def _make_slots(self, leaves: dict[str, nn.Parameter]) -> None:
        """Have the gradients written where the optimiser reads them, if layers that do so are most of the network."""
        affine = [
            f"{name}.{key}"
            for name, module in self.network.named_modules()
            if isinstance(module, Affine)
            for key in ("weight", "bias")
        ]
        if 2 * sum(prod(self._shapes[name]) for name in affine) < self.parameters.shape[1]:
            return
        self.gradient = torch.zeros_like(self.parameters)
        for name, leaf in leaves.items():
            slot = Slot(self.view(self.gradient, name))
            self._slots.append(slot)
            if name in affine:
                leaf.slot = slot  # type: ignore[attr-defined]

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
        for intervention in self.interventions:
            intervention.plan(step, steps)

    def learn(self, x: Tensor, y: Tensor, step: int, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One update: forward, loss, backward, optimiser, interventions.

        x (runs, batch, inputs); y (runs, batch) class labels or (runs, batch, outputs) targets; outputs: as in
        `score`. Returns loss (runs,) and, for classification, accuracy (runs,), both of the outputs before the update.
        """
        output, self.activations = self._forward(x, self._draw(step, x.shape[1]))
        losses, accuracy = self.score(output, y, outputs)
        self._update(self._gradient(losses, torch.ones_like(losses)), step)
        if self.show is not None:
            self.show(x, y, output, outputs, step)
        return losses.detach(), accuracy

    def predict(self, x: Tensor, step: int) -> Tensor:
        """Outputs (runs, batch, outputs) of x (runs, batch, inputs), for the update number `step` to learn from."""
        if self._explicit is not None:
            output, self.activations = self._explicit.forward(x)
        else:
            output, self.activations = self._forward(x, self._draw(step, x.shape[1]))
        return output

    def learn_from(self, output: Tensor, gradient: Tensor, step: int, max_norm: Tensor | None = None) -> None:
        """One update from the loss's gradient with respect to what `predict` gave, of the same shape.

        max_norm (runs, 1): to which length the gradient of its parameters is cut if it is longer.
        """
        if self._explicit is not None:
            self._update(self._explicit.backward(gradient), step, max_norm)
        else:
            self._update(self._gradient(output, gradient), step, max_norm)

    def _gradient(self, of: Tensor, along: Tensor) -> Tensor:
        """(runs, parameters): gradient of the sum of `of`, weighted by `along` of the same shape."""
        if not self._slots:
            gradients = torch.autograd.grad(of, self._leaves, along)
            if self._places:  # one call and one kernel, where each of the calls below would show
                torch._foreach_copy_(self._places, gradients)
                return self.gradient
            return torch.cat([g.reshape(len(self.seeds), -1) for g in gradients], dim=1)
        for slot in self._slots:
            slot.written = False
        for slot, more in zip(
            self._slots, torch.autograd.grad(of, self._leaves, along, allow_unused=True), strict=True
        ):
            if more is not None and slot.written:
                slot.into.add_(more)
            elif more is not None:
                slot.into.copy_(more)
            elif not slot.written:
                slot.into.zero_()
        return self.gradient

    @torch.no_grad()
    def _update(self, gradient: Tensor, step: int, max_norm: Tensor | None = None) -> None:
        if max_norm is not None:
            gradient *= (max_norm / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1.0)
        self.activations = [h.detach() for h in self.activations] if self.interventions else []
        self.optimizer.update(self.parameters, gradient)
        for intervention in self.interventions:
            intervention.after_update(step)

    def score(self, output: Tensor, y: Tensor, outputs: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Mean loss (runs,) and accuracy (runs,) of outputs (runs, batch, outputs).

        outputs: which of them count, (runs, classes); label k is the k-th of these.
        """
        if outputs is not None:
            output = output.gather(2, outputs.unsqueeze(1).expand(-1, output.shape[1], -1))
        if self.loss == "squared_error":
            return (output - y).square().mean((1, 2)), None
        with torch.no_grad():
            accuracy = (output.argmax(2) == y).mean(1, dtype=torch.float64)
        if self._places:
            return F.cross_entropy(output[0], y[0]).unsqueeze(0), accuracy
        each = F.cross_entropy(output.flatten(0, 1), y.flatten(), reduction="none")
        return each.view(y.shape).mean(1), accuracy

    @torch.no_grad()
    def probe(self, tasks: Sequence[Task], samples: int) -> list[Tensor]:
        """Hidden activations [(runs, samples, units), ...] on each task's first examples, in evaluation mode."""
        self.network.eval()
        x = np.stack([task.examples(0, samples)[0] for task in tasks])
        return self._forward(torch.from_numpy(x).to(self.device, self.dtype), None)[1]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Outputs (runs, batch, outputs) and hidden activations of x (runs, batch, inputs), without dropout."""
        return self._forward(x, None)

    def act(self, x: Tensor) -> Tensor:
        """Mean actions (runs, batch, actions) of an actor-critic network, on the host; x (runs, batch, inputs)."""
        if self._explicit is not None:
            return self._explicit.act(x)
        network, x = cast(ActorCritic, self.network), x.to(self.device)
        return (network.mean(x[0]).unsqueeze(0) if len(self.seeds) == 1 else network.mean(x)).cpu()

    @contextmanager
    def looking(self, *, batch_statistics: bool = False) -> Iterator[None]:
        """While the network is looked at, nothing that belongs to learning changes.

        In evaluation mode; or in training mode, with statistics of the batch at hand, of which no trace stays.
        """
        kept = {name: value.clone() for name, value in self.buffers.items()} if batch_statistics else {}
        self.network.train(batch_statistics)
        try:
            yield
        finally:
            for name, value in kept.items():
                self.buffers[name].copy_(value)

    @torch.no_grad()
    def outputs_in_training(self, x: Tensor, step: int) -> Tensor:
        """What `predict` would give for a step's inputs, without its traces."""
        kept = {name: value.clone() for name, value in self.buffers.items()}
        output = self._forward(x, self._draw(step, x.shape[1]))[0]
        for name, value in kept.items():
            self.buffers[name].copy_(value)
        return output

    def zero_outputs(self) -> None:
        """Set the output layer to zero."""
        for name in output_parameters(self.network):
            self.view(self.parameters, name).zero_()

    def redraw(self, run: int, purpose: str, position: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Fresh parameters and buffers by name, from the network's initial law; draws of this purpose and position."""
        return named_state(draw_network(self._make_network, self.dtype, self.seeds[run], purpose, position))

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


def _assign(network: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(path), leaf, value)
