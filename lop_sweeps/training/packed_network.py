"""The networks of a pack as one: stacked parameters, a forward pass and a gradient for all runs at once.

Parameters of the whole pack are one tensor (runs, parameters); the network sees each weight as a view of it. One
forward pass serves all runs (a stackable network takes stacked weights; any other is mapped with `torch.vmap`; a pack
of one runs as it is), one backward pass of the summed loss gives every run its own gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod

import numpy as np
import torch
from torch import Tensor, nn

from lop_sweeps.errors import LopError
from lop_sweeps.networks.affine import Affine, Slot
from lop_sweeps.networks.network import Network, draw_network, named_state, output_parameters

# Values of a gradient, over all runs, from which copying them costs more than writing them in place does in Python.
WRITTEN_FROM = {"cpu": 250_000, "cuda": 16_000_000}


class PackedNetwork:
    """The networks of a pack, on one device; see `TorchLearner` for the arguments."""

    def __init__(
        self,
        make_network: Callable[[], Network],
        seeds: Sequence[int],
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        self.seeds, self.dtype, self.device = seeds, dtype, torch.device(device)
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
        self.gradient = torch.zeros(0)  # where it is written in place
        self._in_graph: list[Tensor] = []  # a lone run's latest activations as autograd knows them
        self._forward = self._bind()

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
                self._in_graph = activations
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
            if f"{name}.{key}" in self._shapes
        ]
        if 2 * sum(prod(self._shapes[name]) for name in affine) < self.parameters.shape[1]:
            return
        self.gradient = torch.zeros_like(self.parameters)
        for name, leaf in leaves.items():
            slot = Slot(self.view(self.gradient, name))
            self._slots.append(slot)
            if name in affine:
                leaf.slot = slot  # type: ignore[attr-defined]

    def _gradient(
        self, of: Tensor, along: Tensor, with_respect_to: Sequence[Tensor] = (), more: list[Tensor] | None = None
    ) -> Tensor:
        """(runs, parameters): gradient of the sum of `of`, weighted by `along` of the same shape.

        with_respect_to: activations of that forward pass; their gradients are appended to `more`.
        """
        alone = bool(self._in_graph)
        with_respect_to = self._in_graph if alone and with_respect_to else with_respect_to
        for slot in self._slots:
            slot.written = False
        wanted = [*self._leaves, *with_respect_to]
        found = torch.autograd.grad(of, wanted, along, allow_unused=bool(self._slots or with_respect_to))
        gradients, others = found[: len(self._leaves)], found[len(self._leaves) :]
        for layer, one in enumerate(others):
            if one is None or more is None:
                raise LopError(f"forward() must use the very activations of layer {layer} that it gives back")
            more.append(one.unsqueeze(0) if alone else one)
        if self._places:  # one call and one kernel, where each of the calls below would show
            torch._foreach_copy_(self._places, gradients)
            return self.gradient
        if not self._slots:
            return torch.cat([g.reshape(len(self.seeds), -1) for g in gradients], dim=1)
        for slot, written in zip(self._slots, gradients, strict=True):
            if written is not None and slot.written:
                slot.into.add_(written)
            elif written is not None:
                slot.into.copy_(written)
            elif not slot.written:
                slot.into.zero_()
        return self.gradient

    def differentiate(self, of: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (runs,) that `of` makes of the outputs of x, and their gradient (runs, parameters); no trace."""
        values: list[Tensor] = []

        def slope_of(output: Tensor) -> Tensor:
            leaf = output.requires_grad_()
            values.append(of(leaf))
            return torch.autograd.grad(values[0].sum(), leaf)[0]

        gradient = self._gradient_along(slope_of, x)
        return values[0].detach(), gradient

    def _gradient_along(self, slope_of: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """(runs, parameters): gradient of what has this slope with respect to the outputs of x."""
        kept = self.gradient.clone()
        with torch.enable_grad(), self.looking(batch_statistics=self.network.training):
            output, _ = self._forward(x, None)
            found = self._gradient(output, slope_of(output.detach())).clone()
        self.gradient.copy_(kept)
        return found

    def _gradient_of_one(self, run: int, x: Tensor, slope_of: Callable[[Tensor], Tensor]) -> Tensor:
        """(1, parameters): gradient of one run's loss on x (1, batch, inputs), without dropout; it leaves no trace.

        slope_of: from outputs to the gradient with respect to them, both (1, batch, outputs).
        """
        network = self.network_of(run).train(self.network.training)
        named = {name: p.detach().requires_grad_() for name, p in network.named_parameters()}
        buffers = {name: value.clone() for name, value in network.named_buffers()}
        with torch.enable_grad():
            output, _ = torch.func.functional_call(network, (named, buffers), (x[0], None))
            gradients = torch.autograd.grad(output, list(named.values()), slope_of(output.detach()[None])[0])
        return torch.cat([gradient.reshape(-1) for gradient in gradients])[None]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Outputs (runs, batch, outputs) and hidden activations of x (runs, batch, inputs), without dropout."""
        return self._forward(x, None)

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

    def zero_outputs(self, *more: Tensor) -> None:
        """Set the output layer to zero, also in further parameters (runs, parameters)."""
        for flat in (self.parameters, *more):
            for name in output_parameters(self.network):
                self.view(flat, name).zero_()

    def network_of(self, run: int) -> Network:
        """A module of run `run` alone, whose parameters and buffers share memory with the pack's."""
        network = self._make_network().to(self.dtype)
        for name in self._shapes:
            _assign(network, name, nn.Parameter(self.view(self.parameters, name)[run], requires_grad=False))
        for name, stacked in self.buffers.items():
            _assign(network, name, stacked[run])
        return network

    def redraw(self, run: int, purpose: str, *position: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Fresh parameters and buffers by name, from the network's initial law; draws of this purpose and position.

        The purpose "initial weights" without a position gives back what the run began with.
        """
        return named_state(draw_network(self._make_network, self.dtype, self.seeds[run], purpose, *position))


def _assign(network: nn.Module, name: str, value: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    setattr(network.get_submodule(path), leaf, value)
